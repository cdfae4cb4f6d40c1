"""A user who may do nothing special, on a host without namespaces for us: proved is what can be, the rest is named."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from chaos.journal import Event
from chaos.outcome import EXIT_COVERAGE
from chaos.verdict import Verdict
from tests.chaos.gameday import game_day
from tests.integration.compose import unprivileged

pytestmark = [pytest.mark.scenario, pytest.mark.anyio, pytest.mark.timeout(300)]

INJECTIONS = ("brief_interruption", "proxy_down", "packets_dropped")


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of that user's, which they can reach: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="gameday-") as name:
        if unprivileged.is_possible():
            os.chown(name, unprivileged.NOBODY.user, unprivileged.NOBODY.group)
        yield Path(name)


async def test_without_namespaces_and_root_what_can_be_proved_passes_and_the_rest_is_skipped(theirs: Path) -> None:
    wrap = unprivileged.command if unprivileged.is_possible() else list
    chosen = [word for each in INJECTIONS for word in ("--injection", each)]
    environment = {"HOME": str(theirs), "PYTHONDONTWRITEBYTECODE": "1"}
    async with game_day(theirs, "--isolation", "none", *chosen, wrap=wrap, environment=environment) as day:
        await day.saw(Event.WORLD_UP, within_seconds=120)
        await day.note_traces()
        assert psutil.Process(day.process.pid).uids().effective != 0
        code = await day.ended(within_seconds=200)
        await day.leaves_nothing()

    assert code == EXIT_COVERAGE, day.output[-4000:]
    (scenario,) = day.report.scenarios
    assert scenario.isolation == "none"
    assert day.traces.ports, "the world's ports were the host's"
    faults = {fault.injection: fault for fault in scenario.faults}
    assert [name for name in INJECTIONS if faults[name].verdict is Verdict.PASS] == ["brief_interruption", "proxy_down"]
    assert faults["packets_dropped"].verdict is Verdict.SKIPPED
    assert "isolation none" in faults["packets_dropped"].reason
    assert {claim.verdict for claim in scenario.claims} == {Verdict.PASS, Verdict.SKIPPED}
    assert all(claim.reason for claim in scenario.claims if claim.verdict is Verdict.SKIPPED)
