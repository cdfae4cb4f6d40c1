"""Starts the programs of the stack, waits until they answer, and says what went wrong when they do not.

Every program gets a log file, a session of its own (Ctrl-C in a terminal is the harness's business), no core dumps,
and the kernel's promise to die with the process that started it. Start programs from the main thread: that promise
follows the thread, not the process.
"""

import asyncio
import os
import resource
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compose import kernel
from compose.places import Identity

TAIL_LINES: Final = 15
POLL_SECONDS: Final = 0.02
PROBE_SECONDS_MAX: Final = 2.0
"""One look at a part that does not answer ends after this; the next one follows until the part's deadline."""
STOP_SECONDS: Final = 10.0

Probe = Callable[[], Awaitable[bool]]


class PartFailed(Exception):
    """A part of the stack did not start, did not answer in time, or did not stop."""

    def __init__(
        self, part: str, reason: str, *, deadline_seconds: float | None = None, log: Path | None = None
    ) -> None:
        """Name the part and the deadline, and show the end of its log."""
        within = f" within {deadline_seconds:g} s" if deadline_seconds is not None else ""
        self.part = part
        self.deadline_seconds = deadline_seconds
        self.log_tail = tail(log) if log else ""
        shown = f"\nThe end of {log}:\n{self.log_tail or '(it is empty)'}" if log else ""
        super().__init__(f"{part} {reason}{within}{shown}")


@dataclass(frozen=True, slots=True)
class Process:
    """A program that was started."""

    part: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def exit_code(self) -> int | None:
        """What it ended with; negative: by that signal; `None`: it runs."""
        return self.popen.poll()

    def send(self, signum: int) -> None:
        """Send it a signal; one that has ended is left alone."""
        if self.exit_code is None:
            self.popen.send_signal(signum)

    async def ended(self, deadline_seconds: float) -> bool:
        """Wait for its end at most that long; say whether it came."""
        return await eventually(lambda: self.exit_code is not None, deadline_seconds=deadline_seconds)

    async def stop(self, how: int = signal.SIGTERM, *, deadline_seconds: float = STOP_SECONDS) -> None:
        """End it, by force when the deadline passes; a stopped (SIGSTOP) program is woken first.

        Raises:
            PartFailed: not even force ended it.
        """
        self.send(how)
        self.send(signal.SIGCONT)
        if await self.ended(deadline_seconds):
            return
        self.send(signal.SIGKILL)
        if not await self.ended(STOP_SECONDS):
            raise PartFailed(self.part, "did not end", deadline_seconds=STOP_SECONDS, log=self.log)


def launch(
    part: str,
    argv: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    identity: Identity | None = None,
    cwd: Path | None = None,
    enter: Sequence[str] = (),
    stdin: Path | None = None,
) -> Process:
    """Start a program, its output appended to `log`.

    Args:
        part: what messages call it.
        argv: the program and its arguments; never a secret, since anybody may list them.
        log: made when missing.
        environment: all that it sees; by default `plain_environment()`.
        identity: runs as this user instead of ours (possible only for root).
        cwd: its working folder; by default `/`.
        enter: `cgroup.procs` files of the groups it starts in.
        stdin: what it reads from standard input; by default nothing.

    Raises:
        PartFailed: the program cannot be executed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()

    def before_exec() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold secrets
        for entrance in enter:
            descriptor = os.open(entrance, os.O_WRONLY)
            os.write(descriptor, b"0")
            os.close(descriptor)
        kernel.drop_ambient_capabilities()
        kernel.die_with_parent(parent)

    with log.open("ab") as output, Path(stdin or os.devnull).open("rb") as given:
        try:
            popen = subprocess.Popen(
                [str(argument) for argument in argv],
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd or "/",
                env=dict(environment) if environment is not None else plain_environment(),
                start_new_session=True,
                user=identity.user if identity else None,
                group=identity.group if identity else None,
                extra_groups=[] if identity else None,
                preexec_fn=before_exec,  # noqa: PLW1509 - nothing in it takes a lock
            )
        except (OSError, subprocess.SubprocessError) as problem:
            raise PartFailed(part, f"cannot be executed: {problem}") from problem
    return Process(part, popen, log)


async def ready(process: Process, probe: Probe, *, deadline_seconds: float) -> None:
    """Wait until the program answers its probe.

    Raises:
        PartFailed: it ended, or the deadline passed.
    """
    deadline = time.monotonic() + deadline_seconds
    while True:
        if process.exit_code is not None:
            raise PartFailed(process.part, f"ended with {describe_exit(process.exit_code)}", log=process.log)
        try:
            async with asyncio.timeout(max(min(PROBE_SECONDS_MAX, deadline - time.monotonic()), POLL_SECONDS)):
                if await probe():
                    return
        except TimeoutError:
            pass
        if time.monotonic() >= deadline:
            raise PartFailed(process.part, "did not answer", deadline_seconds=deadline_seconds, log=process.log)
        await asyncio.sleep(POLL_SECONDS)


async def eventually(claim: Callable[[], bool], *, deadline_seconds: float) -> bool:
    """Look until the claim holds, at most that long; say whether it did."""
    deadline = time.monotonic() + deadline_seconds
    while not claim():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def describe_exit(code: int) -> str:
    """Put an exit code into words: `exit code 78`, `SIGKILL`."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log; empty when there is none."""
    try:
        with log.open("rb") as opened:
            opened.seek(max(log.stat().st_size - 16384, 0))
            return "\n".join(opened.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def plain_environment(**more: str) -> dict[str, str]:
    """Return what every part may see of our environment, in UTC, and `more`: no proxies, no tokens, no settings."""
    kept = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - what parts inherit is decided here alone
        if name in {"PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH"} or name.startswith("AMGF_")
    }
    return {"TZ": "UTC", **kept, **more}
