"""`python -m compose.setup`: installs what is missing and nothing else. `--plan` only says what that would be.

Exit codes: 0 all is there · 64 usage · 69 (EX_UNAVAILABLE) something could not be installed · 130/143 interrupted.
"""

import argparse
import fcntl
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

from compose.settings import REPOSITORY, load
from compose.setup.environment import Environment
from compose.setup.packages import SystemPackages
from compose.setup.progress import Progress, SetupFailed
from compose.setup.toxiproxy import Toxiproxy

EX_USAGE: Final = 64
EX_UNAVAILABLE: Final = 69
LOCK_SECONDS_MAX: Final = 1800.0
"""How long one set-up waits for another: as long as a slow one takes."""
_LOCK_POLL_SECONDS: Final = 0.2


class Step(Protocol):
    """One thing that set-up brings. Steps do not depend on each other's success."""

    @property
    def name(self) -> str:
        """What is brought."""

    def plan(self) -> str:
        """Say what would be done."""

    def is_done(self) -> bool:
        """Whether there is nothing to do. Quick: this runs before every recipe."""

    def run(self, progress: Progress) -> None:
        """Do it; raises SetupFailed. Repeating it after a run that was cut short is safe."""


def steps_of(repository: Path, tools_folder: Path, only: str) -> Sequence[Step]:
    """Return the steps in their order: the quick and certain one first."""
    environment = Environment(repository, tools_folder)
    if only == "environment":
        return (environment,)
    return environment, SystemPackages(tools_folder), Toxiproxy(tools_folder)


def main() -> int:
    """Bring everything that is missing; every failure is reported, not just the first."""
    parser = argparse.ArgumentParser(prog="setup", description="Install what is missing.")
    parser.add_argument("--plan", action="store_true", help="only say what would be installed")
    parser.add_argument("--only", choices=["environment"], default="", help="nothing but the Python environment")
    try:
        arguments = parser.parse_args()
    except SystemExit as left:
        return EX_USAGE if left.code else 0
    tools_folder = load().tools_folder
    steps = steps_of(REPOSITORY, tools_folder, arguments.only)
    if arguments.plan:
        for step in steps:
            sys.stdout.write(f"{step.name}: {'nothing to do' if step.is_done() else step.plan()}\n")
        return 0
    if all(step.is_done() for step in steps):
        return 0
    progress = Progress(tools_folder / "setup.log")
    try:
        with _interruptible(), alone(tools_folder, progress):
            return bring(steps, progress)
    except SetupFailed as failure:
        progress.say(str(failure))
        return EX_UNAVAILABLE
    except KeyboardInterrupt:
        progress.say("interrupted; the next run goes on from here")
        return 128 + signal.SIGINT


def bring(steps: Sequence[Step], progress: Progress) -> int:
    """Run the steps that are not done; return the exit code."""
    began = time.monotonic()
    failed = []
    for step in steps:
        if step.is_done():
            continue
        try:
            step.run(progress)
        except SetupFailed as failure:
            failed.append(step.name)
            progress.say(str(failure))
    if failed:
        progress.say(f"not complete: {', '.join(failed)}")
        return EX_UNAVAILABLE
    progress.say(f"complete, in {time.monotonic() - began:.0f} s")
    return 0


@contextmanager
def alone(tools_folder: Path, progress: Progress) -> Iterator[None]:
    """Wait until no other set-up works in the same tools folder; the kernel frees the lock of a killed one."""
    tools_folder.mkdir(parents=True, exist_ok=True)
    with (tools_folder / "setup.lock").open("w") as lock:
        deadline = time.monotonic() + LOCK_SECONDS_MAX
        waited = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waited:
                    progress.say("another set-up is at work here; waiting for it")
                waited = True
                if time.monotonic() > deadline:
                    raise SetupFailed(f"another set-up holds {lock.name} for too long") from None
                threading.Event().wait(_LOCK_POLL_SECONDS)
            else:
                break
        yield


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a termination unwind, so that what was put aside for a moment is put back."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    previous = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


if __name__ == "__main__":
    sys.exit(main())
