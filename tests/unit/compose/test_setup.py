"""Set-up does nothing when all is there, goes on where it was cut short, and says what it does and what failed."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from compose.setup.__main__ import bring
from compose.setup.environment import Environment
from compose.setup.progress import Progress, SetupFailed
from compose.setup.surroundings import installer_variables
from compose.setup.toxiproxy import Toxiproxy, go_on_path
from tests.eventually import eventually
from tests.repository.files import ROOT


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    return Progress(tmp_path / "setup.log")


@dataclass
class Recorded:
    """A step that says whether it ran."""

    name: str
    fails: bool = False
    done: bool = False
    runs: list[str] = field(default_factory=list)

    def plan(self) -> str:
        return "run"

    def is_done(self) -> bool:
        return self.done

    def run(self, progress: Progress) -> None:
        self.runs.append(self.name)
        if self.fails:
            raise SetupFailed(f"{self.name} cannot be had")
        progress.say(self.name)
        self.done = True


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_every_step_is_tried_and_all_that_failed_are_named(
    progress: Progress, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [Recorded("one", fails=True), Recorded("two"), Recorded("three", fails=True), Recorded("four", done=True)]

    code = bring(steps, progress)

    assert code == 69
    assert [step.runs for step in steps] == [["one"], ["two"], ["three"], []]
    assert "not complete: one, three" in capsys.readouterr().err


def test_a_second_run_goes_on_with_what_is_not_done(progress: Progress) -> None:
    steps = [Recorded("one"), Recorded("two", fails=True)]
    bring(steps, progress)
    steps[1].fails = False

    assert bring(steps, progress) == 0
    assert [step.runs for step in steps] == [["one"], ["two", "two"]]


def test_a_failing_command_shows_its_last_lines_and_where_all_are(progress: Progress) -> None:
    with pytest.raises(SetupFailed) as failed:
        progress.run("the thing", ["sh", "-c", "for n in $(seq 50); do echo line $n; done; exit 7"])

    assert "the thing: exit code 7" in str(failed.value)
    assert str(progress.log) in str(failed.value)
    assert "line 50" in str(failed.value)
    assert "line 20\n" not in str(failed.value)
    assert "line 20\n" in progress.log.read_text()


def test_a_command_that_hangs_is_ended_at_its_deadline(progress: Progress) -> None:
    with pytest.raises(SetupFailed, match="no end in sight"):
        progress.run("the thing", ["sleep", "60"], seconds_max=0.1)


def test_a_command_that_is_not_there_is_a_failure_like_any_other(progress: Progress) -> None:
    with pytest.raises(SetupFailed, match="does not start"):
        progress.run("the thing", ["/nowhere/at-all"])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose environment was set up completely."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    program(root / ".venv/bin/python", "")
    environment = Environment(root, root / ".tools")
    environment.stamp.write_text(environment.digest(), encoding="ascii")
    return root


def test_an_environment_set_up_completely_is_left_alone(project: Path) -> None:
    assert Environment(project, project / ".tools").is_done()


def _one_more_dependency(project: Path) -> None:
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text.replace("dependencies = [", 'dependencies = [\n    "rich",', 1))


def _other_pins(project: Path) -> None:
    with (project / "requirements.txt").open("a") as pins:
        pins.write("rich==1.0\n")


@pytest.mark.parametrize(
    "change",
    [
        _one_more_dependency,
        _other_pins,
        lambda project: (project / ".venv/bin/python").unlink(),
        lambda project: (project / ".venv/set-up.txt").unlink(),
    ],
    ids=["dependency", "pins", "python gone", "cut short"],
)
def test_an_environment_is_brought_into_line_after(change: Callable[[Path], None], project: Path) -> None:
    change(project)

    assert not Environment(project, project / ".tools").is_done()


def test_an_environment_is_installed_again_after_the_folder_moved(project: Path) -> None:
    moved = project.rename(project.with_name("moved"))

    assert not Environment(moved, moved / ".tools").is_done()


def test_a_linter_setting_is_no_reason_to_install_again(project: Path) -> None:
    with (project / "pyproject.toml").open("a") as settings:
        settings.write("\n[tool.something]\nx = 1\n")

    assert Environment(project, project / ".tools").is_done()


@pytest.mark.parametrize(
    ("said", "accepted"),
    [
        ("go version go1.19.8 linux/amd64", False),
        ("go version go1.22.12 linux/amd64", False),
        ("go version go1.23.0 linux/amd64", True),
        ("go version go2.0 linux/arm64", True),
        ("no go here", False),
    ],
)
def test_a_go_that_is_too_old_is_passed_over(
    said: str, *, accepted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = program(tmp_path / "go", f"echo '{said}'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")

    assert (go_on_path(elsewhere=()) == go) is accepted


def test_toxiproxy_is_built_from_checked_modules_and_says_its_version(
    progress: Progress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    said = json.dumps({"arguments": "$*", "flags": "$GOFLAGS", "toolchain": "$GOTOOLCHAIN", "cgo": "$CGO_ENABLED"})
    program(
        tmp_path / "bin/go",
        f"""[ "$1" = version ] && {{ echo go version go1.26.1 linux/amd64; exit; }}
cat go.mod go.sum >/dev/null || exit 1
echo "{said.replace('"', chr(92) + '"')}" >{tmp_path}/said
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
printf '#!/bin/sh\\necho toxiproxy-server version 2.12.0\\n' >"$out"; chmod 755 "$out" """,
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.defpath}")
    step = Toxiproxy(tools)
    assert not step.is_done()

    step.run(progress)

    said_by_go = json.loads((tmp_path / "said").read_text())
    assert "github.com/Shopify/toxiproxy/v2/cmd/server" in said_by_go["arguments"]
    assert "-mod=readonly" in said_by_go["flags"]
    assert (said_by_go["toolchain"], said_by_go["cgo"]) == ("local", "0")
    assert step.is_done()
    assert os.access(step.server, os.X_OK)


def test_without_a_home_the_caches_lie_in_the_tools_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "no-home"))
    monkeypatch.setenv("GOCACHE", "/nonexistent/go")

    variables = installer_variables(tmp_path)

    assert variables["HOME"] == str(tmp_path / "cache" / "home")
    assert variables["GOCACHE"] is None


def test_the_index_that_pip_was_told_of_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "mirror.example")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.delenv("UV_INDEX_URL", raising=False)

    assert installer_variables(tmp_path)["UV_DEFAULT_INDEX"] == "mirror.example"


@pytest.mark.anyio
async def test_two_set_ups_at_once_take_turns(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    with (tools / "setup.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        said = tmp_path / "said"
        with said.open("w") as output:
            second = subprocess.Popen(  # noqa: ASYNC220 - starting it is instant
                [sys.executable, "-c", TAKE_A_TURN, tools],
                cwd=ROOT,
                stderr=output,
            )
        try:
            await eventually(lambda: "another set-up is at work" in said.read_text(), seconds=30)
            assert second.poll() is None
            fcntl.flock(held, fcntl.LOCK_UN)
            await eventually(lambda: second.poll() == 0, seconds=30)
        finally:
            second.kill()
            second.wait()


TAKE_A_TURN = """
import sys
from pathlib import Path
from compose.setup.__main__ import alone
from compose.setup.progress import Progress
tools = Path(sys.argv[1])
with alone(tools, Progress(tools / "log")):
    pass
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--plan"], 0), (["--help"], 0), (["--nonsense"], 64)])
def test_the_exit_code_of(arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compose.setup", *arguments], cwd=ROOT, capture_output=True, timeout=60, check=False
    )

    assert done.returncode == code
