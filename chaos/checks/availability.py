"""What the faults cost the users, from the clients' own history: the truth of users, held against the proxy's counts.

The error budget counts as slo.md section 2 does: refusals that are the client's doing (4xx) are neither good nor bad,
server errors and silence are bad, and the share of the budget does not depend on the traffic's rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chaos.checks import windows
from chaos.checks.findings import WindowCheck, failed, passed, seconds, unknown
from chaos.evidence import Row
from chaos.history import HISTORY, Operation, dropped, lags, operations, quantile
from chaos.probes.metrics import FRONT_METRICS, sample_name
from chaos.probes.service_log import service_log
from chaos.scenario import Case, Check, Finding, Window
from slo import budget

ACTUATOR = "actuator"  # who also calls through the front: its log is compose.actuator's own account
_FRONTEND = "firewall"
_CLIENT_ERRORS = range(400, 500)


@dataclass(frozen=True, slots=True)
class Service:
    """How requests that were due in a stretch were served.

    Attributes:
        valid: those that count: all but 4xx.
        bad: server errors and requests without an answer.
        bad_seconds: seconds of the stretch in which at least one request was bad.
        p99_seconds: from the intended start, over those that were answered; ``None`` of none.
    """

    valid: int
    bad: int
    bad_seconds: int
    p99_seconds: float | None
    first_bad: Operation | None

    @property
    def bad_share(self) -> float:
        """Share of the valid ones that were bad; 0 of none."""
        return self.bad / self.valid if self.valid else 0.0


def served(history: Sequence[Operation], start: float, end: float) -> Service:
    """Count the requests that were due in ``[start, end)``."""
    due = [one for one in history if start <= one.intended < end]
    valid = [one for one in due if one.status not in _CLIENT_ERRORS]
    bad = [one for one in valid if one.is_bad]
    answered = [one.seconds for one in due if one.status is not None and one.seconds is not None]
    return Service(
        valid=len(valid),
        bad=len(bad),
        bad_seconds=len({int(one.intended - start) for one in bad}),
        p99_seconds=quantile(answered, 0.99),
        first_bad=bad[0] if bad else None,
    )


def generator_kept_up(*, lag_p99_seconds_max: float = 0.1, arrivals_min: int = 100) -> Check:
    """The load was what it says: nothing dropped, sent when due. Otherwise nothing measured under it counts.

    Never fails: a generator that starves says nothing about the service.
    """

    def judge(case: Case) -> Finding:
        rows = case.evidence.rows(HISTORY)
        left_out = dropped(rows)
        if left_out:
            return unknown(f"{len(left_out)} arrivals found the generator's pool full", left_out)
        behind = lags(rows)
        lag = quantile(behind, 0.99)
        if lag is None or len(behind) < arrivals_min:
            return unknown(f"{len(behind)} arrivals, {arrivals_min} needed")
        told = f"{len(behind)} arrivals, 99 % sent within {lag * 1000:.1f} ms of their time"
        return (passed if lag <= lag_p99_seconds_max else unknown)(told, [rows[0], rows[-1]])

    return judge


def budget_is_kept(*, share_max: float, requests_min: int = 200) -> WindowCheck:
    """From the injection to the end of its drain, the errors spend no more of the 30 days' budget than allowed."""

    def judge(case: Case, window: Window) -> Finding:
        start, end = windows.whole(window)
        history = operations(case.evidence.rows(HISTORY))
        end = min(end, max((one.intended for one in history), default=start))
        found = served(history, start, end)
        if found.valid < requests_min:
            return unknown(f"{found.valid} requests counted, {requests_min} needed")
        spent = budget.spent(found.valid, found.bad, end - start)
        told = (
            f"{found.bad} of {found.valid} requests bad in {seconds(end - start)}, {found.bad_seconds} bad seconds: "
            f"{spent.budget_share:.2%} of the budget, {share_max:.2%} allowed"
        )
        cited = found.first_bad or next(one for one in history if one.intended >= start)
        return (passed if spent.budget_share <= share_max else failed)(told, cited.rows)

    return judge


def client_and_proxy_agree(*, difference_share_max: float = 0.01, requests_min: int = 200) -> Check:
    """The proxy in front counted as many answers of each class as the clients and the actuator saw.

    Compared between the proxy's first and last sample. What is under way at either end may differ.
    """

    def judge(case: Case) -> Finding:
        samples = [row for row in case.evidence.rows(FRONT_METRICS) if "series" in row.data]
        if len(samples) < 2:  # noqa: PLR2004 - a counter needs two readings
            return unknown("the proxy's counters were not read twice")
        first, last = samples[0], samples[-1]
        history = operations(case.evidence.rows(HISTORY))
        seen = [one.status for one in history if one.status is not None and first.t <= (one.completed or 0.0) < last.t]
        if len(seen) < requests_min:
            return unknown(f"{len(seen)} answers between the proxy's samples, {requests_min} needed")
        seen += [
            row.data["status"]
            for row in service_log(case.evidence, ACTUATOR)
            if row.data.get("event") == "observed" and first.t <= row.t < last.t
        ]
        under_way = sum(one.invoked <= at < (one.completed or at + 1) for one in history for at in (first.t, last.t))
        allowed = difference_share_max * len(seen) + under_way + 2
        told = []
        wrong = False
        for status_class in ("2xx", "4xx", "5xx"):
            counted = _counted(first, last, status_class)
            if counted is None:
                return unknown(f"the proxy does not count {status_class}", [first, last])
            clients = sum(f"{status // 100}xx" == status_class for status in seen)
            told.append(f"{status_class}: {clients} seen by clients, {counted:g} counted by the proxy")
            wrong = wrong or abs(clients - counted) > allowed
        return (failed if wrong else passed)("; ".join(told), [first, last])

    return judge


def _counted(first: Row, last: Row, status_class: str) -> float | None:
    series = sample_name("haproxy_frontend_http_responses_total", code=status_class, proxy=_FRONTEND)
    before, after = (row.data["series"].get(series) for row in (first, last))
    if before is None or after is None:
        return None
    return float(after - before)
