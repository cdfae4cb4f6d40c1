"""Checks of credentials accept what shows their claim, refuse what refutes it, and doubt an empty history."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.checks.credentials import (
    answered_with,
    answers_are_alike,
    every_cause_is_tried,
    expired_says_so,
    first_refused,
    guessing_is_limited,
    key_stays_known,
    others_are_served,
    refused_at_once,
    within_tolerance_is_served,
)
from chaos.checks.findings import WindowCheck
from chaos.exchange import ERRORS
from chaos.verdict import Verdict
from tests.unit.chaos.recording import WINDOW, Recording

CAUSES = ("unknown", "typo")
Story = Callable[[Recording], None]


def stream(
    told: Recording, *, name: str = "bad", start: float = 11, end: float = 29, per_second: float = 4, **operation: Any
) -> None:
    for step in range(round((end - start) * per_second)):
        facts = {"stream": name, "why": CAUSES[step % 2]}
        answer: dict[str, Any] = {"kind": "list", "answer": "fail", "status": 401, "code": "unauthenticated"}
        told.operation(start + step / per_second, invocation=facts, **{**answer, **operation})


def nothing(told: Recording) -> None:
    told.operation(5.0)


def errors(told: Recording, *, odd: dict[str, Any] | None = None, count: int = 20) -> None:
    for number in range(count):
        body = {"code": "unauthenticated", "request_id": f"r{number}", "instance": f"i{number}", "detail": "No."}
        headers = {"date": str(number), "x-request-id": f"r{number}", "content-type": "application/problem+json"}
        spoiled = odd if odd and number == 7 else {}
        told.row(ERRORS, 12 + number / 4, status=401, headers=headers, body=json.dumps({**body, **spoiled}))


def guesses(told: Recording, *, looked_at: int, limited: int, **answer: Any) -> None:
    for number in range(looked_at + limited):
        status = 401 if number < looked_at else 429
        facts = {"retry_after": "1", **answer} if status == 429 else {}
        told.operation(
            11 + number * 18 / (looked_at + limited),
            kind="list",
            answer="fail",
            status=status,
            invocation={"stream": "bad"},
            **facts,
        )


def tolerated(told: Recording, *, status: int, late: float) -> None:
    for step in range(20):
        at = 11.0 + step / 2
        told.operation(
            at,
            kind="list",
            answer="ok" if status == 200 else "fail",
            status=status,
            invocation={"stream": "young", "expires": at - late},
        )


def expired(told: Recording, *, code: str = "token-expired", detail: str = "The token expired.") -> None:
    stream(told, name="old", code=code)
    for number in range(20):
        told.row(ERRORS, 12 + number / 4, status=401, headers={}, body=json.dumps({"code": code, "detail": detail}))


def looks(told: Recording, status: int) -> None:
    for step in range(20):
        last = status if step == 19 else 403
        told.row("samples/known_key.jsonl", 11 + step / 2, answers={"replica-1": 403, "replica-2": last})


def one_let_in(told: Recording) -> None:
    stream(told)
    told.operation(20.0, kind="list", invocation={"stream": "bad", "why": "typo"})


def one_turned_away(told: Recording) -> None:
    told.traffic(5, 40)
    told.operation(20.0, answer="fail", status=429)


def one_failed(told: Recording) -> None:
    told.traffic(5, 40)
    told.operation(20.0, answer="info", status=500)


TABLE: list[tuple[str, WindowCheck, Story, Story]] = [
    (
        "answered with",
        answered_with({"bad"}, statuses={401}, codes={"unauthenticated"}),
        stream,
        one_let_in,
    ),
    (
        "answered with another code",
        answered_with({"bad"}, statuses={401}, codes={"unauthenticated"}),
        stream,
        lambda told: stream(told, code="token-expired"),
    ),
    (
        "refused at once",
        refused_at_once({"bad"}, answer_seconds=0.05),
        stream,
        one_let_in,
    ),
    (
        "refused at once, though slowly",
        refused_at_once({"bad"}, answer_seconds=0.05),
        stream,
        lambda told: stream(told, ms=80.0),
    ),
    (
        "guessing is limited",
        guessing_is_limited({"bad"}, per_minute=60, burst=30),
        lambda told: guesses(told, looked_at=45, limited=100),
        lambda told: guesses(told, looked_at=60, limited=100),
    ),
    (
        "guessing is limited, and how long is said",
        guessing_is_limited({"bad"}, per_minute=60, burst=30),
        lambda told: guesses(told, looked_at=45, limited=100),
        lambda told: guesses(told, looked_at=45, limited=100, retry_after=None),
    ),
    (
        "answers are alike",
        answers_are_alike(),
        errors,
        lambda told: errors(told, odd={"detail": "The checksum is wrong."}),
    ),
    (
        "others are served",
        others_are_served(p99_seconds=0.1),
        lambda told: told.traffic(5, 40),
        one_turned_away,
    ),
    (
        "others are served, and nothing fails",
        others_are_served(p99_seconds=0.1),
        lambda told: told.traffic(5, 40),
        one_failed,
    ),
    (
        "others are served, and in time",
        others_are_served(p99_seconds=0.1),
        lambda told: told.traffic(5, 40),
        lambda told: told.traffic(5, 40, ms=150.0),
    ),
    (
        "a key stays known",
        key_stays_known(),
        lambda told: looks(told, 403),
        lambda told: looks(told, 503),
    ),
    (
        "within the tolerance",
        within_tolerance_is_served({"young"}, skew_seconds=10),
        lambda told: tolerated(told, status=200, late=9.0),
        lambda told: tolerated(told, status=401, late=9.0),
    ),
    (
        "expired says so",
        expired_says_so({"old"}, code="token-expired", words="token expired"),
        expired,
        lambda told: expired(told, detail="No."),
    ),
    (
        "expired says so by its code",
        expired_says_so({"old"}, code="token-expired", words="token expired"),
        expired,
        lambda told: expired(told, code="unauthenticated"),
    ),
]


@pytest.mark.parametrize(("name", "check", "good", "bad"), TABLE, ids=[row[0] for row in TABLE])
def test_check_accepts_what_shows_the_claim_and_refuses_what_refutes_it(
    tmp_path: Path, name: str, check: WindowCheck, good: Story, bad: Story
) -> None:
    verdicts = {}
    for verdict, story in {Verdict.PASS: good, Verdict.FAIL: bad, Verdict.UNKNOWN: nothing}.items():
        folder = tmp_path / verdict.value
        folder.mkdir()
        told = Recording(folder)
        story(told)
        found = check(told.case(), WINDOW)
        verdicts[verdict] = found.verdict
        assert found.reason
        assert found.evidence or found.verdict is Verdict.UNKNOWN

    assert verdicts == {verdict: verdict for verdict in verdicts}, name


def test_a_cause_that_was_not_tried_is_not_shown(tmp_path: Path) -> None:
    told = Recording(tmp_path)
    stream(told)

    assert every_cause_is_tried({"bad"}, CAUSES)(told.case(), WINDOW).verdict is Verdict.PASS
    assert every_cause_is_tried({"bad"}, (*CAUSES, "alg_none"))(told.case(), WINDOW).verdict is Verdict.UNKNOWN


def test_too_few_guesses_prove_no_limit(tmp_path: Path) -> None:
    told = Recording(tmp_path)
    guesses(told, looked_at=20, limited=0)

    assert guessing_is_limited({"bad"}, per_minute=60, burst=30)(told.case(), WINDOW).verdict is Verdict.UNKNOWN


def test_a_token_that_was_answered_too_late_to_be_within_the_tolerance_says_nothing(tmp_path: Path) -> None:
    told = Recording(tmp_path)
    tolerated(told, status=401, late=9.99)

    found = within_tolerance_is_served({"young"}, skew_seconds=10)(told.case(), WINDOW)

    assert found.verdict is Verdict.UNKNOWN


def test_the_clock_of_mitigation_is_the_first_refusal(tmp_path: Path) -> None:
    told = Recording(tmp_path)
    assert first_refused(told.case(), WINDOW, {"bad"}) == (None, ())

    stream(told, start=10.5)
    took, cited = first_refused(told.case(), WINDOW, {"bad"})

    assert took == pytest.approx(0.52)
    assert cited


@pytest.mark.parametrize(
    ("alone", "looked_at", "verdict"),
    [
        pytest.param(12, 60, Verdict.PASS, id="as many more as were judged without Valkey"),
        pytest.param(8, 60, Verdict.FAIL, id="more than were judged without Valkey"),
        pytest.param(90, 85, Verdict.FAIL, id="more than one bucket more, whatever was judged without Valkey"),
    ],
)
def test_what_was_judged_without_the_shared_bucket_is_allowed_once(
    alone: int, looked_at: int, verdict: Verdict, tmp_path: Path
) -> None:
    told = Recording(tmp_path)
    told.health(4, 30)
    told.metrics(10, 15, {"firewall_rate_limit_local_total": 5.0}, replicas=["replica-1"])
    told.metrics(15, 28, {"firewall_rate_limit_local_total": 5.0 + alone}, replicas=["replica-1"])
    guesses(told, looked_at=looked_at, limited=100)

    found = guessing_is_limited({"bad"}, per_minute=60, burst=30)(told.case(), WINDOW)

    assert found.verdict is verdict, found.reason
