"""SIGKILL of the harness, in every phase: the kernel and the guard remove its world, and nothing has to be undone.

Each run is killed for real, three at a time, once (``killed``); the tests look at what came of it.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pytest

from chaos.journal import Event
from chaos.outcome import EXIT_CRASHED, judge_run
from chaos.result import Report
from chaos.scenarios import SCENARIOS
from chaos.undo_ledger import open_entries
from chaos.verdict import Verdict
from compose import host, world
from tests.chaos.gameday import GameDay, ask, game_day, side_by_side

pytestmark = [pytest.mark.scenario, pytest.mark.anyio, pytest.mark.timeout(420)]

PHASE_SECONDS = 150.0


@dataclass(frozen=True)
class Kill:
    """When to kill, and what the journal may have come to when the kill came in time."""

    after: Event
    last: frozenset[Event]
    injection: str = "brief_interruption"
    undo_hangs: bool = False  # Toxiproxy is frozen before, so that the kill is sure to come in the midst of it


KILLS: Mapping[str, Kill] = {
    "while the world comes up": Kill(
        Event.SCENARIO_STARTED, frozenset({Event.SCENARIO_STARTED, Event.INJECTION_SKIPPED})
    ),
    "during the baseline": Kill(Event.BASELINE_STARTED, frozenset({Event.BASELINE_STARTED})),
    "at the injection": Kill(
        Event.INJECTION_STARTED,
        frozenset({Event.INJECTION_STARTED, Event.INJECTED, Event.BITTEN}),
        injection="proxy_down",
    ),
    "while the fault is held": Kill(Event.BITTEN, frozenset({Event.BITTEN}), injection="proxy_down"),
    "during the undo": Kill(Event.UNDO_STARTED, frozenset({Event.UNDO_STARTED}), undo_hangs=True),
    "during the recovery": Kill(Event.RECOVERY_STARTED, frozenset({Event.RECOVERY_STARTED})),
    "while the world ends": Kill(Event.SCENARIO_FINISHED, frozenset({Event.SCENARIO_FINISHED})),
    "while it judges and reports": Kill(Event.SCENARIO_FINISHED, frozenset({Event.SCENARIO_FINISHED})),
}


@dataclass(frozen=True)
class Killed:
    """What came of one."""

    day: GameDay
    exit_code: int
    left: str  # "" when everything was gone in time

    @property
    def last_event(self) -> str:
        """What the journal had come to; whoever sees the harness vanish begins to undo, until it is ended itself."""
        return list(takewhile(lambda event: event != Event.ABORTED, self.day.events()))[-1]

    def judged(self) -> Report:
        """Judge what was recorded."""
        return judge_run(self.day.folder, tuple(SCENARIOS.values()))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def killed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Killed | BaseException]:
    """Run and kill them all. An exception is what went wrong with one, for the test that asks for it."""
    quiet = asyncio.Lock()
    folder = tmp_path_factory.mktemp("killed")

    async def one(name: str, kill: Kill) -> Killed:
        return await _kill(folder / name.replace(" ", "-"), kill, quiet, ends_first="judges" in name)

    done = await side_by_side(one(name, kill) for name, kill in KILLS.items())
    return dict(zip(KILLS, done, strict=True))


async def _kill(runs: Path, kill: Kill, quiet: asyncio.Lock, *, ends_first: bool) -> Killed:
    """Run until the moment to kill.

    ``quiet``: a run sweeps when it starts, and must not do the kernel's work for one that has just been killed.
    """
    async with contextlib.AsyncExitStack() as held:
        async with quiet:
            day = await held.enter_async_context(game_day(runs, "--injection", kill.injection))
            await day.saw(Event.SCENARIO_STARTED, within_seconds=PHASE_SECONDS)
            await day.note_traces()
        if kill.after is Event.SCENARIO_STARTED:
            await day.until(
                lambda: day.process_in_world("toxiproxy-server") > 0, "parts run", within_seconds=PHASE_SECONDS
            )
            await day.note_traces()
        else:
            await day.saw(Event.WORLD_UP, within_seconds=PHASE_SECONDS)
            await day.note_traces()
        if kill.undo_hangs:
            toxiproxy = day.process_in_world("toxiproxy-server")
            await day.saw(Event.BITTEN, within_seconds=PHASE_SECONDS)
            os.kill(toxiproxy, signal.SIGSTOP)
        await day.saw(kill.after, within_seconds=PHASE_SECONDS)
        if ends_first:
            await day.is_recorded_as_finished(within_seconds=PHASE_SECONDS)
        day.send(signal.SIGKILL)
        async with quiet:
            exit_code = await day.ended(within_seconds=10)
            left = ""
            try:
                await day.leaves_nothing()
            except AssertionError as error:
                left = str(error)
        return Killed(day, exit_code, left)


def _outcome(killed: Mapping[str, Killed | BaseException], name: str) -> Killed:
    outcome = killed[name]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


@pytest.mark.parametrize("name", KILLS)
async def test_killed_harness_leaves_no_process_namespace_cgroup_port_or_folder(
    killed: Mapping[str, Killed | BaseException], name: str
) -> None:
    outcome = _outcome(killed, name)

    assert outcome.exit_code == -signal.SIGKILL
    assert outcome.last_event in KILLS[name].last, "the kill missed its phase, so nothing was shown"
    traces = outcome.day.traces
    assert len(traces.processes) > 3, "the run had processes that could have stayed"
    assert traces.namespaces or world.strongest(host.detect()) == world.Isolation.NONE
    assert outcome.left == ""


@pytest.mark.parametrize("name", [name for name in KILLS if name != "while it judges and reports"])
async def test_what_a_killed_run_recorded_is_never_a_pass(
    killed: Mapping[str, Killed | BaseException], name: str
) -> None:
    judged = _outcome(killed, name).judged()

    assert judged.verdict is not Verdict.PASS
    assert judged.exit_code == EXIT_CRASHED


async def test_a_run_killed_before_its_report_gets_it_from_judge(
    killed: Mapping[str, Killed | BaseException],
) -> None:
    outcome = _outcome(killed, "while it judges and reports")
    assert not (outcome.day.folder / "junit.xml").exists(), "the kill came after the reports"

    code, output = await ask("judge", outcome.day.folder)

    assert code == outcome.day.report.exit_code == outcome.judged().exit_code
    assert code != EXIT_CRASHED
    assert output.splitlines()[-1].endswith("skipped")


@pytest.mark.parametrize("name", KILLS)
async def test_sweep_finds_nothing_to_remove_after_a_kill_and_closes_its_ledger(
    killed: Mapping[str, Killed | BaseException], name: str
) -> None:
    day = _outcome(killed, name).day
    scenario = day.evidence.folder
    if KILLS[name].undo_hangs:
        assert len(open_entries(scenario)) == 1

    code, output = await ask("sweep", "--runs", day.runs)

    removed = [line for line in output.splitlines() if line.startswith("removed:")]
    assert not [line for line in removed if day.traces.are_in(line)]
    assert code == (3 if removed else 0)  # what others left on this machine meanwhile is theirs
    assert open_entries(scenario) == ()
    if KILLS[name].undo_hangs:
        assert day.rows("undo.jsonl")[-1]["event"] == "abandoned_with_world"


async def test_what_nobody_removed_is_removed_and_told_by_the_next_run(tmp_path: Path) -> None:
    """The guard, too, is killed, on a host where no namespace owns anything: the worst that can happen."""
    async with game_day(tmp_path, "--injection", "brief_interruption", "--isolation", "none") as first:
        await first.saw(Event.WORLD_UP, within_seconds=PHASE_SECONDS)
        await first.note_traces()
        guard = first.guard()
        os.kill(guard, signal.SIGSTOP)
        first.send(signal.SIGKILL)
        os.kill(guard, signal.SIGKILL)
        await first.ended(within_seconds=10)
    (left,) = first.traces.folders()
    os.utime(left, (0, 0))  # a minute later: until then it could be one that is just being made

    async with game_day(tmp_path, "--injection", "brief_interruption", "--isolation", "none") as second:
        await second.saw(Event.SCENARIO_STARTED, within_seconds=PHASE_SECONDS)
        await second.note_traces()
        second.send(signal.SIGINT)
        code = await second.ended(within_seconds=PHASE_SECONDS)

    assert f"left behind by an earlier run, removed: folder {left}" in second.output
    assert first.traces.left() == []
    assert code == 130
    await second.leaves_nothing()
