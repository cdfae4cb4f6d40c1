"""Runs the commands of set-up so that nobody has to wonder: a line before, one every ten seconds, one after.

What a command prints goes to a log; its end is shown when the command fails.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compose.settings import child_environment

HEARTBEAT_SECONDS: Final = 10.0
COMMAND_SECONDS_MAX: Final = 900.0
"""For the slowest command on a slow line; what takes longer hangs."""
TAIL_LINES: Final = 30


class SetupFailed(Exception):
    """Something could not be installed; the message says what, and what a person can do about it."""


@dataclass(frozen=True)
class Progress:
    """Where set-up talks, and where its commands do."""

    log: Path

    def say(self, text: str) -> None:
        """Print one line for the person who waits."""
        sys.stderr.write(f"setup: {text}\n")
        sys.stderr.flush()

    def run(
        self,
        what: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str | None] | None = None,
        folder: Path | None = None,
        seconds_max: float = COMMAND_SECONDS_MAX,
    ) -> None:
        """Run a command to its end.

        Raises:
            SetupFailed: it failed, is not there, or took longer than `seconds_max`.
        """
        began = time.monotonic()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a+", encoding="utf-8", errors="replace") as log:
            log.write(f"$ {' '.join(map(str, command))}\n")
            log.flush()
            start = log.tell()
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=child_environment(environment or {}),
                    cwd=folder,
                )
            except OSError as error:
                raise SetupFailed(f"{what}: {command[0]} does not start: {error.strerror}") from error
            with process:
                try:
                    outcome = self._outcome(process, what, began + seconds_max)
                except BaseException:
                    process.terminate()
                    raise
            if outcome:
                log.seek(start)
                tail = "\n".join(f"    {line}" for line in log.read().splitlines()[-TAIL_LINES:])
                raise SetupFailed(f"{what}: {outcome}. Its last lines (all: {self.log}):\n{tail}")
        self.say(f"{what}: done in {time.monotonic() - began:.1f} s")

    def _outcome(self, process: subprocess.Popen[bytes], what: str, deadline: float) -> str:
        """Wait for the end, with a sign of life; return what went wrong, or nothing."""
        began = time.monotonic()
        while (now := time.monotonic()) < deadline:
            try:
                code = process.wait(min(HEARTBEAT_SECONDS, deadline - now))
            except subprocess.TimeoutExpired:
                self.say(f"{what}: still at it ({time.monotonic() - began:.0f} s)")
            else:
                return f"exit code {code}" if code else ""
        process.kill()
        return "no end in sight, stopped"
