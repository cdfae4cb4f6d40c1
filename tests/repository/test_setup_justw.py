"""`justw` brings its tools from nothing, by hash, once; and says in one line what stands in the way."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.repository.files import ROOT
from tests.repository.wheels import write_wheel

FIRST_RUN_SECONDS_MAX = 90
SECOND_RUN_SECONDS_MAX = 3
JUST = '#!/bin/sh\n[ "${EXIT_WITH-}" ] && exit "$EXIT_WITH"\nprintf "%s\\n" "$@"\n'
UV = "#!/bin/sh\nexit 0\n"
COMMANDS = ("sh", "cat", "cmp", "cp", "dirname", "ls", "mkdir", "mktemp", "mv", "rm", "uname")


def copy_into(folder: Path) -> Path:
    """A copy of what `justw` needs, in a folder with a space, whose pinned tools are little wheels of ours."""
    root = folder / "a project"
    (root / "compose" / "setup").mkdir(parents=True)
    shutil.copy(ROOT / "justw", root)
    (root / "justfile").touch()
    lines = [
        write_wheel(folder / "wheels", package="rust-just", version="1.59.0", program="just", script=JUST),
        write_wheel(folder / "wheels", package="uv", version="0.13.9", program="uv", script=UV),
    ]
    (root / "compose" / "setup" / "tools-requirements.txt").write_text("".join(lines))
    return root


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A project in which `justw` never ran."""
    return copy_into(tmp_path)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The first run of all, in a project of its own."""
    return justw(copy_into(tmp_path_factory.mktemp("first")), "--list")


@pytest.fixture(scope="module")
def ready(first: subprocess.CompletedProcess[str]) -> Path:
    """A project in which `justw` has run before."""
    return Path(first.args[1]).parent


def folder_of_commands(folder: Path, **scripts: str) -> Path:
    """A folder to be the whole PATH: what `justw` runs, and the given scripts in place of interpreters."""
    folder.mkdir()
    for command in COMMANDS:
        if found := shutil.which(command):
            (folder / command).symlink_to(found)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def justw(
    root: Path, *arguments: str, path: str | Path = "", cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it as a newcomer would: no home, no cache, no network."""
    return subprocess.run(
        [shutil.which("sh") or "sh", root / "justw", *arguments],
        env={
            "HOME": "/nonexistent",
            "PATH": str(path) or f"{Path(sys.executable).parent}:{os.defpath}",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(root.parent / "wheels"),
            **environment,
        },
        cwd=cwd or root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=FIRST_RUN_SECONDS_MAX,
        check=False,
    )


def handed_over(root: Path, *arguments: str) -> list[str]:
    return ["--justfile", str(root / "justfile"), "--working-directory", str(root), *arguments]


def test_the_first_run_brings_the_tools_and_hands_over(first: subprocess.CompletedProcess[str], ready: Path) -> None:
    assert first.stdout.splitlines() == handed_over(ready, "--list"), first.stderr
    assert "installing just and uv" in first.stderr
    assert sorted(path.name for path in (ready / ".tools").iterdir()) == ["bin", "just-and-uv.txt"]


def test_the_second_run_does_nothing_and_needs_no_python(
    ready: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path = folder_of_commands(tmp_path / "path")

    began = time.monotonic()
    second = justw(ready, "gameday", "fm01", "a b", path=path)
    took = time.monotonic() - began

    record_property("second_run_seconds", round(took, 3))
    assert (second.stdout.splitlines(), second.stderr) == (handed_over(ready, "gameday", "fm01", "a b"), "")
    assert took < SECOND_RUN_SECONDS_MAX


def test_runs_side_by_side_leave_whole_tools_and_nothing_else(copy: Path) -> None:
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: justw(copy, "--list"), range(2)))

    assert [run.stdout.splitlines() for run in runs] == [handed_over(copy, "--list")] * 2
    assert sorted(path.name for path in (copy / ".tools").iterdir()) == ["bin", "just-and-uv.txt"]
    assert (copy / ".tools" / "bin" / "just").read_text() == JUST


def test_it_works_from_any_folder_and_through_a_symbolic_link(ready: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "justw").symlink_to(os.path.relpath(ready / "justw", elsewhere))

    direct = justw(ready, "doctor", cwd=elsewhere)
    linked = justw(elsewhere, "doctor", cwd=Path("/"))

    assert direct.stdout.splitlines() == linked.stdout.splitlines() == handed_over(ready, "doctor")


def test_the_exit_code_is_that_of_the_recipe(ready: Path) -> None:
    assert justw(ready, "gameday", EXIT_WITH="3").returncode == 3


def test_a_tool_whose_hash_is_not_the_pinned_one_is_refused(copy: Path) -> None:
    write_wheel(copy.parent / "wheels", package="uv", version="0.13.9", program="uv", script="#!/bin/sh\n# planted\n")

    refused = justw(copy, "--list")

    assert refused.returncode == 69
    assert "DO NOT MATCH" in refused.stderr
    assert not list((copy / ".tools" / "bin").iterdir())
    assert refused.stdout == ""


@pytest.mark.parametrize(
    ("scripts", "said"),
    [
        ({}, "justw: python3 is missing; install it: see python.org"),
        ({"apt-get": ""}, "justw: python3 is missing; install it: apt-get install python3 python3-venv"),
        (
            {"python3": '[ "$1" = -V ] && echo Python 3.9.2; exit 1', "dnf": ""},
            "justw: python3 is older than 3.11 (Python 3.9.2); install a newer one: dnf install python3.11",
        ),
        (
            {"python3.12": 'case "$2" in *ensurepip*) exit 1 ;; esac', "apt-get": ""},
            "justw: {path}/python3.12 has no venv module; install it: apt-get install python3 python3-venv",
        ),
    ],
    ids=["no python", "no python on Debian", "old python on Fedora", "no venv on Debian"],
)
def test_what_stands_in_the_way_is_said_in_one_line_with_the_remedy(
    scripts: dict[str, str], said: str, copy: Path, tmp_path: Path
) -> None:
    path = folder_of_commands(tmp_path / "path", **scripts)

    refused = justw(copy, "--list", path=path)

    assert refused.returncode == 69
    assert refused.stdout == ""
    assert refused.stderr == f"{said.format(path=path)}\n"


def test_every_posix_shell_can_read_it() -> None:
    for shell in filter(None, map(shutil.which, ("sh", "dash", "bash", "zsh"))):
        subprocess.run([shell, "-n", ROOT / "justw"], check=True, timeout=10)


def test_what_runs_first_is_executable() -> None:
    for name in ("justw", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK), name
