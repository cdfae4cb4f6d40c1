"""Everything but the faults: what passes without a fault proves nothing, so such a run must never be green."""

from pathlib import Path

import pytest

from chaos.outcome import EXIT_COVERAGE, EXIT_FAILED
from chaos.verdict import Verdict
from tests.chaos.gameday import game_day

pytestmark = [pytest.mark.scenario, pytest.mark.anyio, pytest.mark.timeout(300)]


async def test_a_run_without_faults_is_never_green(tmp_path: Path) -> None:
    async with game_day(tmp_path, "--no-faults", "--injection", "proxy_down") as day:
        code = await day.ended(within_seconds=280)

    assert code in {EXIT_COVERAGE, EXIT_FAILED}, day.output[-3000:]
    (scenario,) = day.report.scenarios
    assert not (day.evidence.folder / "undo.jsonl").exists()
    assert [each.injection for each in scenario.faults if each.verdict is not Verdict.SKIPPED] == ["proxy_down"]
    assert not [each.injection for each in scenario.faults if each.verdict is Verdict.PASS]
    assert not [each.id for each in (*scenario.claims, *scenario.invariants) if each.verdict is Verdict.PASS]
