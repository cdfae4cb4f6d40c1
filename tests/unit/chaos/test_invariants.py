"""Each invariant: its check accepts an honest history, refuses each spoiled one for its reason, doubts an empty one."""

import re
from collections import Counter
from pathlib import Path

import pytest

from chaos.scenario import Check
from chaos.scenarios import SCENARIOS
from chaos.verdict import Verdict
from tests.unit.chaos.recording import Recording
from tests.unit.chaos.spoiled import CHECKS, HONEST, SPOILED, Spoiled

SPOILED_MIN = 2
_INVARIANT = re.compile(r"I\d+(?= )")
NAMED = [
    (scenario.slug, found.group(), check)
    for scenario in SCENARIOS.values()
    for name, check in scenario.invariants.items()
    if (found := _INVARIANT.match(name)) is not None
]


@pytest.mark.parametrize("invariant", HONEST)
def test_an_honest_history_is_accepted(invariant: str, tmp_path: Path) -> None:
    finding = CHECKS[invariant](HONEST[invariant](tmp_path))

    assert finding.verdict is Verdict.PASS, finding.reason
    assert finding.evidence


@pytest.mark.parametrize("spoiled", SPOILED, ids=[f"{one.invariant}-{one.name}" for one in SPOILED])
def test_a_spoiled_history_is_refused_for_its_reason(spoiled: Spoiled, tmp_path: Path) -> None:
    finding = CHECKS[spoiled.invariant](spoiled.write(tmp_path))

    assert finding.verdict is Verdict.FAIL, finding.reason
    assert spoiled.reason in finding.reason
    assert finding.evidence


@pytest.mark.parametrize("invariant", CHECKS)
def test_nothing_recorded_is_unknown(invariant: str, tmp_path: Path) -> None:
    assert CHECKS[invariant](Recording(tmp_path).case()).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(("slug", "invariant", "check"), NAMED, ids=[f"{slug}-{name}" for slug, name, _ in NAMED])
def test_an_invariant_of_a_scenario_is_shown_to_accept_and_to_refuse(slug: str, invariant: str, check: Check) -> None:
    refused = {one.reason for one in SPOILED if one.invariant == invariant}

    assert invariant in HONEST, f"{slug} names {invariant}: tests/unit/chaos/spoiled.py has no honest history of it"
    assert len(refused) >= SPOILED_MIN, (
        f"{slug} names {invariant}: tests/unit/chaos/spoiled.py has {len(refused)} reasons to refuse a history for,"
        f" {SPOILED_MIN} needed"
    )
    assert _function(check) == _function(CHECKS[invariant]), f"{slug} judges {invariant} by another check than is shown"


def test_every_history_belongs_to_a_check_and_has_a_name_of_its_own() -> None:
    names = Counter((one.invariant, one.name) for one in SPOILED)

    assert [name for name, count in names.items() if count > 1] == []
    assert {one.invariant for one in SPOILED} == set(CHECKS) == set(HONEST)


def _function(check: Check) -> str:
    """Return the name of what judges, whatever was bound to it."""
    plain = getattr(check, "func", check)
    return f"{plain.__module__}.{plain.__qualname__}"
