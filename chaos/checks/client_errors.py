"""Whether refusals are seen, told apart, said clearly, logged and documented (FM12); and whom they wake.

The clients' own history is the truth: what was refused, where the refusal pointed, which rule it named. What the
replicas counted, logged and described is held against it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from chaos.checks import windows
from chaos.checks.findings import WindowCheck, cite, combine, failed, passed, seconds, unknown
from chaos.evidence import Row
from chaos.history import HISTORY, Operation, operations
from chaos.probes.client_errors import CLIENT_ERRORS, DESCRIPTIONS
from chaos.probes.service_log import service_log
from chaos.result import EvidenceReference
from chaos.scenario import Case, Finding, Window

PROBLEM: Final = "application/problem+json"
_CLIENT_ERRORS: Final = range(400, 500)
_STRETCH_SECONDS: Final = 3.0
_WORDS_MIN: Final = 10
"""Characters of a message: less says nothing to a person."""
_LOG_FACTS: Final = ("method", "route", "duration_ms", "client_address")
_NOT_OURS: Final = "*"
_UNMATCHED: Final = frozenset({404, 405})


def share_is_seen(*, above: float, within_seconds: float) -> WindowCheck:
    """The replicas' own counters show more refusals than ``above`` within the bound, and fewer in the calm."""

    def judge(case: Case, window: Window) -> Finding:
        looks = [row for row in case.evidence.rows(CLIENT_ERRORS) if "replicas" in row.data]
        calm = [share for _, share in _shares(looks, *windows.calm(window))]
        during = list(_shares(looks, *windows.fault(window)))
        if not calm or not during:
            return unknown(f"the counters were read {len(calm)} times before and {len(during)} times during the fault")
        if max(calm) > above:
            return unknown(f"{max(calm):.0%} were refused before the fault")
        found = next(((row, share) for row, share in during if share > above), None)
        if found is None:
            row, share = max(during, key=lambda one: one[1])
            return failed(f"the counters never showed more than {share:.0%} refused", [row])
        row, share = found
        after = windows.since_injected(window, row.t)
        told = (
            f"{share:.0%} refused by the replicas' counters after {seconds(after)}, {seconds(within_seconds)} allowed"
        )
        return (passed if after <= within_seconds else failed)(told, [row])

    return judge


def refusals_are_logged(*, refusals_min: int) -> WindowCheck:
    """Each refusal of the fault has one line in its replica's log: what was asked, by whom, why it was refused."""

    def judge(case: Case, window: Window) -> Finding:
        refused = [one for one in _refused(case, window) if one.answer("request") and one.answer("replica")]
        if len(refused) < refusals_min:
            return unknown(f"{len(refused)} refusals by a replica, {refusals_min} needed")
        lines: dict[str, list[Row]] = {}
        for replica in sorted({str(one.answer("replica")) for one in refused}):
            for row in service_log(case.evidence, replica):
                if row.data.get("event") == "request_finished":
                    lines.setdefault(str(row.data.get("request_id")), []).append(row)
        wrong = [(one, said) for one in refused if (said := _missing_in_log(one, lines.get(one.answer("request"), ())))]
        if wrong:
            one, said = wrong[0]
            return failed(f"{len(wrong)} of {len(refused)} refusals are not logged well (first: {said})", one.rows)
        first = refused[0]
        return passed(
            f"{len(refused)} refusals, each with its code and flaws in the log",
            [*first.rows, *lines[first.answer("request")]],
        )

    return judge


def refusals_are_clear(*, causes_min: int) -> WindowCheck:
    """Every refusal of a stream is a problem document that points at the field that is wrong and names the rule."""

    def judge(case: Case, window: Window) -> Finding:
        sent = [one for one in _history(case, window) if "rule" in one.invocation.data and one.status is not None]
        causes = {one.invocation.data["why"] for one in sent}
        if len(causes) < causes_min:
            return unknown(f"{len(causes)} kinds of wrong bodies were answered, {causes_min} needed")
        wrong = [(one, said) for one in sent if (said := _unclear(one))]
        if wrong:
            one, said = wrong[0]
            return failed(f"{len(wrong)} of {len(sent)} refusals are not clear (first: {said})", one.rows)
        return passed(f"{len(sent)} refusals of {len(causes)} kinds name field and rule", sent[0].rows)

    return judge


def description_is_of_what_runs(*, answers_min: int) -> WindowCheck:
    """Every answer is one that the replica's own description of its API announces; so is every field it demands."""

    def judge(case: Case, window: Window) -> Finding:
        start, end = windows.fault(window)
        looks = [row for row in case.evidence.between(DESCRIPTIONS, start - 5, end + 5) if "replicas" in row.data]
        told: dict[str, list[tuple[Row, Mapping[str, Any]]]] = {}
        for row in looks:
            for replica, one in row.data["replicas"].items():
                told.setdefault(replica, []).append((row, one))
        answered = [one for one in _history(case, window) if one.status is not None and one.answer("replica") in told]
        if len(answered) < answers_min:
            return unknown(f"{len(answered)} answers of replicas whose description was read, {answers_min} needed")
        wrong = [(one, said) for one in answered if (said := _undocumented(one, told[one.answer("replica")]))]
        if wrong:
            one, said = wrong[0]
            return failed(
                f"{len(wrong)} of {len(answered)} answers are not in the description (first: {said})",
                [*one.rows, told[one.answer("replica")][0][0]],
            )
        return passed(
            f"{len(answered)} answers, all described by {', '.join(sorted(told))}", [looks[0], *answered[0].rows]
        )

    return judge


def series_stay_as_they_are(*, requests_min: int) -> WindowCheck:
    """However many addresses are tried, no replica gets a series more."""

    def judge(case: Case, window: Window) -> Finding:
        tried = [one for one in _history(case, window) if one.invocation.data.get("why") == "unknown_path"]
        if len({one.invocation.data["path"] for one in tried}) < requests_min:
            return unknown(f"{len(tried)} unknown addresses were tried, {requests_min} needed")
        start, end = windows.fault(window)
        # From the first answers of the fault on: an answer of a kind that never came before is a series, once.
        looks = [row for row in case.evidence.between(CLIENT_ERRORS, start + 2, end) if "replicas" in row.data]
        replicas = sorted({name for row in looks for name in row.data["replicas"]})
        return combine([(name, one(name, looks, len(tried))) for name in replicas] or [("", unknown("nobody counted"))])

    def one(replica: str, looks: Sequence[Row], tried: int) -> Finding:
        counts = [(row, row.data["replicas"][replica]["series"]) for row in looks if replica in row.data["replicas"]]
        if len(counts) < 3:  # noqa: PLR2004 - a beginning, an end, and something between
            return unknown(f"series were counted {len(counts)} times")
        (first, before), (last, after) = counts[0], counts[-1]
        told = f"{before:g} series before and {after:g} after {tried} addresses"
        return (passed if after == before else failed)(told, [first, last])

    return judge


def it_was_the_noise_it_claims(*, above: float, below: float, clients: int | None = None) -> WindowCheck:
    """What must wake nobody was there: this share of all requests was refused, to so many clients (``None``: any).

    Never fails: a quiet alert says nothing when there was nothing to be quiet about.
    """

    def judge(case: Case, window: Window) -> Finding:
        start, end = windows.in_force(window)
        answered = [one for one in _history(case, window) if start <= one.invoked < end and one.status is not None]
        refused = [one for one in answered if one.status in _CLIENT_ERRORS]
        if not answered or not refused:
            return unknown(f"{len(refused)} of {len(answered)} requests were refused")
        share = len(refused) / len(answered)
        of_streams = {one.principal for one in refused if one.stream is not None}
        told = f"{share:.1%} of {len(answered)} requests were refused, to {len(of_streams)} of the streams' clients"
        is_it = above < share < below and (clients is None or len(of_streams) == clients)
        return (passed if is_it else unknown)(told, refused[0].rows)

    return judge


def first_clear_refusal(case: Case, window: Window) -> tuple[float | None, tuple[EvidenceReference, ...]]:
    """Read the clock of mitigation: seconds from the injection to the first refusal that says what is wrong where."""
    answered = [one for one in _history(case, window) if one.completed is not None]
    if window.injected is None or not answered:
        return None, ()
    clear = [one for one in answered if one.status in _CLIENT_ERRORS and (one.completed or 0.0) > window.injected]
    clear = [one for one in clear if any(flaw.get("pointer") for flaw in one.answer("flaws") or ())]
    if not clear:
        return None, cite(answered[-1].rows)
    first = min(clear, key=lambda one: one.completed or 0.0)
    return windows.since_injected(window, first.completed or 0.0), cite(first.rows)


def _history(case: Case, window: Window) -> list[Operation]:
    start, end = windows.fault(window)
    return [one for one in operations(case.evidence.rows(HISTORY)) if start <= one.invoked < end]


def _refused(case: Case, window: Window) -> list[Operation]:
    return [one for one in _history(case, window) if one.status in _CLIENT_ERRORS]


def _shares(looks: Sequence[Row], start: float, end: float) -> Iterator[tuple[Row, float]]:
    """Yield, at each look within, what share was refused since the look some three seconds before."""
    for number, row in enumerate(looks):
        if not start <= row.t < end:
            continue
        earlier = [one for one in looks[:number] if one.t >= max(start, row.t - _STRETCH_SECONDS)]
        answers = refused = 0.0
        for replica, now in row.data["replicas"].items():
            # A replica that is new began at 0.
            first = next((one.data["replicas"][replica] for one in earlier if replica in one.data["replicas"]), None)
            if first is None:
                continue
            answers += now["answers"] - first["answers"]
            refused += now["refused"] - first["refused"]
        if answers > 0:
            yield row, refused / answers


def _missing_in_log(one: Operation, lines: Sequence[Row]) -> str | None:
    if len(lines) != 1:
        return f"{len(lines)} lines for request {one.answer('request')}"
    line = lines[0].data
    if missing := [name for name in _LOG_FACTS if line.get(name) is None]:
        return f"the line does not say {', '.join(missing)}"
    if (line["status"], line.get("code")) != (one.status, one.answer("code")):
        return f"the line says {line['status']} {line.get('code')}, the client got {one.status} {one.answer('code')}"
    answered = [f"{flaw.get('pointer', '')} {flaw.get('code', '')}" for flaw in one.answer("flaws") or ()]
    logged = [str(flaw) for flaw in line.get("flaws", ())]
    if len(answered) != len(logged) or not all(map(_is_same_flaw, answered, logged)):
        return f"the line says {logged}, the client got {answered}"
    return None


def _is_same_flaw(answered: str, logged: str) -> bool:
    """Whether two flaws are one; in the log a field that is not the API's own is not shown."""
    pattern = "".join("[^/ ]*" if part == _NOT_OURS else re.escape(part) for part in re.split(r"(\*)", logged))
    return re.fullmatch(pattern, answered) is not None


def _unclear(one: Operation) -> str | None:
    expected = one.invocation.data
    if one.status != expected["expected"]:
        return f"{expected['why']}: {one.status} instead of {expected['expected']}"
    if not str(one.answer("media_type")).startswith(PROBLEM) or not one.answer("code"):
        return f"{expected['why']}: no problem document with a code, but {one.answer('media_type')}"
    for flaw in one.answer("flaws") or ():
        if (flaw.get("pointer"), flaw.get("code")) == (expected["pointer"], expected["rule"]):
            return None if len(flaw.get("message", "")) >= _WORDS_MIN else f"{expected['why']}: it says nothing"
    return f"{expected['why']}: not {expected['pointer']} {expected['rule']}, but {one.answer('flaws')}"


def _undocumented(one: Operation, told: Sequence[tuple[Row, Mapping[str, Any]]]) -> str | None:
    _, described = min(told, key=lambda each: abs(each[0].t - (one.completed or one.invoked)))
    method, path = one.invocation.data["method"], one.invocation.data["path"]
    statuses = next((known for name, known in described["operations"].items() if _fits(name, method, path)), _UNMATCHED)
    if one.status not in statuses:
        return f"{method} {path} answered {one.status}"
    missing = {
        str(flaw.get("pointer", "")).removeprefix("/")
        for flaw in one.answer("flaws") or ()
        if flaw.get("code") == "missing-field" and str(flaw.get("pointer")).count("/") == 1
    }
    if one.kind.proposes and not missing <= {*described["demands"]}:
        return f"a proposal was refused for want of {', '.join(sorted(missing))}, which the description does not demand"
    return None


def _fits(name: str, method: str, path: str) -> bool:
    of, _, template = name.partition(" ")
    pattern = "".join(
        "[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^}]*\})", template)
    )
    return of == method and re.fullmatch(pattern, path) is not None
