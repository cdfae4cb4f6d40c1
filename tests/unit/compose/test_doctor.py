"""The doctor names what is missing, and its exit code is that of the main job's chances."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from compose.doctor import exit_code, render
from compose.host import UNLOCKS, Capability
from compose.programs import PROGRAMS, Found


def found(*missing: str, version: str = "99.0") -> dict[str, Found]:
    return {
        name: Found(program, None, "", f"`./justw setup` installs {name}")
        if name in missing
        else Found(program, Path("/usr/bin") / name, version)
        for name, program in PROGRAMS.items()
    }


def text(programs: dict[str, Found], *, available: bool = True) -> str:
    capabilities = {name: Capability(name, available, "it was tried", unlocks) for name, unlocks in UNLOCKS.items()}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(programs, capabilities))
    return console.export_text()


@pytest.mark.parametrize(("missing", "code"), [((), 0), (("nft",), 0), (("haproxy",), 69), (("nft", "prometheus"), 69)])
def test_the_exit_code_is_69_when_a_required_program_is_missing(missing: tuple[str, ...], code: int) -> None:
    assert exit_code(found(*missing)) == code


def test_a_missing_program_is_shown_with_what_brings_it() -> None:
    shown = text(found("haproxy"))

    assert "`./justw setup` installs haproxy" in shown
    assert "Missing: haproxy." in shown


def test_a_version_older_than_tested_is_shown_and_does_not_fail() -> None:
    shown = text(found(version="0.1"))

    assert "0.1 (tested from 2.42)" in shown
    assert exit_code(found(version="0.1")) == 0


def test_a_host_without_namespaces_is_told_what_it_loses() -> None:
    assert "process groups and ephemeral ports" in text(found(), available=False)
