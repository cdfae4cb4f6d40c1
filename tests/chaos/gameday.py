"""Runs a game day as its users do, in a process of its own, follows it live, and looks for what it left behind.

Other people run worlds on the same machine: only what was seen to belong to this run while it lived is counted.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import psutil

from chaos.evidence import Evidence
from chaos.journal import Event, read_account
from chaos.result import Report, RunRecord
from chaos.scenarios import SCENARIOS
from compose import places, world
from compose.settings import REPOSITORY
from tests.eventually import eventually

Result = TypeVar("Result")
Wrap = Callable[[list[str]], list[str]]
SCENARIO = SCENARIOS["FM01"]
GONE_SECONDS = 30.0
"""How long the kernel and the guard may take, on a busy machine, to remove a world whose harness was killed."""
REPORT_SECONDS = 60.0
_RUN = "[0-9]*T*Z-*"
_NAME_CHARACTERS = 15  # the kernel keeps no more of a command's name
_NAMESPACES = ("pid", "net", "mnt", "ipc", "user")


@dataclass
class Traces:
    """What a run has on this host, noted while it lives.

    The kernel gives the number of a namespace that has ended to the next one, and a port to whoever asks: either is
    the run's only as long as a process has it that was there when it was noted.
    """

    worlds: set[str] = field(default_factory=set)
    processes: set[str] = field(default_factory=set)  # "pid:start time"
    namespaces: set[str] = field(default_factory=set)  # "net:[4026532301]"
    ports: set[int] = field(default_factory=set)  # of the host; those inside a network namespace end with it
    noted_at: int = 0  # in the kernel's ticks since boot, as start times are

    def note(self, harness: str) -> None:
        """Add what there is now of the process ``harness`` and of its worlds."""
        self.noted_at = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
        self.processes.add(harness)
        mine = {pid: mark.world for pid, mark in places.marked_processes().items() if mark.owner == harness}
        self.worlds |= {*mine.values()}
        self.processes |= {places.process_key(pid) for pid in mine} - {""}
        for pid in mine:
            foreign = _namespaces_of(pid) - _namespaces_of(os.getpid())
            self.namespaces |= foreign
            if not any(one.startswith("net:") for one in foreign):
                self.ports |= _listening(pid)

    def left(self) -> list[str]:
        """Say what of it is still there."""
        running = [f"process {key} ({_name(key)})" for key in sorted(self.processes) if places.is_alive(key)]
        worlds = [line for each in sorted(self.worlds) for line in world.leftovers(each)]
        folders = [f"folder {folder}" for folder in places.our_folders() if _owner(folder) in self.processes]
        old = [pid for pid in psutil.pids() if 0 < _started_at(pid) < self.noted_at]
        in_use = _namespaces_mounted().union(*map(_namespaces_of, old))
        namespaces = [f"namespace {each}" for each in sorted(self.namespaces & in_use)]
        open_ports = set[int]().union(*map(_listening, old)) if self.ports else set[int]()
        listening = [f"port {port}" for port in sorted(self.ports & open_ports)]
        return [*running, *worlds, *folders, *namespaces, *listening]

    def folders(self) -> list[Path]:
        """Return the temporary folders of the worlds, where they have any on this host, that are there now."""
        return [folder for folder in places.our_folders() if any(folder.name.endswith(each) for each in self.worlds)]

    def are_in(self, line: str) -> bool:
        """Whether a line of the sweep's speaks of this run."""
        pids = [key.partition(":")[0] for key in self.processes]
        return any(each in line for each in self.worlds) or any(f"process {pid} " in line for pid in pids)


async def side_by_side(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result | BaseException]:
    """Do as many at once as there are processors; an exception is what went wrong with one.

    A world under load takes more than half a processor: with more worlds than processors nothing is ever steady.
    """
    free = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(work: Coroutine[Any, Any, Result]) -> Result:
        async with free:
            return await work

    return await asyncio.gather(*map(one, works), return_exceptions=True)


class GameDay:
    """One ``python -m chaos run`` under way, or ended."""

    def __init__(
        self, runs: Path, process: asyncio.subprocess.Process, *, output: Path, runs_before: frozenset[Path]
    ) -> None:
        self.runs = runs
        self.process = process
        self.traces = Traces()
        self._output = output
        self._runs_before = runs_before
        self._key = places.process_key(process.pid)

    @classmethod
    async def start(
        cls,
        runs: Path,
        *options: str | Path,
        modes: Iterable[str] = (SCENARIO.failure_mode,),
        wrap: Wrap = list,
        environment: dict[str, str] | None = None,
    ) -> Self:
        """Start ``modes`` with ``options``; ``wrap`` makes the command one that is executed as somebody else."""
        before = _runs_in(runs)
        output = runs / f"output-{len(before)}.txt"
        with output.open("wb") as written:
            process = await asyncio.create_subprocess_exec(
                *wrap([sys.executable, "-m", "chaos", "run", *modes, "--runs", str(runs), *map(str, options)]),
                cwd=REPOSITORY,
                env={**os.environ, **(environment or {})},  # noqa: TID251 - passed on as it is
                stdin=asyncio.subprocess.DEVNULL,
                stdout=written,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(runs, process, output=output, runs_before=before)

    @property
    def output(self) -> str:
        """What it printed until now."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    @property
    def folder(self) -> Path:
        """The run's folder; raises ``StopIteration`` before there is one."""
        return next(path for path in self.runs.glob(_RUN) if path not in self._runs_before)

    @property
    def evidence(self) -> Evidence:
        """What the scenario recorded until now."""
        return Evidence(self.folder / SCENARIO.slug)

    @property
    def report(self) -> Report:
        """``report.json``."""
        return msgspec.json.decode((self.folder / "report.json").read_bytes(), type=Report)

    def events(self) -> list[str]:
        """Return the names of the journal's events until now, in order; nothing before there is a journal."""
        with contextlib.suppress(StopIteration):
            return [str(row.data["event"]) for row in read_account(self.evidence).rows]
        return []

    async def saw(self, event: Event, *, within_seconds: float) -> None:
        """Return as soon as the journal tells of ``event``.

        Raises:
            AssertionError: the run ended, or the deadline passed, before it came.
        """
        await self.until(lambda: event in self.events(), f"journal: {event}", within_seconds=within_seconds)

    async def is_recorded_as_finished(self, *, within_seconds: float) -> None:
        """Return as soon as all worlds have ended and only judgement and report are missing."""

        def is_finished() -> bool:
            try:
                return RunRecord.read(self.folder).finished
            except (StopIteration, OSError, msgspec.DecodeError):
                return False

        await self.until(is_finished, "run.json: finished", within_seconds=within_seconds)

    async def until(self, claim: Callable[[], bool], what: str, *, within_seconds: float) -> None:
        """Wait for a claim about the run, as ``saw`` does."""
        held = False

        def holds_or_never_will() -> bool:
            nonlocal held
            has_ended = self.process.returncode is not None
            held = held or claim()
            return held or has_ended

        try:
            await eventually(holds_or_never_will, seconds=within_seconds)
        except TimeoutError:
            raise AssertionError(f"{what}: not within {within_seconds:g} s\n{self.output[-3000:]}") from None
        assert held, f"{what}: the run ended with {self.process.returncode}\n{self.output[-3000:]}"

    async def note_traces(self) -> None:
        """Note what the run has on this host now; it must have a world by now."""
        await asyncio.to_thread(self.traces.note, self._key)
        assert self.traces.worlds, "the run has no world"

    def process_in_world(self, name: str) -> int:
        """Return the id, seen from here, of the first process of that name in the run's worlds; 0: there is none."""
        mine = (pid for pid, mark in places.marked_processes().items() if mark.owner == self._key)
        return min((pid for pid in mine if places.command_of(pid) == name[:_NAME_CHARACTERS]), default=0)

    def guard(self) -> int:
        """Return the process that holds the run's world, a child of the harness."""
        mine = (pid for pid, mark in places.marked_processes().items() if mark.owner == self._key)
        (pid,) = [pid for pid in mine if psutil.Process(pid).ppid() == self.process.pid]
        return pid

    def send(self, number: signal.Signals) -> None:
        """Send the harness, and nobody else, a signal."""
        self.process.send_signal(number)

    async def ended(self, *, within_seconds: float) -> int:
        """Return the exit code.

        Raises:
            AssertionError: it did not end.
        """
        try:
            async with asyncio.timeout(within_seconds):
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"still running after {within_seconds:g} s\n{self.output[-3000:]}") from None

    async def leaves_nothing(self, *, within_seconds: float = GONE_SECONDS) -> None:
        """Wait until nothing of the run is there any more.

        Raises:
            AssertionError: names what is.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_seconds
        while left := await asyncio.to_thread(self.traces.left):  # a look takes a while: others must go on meanwhile
            if loop.time() > deadline:
                raise AssertionError(f"left behind: {', '.join(left)}")
            await asyncio.sleep(0.1)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a file of the scenario's evidence."""
        return [row.data for row in Evidence(self.evidence.folder).rows(name)]


@asynccontextmanager
async def game_day(
    runs: Path,
    *options: str | Path,
    modes: Iterable[str] = (SCENARIO.failure_mode,),
    wrap: Wrap = list,
    environment: dict[str, str] | None = None,
) -> AsyncIterator[GameDay]:
    """Start a game day; on the way out end it, if it still runs, and with it all that it started."""
    running = await GameDay.start(runs, *options, modes=modes, wrap=wrap, environment=environment)
    try:
        yield running
    finally:
        if running.process.returncode is None:
            running.process.kill()
            await running.process.wait()


async def ask(*arguments: str | Path, within_seconds: float = REPORT_SECONDS) -> tuple[int, str]:
    """Run ``python -m chaos`` with ``arguments`` to its end; return exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaos"),
        *map(str, arguments),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(within_seconds):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def _runs_in(runs: Path) -> frozenset[Path]:
    runs.mkdir(parents=True, exist_ok=True)
    return frozenset(runs.glob(_RUN))


def _namespaces_of(pid: int) -> set[str]:
    found = set()
    for kind in _NAMESPACES:
        with contextlib.suppress(OSError):
            found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
    return found


def _namespaces_mounted() -> set[str]:
    """Return every namespace that a mount keeps, which no process of ours ever makes."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return {line.split()[3].strip("/") for line in mounts.splitlines() if " - nsfs " in line}


def _started_at(pid: int) -> int:
    """Return when a process started, in ticks since boot; 0 when it is gone. psutil is up to a second off."""
    return int(places.process_key(pid).partition(":")[2] or 0)


def _listening(pid: int) -> set[int]:
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return set()
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def _owner(folder: Path) -> str:
    try:
        return (folder / places.OWNER_FILE).read_text(encoding="utf-8")
    except OSError:
        return ""


def _name(key: str) -> str:
    return places.command_of(int(key.partition(":")[0]))
