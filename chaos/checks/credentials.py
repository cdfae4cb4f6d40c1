"""Whether bad credentials are refused at once, alike, within a rate, and at nobody else's cost (FM04, FM05)."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from chaos.checks import windows
from chaos.checks.availability import served
from chaos.checks.detection import replicas_of
from chaos.checks.findings import WindowCheck, cite, failed, passed, seconds, unknown
from chaos.evidence import Row
from chaos.exchange import ERRORS
from chaos.history import HISTORY, Operation, operations, quantile
from chaos.probes.known_key import SAMPLES as KNOWN_KEY_SAMPLES
from chaos.probes.metrics import METRICS
from chaos.result import EvidenceReference
from chaos.scenario import Case, Finding, Window
from chaos.verdict import Verdict

_ALONE = "firewall_rate_limit_local_total"
_REFUSED, _FORBIDDEN, _LIMITED = 401, 403, 429
_SUCCESSES = range(200, 300)
# Who an answer is for and when it was made, and whether the connection goes on: no two need agree.
_HEADERS_OF_ONE_ANSWER = frozenset({"date", "x-request-id", "x-replica", "connection", "keep-alive"})
_BODY_OF_ONE_ANSWER = frozenset({"instance", "request_id"})


def answered_with(
    streams: Collection[str],
    *,
    statuses: Collection[int],
    codes: Collection[str] | None = None,
    answers_min: int = 10,
) -> WindowCheck:
    """While the fault is there in full, every answer to these streams has one of the statuses (and of the codes)."""

    def judge(case: Case, window: Window) -> Finding:
        answered = [one for one in _of(case, window, streams) if one.status is not None]
        wrong = [
            one
            for one in answered
            if one.status not in statuses or (codes is not None and one.answer("code") not in codes)
        ]
        if wrong:
            told = ", ".join(sorted({f"{one.status} {one.answer('code') or ''}".strip() for one in wrong}))
            return failed(f"{len(wrong)} of {len(answered)} were answered with {told}", _rows(wrong))
        if len(answered) < answers_min:
            return unknown(f"{len(answered)} answers, {answers_min} needed", _rows(answered))
        return passed(f"{len(answered)} answers, all of them {_told(statuses)}", _rows(answered))

    return judge


def every_cause_is_tried(streams: Collection[str], causes: Collection[str]) -> WindowCheck:
    """Each cause was sent and refused at least once: what was not tried is not shown."""

    def judge(case: Case, window: Window) -> Finding:
        tried = {one.invocation.data.get("why") for one in _of(case, window, streams) if one.status == _REFUSED}
        missing = sorted(set(causes) - tried)
        if missing:
            return unknown(f"no answer 401 was seen to {', '.join(missing)}")
        return passed(f"{len(set(causes))} causes")

    return judge


def refused_at_once(streams: Collection[str], *, answer_seconds: float, answers_min: int = 10) -> WindowCheck:
    """Nobody of these streams is let in, and 95 % of the refusals come within the bound."""

    def judge(case: Case, window: Window) -> Finding:
        answered = [one for one in _of(case, window, streams) if one.status is not None]
        let_in = [one for one in answered if one.status in _SUCCESSES or one.status not in {_REFUSED, _LIMITED}]
        if let_in:
            causes = ", ".join(sorted({str(one.invocation.data.get("why")) for one in let_in}))
            return failed(f"{len(let_in)} of {len(answered)} were processed ({causes})", _rows(let_in))
        taken = [one.seconds for one in answered if one.seconds is not None]
        slow = quantile(taken, 0.95)
        if slow is None or len(answered) < answers_min:
            return unknown(f"{len(answered)} answers, {answers_min} needed")
        told = f"95 % of {len(answered)} refusals within {seconds(slow)}, {seconds(answer_seconds)} allowed"
        return (passed if slow <= answer_seconds else failed)(told, _rows(answered))

    return judge


def guessing_is_limited(streams: Collection[str], *, per_minute: float, burst: float) -> WindowCheck:
    """From one address no more guesses are looked at than a bucket holds and gains; the rest gets 429 and a time.

    What a replica judged alone, because Valkey was late, is not in the shared bucket: at most one more of them.
    """

    def judge(case: Case, window: Window) -> Finding:
        answered = [one for one in _of(case, window, streams) if one.status is not None]
        looked_at = [one for one in answered if one.status != _LIMITED]
        limited = [one for one in answered if one.status == _LIMITED]
        start, end = windows.in_force(window)
        if not answered or end == float("inf"):
            return unknown(f"{len(answered)} answers")
        alone = min(burst, _judged_alone(case, (start, end)))
        allowed = burst + per_minute / 60 * (end - start) + 1 + alone
        told = f"{len(looked_at)} of {len(answered)} guesses were looked at, {allowed:.0f} allowed"
        if len(looked_at) > allowed:
            return failed(told, _rows(looked_at))
        if len(answered) <= allowed:
            return unknown(f"{len(answered)} guesses do not fill a bucket that lets {allowed:.0f} through")
        silent = [one for one in limited if not one.answer("retry_after")]
        if silent:
            return failed(f"{len(silent)} of {len(limited)} refusals say no Retry-After", _rows(silent))
        return passed(f"{told}, {len(limited)} got 429", _rows(limited))

    return judge


def answers_are_alike(*, answers_min: int = 10) -> WindowCheck:
    """All generic 401 of the window are equal, byte for byte, but for whom and when they are for."""

    def judge(case: Case, window: Window) -> Finding:
        start, end = windows.in_force(window)
        rows = [row for row in case.evidence.between(ERRORS, start, end) if row.data["status"] == _REFUSED]
        if len(rows) < answers_min:
            return unknown(f"{len(rows)} answers 401 were kept, {answers_min} needed")
        kinds: dict[str, Row] = {}
        for row in rows:
            kinds.setdefault(_spelled(row), row)
        if len(kinds) > 1:
            return failed(f"answers 401 differ in {len(kinds)} ways", kinds.values())
        return passed(f"{len(rows)} answers 401 say the same", [rows[0], rows[-1]])

    return judge


def _spelled(row: Row) -> str:
    """Return an answer without what belongs to it alone."""
    text = str(row.data["body"])
    try:
        body: Any = {name: value for name, value in json.loads(text).items() if name not in _BODY_OF_ONE_ANSWER}
    except (ValueError, AttributeError):
        body = text
    headers = {name: value for name, value in row.data["headers"].items() if name not in _HEADERS_OF_ONE_ANSWER}
    return json.dumps([headers, body], sort_keys=True)


def expired_says_so(streams: Collection[str], *, code: str, words: str, answers_min: int = 10) -> WindowCheck:
    """Every answer to these streams is a 401 of that code, and such an answer says the words to people."""
    refused = answered_with(streams, statuses={_REFUSED}, codes={code}, answers_min=answers_min)

    def judge(case: Case, window: Window) -> Finding:
        found = refused(case, window)
        if found.verdict is not Verdict.PASS:
            return found
        start, end = windows.in_force(window)
        told = [(row, _problem(row)) for row in case.evidence.between(ERRORS, start, end)]
        own = [(row, problem) for row, problem in told if problem.get("code") == code]
        if not own:
            return unknown("no such answer was kept")
        silent = [row for row, problem in own if words not in str(problem.get("detail"))]
        if silent:
            return failed(f"{len(silent)} of {len(own)} answers do not say {words!r}", silent)
        return passed(f"{found.reason}; {len(own)} say {words!r}", [row for row, _ in own])

    return judge


def within_tolerance_is_served(streams: Collection[str], *, skew_seconds: float, answers_min: int = 10) -> WindowCheck:
    """Who is answered while the token is not older than the tolerance is served. ``expires`` is in CLOCK_MONOTONIC."""

    def judge(case: Case, window: Window) -> Finding:
        origin = case.evidence.origin.monotonic_ns / 1e9
        in_time = [
            one
            for one in _of(case, window, streams)
            if one.status is not None
            and (one.completed or 0.0) + origin <= float(one.invocation.data["expires"]) + skew_seconds
        ]
        refused = [one for one in in_time if one.status not in _SUCCESSES]
        if refused:
            return failed(f"{len(refused)} of {len(in_time)} were refused within the tolerance", _rows(refused))
        if len(in_time) < answers_min:
            return unknown(f"{len(in_time)} were answered within the tolerance, {answers_min} needed")
        return passed(f"{len(in_time)} within the tolerance were served", _rows(in_time))

    return judge


def _problem(row: Row) -> dict[str, Any]:
    try:
        problem = json.loads(str(row.data["body"]))
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _judged_alone(case: Case, stretch: tuple[float, float]) -> float:
    """Return how many requests the replicas judged without the shared bucket."""
    alone = 0.0
    for replica in replicas_of(case):
        rows = [row for row in case.evidence.between(METRICS, *stretch) if row.data["replica"] == replica]
        seen = [row.data["series"][_ALONE] for row in rows if _ALONE in row.data.get("series", {})]
        alone += max(seen, default=0.0) - min(seen, default=0.0)
    return alone


def others_are_served(*, p99_seconds: float, requests_min: int = 50) -> WindowCheck:
    """The background does not feel it: no good credential is refused, nothing fails, nothing waits."""

    def judge(case: Case, window: Window) -> Finding:
        start, end = windows.in_force(window)
        own = [one for one in operations(case.evidence.rows(HISTORY)) if one.stream is None]
        due = [one for one in own if start <= one.intended < end]
        turned_away = [one for one in due if one.status in {_REFUSED, _FORBIDDEN, _LIMITED} and not _is_of_a_life(one)]
        if turned_away:
            return failed(f"{len(turned_away)} good requests were turned away", _rows(turned_away))
        how = served(own, start, end)
        if how.valid < requests_min or how.p99_seconds is None:
            return unknown(f"{how.valid} requests of others, {requests_min} needed")
        if how.bad:
            return failed(f"{how.bad} of {how.valid} requests of others failed", _rows([how.first_bad]))
        told = f"{how.valid} requests of others, p99 {seconds(how.p99_seconds)}, {seconds(p99_seconds)} allowed"
        return (passed if how.p99_seconds <= p99_seconds else failed)(told, _rows(due))

    return judge


def key_stays_known(*, looks_min: int = 8) -> WindowCheck:
    """Whoever holds a key that was good lately is known to every replica all the time: 403, never 401 or 503."""

    def judge(case: Case, window: Window) -> Finding:
        rows = [
            row for row in case.evidence.between(KNOWN_KEY_SAMPLES, *windows.in_force(window)) if "answers" in row.data
        ]
        wrong = [row for row in rows if set(row.data["answers"].values()) != {_FORBIDDEN}]
        if wrong:
            return failed(f"{len(wrong)} of {len(rows)} looks got {wrong[0].data['answers']}", wrong)
        if len(rows) < looks_min:
            return unknown(f"{len(rows)} looks, {looks_min} needed", rows)
        return passed(f"known in {len(rows)} looks", [rows[0], rows[-1]])

    return judge


def first_refused(
    case: Case, window: Window, streams: Collection[str]
) -> tuple[float | None, tuple[EvidenceReference, ...]]:
    """Read the clock of mitigation: seconds from the injection to the first refusal of one of these streams."""
    own = _of(case, window, streams)
    if window.injected is None or not own:
        return None, ()
    ended = [one for one in own if one.status in {_REFUSED, _LIMITED} and one.completion is not None]
    first = min(ended, key=lambda one: one.completed or 0.0, default=None)
    if first is None or first.completed is None:
        return None, cite(_rows(own))
    return first.completed - window.injected, cite(first.rows)


def _of(case: Case, window: Window, streams: Collection[str]) -> list[Operation]:
    """Return a window's operations of these streams that began and ended while the fault was there in full."""
    start, end = windows.in_force(window)
    return [
        one
        for one in operations(case.evidence.rows(HISTORY))
        if one.stream in streams and start <= one.invoked and (one.completed or end) < end
    ]


def _is_of_a_life(one: Operation) -> bool:
    return "life" in one.invocation.data


def _rows(of: Sequence[Operation | None]) -> list[Row]:
    return [one.rows[-1] for one in of[:8] if one is not None]


def _told(statuses: Collection[int]) -> str:
    return " or ".join(str(status) for status in sorted(statuses))
