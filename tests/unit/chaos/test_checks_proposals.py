import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.checks.proposals import (
    every_proposal_has_one_event,
    no_acknowledged_proposal_lost,
    no_ghost_or_altered_proposal,
    retries_are_idempotent,
)
from chaos.history import sha256
from chaos.record import DATABASE
from chaos.scenario import Check, Finding
from chaos.verdict import Verdict
from tests.unit.chaos.recording import Recording

CHECKS = (
    no_acknowledged_proposal_lost,
    no_ghost_or_altered_proposal,
    retries_are_idempotent,
    every_proposal_has_one_event,
)


def honest(folder: Path, *, leave_out: str = "", stored_bodies: dict[str, str] | None = None) -> Recording:
    """Sixty proposals, twenty of them retried, all read back; ``leave_out`` is not in the database."""
    recording = Recording(folder)
    for number in range(60):
        name = f"p{number:03d}"
        recording.acknowledged(number / 10, proposal=name, key=f"k{number}", body=f"b{number}")
        if number < 20:
            recording.acknowledged(number / 10 + 1, proposal=name, key=f"k{number}", body=f"b{number}", kind="retry")
        recording.operation(number / 10 + 2, kind="get", proposal=name, invocation={"proposal": name})
        if name != leave_out:
            recording.stored(name, body=(stored_bodies or {}).get(name, f"b{number}"), key=f"k{number}")
    return recording


def judged(check: Check, recording: Recording) -> Finding:
    recording.end_of_dump()
    return check(recording.case())


@pytest.mark.parametrize("check", CHECKS)
def test_an_honest_history_is_accepted(check: Check, tmp_path: Path) -> None:
    recording = honest(tmp_path)
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
    assert check(honest(tmp_path).case()).verdict is Verdict.UNKNOWN

    torn = tmp_path / "torn"
    torn.mkdir()
    recording = honest(torn)
    for table in ("proposals", "events", "idempotency_records"):
        recording.row(DATABASE, 91, table=table, rows=61)
    assert check(recording.case()).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        pytest.param(lambda folder: honest(folder, leave_out="p042"), "1 of 80 acknowledgements", id="ack, then lost"),
        pytest.param(
            lambda folder: with_operation(honest(folder), 9.0, key="x", body="x"),
            "for nothing",
            id="ack without identity",
        ),
        pytest.param(
            lambda folder: with_operation(
                honest(folder), 9.0, kind="get", answer="fail", status=404, invocation={"proposal": "p007"}
            ),
            "1 reads missed",
            id="not found after the acknowledgement (a stale replica)",
        ),
        pytest.param(
            lambda folder: with_operation(honest(folder), 9.0, kind="list", ids=["p000", "p002"], more=True),
            "1 reads missed",
            id="a page that skips one",
        ),
        pytest.param(
            lambda folder: with_operation(
                honest(folder), 9.0, kind="list", ids=["p058"], more=False, invocation={"after": "p057"}
            ),
            "1 reads missed",
            id="the last page ends too early",
        ),
    ],
)
def test_a_lost_or_stale_acknowledgement_is_refused(
    plant: Callable[[Path], Recording], reason: str, tmp_path: Path
) -> None:
    finding = judged(no_acknowledged_proposal_lost, plant(tmp_path))

    assert finding.verdict is Verdict.FAIL
    assert reason in finding.reason
    assert finding.evidence


def test_a_list_that_runs_downwards_is_understood(tmp_path: Path) -> None:
    recording = honest(tmp_path)
    recording.operation(9, kind="list", ids=["p059", "p058"], more=True)
    recording.operation(9.1, kind="list", ids=["p057", "p056"], more=True, invocation={"after": "p058"})
    assert judged(no_acknowledged_proposal_lost, recording).verdict is Verdict.PASS


def test_a_list_that_runs_downwards_and_skips_one_is_refused(tmp_path: Path) -> None:
    recording = honest(tmp_path)
    recording.operation(9, kind="list", ids=["p059", "p058"], more=True)
    recording.operation(9.1, kind="list", ids=["p056", "p055"], more=True, invocation={"after": "p058"})
    assert judged(no_acknowledged_proposal_lost, recording).verdict is Verdict.FAIL


def test_a_proposal_acknowledged_while_the_read_was_under_way_may_be_missing_from_it(tmp_path: Path) -> None:
    recording = honest(tmp_path)
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


def refused_and_stored(folder: Path) -> Recording:
    recording = with_operation(honest(folder), 9.0, answer="fail", status=503, key="x", body="refused")
    recording.stored("p999", body="refused", key="x")
    return recording


def ghost(folder: Path) -> Recording:
    recording = honest(folder)
    recording.stored("p999", body="nobody asked")
    return recording


def rewritten(folder: Path) -> Recording:
    recording = honest(folder)
    body = json.dumps({"target": "agent-1"}).encode()
    recording.operation(9, answer="info", key="x", body=sha256(body))
    row = {"id": "p999", "principal": "p", "body_digest": sha256(body), "body": "\\x" + b"something else".hex()}
    recording.row(DATABASE, 90, table="proposals", row=row)
    return recording


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        pytest.param(ghost, "p999 was never asked for", id="ghost"),
        pytest.param(
            lambda folder: honest(folder, stored_bodies={"p007": "b8"}),
            "p007 is not what was acknowledged",
            id="swapped",
        ),
        pytest.param(refused_and_stored, "p999 is there although it was refused", id="promised no effect"),
        pytest.param(rewritten, "the stored body is not the one its digest names", id="rewritten in place"),
    ],
)
def test_a_ghost_or_an_altered_proposal_is_refused(
    plant: Callable[[Path], Recording], reason: str, tmp_path: Path
) -> None:
    finding = judged(no_ghost_or_altered_proposal, plant(tmp_path))

    assert finding.verdict is Verdict.FAIL
    assert reason in finding.reason


def applied_twice(folder: Path) -> Recording:
    recording = honest(folder)
    recording.stored("p900", body="b3")
    return recording


def answered_twice(folder: Path) -> Recording:
    recording = honest(folder)
    recording.operation(9, kind="retry", key="k3", body="b3", proposal="p003", digest="another answer")
    return recording


def reuse_accepted(folder: Path) -> Recording:
    recording = honest(folder)
    recording.operation(9, kind="reuse", key="k3", body="another", proposal="p003", digest="answer of p003")
    return recording


def reuse_left_a_row(folder: Path) -> Recording:
    recording = with_operation(honest(folder), 9, kind="reuse", answer="fail", status=422, key="k3", body="another")
    recording.stored("p900", body="another")
    return recording


def no_record(folder: Path) -> Recording:
    recording = honest(folder)
    recording.acknowledged(9, proposal="p900", key="k900", body="b900")
    recording.stored("p900", body="b900")
    return recording


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        pytest.param(applied_twice, "key k3 left 2 proposals", id="applied twice"),
        pytest.param(answered_twice, "key k3 was answered in different ways", id="two answers"),
        pytest.param(reuse_accepted, "key k3 was accepted with two bodies", id="reuse accepted"),
        pytest.param(reuse_left_a_row, "key k3 left 2 proposals", id="reuse refused, but stored"),
        pytest.param(no_record, "has no record", id="nothing remembers the key"),
    ],
)
def test_a_retry_that_is_not_idempotent_is_refused(
    plant: Callable[[Path], Recording], reason: str, tmp_path: Path
) -> None:
    finding = judged(retries_are_idempotent, plant(tmp_path))

    assert finding.verdict is Verdict.FAIL
    assert reason in finding.reason


def test_the_same_key_of_two_principals_is_two_keys(tmp_path: Path) -> None:
    recording = honest(tmp_path)
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
    recording = honest(tmp_path)
    recording.stored("p900", body="b900", events=events)

    assert judged(every_proposal_has_one_event, recording).verdict is Verdict.FAIL


def test_an_event_without_its_proposal_is_refused(tmp_path: Path) -> None:
    recording = honest(tmp_path)
    recording.row(DATABASE, 90, table="events", row={"proposal_id": "p900", "kind": "proposal_created"})

    assert judged(every_proposal_has_one_event, recording).verdict is Verdict.FAIL


def with_operation(recording: Recording, t: float, **operation: object) -> Recording:
    recording.operation(t, **operation)  # type: ignore[arg-type] # the table's rows are keyword arguments
    return recording
