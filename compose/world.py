"""A world: where one stack lives with everything that belongs to it, removed by the kernel when its owner dies.

Three isolations, the strongest the host allows (`strongest`): namespaces made by root, the same inside a user
namespace, or a mere process tree with free ports and a temporary folder. `leftovers` and `sweep` look for what a
world left on the host; they touch only what carries our marks and whose owner is gone.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from compose import guard, limits, places
from compose.marks import Isolation, Mark
from compose.settings import REPOSITORY

__all__ = ["Isolation", "World", "enter", "leftovers", "start", "strongest", "sweep"]

SWEEP_SECONDS: Final = 5.0
_LINE_BYTES_MAX: Final = 1024 * 1024
_FILE = int | IO[bytes] | None


class _Capability(Protocol):
    @property
    def available(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Entrance:
    """What to execute, and with which environment, to be inside a world."""

    world: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]


class World:
    """A world and the program that runs in it."""

    def __init__(self, world: str, process: asyncio.subprocess.Process) -> None:
        """Take the guard's process."""
        self.id = world
        self._guard = process

    @property
    def pid(self) -> int:
        """The guard's process id, outside of the world."""
        return self._guard.pid

    @property
    def stdin(self) -> asyncio.StreamWriter | None:
        """The program's standard input, where a pipe was asked for."""
        return self._guard.stdin

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        """The program's standard output, where a pipe was asked for."""
        return self._guard.stdout

    @property
    def returncode(self) -> int | None:
        """The program's exit status (128 + signal, as a shell says it); `None` while the world exists."""
        return self._guard.returncode

    async def wait(self) -> int:
        """Wait until the world is gone and return the program's exit status."""
        return await self._guard.wait()

    def send_signal(self, signum: int) -> None:
        """Send the program a signal (SIGTERM, SIGINT or SIGHUP)."""
        # Not through asyncio: its own way may reap the process first and then reports 255 for what it ended with.
        if self._guard.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._guard.pid, signum)

    def kill(self) -> None:
        """End the world at once; the guard still removes what the kernel does not."""
        self.send_signal(guard.KILL_NOW)


def strongest(capabilities: Mapping[str, _Capability]) -> Isolation:
    """Return the strongest isolation that the host allows (`compose.host.detect`)."""
    if any(path.is_relative_to("/run") for path in (REPOSITORY, Path(sys.prefix).resolve(), Path.cwd())):
        return Isolation.NONE  # a world has a /run of its own and would not see us there
    if os.geteuid() == 0 and capabilities["root_namespaces"].available:
        return Isolation.ROOT
    if os.geteuid() != 0 and capabilities["user_namespaces"].available:
        return Isolation.USER
    return Isolation.NONE


def entrance(
    argv: Sequence[str | Path],
    *,
    isolation: Isolation | str,
    own_network: bool = True,
    detached: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Entrance:
    """Describe how a program gets into a new world.

    Args:
        argv: the program; it finds the world's marks in its environment (`marks.here`).
        isolation: what keeps it apart.
        own_network: a loopback device of its own with nothing on it; without, the host's (`up`).
        detached: the world outlives this process.
        environment: by default ours.
    """
    isolation = Isolation(isolation)
    world = f"{os.getpid()}-{secrets.token_hex(3)}"
    apart = isolation is not Isolation.NONE
    mark = Mark(
        world=world,
        owner="" if detached else places.process_key(os.getpid()),
        isolation=isolation,
        has_network=own_network and apart,
        folder=guard.WORLD_FOLDER if apart else Path(tempfile.gettempdir()) / f"{places.PREFIX}world-{world}",
        namespace=places.pid_namespace(),
    )
    given = dict(environment if environment is not None else os.environ)  # noqa: TID251 - passed on as it is
    given["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), given.get("PYTHONPATH")]))
    return Entrance(
        world=world,
        argv=(sys.executable, "-m", "compose.guard", "guard", "--", *map(str, argv)),
        environment={**given, **mark.environment()},
    )


async def start(
    argv: Sequence[str | Path],
    *,
    isolation: Isolation | str,
    own_network: bool = True,
    environment: Mapping[str, str] | None = None,
    stdin: _FILE = asyncio.subprocess.PIPE,
    stdout: _FILE = asyncio.subprocess.PIPE,
    stderr: _FILE = None,
    limit: int = _LINE_BYTES_MAX,
) -> World:
    """Run a program in a world of its own, with pipes to it; see `entrance` for the arguments."""
    way = entrance(argv, isolation=isolation, own_network=own_network, environment=environment)
    process = await asyncio.create_subprocess_exec(
        *way.argv,
        env=dict(way.environment),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        limit=limit,
        start_new_session=True,  # Ctrl-C in a terminal reaches the harness, which undoes first
    )
    return World(way.world, process)


def enter(
    argv: Sequence[str | Path],
    *,
    isolation: Isolation | str,
    own_network: bool = True,
    detached: bool = False,
    environment: Mapping[str, str] | None = None,
    stdin: _FILE = subprocess.DEVNULL,
    stdout: _FILE = None,
    stderr: _FILE = None,
) -> tuple[str, subprocess.Popen[bytes]]:
    """Run a program in a world of its own; return the world's id and the guard's process. For use without a loop."""
    way = entrance(argv, isolation=isolation, own_network=own_network, detached=detached, environment=environment)
    process = subprocess.Popen(
        way.argv, env=dict(way.environment), stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
    )
    return way.world, process


def leftovers(world: str = "") -> list[str]:
    """Return in words what worlds left behind on this host: of one world, or of all whose owner is gone."""
    processes, folders, groups = _found(world)
    return [
        *(f"process {pid} ({places.command_of(pid)})" for pid in processes),
        *(f"cgroup {group}" for group in groups),
        *(f"folder {folder}" for folder in folders),
    ]


def sweep(world: str = "") -> list[str]:
    """Remove what `leftovers` finds and return what it was."""
    found = leftovers(world)
    deadline = time.monotonic() + SWEEP_SECONDS
    while time.monotonic() < deadline:
        processes, folders, groups = _found(world)
        if not processes and not folders and not groups:
            break
        for group in groups:
            limits.thaw(group)  # on version 1 a frozen process does not even notice SIGKILL
        for pid in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                os.kill(pid, signal.SIGCONT)
        if not processes:
            for group in groups:
                with contextlib.suppress(OSError):
                    group.rmdir()
            for folder in folders:
                places.remove_folder(folder)
        signal.sigtimedwait([], 0.02)
    return found


def _found(world: str) -> tuple[list[int], list[Path], list[Path]]:
    if world:
        folder = Path(tempfile.gettempdir()) / f"{places.PREFIX}world-{world}"
        return places.processes_of(world), [folder] if folder.exists() else [], limits.groups_of(world)
    marked = places.marked_processes()
    alive = {mark.world for mark in marked.values() if _may_be_alive(mark)}
    gone = sorted(pid for pid, mark in marked.items() if mark.world not in alive)
    groups = [group for group in limits.groups_of() if not _is_used(group.name.removeprefix(limits.PREFIX), alive)]
    return gone, [folder for folder in places.our_folders() if not _is_owned(folder, alive)], groups


def _may_be_alive(mark: Mark) -> bool:
    """Say whether a world has its owner; that of another pid namespace (a container's) is not ours to judge."""
    is_foreign = mark.namespace not in {"", places.pid_namespace()}
    return is_foreign or not mark.owner or places.is_alive(mark.owner)


def _is_used(group: str, worlds: set[str]) -> bool:
    """Say whether a group belongs to a world that stands, or to a stack outside of any whose process runs."""
    if group.startswith(limits.ALONE):
        pid = group.removeprefix(limits.ALONE).partition("-")[0]
        return pid.isdigit() and bool(places.process_key(int(pid)))
    return any(group.startswith(world) for world in worlds)


def _is_owned(folder: Path, worlds: set[str]) -> bool:
    return places.folder_is_in_use(folder) or folder.name.removeprefix(f"{places.PREFIX}world-") in worlds
