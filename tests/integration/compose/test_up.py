"""`up`, `status` and `down`, with the real service: what they print works."""

import contextlib
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose import world
from compose.processes import plain_environment
from compose.settings import REPOSITORY
from compose.up import Home

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Make a tools folder of the test's own, with the shared one's programs and database template in it."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("bin", "postgres"):
        if (REPOSITORY / ".tools" / name).exists():
            (folder / name).symlink_to((REPOSITORY / ".tools" / name).resolve())
    return folder


@pytest.fixture
def run(tools: Path) -> Iterator[Run]:
    environment = plain_environment(PYTHONPATH=str(REPOSITORY), STACK_TOOLS_FOLDER=str(tools))

    def execute(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, env=environment, cwd=tools.parent, text=True, capture_output=True, check=False, timeout=80
        )

    try:
        yield lambda *words: execute(sys.executable, "-m", "compose", *words) if words[0] != "sh" else execute(*words)
    finally:
        execute(sys.executable, "-m", "compose", "down")


@pytest.fixture
def front_taken() -> Iterator[None]:
    """Listen where the front would; where somebody does already, that is as good."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", 8080))
            taken.listen()
        yield


@pytest.mark.skipif(shutil.which("curl") is None, reason="this host has no curl to try the printed commands with")
@pytest.mark.usefixtures("front_taken")
def test_what_up_prints_works_until_down_and_a_taken_port_is_named_and_replaced(run: Run, tools: Path) -> None:
    started = run("up")
    assert started.returncode == 0, started.stdout + started.stderr
    curls = re.findall(r"^  (curl .*(?:\n    .*)*)", started.stdout, flags=re.MULTILINE)
    known = Home(tools / "up").read()
    assert known is not None

    proposed, listed = (run("sh", "-c", command) for command in curls)
    again = run("up")
    status = run("status")
    stopped = run("down")

    assert "port 8080 (front) is taken" in started.stdout
    assert '"state":"pending"' in proposed.stdout, proposed.stdout + proposed.stderr
    assert known.target in listed.stdout
    assert "up already" in again.stdout
    assert status.returncode == 0, status.stdout
    assert (tools / "up" / "logs" / "replica-1.log").exists()
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert world.leftovers(known.world) == []
    assert "front" not in known.ports.busy()
    assert run("status").returncode == 3
    assert "No stack is up" in run("down").stdout


def test_a_stack_that_does_not_come_up_says_which_part_and_leaves_nothing(
    run: Run, tools: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken" / "app").mkdir(parents=True)
    (tmp_path / "broken" / "app" / "__init__.py").touch()  # a package, or an installed one of that name would win

    started = run("up", "--service-path", str(tmp_path / "broken"))

    assert started.returncode == 1
    assert "migrations ended with exit code 1" in started.stderr
    assert "No module named" in started.stderr
    assert Home(tools / "up").read() is None


def test_the_demo_walks_a_whole_life_on_a_stack_of_its_own_and_takes_it_down(run: Run, tools: Path) -> None:
    done = run("demo")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "every one as it should be" in done.stdout
    assert "The stack is down again" in done.stdout
    assert sorted(one.name for one in (tools / "up").iterdir()) == ["lock", "logs"]
