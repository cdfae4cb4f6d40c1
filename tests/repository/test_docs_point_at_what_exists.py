"""Links, paths and commands of the pages lead to something that is there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.repository.files import ROOT, relative
from tests.repository.pages import ARCHITECTURE, CONTRIBUTING, README, Page, page, pages

FOLDERS = ("service", "chaos", "compose", "slo", "loadtests", "runbooks", "tests", "docs", "deploy", ".ci")


def commands_of_pages() -> list[str]:
    return sorted({command for path in (README, CONTRIBUTING) for command in page(path).commands()})


def recipes() -> set[str]:
    text = (ROOT / "justfile").read_text(encoding="utf-8")
    return {*re.findall(r"^@?([a-z][\w-]*)(?:\s[^:\n]*)?:(?!=)", text, re.MULTILINE)}


def broken_links(one: Page) -> Iterator[str]:
    for link in one.links():
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (one.path.parent / name).resolve() if name else one.path
        if not target.exists():
            yield f"{one.name}: [{link}] leads nowhere"
        elif anchor and target.suffix == ".md" and anchor not in page(target).anchors():
            yield f"{one.name}: [{link}]: no heading of that name"


def test_every_relative_link_leads_somewhere() -> None:
    broken = [line for one in pages() for line in broken_links(one)]

    assert not broken, "Correct the link, or add what it points at:\n" + "\n".join(broken)


def test_a_link_to_nowhere_is_found() -> None:
    moved = Page(path=ROOT / "docs" / "README.md", tokens=page(README).tokens)

    assert list(broken_links(moved)), "README's links are relative to the root: from docs/ they lead nowhere"


@pytest.mark.parametrize("path", [README, CONTRIBUTING, ARCHITECTURE], ids=relative)
def test_every_path_named_in_a_page_exists(path: Path) -> None:
    named = {span for span in page(path).code_spans() if span.startswith(tuple(f"{name}/" for name in FOLDERS))}
    literal = {span for span in named if re.fullmatch(r"[\w./-]+", span) and "NN" not in span}
    not_there_yet = {name for name in literal if f"`{name}` (not there yet)" in path.read_text(encoding="utf-8")}

    missing = sorted(name for name in literal - not_there_yet if not (ROOT / name).exists())

    assert not missing, f"{relative(path)} names what is not there: {', '.join(missing)}"


@pytest.mark.parametrize("command", commands_of_pages(), ids=lambda command: command[:40])
def test_every_command_of_the_pages_exists(command: str) -> None:
    program, *arguments = command.split()

    match program, arguments:
        case "./justw", ["--list"]:
            assert (ROOT / "justw").exists()
        case "./justw", [recipe, *_]:
            assert recipe in recipes(), f"justfile has no recipe {recipe!r}; correct the page or add it"
        case ".venv/bin/python", ["-m", module, *rest]:
            assert answers_help(module, rest[:1]), f"python -m {module} {' '.join(rest[:1])} does not answer --help"
        case _:
            pytest.fail(f"{command!r}: pages use ./justw or .venv/bin/python -m")


def answers_help(module: str, subcommand: list[str]) -> bool:
    search = os.pathsep.join([str(ROOT / "service"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", module, *subcommand, "--help"],
        cwd=ROOT,
        env={"PYTHONPATH": search, "PATH": os.defpath, "LANG": "C.UTF-8"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode == 0


def test_the_readme_shows_real_output() -> None:
    text = README.read_text(encoding="utf-8")

    for name in ("gameday", "test"):
        shown = text.partition(f"<!-- output:{name}:begin -->")[2].partition(f"<!-- output:{name}:end -->")[0]
        assert shown.strip(), f"README.md has no region output:{name}"
        assert "goes here" not in shown, f"README.md: run ./justw {name} and paste what it prints"
