"""Whether the harm was bounded: retries paced, the circuit open, refusals fast, waiting short, the pool kept."""

from itertools import accumulate, pairwise

from chaos.checks import windows
from chaos.checks.attempts import Attempt, Schedule, disagreements, logged_attempts, proxy_of, seen_attempts
from chaos.checks.detection import each_replica
from chaos.checks.findings import WindowCheck, cite, combine, failed, passed, seconds, unknown
from chaos.evidence import Row
from chaos.history import HISTORY, Operation, Outcome, operations, quantile
from chaos.probes.direct import DIRECT
from chaos.probes.metrics import METRICS, sample_name
from chaos.probes.sessions import SESSIONS
from chaos.result import EvidenceReference
from chaos.scenario import Case, Finding, Window

_CLOSED, _OPEN = 0.0, 2.0
_UNAVAILABLE = 503
_REFUSALS_FAST_SHARE = 0.95  # the half-open probe is a request too, and it may wait for its deadline


def attempts_follow_backoff(schedule: Schedule, *, attempts_min: int = 3, seen_from_outside: bool) -> WindowCheck:
    """Every replica pauses between its connection attempts as documented, within jitter.

    ``seen_from_outside``: the fault lets Toxiproxy see the attempts (it is not the proxy itself that is down); the
    log must then agree with what arrived, or it is not believed.
    """

    def judge(case: Case, window: Window) -> Finding:
        return each_replica(case, lambda replica: one(case, window, replica))

    def one(case: Case, window: Window, replica: str) -> Finding:
        logged = logged_attempts(case, window, replica)
        if len(logged) < attempts_min:
            rows = [attempt.row for attempt in logged]
            return unknown(f"{len(logged)} failed attempts logged, {attempts_min} needed to tell a backoff", rows)
        wrong = schedule.departures(logged)
        if wrong:
            return failed("; ".join(text for _, text in wrong), [attempt.row for attempt, _ in wrong])
        if seen_from_outside:
            seen = seen_attempts(case, window, proxy_of(replica))
            if not seen:
                return unknown("Toxiproxy saw no attempt", _rows(logged))
            contradictions = disagreements(logged, seen, window)
            if contradictions:
                texts = sorted({text for _, text in contradictions})
                return failed("; ".join(texts), [attempt.row for attempt, _ in contradictions])
        pauses = ", ".join(_pauses(logged))
        return passed(f"{len(logged)} attempts, pauses {pauses} s", _rows(logged))

    return judge


def attempts_are_bounded(*, per_replica_max: int, requests_min: int = 100, share_max: float = 0.25) -> WindowCheck:
    """No storm: few attempts a replica, and far fewer than the requests that came meanwhile."""

    def judge(case: Case, window: Window) -> Finding:
        requests = [one for one in _history(case) if _in(one.intended, windows.fault(window))]
        if len(requests) < requests_min:
            return unknown(f"{len(requests)} requests during the fault, {requests_min} needed")
        return each_replica(case, lambda replica: one(case, window, replica, len(requests)))

    def one(case: Case, window: Window, replica: str, requests: int) -> Finding:
        logged = logged_attempts(case, window, replica)
        seen = seen_attempts(case, window, proxy_of(replica))
        attempts = max(logged, seen, key=len)
        if not attempts:
            return unknown("no attempt was seen")
        told = f"{len(attempts)} attempts while {requests} requests came"
        if len(attempts) > per_replica_max or len(attempts) > share_max * requests:
            return failed(f"{told}; {per_replica_max} allowed", _rows(attempts))
        return passed(told, _rows(attempts))

    return judge


def circuit_opens(*, within_seconds: float, dependency: str = "database") -> WindowCheck:
    """Every replica's circuit was closed in the calm and is open within the bound."""
    series = sample_name("firewall_circuit_state", dependency=dependency)

    def judge(case: Case, window: Window) -> Finding:
        return each_replica(case, lambda replica: one(case, window, replica))

    def one(case: Case, window: Window, replica: str) -> Finding:
        before = _states(case, windows.calm(window), replica, series)
        during = _states(case, windows.fault(window), replica, series)
        if not before or not during:
            return unknown(f"{series} was read {len(before)} times before and {len(during)} times during the fault")
        if {state for _, state in before} != {_CLOSED}:
            return unknown("the circuit was not closed before the fault", [row for row, _ in before])
        opened = next((row for row, state in during if state == _OPEN), None)
        if opened is None:
            return failed("the circuit did not open", [during[-1][0]])
        after = windows.since_injected(window, opened.t)
        told = f"circuit open after {seconds(after)}, {seconds(within_seconds)} allowed"
        return (passed if after <= within_seconds else failed)(told, [opened])

    return judge


def refusals_are_fast(*, answer_seconds: float, answers_min: int = 10, dependency: str = "database") -> WindowCheck:
    """While its circuit is open every replica refuses at once, with 503 and Retry-After.

    Asked directly: while no replica is ready the proxy in front answers clients itself, and would hide a replica that
    lets its requests wait. The few that a half-open circuit lets through may take longer.
    """
    series = sample_name("firewall_circuit_state", dependency=dependency)

    def judge(case: Case, window: Window) -> Finding:
        return each_replica(case, lambda replica: one(case, window, replica))

    def one(case: Case, window: Window, replica: str) -> Finding:
        _, end = windows.fault(window)
        states = _states(case, windows.fault(window), replica, series)
        opened = next((row for row, state in states if state == _OPEN), None)
        if opened is None:
            return (
                failed("its circuit did not open", [states[-1][0]]) if states else unknown("its circuit was not seen")
            )
        looks = [row for row in case.evidence.between(DIRECT, opened.t, end) if row.data["replica"] == replica]
        looks = [row for row in looks if row.t - row.data["ms"] / 1000 >= opened.t]  # asked while it was open
        if len(looks) < answers_min:
            return unknown(f"{len(looks)} requests while its circuit was open, {answers_min} needed", [opened])
        allowed = (1 - _REFUSALS_FAST_SHARE) * len(looks) + 1
        served = [row for row in looks if row.data.get("status") != _UNAVAILABLE]
        if len(served) > allowed:
            return failed(f"{len(served)} of {len(looks)} requests were not refused", served)
        silent = [row for row in looks if row.data.get("status") == _UNAVAILABLE and not row.data.get("retry_after")]
        if silent:
            return failed(f"{len(silent)} of {len(looks)} refusals without Retry-After", silent)
        slow = [row for row in looks if row.data["ms"] > answer_seconds * 1000]
        if len(slow) > allowed:
            return failed(f"{len(slow)} of {len(looks)} answers took more than {answer_seconds * 1000:g} ms", slow)
        typical = quantile([row.data["ms"] for row in looks], _REFUSALS_FAST_SHARE)
        return passed(f"{len(looks)} refusals with Retry-After, 95 % within {typical:.0f} ms", [opened, looks[0]])

    return judge


def all_circuits_open(case: Case, window: Window, *, dependency: str = "database") -> Row | None:
    """Return the look by which every replica's circuit has been seen open, if it stays so until the next look."""
    series = sample_name("firewall_circuit_state", dependency=dependency)
    first_open = []
    names = {str(row.data["replica"]) for row in case.evidence.rows(METRICS)}
    for replica in names:
        states = _states(case, windows.fault(window), replica, series)
        found = next((row for row, state in states if state == _OPEN), None)
        if found is None:
            return None
        first_open.append(found)
    return max(first_open, key=lambda row: row.t, default=None)


def mitigated_after(case: Case, window: Window) -> tuple[float | None, tuple[EvidenceReference, ...]]:
    """Read the clock of mitigation: seconds from the injection until every replica's circuit is seen open."""
    if window.injected is None or not case.evidence.between(METRICS, *windows.fault(window)):
        return None, ()
    opened = all_circuits_open(case, window)
    if opened is None:
        return None, cite(case.evidence.between(METRICS, *windows.fault(window))[-1:])
    return windows.since_injected(window, opened.t), (opened.reference,)


def requests_are_queued(*, wait_seconds_max: float, queued_min: int = 3) -> WindowCheck:
    """Some that came while the database was away were answered well once it was back, and none waited too long.

    For an interruption shorter than the waiting room's patience. An acknowledgement before the return of the
    database would be one for something that was only queued: it fails.
    """

    def judge(case: Case, window: Window) -> Finding:
        away, back = windows.in_force(window)
        if back == float("inf"):
            return unknown("the end of the interruption was not recorded")
        asked = [one for one in _history(case) if one.kind.writes and away <= one.invoked < back]
        if len(asked) < queued_min:
            return unknown(f"{len(asked)} writes came while the database was away, {queued_min} needed")
        early = [one for one in asked if one.outcome is Outcome.OK and (one.completed or 0.0) < back]
        if early:
            return failed(f"{len(early)} writes acknowledged while the database was away", early[0].rows)
        queued = [one for one in asked if one.outcome is Outcome.OK and (one.completed or 0.0) >= back]
        if len(queued) < queued_min:
            return failed(f"{len(queued)} of {len(asked)} writes were kept until the database was back", asked[-1].rows)
        longest = max(queued, key=lambda one: one.answer("ms"))
        told = f"{len(queued)} writes waited and were then acknowledged, the longest {longest.answer('ms'):.0f} ms"
        if longest.answer("ms") > wait_seconds_max * 1000:
            return failed(f"{told}; {seconds(wait_seconds_max)} allowed", longest.rows)
        return passed(told, longest.rows)

    return judge


def waiting_is_bounded(*, wait_seconds_max: float, waiters_max: int, answers_min: int = 50) -> WindowCheck:
    """During the fault nobody waits for an answer, and no replica keeps more requests waiting, than allowed."""

    def judge(case: Case, window: Window) -> Finding:
        return combine([("wait", waits(case, window)), ("room", room(case, window))])

    def waits(case: Case, window: Window) -> Finding:
        asked = [one for one in _history(case) if _in(one.invoked, windows.fault(window))]
        answered = [one for one in asked if one.status is not None]
        if len(answered) < answers_min:
            return unknown(f"{len(answered)} answers during the fault, {answers_min} needed")
        late = [one for one in asked if (one.answer("ms") or float("inf")) > wait_seconds_max * 1000]
        if late:
            return failed(f"{len(late)} requests waited longer than {seconds(wait_seconds_max)}", late[0].rows)
        longest = max(answered, key=lambda one: one.answer("ms"))
        return passed(f"{len(answered)} answers, the longest after {longest.answer('ms'):.0f} ms", longest.rows)

    def room(case: Case, window: Window) -> Finding:
        found = [
            (row, float(row.data["series"]["firewall_waiting_room_waiters"]))
            for row in case.evidence.between(METRICS, *windows.fault(window))
            if "firewall_waiting_room_waiters" in row.data.get("series", {})
        ]
        if not found:
            return unknown("firewall_waiting_room_waiters was not read during the fault")
        row, most = max(found, key=lambda one: one[1])
        return (passed if most <= waiters_max else failed)(f"at most {most:g} waiting, {waiters_max} allowed", [row])

    return judge


def pool_keeps_its_minimum(*, connections_min: int, within_seconds: float) -> WindowCheck:
    """Every replica has at least its minimum of sessions in the calm, and again soon after a fault that cut them all.

    Counted by the database itself; from the first look at which it holds it must hold until the drain ends. After the
    fault only sessions count that began after it was injected: of dropped packets the database hears nothing, and
    shows the old ones for seconds after the fault is gone.
    """

    def judge(case: Case, window: Window) -> Finding:
        return each_replica(case, lambda replica: one(case, window, replica))

    def one(case: Case, window: Window, replica: str) -> Finding:
        if window.undone is None:
            return unknown("the fault was not undone")
        before = _sessions(case, windows.calm(window), replica)
        _, end = windows.whole(window)
        after = _sessions(case, (window.undone, end), replica, begun_after=window.injected)
        if not before or not after:
            return unknown(f"sessions were counted {len(before)} times before and {len(after)} times after the fault")
        if min(count for _, count in before) < connections_min:
            return failed(f"fewer than {connections_min} sessions before the fault", [row for row, _ in before])
        full = next((index for index, (_, count) in enumerate(after) if count >= connections_min), None)
        if full is None:
            return failed(f"never {connections_min} sessions again", [after[-1][0]])
        lost = [row for row, count in after[full:] if count < connections_min]
        if lost:
            return failed(f"fell below {connections_min} sessions again", lost)
        took = after[full][0].t - window.undone
        told = f"{after[full][1]} sessions {seconds(took)} after the fault, {seconds(within_seconds)} allowed"
        return (passed if took <= within_seconds else failed)(told, [after[full][0]])

    return judge


def pool_fills_unasked(*, connections_min: int, within_seconds: float, in_flight_max: int) -> WindowCheck:
    """Every replica opens its minimum of connections again by itself, while hardly anybody asks for one.

    With traffic a pool grows to what is needed, whatever its minimum. Counted are sessions begun after the fault, at
    the database; ``in_flight_max`` is how many requests at once leave the claim believable.
    """

    def judge(case: Case, window: Window) -> Finding:
        start, end = windows.in_force(window)
        asked = _most_in_flight(_history(case), start, end)
        if asked > in_flight_max:
            return unknown(f"{asked} requests at once: they need {asked} connections, whatever the minimum")
        return each_replica(case, lambda replica: one(case, window, replica, asked))

    def one(case: Case, window: Window, replica: str, asked: int) -> Finding:
        # The act ends one session after the other: what was begun during it, and is still there, is new.
        counted = _sessions(case, windows.in_force(window), replica, begun_after=windows.begun(window))
        if not counted:
            return unknown("its sessions were not counted")
        filled = next(((row, count) for row, count in counted if count >= connections_min), None)
        if filled is None:
            most = max(count for _, count in counted)
            return failed(f"{most} sessions without being asked, {connections_min} are its minimum", [counted[-1][0]])
        after = windows.since_injected(window, filled[0].t)
        told = f"{filled[1]} sessions after {seconds(after)}, {seconds(within_seconds)} allowed, {asked} asked at once"
        return (passed if after <= within_seconds else failed)(told, [filled[0]])

    return judge


def _most_in_flight(history: tuple[Operation, ...], start: float, end: float) -> int:
    """Return how many requests were under way at once, at the most, between two instants."""
    steps = []
    for each in history:
        done = each.completed if each.completed is not None else end
        if each.invoked < end and done > start:
            steps += [(max(each.invoked, start), 1), (min(done, end), -1)]
    at_once = accumulate(step for _, step in sorted(steps))
    return max(at_once, default=0)


def _history(case: Case) -> tuple[Operation, ...]:
    return operations(case.evidence.rows(HISTORY))


def _in(t: float, stretch: tuple[float, float]) -> bool:
    return stretch[0] <= t < stretch[1]


def _rows(attempts: list[Attempt]) -> list[Row]:
    return [attempt.row for attempt in attempts]


def _pauses(attempts: list[Attempt]) -> list[str]:
    return [f"{later.began - (earlier.ended or earlier.began):.2f}" for earlier, later in pairwise(attempts)]


def _states(case: Case, stretch: tuple[float, float], replica: str, series: str) -> list[tuple[Row, float]]:
    return [
        (row, float(row.data["series"][series]))
        for row in case.evidence.between(METRICS, *stretch)
        if row.data["replica"] == replica and series in row.data.get("series", {})
    ]


def _sessions(
    case: Case, stretch: tuple[float, float], replica: str, *, begun_after: float | None = None
) -> list[tuple[Row, int]]:
    """Return the looks at a replica's sessions and how many there were, of all or of those begun after an instant."""
    return [
        (row, sum(begun_after is None or row.t - age > begun_after for age in row.data["ages"].get(replica, ())))
        for row in case.evidence.between(SESSIONS, *stretch)
        if "ages" in row.data
    ]
