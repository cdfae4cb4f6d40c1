"""Worlds: apart from the host, and gone with their owner whatever kills it."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose import host, limits, places, processes, world
from compose.marks import Isolation, Mark
from compose.ports import is_free
from compose.settings import REPOSITORY
from tests.eventually import eventually
from tests.integration.compose import unprivileged

pytestmark = [pytest.mark.integration, pytest.mark.anyio, pytest.mark.timeout(60)]

HERE = Path(__file__).parent
SEES = """
import json, os, socket, pathlib, tempfile
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=2):
    print(json.dumps({
        "user": os.getuid(), "session": os.getsid(0), "run": os.listdir("/run"), "temporary": tempfile.gettempdir(),
        "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
        "devices": [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]],
    }))
"""
# A program with a child that left its session and its parent.
ORPHANS = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    print("ready", flush=True)
time.sleep(60)
"""

CAPABILITIES = host.detect()
STRONGEST = world.strongest(CAPABILITIES)
ISOLATIONS = sorted({STRONGEST, Isolation.NONE})
needs_namespaces = pytest.mark.skipif(STRONGEST is Isolation.NONE, reason="this host lets us make no namespaces")
needs_root = pytest.mark.skipif(not unprivileged.is_possible(), reason="only root can become somebody else")


@dataclass
class Owner:
    process: asyncio.subprocess.Process
    world: str
    guard: int

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 40)).decode().strip()

    async def until(self, beginning: str) -> str:
        said = []
        while line := await self.line():
            said.append(line)
            if line.startswith(beginning):
                return line
        raise AssertionError(f"no line begins with {beginning!r}: {said}")


@contextlib.asynccontextmanager
async def owner(command: list[str]) -> AsyncIterator[Owner]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**processes.plain_environment(), "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    first = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().split()
    running = Owner(process, first[0], int(first[1]))
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await eventually(lambda: not world.leftovers(running.world))


def owning(isolation: Isolation, *argv: str | Path) -> list[str]:
    return [sys.executable, str(HERE / "owner.py"), isolation.value, sys.executable, *map(str, argv)]


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_the_status_of_the_program_is_that_of_the_world(isolation: Isolation) -> None:
    async def status(script: str) -> int:
        return await (await world.start([sys.executable, "-c", script], isolation=isolation)).wait()

    assert await status("raise SystemExit(7)") == 7
    assert await status("import os; os.kill(os.getpid(), 9)") == 137


@needs_namespaces
async def test_a_world_sees_itself_and_nothing_of_the_host() -> None:
    own = await world.start([sys.executable, "-c", SEES], isolation=STRONGEST)
    assert own.stdout is not None
    seen = json.loads(await own.stdout.read())
    await own.wait()

    assert seen["devices"] == ["lo"]
    assert seen["run"] == ["amgf"]
    assert seen["temporary"] == "/run/amgf/tmp"
    assert seen["processes"] == 2  # process 1 and itself
    assert seen["user"] == os.getuid()


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_a_signal_reaches_the_program_which_may_finish(isolation: Isolation) -> None:
    script = "import signal; print('ready', flush=True); raise SystemExit(signal.sigwait([signal.SIGTERM]))"
    blocked = f"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n{script}"
    own = await world.start([sys.executable, "-c", blocked], isolation=isolation)
    assert own.stdout is not None
    await own.stdout.readline()

    own.send_signal(signal.SIGTERM)

    assert await asyncio.wait_for(own.wait(), 10) == signal.SIGTERM


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("victim", ["owner", "guard"])
async def test_killing_the_owner_or_the_guard_leaves_no_process(isolation: Isolation, victim: str) -> None:
    async with owner(owning(isolation, "-c", ORPHANS)) as running:
        await running.until("ready")
        assert len(places.processes_of(running.world)) >= 3

        os.kill(running.process.pid if victim == "owner" else running.guard, signal.SIGKILL)

        if victim == "guard":
            world.sweep(running.world)  # as the next start does: nobody else is there to do it
        await eventually(lambda: not world.leftovers(running.world))


async def test_a_sweep_that_ends_a_guard_at_its_work_does_the_rest_of_it() -> None:
    async with owner(owning(Isolation.NONE, "-c", ORPHANS)) as running:
        await running.until("ready")
        (folder,) = [one for one in places.our_folders() if one.name.endswith(running.world)]
        os.kill(running.guard, signal.SIGSTOP)  # as if it were slow
        running.process.kill()
        await running.process.wait()

        world.sweep()

        assert not folder.exists()
        assert world.leftovers(running.world) == []


async def test_the_end_of_the_thread_that_started_a_world_is_not_the_end_of_the_world() -> None:
    made: list[tuple[str, subprocess.Popen[bytes]]] = []
    argv = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
    thread = threading.Thread(
        target=lambda: made.append(world.enter(argv, isolation=STRONGEST, stdout=subprocess.PIPE))
    )
    thread.start()
    thread.join()
    own, process = made[0]
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.readline)

    assert process.poll() is None
    assert len(places.processes_of(own)) >= 2
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 10) == 128 + signal.SIGTERM
    assert world.leftovers(own) == []


@pytest.mark.parametrize("namespace", ["ours", "pid:[1]"])
def test_a_sweep_judges_owners_of_its_own_pid_namespace_only(namespace: str) -> None:
    mark = Mark(
        world="0-sweptnot",
        owner="999999999:1",
        isolation=Isolation.NONE,
        has_network=False,
        folder=Path("/"),
        namespace=places.pid_namespace() if namespace == "ours" else namespace,
    )
    with subprocess.Popen(
        [sys.executable, "-c", "print('ready', flush=True); input()"],
        env=mark.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as member:
        assert member.stdout is not None
        member.stdout.readline()
        try:
            found = any(f"process {member.pid} " in line for line in world.leftovers())
        finally:
            member.kill()

    assert found is (namespace == "ours")


@pytest.mark.skipif(not CAPABILITIES["cgroup_memory"].available, reason=CAPABILITIES["cgroup_memory"].reason)
async def test_a_sweep_removes_the_groups_of_worlds_whose_owner_is_gone_and_no_others() -> None:
    kept = await world.start([sys.executable, "-c", "print('ready', flush=True); input()"], isolation=STRONGEST)
    assert kept.stdout is not None
    await kept.stdout.readline()
    mine, _ = limits.create(f"{kept.id}-replica-1")
    alone, _ = limits.create(f"{limits.ALONE}{os.getpid()}-replica-1")
    abandoned, _ = limits.create("0-abandoned-replica-1")
    assert mine is not None
    assert alone is not None
    assert abandoned is not None

    swept = world.sweep()

    assert any("amgf-0-abandoned" in line for line in swept)
    assert not any(folder.exists() for folder in abandoned.folders.values())
    assert all(folder.exists() for one in (mine, alone) for folder in one.folders.values())
    alone.remove()
    kept.kill()
    await kept.wait()
    assert not any(folder.exists() for folder in mine.folders.values())


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_killing_the_owner_of_a_stack_leaves_nothing_of_it(isolation: Isolation, tmp_path: Path) -> None:
    async with owner(owning(isolation, HERE / "inside.py", tmp_path)) as running:
        await running.until("front answers")
        shared = _shared_memory_of(places.processes_of(running.world))
        ports = _listening_ports_of(running.world)

        running.process.kill()

        await eventually(lambda: not world.leftovers(running.world), seconds=5)
        assert not shared & _shared_memory()
        assert all(is_free(port) for port in ports)


@needs_root
@pytest.mark.parametrize("isolation", unprivileged.isolations())
async def test_a_stack_runs_for_an_unprivileged_user(isolation: Isolation, open_folder: Path) -> None:
    if isolation is Isolation.USER and not CAPABILITIES["user_namespaces"].available:
        pytest.skip("this host lets nobody but root make namespaces")
    async with owner(unprivileged.command(owning(isolation, HERE / "inside.py", open_folder))) as running:
        assert (await running.until("up ")).split()[2:] == ["replica-1", "replica-2"]
        await running.until("down")
        assert await asyncio.wait_for(running.process.wait(), 10) == 0
    assert (open_folder / "postgres.log").stat().st_uid == unprivileged.NOBODY.user


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Yield a folder that everybody may write to; pytest's own are closed to others, again at every start."""
    with tempfile.TemporaryDirectory(prefix="stack-test-") as made:
        Path(made).chmod(0o777)
        yield Path(made)


def _shared_memory() -> set[int]:
    table = Path("/proc/sysvipc/shm")
    return {int(line.split()[1]) for line in table.read_text().splitlines()[1:]} if table.exists() else set()


def _shared_memory_of(pids: list[int]) -> set[int]:
    table = Path("/proc/sysvipc/shm")
    lines = [line.split() for line in table.read_text().splitlines()[1:]] if table.exists() else []
    return {int(line[1]) for line in lines if int(line[4]) in pids}


def _listening_ports_of(own: str) -> set[int]:
    """Return the host's ports that a world's processes listen on (none where it has a network of its own)."""
    listening = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            listening[fields[9]] = int(fields[1].split(":")[1], 16)
    ports = set()
    for pid in places.processes_of(own):
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                inode = str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]")
                ports |= {listening[inode]} if inode in listening else set()
    return ports
