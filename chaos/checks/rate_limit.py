"""Whether a limit is what it says (FM06): an exact bucket over what was admitted, honest refusals, others unharmed.

The bucket is computed here again, in whole numbers, from the documented numbers. A client knows of each request when it
was sent and when it was answered; its token was taken somewhere between.
"""

from bisect import bisect_right
from collections.abc import Collection, Sequence

from chaos.checks import windows
from chaos.checks.detection import replicas_of
from chaos.checks.findings import WindowCheck, cite, failed, passed, seconds, unknown
from chaos.evidence import Row
from chaos.history import HISTORY, Operation, operations, quantile
from chaos.probes.metrics import METRICS
from chaos.probes.service_log import service_log
from chaos.result import EvidenceReference
from chaos.scenario import Case, Finding, Window

REFUSED = 429
_TYPICAL = 0.95
_MICROSECONDS = 1_000_000
_TOKEN = 60 * _MICROSECONDS


def refused_after(case: Case, window: Window) -> tuple[float | None, tuple[EvidenceReference, ...]]:
    """Read the clock of mitigation: seconds from the injection to the first 429 of the flood."""
    flood = [one for one in _during(case, windows.fault(window)) if one.stream is not None]
    if window.injected is None or not flood:
        return None, ()
    first = next((one for one in _by_answer(flood) if one.status == REFUSED), None)
    if first is None or first.completed is None:
        return None, cite(flood[-1].rows)
    return windows.since_injected(window, first.completed), cite(first.rows)


def too_many_are_refused(*, streams: Collection[str], within_seconds: float, refused_min: int = 20) -> WindowCheck:
    """The flood gets 429 within the bound, after a calm in which nobody did, and no server error."""

    def judge(case: Case, window: Window) -> Finding:
        calm = _during(case, windows.calm(window))
        flood = _of(_during(case, windows.fault(window)), streams)
        if not calm or not flood:
            return unknown(f"{len(calm)} requests in the calm, {len(flood)} of the flood")
        early = [one for one in calm if one.status == REFUSED]
        if early:
            return unknown("somebody was refused before the flood", early[0].rows)
        bad = [one for one in flood if one.is_bad]
        if bad:
            return failed(f"{len(bad)} of {len(flood)} requests of the flood got no answer of ours", bad[0].rows)
        refused = [one for one in _by_answer(flood) if one.status == REFUSED]
        if len(refused) < refused_min:
            return failed(f"{len(refused)} of {len(flood)} requests of the flood were refused", flood[-1].rows)
        after = windows.since_injected(window, refused[0].completed or 0.0)
        told = f"{len(refused)} of {len(flood)} refused with 429, the first after {seconds(after)}"
        return (passed if after <= within_seconds else failed)(told, refused[0].rows)

    return judge


def bucket_is_exact(
    *,
    streams: Collection[str],
    rate_per_minute: int,
    burst: int,
    buckets: int = 1,
    is_full_at_first: bool = True,
    admitted_min: int = 50,
) -> WindowCheck:
    """Admitted in any stretch: at most the bursts of ``buckets`` and the rate, and the flood gets all of its rate.

    ``buckets``: 2 where Valkey is lost, since each replica then begins a share of another one.
    ``is_full_at_first``: nobody used the bucket for a minute; the whole burst must then be admitted before a refusal.
    """

    def judge(case: Case, window: Window) -> Finding:
        flood = _of(_during(case, windows.fault(window)), streams)
        admitted = [one for one in flood if one.completed is not None and one.status not in {None, REFUSED}]
        if len(admitted) < admitted_min:
            return unknown(f"{len(admitted)} requests admitted, {admitted_min} needed")
        too_many = _too_many(case, window, _excess(admitted, rate_per_minute, burst * buckets), burst, buckets)
        if too_many is not None:
            return too_many
        refused = next((one for one in _by_answer(flood) if one.status == REFUSED), None)
        if refused is None:
            return failed("nobody was refused", flood[-1].rows)
        before = sum((one.completed or 0.0) < refused.invoked for one in admitted)
        if is_full_at_first and before < burst - buckets:
            return failed(f"{before} were admitted before the first refusal, a burst of {burst} was due", refused.rows)
        starved = _starved(flood, admitted, rate_per_minute, refused)
        if starved is not None:
            return failed(starved, refused.rows)
        return passed(f"{len(admitted)} of {len(flood)} admitted, {before} before the first refusal", refused.rows)

    return judge


def refusals_say_when(*, streams: Collection[str], seconds_max: float, refused_min: int = 20) -> WindowCheck:
    """Every 429 names its wait in whole seconds, at least one and no more than an empty bucket needs."""

    def judge(case: Case, window: Window) -> Finding:
        flood = _of(_during(case, windows.fault(window)), streams)
        refused = [one for one in flood if one.status == REFUSED]
        if len(refused) < refused_min:
            return unknown(f"{len(refused)} requests of the flood were refused, {refused_min} needed")
        wrong = [one for one in refused if not _is_a_wait(one.answer("retry_after"), seconds_max)]
        if wrong:
            told = wrong[0].answer("retry_after")
            return failed(f"{len(wrong)} of {len(refused)} refusals say no usable wait (one: {told!r})", wrong[0].rows)
        return passed(f"{len(refused)} refusals say 1 to {seconds_max:g} s", refused[0].rows)

    return judge


def others_are_unharmed(
    *, streams: Collection[str], added_seconds_max: float, waits_max: int, requests_min: int = 60
) -> WindowCheck:
    """Everybody but the flood is answered as before: not one refusal, not one error, hardly later.

    ``waits_max``: how many may wait for as long as it takes to see that Valkey is gone.
    """

    def judge(case: Case, window: Window) -> Finding:
        calm = _during(case, windows.calm(window))
        others = [one for one in _during(case, windows.fault(window)) if one.stream not in streams]
        if len(others) < requests_min or not calm:
            return unknown(f"{len(others)} requests of others, {requests_min} needed, and {len(calm)} in the calm")
        wrong = [one for one in others if one.is_bad or one.status == REFUSED]
        if wrong:
            status = wrong[0].status or "no answer"
            told = f"{len(wrong)} of {len(others)} requests of others were refused or failed (one: {status})"
            return failed(told, wrong[0].rows)
        before = quantile([one.seconds for one in calm if one.seconds is not None], _TYPICAL) or 0.0
        bound = before + added_seconds_max
        late = [one for one in others if (one.seconds or 0.0) > bound]
        told = f"{len(late)} of {len(others)} requests of others took over {seconds(bound)} (calm: {seconds(before)})"
        if len(late) > max(waits_max, (1 - _TYPICAL) * len(others)):
            return failed(told, late[0].rows)
        return passed(told, others[0].rows)

    return judge


def only_the_flood_is_refused(*, streams: Collection[str], requests_min: int = 60) -> WindowCheck:
    """Not one 429 falls on anybody else."""

    def judge(case: Case, window: Window) -> Finding:
        others = [one for one in _during(case, windows.fault(window)) if one.stream not in streams]
        if len(others) < requests_min:
            return unknown(f"{len(others)} requests of others, {requests_min} needed")
        wrong = [one for one in others if one.status == REFUSED]
        if wrong:
            return failed(f"{len(wrong)} of {len(others)} requests of others were refused", wrong[0].rows)
        return passed(f"none of {len(others)} requests of others was refused", others[0].rows)

    return judge


def refused_are_named(*, facts: dict[str, str]) -> WindowCheck:
    """The log names who was refused during the fault, and nobody else."""

    def judge(case: Case, window: Window) -> Finding:
        start, end = windows.fault(window)
        lines = [
            row
            for name in replicas_of(case)
            for row in service_log(case.evidence, name)
            if start <= row.t < end and row.data.get("event") == "rate_limited"
        ]
        if not lines:
            return failed("no refusal was logged")
        wrong = [row for row in lines if any(row.data.get(name) != value for name, value in facts.items())]
        if wrong:
            return failed(f"{len(wrong)} of {len(lines)} log lines name somebody else: {_who(wrong[0])}", wrong)
        return passed(f"{len(lines)} log lines name {_who(lines[0])}", lines)

    return judge


def nobody_is_paged_for_a_few(*, stream: str, refused_min: int = 3) -> WindowCheck:
    """Some requests were refused, so that the silence of the alert means something."""

    def judge(case: Case, window: Window) -> Finding:
        flood = _of(_during(case, windows.fault(window)), {stream})
        refused = [one for one in flood if one.status == REFUSED]
        if len(refused) < refused_min:
            return unknown(f"{len(refused)} requests were refused, {refused_min} needed")
        everybody = _during(case, windows.fault(window))
        return passed(f"{len(refused)} of {len(everybody)} requests were refused", refused[0].rows)

    return judge


def _too_many(
    case: Case, window: Window, worst: tuple[int, Operation, Operation], burst: int, buckets: int
) -> Finding | None:
    excess, first, last = worst
    if excess <= 0:
        return None
    if buckets == 1 and _counted_locally(case, window):
        return unknown("a replica counted alone meanwhile: it did not reach Valkey, which was not asked for")
    told = f"{excess / _TOKEN:.1f} more were admitted than a bucket of {burst * buckets} and the rate allow"
    return failed(told, [*first.rows, *last.rows])


def _counted_locally(case: Case, window: Window) -> bool:
    """Say whether any replica's count of what it judged alone moved during the fault, or was not seen."""
    series = "firewall_rate_limit_local_total"
    for replica in replicas_of(case):
        rows = [row for row in case.evidence.between(METRICS, *windows.fault(window)) if row.data["replica"] == replica]
        if len({row.data["series"].get(series) for row in rows if "series" in row.data}) != 1:
            return True
    return False


def _excess(admitted: Sequence[Operation], rate_per_minute: int, burst: int) -> tuple[int, Operation, Operation]:
    """Return by how much the worst stretch is over: requests sent after its start and answered by its end.

    In whole units, of which a token has ``_TOKEN`` and the rate adds ``rate_per_minute`` a microsecond.
    """
    sent = sorted(((round(one.invoked * _MICROSECONDS), place) for place, one in enumerate(admitted)))
    answered = sorted((round((one.completed or 0.0) * _MICROSECONDS), place) for place, one in enumerate(admitted))
    rank = {place: number for number, (_, place) in enumerate(sent)}
    worst = (-burst * _TOKEN, admitted[0], admitted[0])
    for number, (start, first) in enumerate(sent):
        count = 0
        for end, last in answered:
            if rank[last] < number:
                continue  # sent before this stretch
            count += 1
            over = (count - burst) * _TOKEN - rate_per_minute * (end - start)
            if over > worst[0]:
                worst = (over, admitted[first], admitted[last])
    return worst


def _starved(
    flood: Sequence[Operation], admitted: Sequence[Operation], rate_per_minute: int, refused: Operation
) -> str | None:
    """Say whether the flood, once its bucket was empty, got less than the rate by more than two tokens."""
    start, end = refused.invoked, max(one.invoked for one in flood)
    got = sum(start <= (one.completed or 0.0) and one.invoked <= end for one in admitted)
    due = rate_per_minute / 60 * (end - start)
    if got < due * 0.9 - 2:
        return f"{got} were admitted in the {seconds(end - start)} after the first refusal, {due:.0f} were due"
    return None


def _is_a_wait(told: object, seconds_max: float) -> bool:
    return isinstance(told, str) and told.isdigit() and 1 <= int(told) <= seconds_max


def _who(row: Row) -> str:
    return str(row.data.get("principal") or row.data.get("client_address"))


def _of(history: Sequence[Operation], streams: Collection[str]) -> list[Operation]:
    return [one for one in history if one.stream in streams]


def _by_answer(history: Sequence[Operation]) -> list[Operation]:
    return sorted((one for one in history if one.completed is not None), key=lambda one: one.completed or 0.0)


def _during(case: Case, stretch: tuple[float, float]) -> list[Operation]:
    """Return the requests due in a stretch; those of whole lives trespass on purpose and are left out."""
    start, end = stretch
    history = sorted(operations(case.evidence.rows(HISTORY)), key=lambda one: one.intended)
    first = bisect_right([one.intended for one in history], start)
    return [one for one in history[first:] if one.intended < end and "life" not in one.invocation.data]
