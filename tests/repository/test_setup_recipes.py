"""The justfile reads like a table of contents, passes on what it is given, and names all that failed.

The recipes run for real, in a copy whose `.venv` holds scripts that say how they were called.
"""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.repository.files import ROOT

PYTHON = """#!/bin/sh
case "$*" in
    *compose.setup*) exit "${SETUP_EXIT-0}" ;;
    *"chaos run wait"*) trap 'echo undone; exit 143' TERM; echo waiting; while :; do read -r line <fifo; done ;;
esac
printf '%s\\n' "$@"
exit "${EXIT_WITH-0}"
"""
CHECK = '#!/bin/sh\necho "$(basename "$0") $*"\nexit "${EXIT_WITH-0}"\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recipes") / "a project"
    shutil.copytree(ROOT / "compose" / "setup", root / "compose" / "setup", ignore=lambda *_: {"__pycache__"})
    for name in ("justw", "justfile"):
        shutil.copy(ROOT / name, root)
    # Brings just, where the tests were not started through it.
    subprocess.run([ROOT / "justw", "--version"], check=True, capture_output=True, timeout=90)
    shutil.copytree(ROOT / ".tools" / "bin", root / ".tools" / "bin")
    shutil.copy(ROOT / ".tools" / "just-and-uv.txt", root / ".tools")
    folder = root / ".venv" / "bin"
    folder.mkdir(parents=True)
    os.mkfifo(root / "fifo")
    for name, script in (("python", PYTHON), ("lint-imports", CHECK), ("codespell", "#!/bin/sh\nexit 3\n")):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return root


def justw(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [root / "justw", *arguments],
        env={"PATH": os.defpath, "HOME": "/nonexistent", **environment},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("--list",)])
def test_the_list_reads_like_a_table_of_contents(arguments: tuple[str, ...], project: Path) -> None:
    listed = justw(project, *arguments)

    lines = [line for line in listed.stdout.splitlines() if line.strip()]
    groups = [line.strip() for line in lines if re.fullmatch(r"\s*\[[\w ]+\]", line)]
    recipes = [line for line in lines[1:] if line.strip() not in groups]
    assert groups == ["[game day]", "[stack]", "[checks]", "[machine]"]
    assert len(recipes) > 15
    assert not [line for line in recipes if "# " not in line], "a recipe without a sentence"


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 64, 70, 130, 143])
def test_the_exit_code_of_a_game_day_is_passed_on_unchanged_and_without_a_word(code: int, project: Path) -> None:
    done = justw(project, "gameday", EXIT_WITH=str(code))

    assert (done.returncode, done.stderr) == (code, "")


def test_names_and_options_are_passed_on_as_they_are(project: Path) -> None:
    done = justw(project, "gameday", "fm01", "--profile", "documented", "--label", "two words; $HOME")

    assert done.stdout.splitlines() == [
        *("-m", "chaos", "run", "fm01", "--profile", "documented", "--label", "two words; $HOME")
    ]


def test_nothing_is_run_when_set_up_failed(project: Path) -> None:
    done = justw(project, "gameday", SETUP_EXIT="69")

    assert (done.returncode, done.stdout) == (69, "")


@pytest.mark.anyio
async def test_a_termination_reaches_the_harness_which_undoes_first(project: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("w") as output:
        running = subprocess.Popen(  # noqa: ASYNC220 - starting it is instant
            [project / "justw", "gameday", "wait"],
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            stdout=output,
        )
    try:
        await eventually(lambda: "waiting" in said.read_text())

        running.send_signal(signal.SIGTERM)

        await eventually(lambda: running.poll() is not None)
        assert "undone" in said.read_text()
        assert running.returncode == 143
    finally:
        running.kill()
        running.wait()


def test_every_check_is_tried_and_all_that_failed_are_named(project: Path) -> None:
    done = justw(project, "test", "spelling", "layers", "types")

    assert done.returncode == 1
    assert "=== layers passed" in done.stdout
    assert "=== spelling FAILED (exit code 3)" in done.stdout
    assert re.fullmatch(r"FAILED: spelling types \(of 3 checks, in \d+ s\)", done.stdout.splitlines()[-1])


def test_the_closing_line_says_that_all_passed(project: Path) -> None:
    done = justw(project, "test", "layers")

    assert done.returncode == 0
    assert re.fullmatch(r"All 1 checks passed in \d+ s\.", done.stdout.splitlines()[-1])


def test_a_check_that_does_not_exist_is_a_failure(project: Path) -> None:
    assert justw(project, "test", "layers", "nonsense").returncode == 1


def test_the_checks_of_a_full_run_are_recipes_and_leave_no_kind_of_test_out(project: Path) -> None:
    text = (project / "justfile").read_text()
    checks = re.search(r'^checks := "([^"]+)"', text, re.MULTILINE)
    assert checks
    recipes = dict(re.findall(r"^([a-z]+)[^:=\n]*:[^=\n]*\n((?:[ \t]+.*\n)+)", text, re.MULTILINE))

    kinds = {re.search(r"tests/(\w+)", recipes[name]) for name in checks[1].split()} - {None}

    there = {path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/**/test_*.py")}
    assert there <= {kind[1] for kind in kinds if kind}
