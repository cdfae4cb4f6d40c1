"""The two processes that hold a world: the guard outside of it and, where it has a pid namespace, its process 1.

`python -m compose.guard guard|init ISOLATION NETWORK -- PROGRAM ...`; `compose.world` starts it, nobody else.

The kernel ends the world with its owner, whatever kills the owner: the guard gets SIGTERM when the owner dies
(PDEATHSIG), `unshare` gets SIGKILL when the guard dies, process 1 when `unshare` does (`--kill-child`), and with
process 1 the kernel ends every process of the namespace. What no namespace owns - cgroups, a temporary folder - the
guard removes last. Standard library only, so that it is there within some 30 ms.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from compose import kernel, limits, marks, places
from compose.marks import Isolation, Mark

KILL_NOW: Final = signal.SIGUSR1
"""To the guard: end the world without letting it finish anything."""
WORLD_FOLDER: Final = Path("/run/amgf")
SWEEP_SECONDS: Final = 5.0
CANNOT_START: Final = 70

_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_SECONDS: Final = 0.01


def guard(mark: Mark, argv: Sequence[str]) -> int:
    """Hold a world until its program ends, its owner dies or it is told to kill; return the program's status."""
    owner = int(mark.owner.partition(":")[0] or 0)
    detached = owner == os.getpid()
    inner: list[subprocess.Popen[bytes]] = []

    def end_now() -> None:
        for process in inner:
            process.kill()

    def on_signal(signum: int, _: FrameType | None) -> None:
        orphaned = not detached and os.getppid() != owner
        if orphaned or signum == KILL_NOW:
            end_now()
        else:  # also reached when only the thread that started us has ended
            for process in inner:
                _send(_program_of(process, mark), signum)

    for signum in (*_FORWARDED, KILL_NOW):
        signal.signal(signum, on_signal)
    kernel.adopt_orphans()
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(_clean_up, mark)
        inner.append(_spawn(_inner_command(mark, argv), mark))
        if not detached:
            kernel.die_with_parent(owner, signal.SIGTERM)
        return _wait_for(inner[0].pid)


def init(mark: Mark, argv: Sequence[str]) -> int:
    """Be process 1 of a world: make it habitable, run the program, reap what is orphaned, pass the status on."""
    kernel.mount("tmpfs", Path("/run"), kind="tmpfs", options="mode=0755")
    with contextlib.suppress(OSError):  # PostgreSQL of ours does not use it; others might leave something there
        kernel.mount("tmpfs", Path("/dev/shm"), kind="tmpfs", options="mode=1777")  # noqa: S108 - the device's folder
    WORLD_FOLDER.mkdir(mode=0o755)
    (WORLD_FOLDER / "tmp").mkdir(mode=0o1777)
    (WORLD_FOLDER / "tmp").chmod(0o1777)
    if mark.has_network:
        kernel.raise_loopback()
    program: list[subprocess.Popen[bytes]] = []

    def on_signal(signum: int, _: FrameType | None) -> None:
        for one in program:
            _send(one.pid, signum)

    for signum in _FORWARDED:
        signal.signal(signum, on_signal)
    program.append(_spawn(argv, mark))
    return _wait_for(program[0].pid)


def _inner_command(mark: Mark, argv: Sequence[str]) -> Sequence[str]:
    if mark.isolation is Isolation.NONE:
        (mark.folder / "tmp").mkdir(mode=0o711, parents=True, exist_ok=True)
        # Without it a sweep that ends a guard at its work takes the folder for one that is just being made.
        (mark.folder / places.OWNER_FILE).write_text(mark.owner)
        return argv
    unshare = ["unshare", "--pid", "--mount", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    if mark.isolation is Isolation.USER:
        # Not mapped to root: PostgreSQL refuses to be root even where root means nothing.
        unshare += ["--user", "--map-current-user", "--keep-caps"]
    if mark.has_network:
        unshare.append("--net")
    return [*unshare, "--", sys.executable, "-m", "compose.guard", "init", "--", *argv]


def _spawn(argv: Sequence[str], mark: Mark) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    environment = {**os.environ, **mark.environment(), "TMPDIR": str(mark.folder / "tmp")}  # noqa: TID251 - passed on
    return subprocess.Popen(
        argv,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: kernel.die_with_parent(parent),  # noqa: PLW1509 - this process has one thread
    )


def _wait_for(pid: int) -> int:
    """Reap every child, orphans included, until `pid` ends; return its status as a shell would."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _program_of(process: subprocess.Popen[bytes], mark: Mark) -> int:
    """Return whom to pass a signal to: `unshare` ignores signals, its child is the world's process 1."""
    if mark.isolation is Isolation.NONE:
        return process.pid
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    return 0


def _send(pid: int, signum: int) -> None:
    if pid > 0:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def _clean_up(mark: Mark) -> None:
    """Remove what the kernel does not: processes outside of a namespace, cgroups, the temporary folder."""
    for signum in (*_FORWARDED, KILL_NOW):
        signal.signal(signum, signal.SIG_IGN)
    if mark.isolation is Isolation.NONE:
        _until(lambda: not _kill_all_of(mark.world))
        places.remove_folder(mark.folder)
    _until(lambda: not _remove_groups(mark.world))


def _kill_all_of(world: str) -> bool:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    found = [pid for pid in places.processes_of(world) if pid != os.getpid()]
    for pid in found:
        _send(pid, signal.SIGKILL)
        _send(pid, signal.SIGCONT)
    return bool(found)


def _remove_groups(world: str) -> bool:
    for folder in limits.groups_of(world):
        with contextlib.suppress(OSError):
            folder.rmdir()
    return bool(limits.groups_of(world))


def _until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SWEEP_SECONDS
    while not claim() and time.monotonic() < deadline:
        signal.sigtimedwait([], _LOOK_SECONDS)


def main() -> None:
    """Be what the arguments say."""
    role, separator, *argv = sys.argv[1:]
    mark = marks.here()
    if mark is None or separator != "--" or not argv:
        sys.exit("This is started by compose.world.")
    if not mark.owner:
        mark = dataclasses.replace(mark, owner=places.process_key(os.getpid()))
    try:
        sys.exit({"guard": guard, "init": init}[role](mark, argv))
    except OSError as problem:
        sys.stderr.write(f"the world could not be made: {problem}\n")
        sys.exit(CANNOT_START)


if __name__ == "__main__":
    main()
