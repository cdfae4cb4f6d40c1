from pathlib import Path

import pytest

from chaos.checks.proposals import (
    every_proposal_has_one_event,
    no_acknowledged_proposal_lost,
    no_ghost_or_altered_proposal,
    retries_are_idempotent,
)
from chaos.record import DATABASE
from chaos.scenario import Check, Finding
from chaos.verdict import Verdict
from tests.unit.chaos.recording import Recording
from tests.unit.chaos.spoiled import asked

CHECKS = (
    no_acknowledged_proposal_lost,
    no_ghost_or_altered_proposal,
    retries_are_idempotent,
    every_proposal_has_one_event,
)


def judged(check: Check, recording: Recording) -> Finding:
    recording.end_of_dump()
    return check(recording.case())


@pytest.mark.parametrize("check", CHECKS)
def test_an_honest_history_is_accepted(check: Check, tmp_path: Path) -> None:
    recording = asked(tmp_path)
    recording.operation(7, answer="info", status=504, key="open-1", body="open and done")
    recording.stored("p900", body="open and done", key="open-1")
    recording.operation(7, answer="info", error="timeout", key="open-2", body="open and not done")
    recording.operation(7, answer="fail", status=503, key="refused", body="refused")
    recording.operation(8, kind="reuse", answer="fail", status=422, key="k1", body="another body")
    recording.operation(8, kind="list", ids=["p000", "p001", "p002"], more=True)
    recording.operation(8.1, kind="list", ids=["p003", "p004"], more=True, invocation={"after": "p002"})

    finding = judged(check, recording)

    assert finding.verdict is Verdict.PASS, finding.reason


@pytest.mark.parametrize("check", CHECKS)
def test_an_empty_history_is_unknown(check: Check, tmp_path: Path) -> None:
    assert check(Recording(tmp_path).case()).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("check", CHECKS)
def test_a_missing_or_torn_copy_of_the_database_is_unknown_and_not_an_empty_one(check: Check, tmp_path: Path) -> None:
    assert check(asked(tmp_path).case()).verdict is Verdict.UNKNOWN

    torn = tmp_path / "torn"
    torn.mkdir()
    recording = asked(torn)
    for table in ("proposals", "events", "idempotency_records"):
        recording.row(DATABASE, 91, table=table, rows=61)
    assert check(recording.case()).verdict is Verdict.UNKNOWN


def test_a_list_that_runs_downwards_is_understood(tmp_path: Path) -> None:
    recording = asked(tmp_path)
    recording.operation(9, kind="list", ids=["p059", "p058"], more=True)
    recording.operation(9.1, kind="list", ids=["p057", "p056"], more=True, invocation={"after": "p058"})
    assert judged(no_acknowledged_proposal_lost, recording).verdict is Verdict.PASS


def test_a_list_that_runs_downwards_and_skips_one_is_refused(tmp_path: Path) -> None:
    recording = asked(tmp_path)
    recording.operation(9, kind="list", ids=["p059", "p058"], more=True)
    recording.operation(9.1, kind="list", ids=["p056", "p055"], more=True, invocation={"after": "p058"})
    assert judged(no_acknowledged_proposal_lost, recording).verdict is Verdict.FAIL


def test_a_proposal_acknowledged_while_the_read_was_under_way_may_be_missing_from_it(tmp_path: Path) -> None:
    recording = asked(tmp_path)
    recording.acknowledged(9.0, proposal="p0015", key="late", body="late", ms=200)
    recording.stored("p0015", body="late", key="late")
    recording.operation(9.1, kind="list", ids=["p000", "p001", "p002"], more=True, ms=300)

    assert judged(no_acknowledged_proposal_lost, recording).verdict is Verdict.PASS


def test_acknowledgements_without_any_read_are_unknown(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    for number in range(60):
        recording.acknowledged(number, proposal=f"p{number}", key=f"k{number}", body=f"b{number}")
        recording.stored(f"p{number}", body=f"b{number}", key=f"k{number}")

    assert judged(no_acknowledged_proposal_lost, recording).verdict is Verdict.UNKNOWN


def test_the_same_key_of_two_principals_is_two_keys(tmp_path: Path) -> None:
    recording = asked(tmp_path)
    recording.acknowledged(9, proposal="p900", key="k3", body="b900", principal="client-2")
    recording.stored("p900", body="b900", key="k3", principal="client-2")

    assert judged(retries_are_idempotent, recording).verdict is Verdict.PASS


def test_a_history_without_retries_says_nothing_about_them(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    for number in range(60):
        recording.acknowledged(number, proposal=f"p{number}", key=f"k{number}", body=f"b{number}")
        recording.stored(f"p{number}", body=f"b{number}", key=f"k{number}")

    assert judged(retries_are_idempotent, recording).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("events", [pytest.param(0, id="no event"), pytest.param(2, id="two events")])
def test_a_proposal_without_exactly_one_event_is_refused(events: int, tmp_path: Path) -> None:
    recording = asked(tmp_path)
    recording.stored("p900", body="b900", events=events)

    assert judged(every_proposal_has_one_event, recording).verdict is Verdict.FAIL


def test_an_event_without_its_proposal_is_refused(tmp_path: Path) -> None:
    recording = asked(tmp_path)
    recording.row(DATABASE, 90, table="events", row={"proposal_id": "p900", "kind": "proposal_created"})

    assert judged(every_proposal_has_one_event, recording).verdict is Verdict.FAIL
