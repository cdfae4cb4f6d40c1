import pytest

from chaos.evidence import Row
from chaos.history import (
    Kind,
    Outcome,
    digest_of_answer,
    dropped,
    lags,
    operations,
    outcome_of_answer,
    outcome_of_silence,
    quantile,
)


def row(line: int, t: float, **data: object) -> Row:
    return Row(file="history.jsonl", line=line, t=t, data={"t": t, **data})


@pytest.mark.parametrize(
    ("kind", "status", "code", "replica", "expected"),
    [
        pytest.param(Kind.PROPOSE, 201, None, "replica-1", Outcome.OK, id="acknowledged"),
        pytest.param(Kind.PROPOSE, 422, "invalid", "replica-1", Outcome.FAIL, id="refused for the client's fault"),
        pytest.param(Kind.PROPOSE, 429, None, None, Outcome.FAIL, id="limited"),
        pytest.param(Kind.PROPOSE, 503, "database-unavailable", "replica-1", Outcome.FAIL, id="nothing begun, it says"),
        pytest.param(Kind.PROPOSE, 503, None, None, Outcome.FAIL, id="the proxy had nobody to ask"),
        pytest.param(Kind.PROPOSE, 503, None, "replica-1", Outcome.INFO, id="503 that promises nothing"),
        pytest.param(Kind.PROPOSE, 503, "outcome-unknown", "replica-1", Outcome.INFO, id="it does not know itself"),
        pytest.param(Kind.PROPOSE, 504, None, None, Outcome.INFO, id="the proxy stopped waiting"),
        pytest.param(Kind.PROPOSE, 502, None, None, Outcome.INFO, id="the proxy lost the replica midway"),
        pytest.param(Kind.RETRY, 500, "internal", "replica-1", Outcome.INFO, id="crash while writing"),
        pytest.param(Kind.GET, 500, "internal", "replica-1", Outcome.FAIL, id="a read has no effect"),
        pytest.param(Kind.LIST, 504, None, None, Outcome.FAIL, id="a list has no effect"),
    ],
)
def test_an_answer_is_classified_by_what_it_promises(
    kind: Kind, status: int, code: str | None, replica: str | None, expected: Outcome
) -> None:
    assert outcome_of_answer(kind, status=status, code=code, replica=replica) is expected


@pytest.mark.parametrize(
    ("kind", "sent", "expected"),
    [
        pytest.param(Kind.PROPOSE, True, Outcome.INFO, id="a write without an answer is open"),
        pytest.param(Kind.PROPOSE, False, Outcome.FAIL, id="a write that never left is not"),
        pytest.param(Kind.GET, True, Outcome.FAIL, id="a read is never open"),
    ],
)
def test_silence_is_classified_by_what_may_have_left(kind: Kind, *, sent: bool, expected: Outcome) -> None:
    assert outcome_of_silence(kind, sent=sent) is expected


def test_operations_pair_invocations_with_completions_and_leave_dropped_arrivals_out() -> None:
    rows = (
        row(1, 1.0, op=1, type="invoke", kind="propose", intended=0.9, principal="client-1", key="k", body_sha256="b"),
        row(2, 1.1, type="dropped", kind="propose", intended=1.1),
        row(3, 1.2, op=2, type="invoke", kind="get", intended=1.2, proposal="p"),
        row(4, 1.5, op=1, type="ok", kind="propose", status=201, proposal="p", ms=600.0),
    )

    write, read = operations(rows)

    assert (write.outcome, write.proposal, write.status, write.key) == (Outcome.OK, "p", 201, "k")
    assert write.seconds == pytest.approx(0.6)
    assert not write.is_bad
    assert (read.outcome, read.completion, read.proposal) == (Outcome.FAIL, None, "p")
    assert read.is_bad
    assert [one.line for one in dropped(rows)] == [2]
    assert lags(rows) == pytest.approx([0.1, 0.0, 0.0])


@pytest.mark.parametrize(
    ("type_", "status", "bad"),
    [("ok", 201, False), ("fail", 422, False), ("fail", 503, True), ("info", 504, True), ("info", None, True)],
)
def test_only_server_errors_and_silence_count_against_the_service(type_: str, status: int | None, *, bad: bool) -> None:
    rows = (row(1, 0, op=1, type="invoke", kind="propose"), row(2, 1, op=1, type=type_, kind="propose", status=status))

    assert operations(rows)[0].is_bad is bad


def test_the_digest_of_an_answer_ignores_the_order_of_its_fields() -> None:
    assert digest_of_answer(b'{"a": 1, "b": 2}') == digest_of_answer(b'{"b":2,"a":1}')
    assert digest_of_answer(b'{"a": 1}') != digest_of_answer(b'{"a": 2}')
    assert digest_of_answer(b"<html>") != digest_of_answer(b"<htm>")


def test_a_quantile_of_nothing_is_nothing() -> None:
    assert quantile([], 0.99) is None
    assert quantile(range(100), 0.99) == 99
    assert quantile([7], 0.5) == 7
