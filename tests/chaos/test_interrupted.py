"""Ctrl-C and SIGTERM: the fault is undone first, then the run says how far it came and ends as a shell expects."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from chaos.journal import Event
from chaos.report import schema
from chaos.verdict import Verdict
from tests.chaos.gameday import GameDay, game_day, side_by_side

pytestmark = [pytest.mark.scenario, pytest.mark.anyio, pytest.mark.timeout(300)]

PHASE_SECONDS = 150.0
UNDO_SECONDS = 90.0


@dataclass(frozen=True)
class Interruption:
    """What is sent while a fault is held, and how the run must end."""

    number: signal.Signals
    exit_code: int
    again_during_undo: bool = False


INTERRUPTIONS: Mapping[str, Interruption] = {
    "Ctrl-C": Interruption(signal.SIGINT, 130),
    "SIGTERM": Interruption(signal.SIGTERM, 143),
    "Ctrl-C, and again during the undo": Interruption(signal.SIGINT, 130, again_during_undo=True),
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, GameDay | BaseException]:
    """Run and interrupt them all, side by side; an exception is what went wrong with one."""

    async def one(number: int, interruption: Interruption) -> GameDay:
        async with game_day(tmp_path_factory.mktemp(f"run-{number}"), "--injection", "proxy_down") as day:
            await _interrupt(day, interruption)
        return day

    runs = (one(number, each) for number, each in enumerate(INTERRUPTIONS.values()))
    return dict(zip(INTERRUPTIONS, await side_by_side(runs), strict=True))


async def _interrupt(day: GameDay, interruption: Interruption) -> None:
    await day.saw(Event.WORLD_UP, within_seconds=PHASE_SECONDS)
    await day.note_traces()
    toxiproxy = day.process_in_world("toxiproxy-server")
    await day.saw(Event.BITTEN, within_seconds=PHASE_SECONDS)
    if interruption.again_during_undo:
        os.kill(toxiproxy, signal.SIGSTOP)  # its interface does not answer: the undo takes as long as it ever may
    day.send(interruption.number)
    await day.saw(Event.ABORTED, within_seconds=UNDO_SECONDS)
    if interruption.again_during_undo:
        await day.until(
            lambda: day.rows("undo.jsonl")[-1]["event"] == "undo_started", "an undo", within_seconds=UNDO_SECONDS
        )
        day.send(interruption.number)
    assert await day.ended(within_seconds=UNDO_SECONDS) == interruption.exit_code, day.output[-3000:]
    await day.leaves_nothing()


def _outcome(interrupted: Mapping[str, GameDay | BaseException], name: str) -> GameDay:
    outcome = interrupted[name]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


@pytest.mark.parametrize("name", INTERRUPTIONS)
async def test_interrupted_run_ends_with_its_exit_code_and_leaves_nothing(
    interrupted: Mapping[str, GameDay | BaseException], name: str
) -> None:
    day = _outcome(interrupted, name)

    assert day.process.returncode == INTERRUPTIONS[name].exit_code
    assert day.traces.left() == []


@pytest.mark.parametrize("name", INTERRUPTIONS)
async def test_fault_is_undone_and_seen_to_be_gone_before_an_interrupted_run_ends(
    interrupted: Mapping[str, GameDay | BaseException], name: str
) -> None:
    day = _outcome(interrupted, name)

    events, ledger, receipts = day.events(), day.rows("undo.jsonl"), day.rows("receipts.jsonl")

    assert events[-2:] == [Event.ABORTED, Event.UNDONE]
    assert ledger[-1]["event"] == "undone"
    assert [(each["proves"], each["ok"]) for each in receipts] == [("bite", True), ("undo", True)]


@pytest.mark.parametrize("name", INTERRUPTIONS)
async def test_an_interrupted_run_writes_a_report_that_passes_nothing(
    interrupted: Mapping[str, GameDay | BaseException], name: str
) -> None:
    day = _outcome(interrupted, name)

    schema.validate((day.folder / "report.json").read_bytes())
    (scenario,) = day.report.scenarios

    assert day.report.exit_code == INTERRUPTIONS[name].exit_code
    assert day.report.residue == ()
    assert day.report.verdict is not Verdict.PASS
    assert not [claim.id for claim in scenario.claims if claim.verdict is Verdict.PASS]
    assert "the run was aborted: SIGTERM" in scenario.reason


async def test_second_interruption_does_not_cut_the_undo_short(
    interrupted: Mapping[str, GameDay | BaseException],
) -> None:
    day = _outcome(interrupted, "Ctrl-C, and again during the undo")

    last = day.rows("undo.jsonl")[-1]

    assert last["event"] == "undone"
    assert "Toxiproxy was restarted" in last["notes"][0], "the undo did not take the long way, so nothing was shown"
    assert day.events().count(Event.ABORTED) == 1
