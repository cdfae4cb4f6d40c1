"""Runs scenarios from the host: preflight, a world each, live progress, judgement, reports, exit code.

Nothing here is inside a world. A scenario that dies takes its whole world along (the kernel ends it); what it
wrote until then is judged like any other evidence.
"""

import asyncio
import contextlib
import json
import os
import platform
import secrets
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from chaos import sweep
from chaos.live import LiveView
from chaos.outcome import judge_run
from chaos.plan import NOT_ASKED_FOR, Plan
from chaos.report import write_reports
from chaos.report.terminal import print_report
from chaos.result import Report, RunRecord
from chaos.scenario import Scenario
from chaos.scenarios import SCENARIOS
from compose import host, world

_ABORT_DEADLINE_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the caller chose."""

    profile: str
    seed: int
    isolation: str
    runs: Path  # folder of all runs
    service_path: Path
    only_injections: tuple[str, ...] = ()
    inject_faults: bool = True
    follow_runbook: bool = True
    parallel: int = 1


def new_run_id(now: datetime, entropy: str | None = None) -> str:
    """Return a sortable, unique name for a run: UTC time and four random hex digits."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{entropy or secrets.token_hex(2)}"


def resolve(scenario: Scenario, options: RunOptions, capabilities: Mapping[str, host.Capability], run_id: str) -> Plan:
    """Decide which injections this host can run, and say why not for the others."""
    skipped: dict[str, str] = {}
    wanted = []
    for injection in scenario.injections:
        if options.only_injections and injection.name not in options.only_injections:
            skipped[injection.name] = NOT_ASKED_FOR
            continue
        wanted.append(injection.name)
        lacking = [
            f"{need}: {capabilities[need].reason}"
            for need in sorted(injection.fault.needs)
            if not capabilities[need].available
        ]
        if "packet_filter" in injection.fault.needs and options.isolation == world.Isolation.NONE:
            lacking.append("isolation none: packets are dropped only in a network namespace of the world's own")
        if lacking:
            skipped[injection.name] = "; ".join(lacking)
    return Plan(
        failure_mode=scenario.failure_mode,
        slug=scenario.slug,
        profile=options.profile,
        seed=options.seed,
        isolation=options.isolation,
        run_id=run_id,
        injections=tuple(name for name in wanted if name not in skipped),
        skipped=skipped,
        service_path=str(options.service_path),
        inject_faults=options.inject_faults,
        follow_runbook=options.follow_runbook,
    )


def run(
    scenarios: Sequence[Scenario], options: RunOptions, capabilities: Mapping[str, host.Capability], console: Console
) -> int:
    """Run scenarios, print and write what came of them, and return the exit code."""
    left_before = sweep.sweep(options.runs)
    for line in left_before:
        console.print(f"[yellow]left behind by an earlier run, removed:[/] {line}")
    run_id = new_run_id(datetime.now(UTC))
    folder = options.runs / run_id
    record = RunRecord(
        run_id=run_id,
        profile=options.profile,
        seed=options.seed,
        command=_command(scenarios, options),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=describe_host(capabilities),
        scenarios=tuple(scenario.slug for scenario in scenarios),
    )
    record.write(folder)
    _point_latest_at(folder)
    _announce(record, options, folder, console)
    session = _Session(options, capabilities, folder, run_id)
    with LiveView(console) as live:
        failure = asyncio.run(session.run(scenarios, live))
    record = msgspec.structs.replace(
        record,
        finished=True,
        interrupted_by=session.interrupted_by,
        residue=tuple(session.residue),
        harness_error=failure,
    )
    record.write(folder)
    return _conclude(folder, console)


def judge_again(folder: Path, console: Console) -> int:
    """Judge a stored run again and write its reports anew; return its exit code."""
    return _conclude(folder, console)


def _conclude(folder: Path, console: Console) -> int:
    judged: Report = judge_run(folder, tuple(SCENARIOS.values()))
    write_reports(folder, judged)
    print_report(judged, console, location=str(folder / "report.html"))
    return judged.exit_code


class _Session:
    """The worlds of one run and what the caller's signals mean to them."""

    def __init__(
        self, options: RunOptions, capabilities: Mapping[str, host.Capability], folder: Path, run_id: str
    ) -> None:
        self._options = options
        self._capabilities = capabilities
        self._folder = folder
        self._run_id = run_id
        self._worlds: dict[str, world.World] = {}
        self.interrupted_by: int | None = None
        self.residue: list[str] = []  # what worlds of this run left on the host

    async def run(self, scenarios: Sequence[Scenario], live: LiveView) -> str | None:
        """Run each scenario in a world of its own; return what went wrong with the harness itself, if anything."""
        slots = asyncio.Semaphore(self._options.parallel)
        failures: list[str] = []
        with self._signals():
            async with asyncio.TaskGroup() as tasks:
                for scenario in scenarios:
                    tasks.create_task(self._run_one(scenario, live, slots, failures))
        return "; ".join(failures) or None

    async def _run_one(self, scenario: Scenario, live: LiveView, slots: asyncio.Semaphore, failures: list[str]) -> None:
        async with contextlib.AsyncExitStack() as held:
            for _ in range(self._options.parallel if scenario.exclusive else 1):
                await held.enter_async_context(slots)
            if self.interrupted_by is not None:
                return
            exit_code = await self._run_world(scenario, live)
            if exit_code not in {0, 130}:
                failures.append(f"{scenario.failure_mode}: the engine ended with {exit_code}; see engine.log")

    async def _run_world(self, scenario: Scenario, live: LiveView) -> int:
        folder = self._folder / scenario.slug
        folder.mkdir()
        resolve(scenario, self._options, self._capabilities, self._run_id).write(folder)
        engine = [sys.executable, "-m", "chaos.engine", str(folder)]
        with (folder / "engine.log").open("wb") as log:
            home = await world.start(engine, isolation=self._options.isolation, stderr=log)
        self._worlds[scenario.failure_mode] = home
        try:
            if home.stdout is not None:
                async for line in home.stdout:
                    with contextlib.suppress(json.JSONDecodeError):
                        live.show(scenario.failure_mode, json.loads(line))
            return await home.wait()
        finally:
            del self._worlds[scenario.failure_mode]
            self.residue += world.sweep(home.id)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in handled:
            loop.add_signal_handler(number, self._abort, number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _abort(self, number: int) -> None:
        """Ask every world to undo and end; it is never killed before its undo had its time."""
        loop = asyncio.get_running_loop()
        self.interrupted_by = self.interrupted_by or number
        for home in self._worlds.values():
            home.send_signal(signal.SIGTERM)
            loop.call_later(_ABORT_DEADLINE_SECONDS, home.kill)


def new_seed() -> int:
    """Return a fresh root seed, 32 bits."""
    return secrets.randbits(32)


def resolve_isolation(wanted: str, capabilities: Mapping[str, host.Capability]) -> str:
    """Return the strongest isolation this host offers for "auto", else what was wanted."""
    if wanted != "auto":
        return wanted
    return str(world.strongest(capabilities))


def describe_host(capabilities: Mapping[str, host.Capability]) -> dict[str, object]:
    """Return what the report says of this machine: nothing that names it."""
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processors": os.cpu_count() or 0,
        "python": platform.python_version(),
        **{
            name: {"available": one.available, "reason": one.reason, "unlocks": one.unlocks}
            for name, one in capabilities.items()
        },
    }


def _point_latest_at(folder: Path) -> None:
    """Point runs/latest at the run, atomically; a folder of that name is somebody's and stays."""
    link = folder.parent / "latest"
    fresh = folder.parent / f".latest-{folder.name}"
    fresh.symlink_to(folder.name)
    fresh.replace(link)


def _command(scenarios: Sequence[Scenario], options: RunOptions) -> str:
    words = ["./justw", "gameday", *(scenario.failure_mode.lower() for scenario in scenarios)]
    words += ["--profile", options.profile, "--seed", str(options.seed), "--isolation", options.isolation]
    for injection in options.only_injections:
        words += ["--injection", injection]
    if not options.inject_faults:
        words.append("--no-faults")
    if not options.follow_runbook:
        words.append("--no-runbook")
    return shlex.join(words)


def _announce(record: RunRecord, options: RunOptions, folder: Path, console: Console) -> None:
    shortened = " (durations shortened, thresholds as documented)" if options.profile == "fast" else ""
    console.print(f"run [bold]{record.run_id}[/]  profile {options.profile}{shortened}  seed {options.seed}")
    console.print(f"isolation {options.isolation}  evidence {folder}", highlight=False, soft_wrap=True)
