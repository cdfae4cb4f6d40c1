import dataclasses
from datetime import date
from pathlib import Path

import msgspec
import pytest

from chaos.ledger import Waiver, confront, load_waivers
from chaos.matrix import NOT_BUILT, load_matrix
from chaos.scenario import Scenario
from tests.unit.chaos.recorded import scenario

MATRIX = load_matrix()
ALL = frozenset(each.id for each in MATRIX.modes)
TODAY = date(2026, 11, 23)
WAIVER = Waiver(kind="human", reason="Only a person can call.", granted=date(2026, 1, 1), until=date(2026, 12, 31))


def gaps(
    *scenarios: Scenario,
    waivers: dict[str, Waiver] | None = None,
    not_built: frozenset[str] = ALL - {"FM01"},
    on: date = TODAY,
) -> list[str]:
    return [str(gap) for gap in confront(MATRIX, scenarios, waivers or {}, on=on, not_built=not_built)]


def without(checks: Scenario, claim: str) -> Scenario:
    return dataclasses.replace(checks, checks={key: check for key, check in checks.checks.items() if key != claim})


def test_a_scenario_that_checks_every_claim_leaves_no_gap() -> None:
    assert gaps(scenario()) == []


def test_a_claim_without_check_or_waiver_is_a_gap() -> None:
    assert gaps(without(scenario(), "FM01.M3")) == ["FM01.M3: is neither checked nor waived"]


def test_a_waiver_stands_for_a_check() -> None:
    assert gaps(without(scenario(), "FM01.M3"), waivers={"FM01.M3": WAIVER}) == []


def test_a_waiver_is_a_gap_from_the_day_after_its_last() -> None:
    one = without(scenario(), "FM01.M3")

    assert gaps(one, waivers={"FM01.M3": WAIVER}, on=date(2026, 12, 31)) == []
    assert gaps(one, waivers={"FM01.M3": WAIVER}, on=date(2027, 1, 1)) == [
        "FM01.M3: its waiver holds from 2026-01-01 to 2026-12-31, not on 2027-01-01"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checks": {**scenario().checks, "FM01.D9": scenario().checks["FM01.D1"]}}, "claims no such thing"),
        ({"rests_on": {"FM01.D9": ("proxy_down",)}}, "is no check or invariant of FM01"),
        ({"rests_on": {"FM01.D1": ("proxy_dwon",)}}, "rests on proxy_dwon, which FM01 has not"),
        ({"rests_on": {"FM01.D1": ()}}, "rests on no injection"),
        ({"slug": "fm01_database_down"}, "is not the heading's 'fm01_database_connection_failure'"),
        ({"alert": "DatabaseDown"}, "is not one of its document's"),
        ({"alert": None}, "does not expect its documented alert DatabaseConnectionDown"),
    ],
)
def test_a_scenario_that_departs_from_the_document_is_a_gap(change: dict[str, object], message: str) -> None:
    assert message in "\n".join(gaps(dataclasses.replace(scenario(), **change)))  # type: ignore[arg-type]


def test_a_waiver_beside_a_check_is_a_gap() -> None:
    assert gaps(scenario(), waivers={"FM01.D1": WAIVER}) == ["FM01.D1: is checked, so its waiver must go"]


def test_a_waiver_of_nothing_is_a_gap() -> None:
    assert gaps(scenario(), waivers={"FM01.X1": WAIVER}) == [
        "FM01.X1: is waived, but the document claims no such thing"
    ]


def test_a_waiver_without_a_reason_is_a_gap() -> None:
    silent = msgspec.structs.replace(WAIVER, reason=" ")

    assert gaps(without(scenario(), "FM01.M3"), waivers={"FM01.M3": silent}) == ["FM01.M3: its waiver gives no reason"]


def test_a_mode_neither_built_nor_listed_is_a_gap() -> None:
    assert "FM01: has no scenario" in gaps()[0]
    assert "take it out of NOT_BUILT" in gaps(scenario(), not_built=ALL)[0]
    assert "FM17: the document has no such failure mode" in gaps(scenario(), not_built=NOT_BUILT | {"FM17"})


def test_one_mode_has_one_scenario() -> None:
    assert gaps(scenario(), scenario()) == ["FM01: has 2 scenarios; one holds all its injections"]


def test_a_waiver_with_a_field_too_many_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "waivers.yaml"
    path.write_text("FM01.D1: {kind: human, reason: r, granted: 2026-01-01, until: 2026-02-01, forever: true}\n")

    with pytest.raises(msgspec.ValidationError, match="forever"):
        load_waivers(path)
