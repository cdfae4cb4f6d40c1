"""Whether a fault was noticed: by health checks, logs, metrics and alerts, within a bound, and not before.

Every check wants the calm as well: a signal that was there before the fault detects nothing. The readings
(``first_...``) also serve as the clock of detection.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from chaos.checks import windows
from chaos.checks.findings import WindowCheck, combine, failed, passed, seconds, unknown
from chaos.evidence import Row
from chaos.probes.alerts import ALERTS
from chaos.probes.health import HEALTH
from chaos.probes.metrics import METRICS
from chaos.probes.notifications import NOTIFICATIONS
from chaos.probes.service_log import service_log
from chaos.result import EvidenceReference
from chaos.scenario import Case, ExpectedAlerts, Finding, Window

_WATCHDOG = "Watchdog"
_HEALTHY = 200


def replicas_of(case: Case) -> tuple[str, ...]:
    """Return the replicas that the health probe looked at."""
    return tuple(sorted({str(row.data["replica"]) for row in case.evidence.rows(HEALTH)}))


def each_replica(case: Case, judge: Callable[[str], Finding]) -> Finding:
    """Return the worst over all replicas; ``unknown`` when none was looked at."""
    names = replicas_of(case)
    return combine([(name, judge(name)) for name in names]) if names else unknown("no replica was looked at")


def health_turns_red(*, within_seconds: float, path: str = "/health", status: int = 503) -> WindowCheck:
    """Every replica answers ``status`` on ``path`` within the bound, and answered 200 throughout the calm."""

    def judge(case: Case, window: Window) -> Finding:
        return each_replica(case, lambda replica: one(case, window, replica))

    def one(case: Case, window: Window, replica: str) -> Finding:
        before = _looks(case, windows.calm(window), replica, path)
        during = _looks(case, windows.fault(window), replica, path)
        if not before or not during:
            return unknown(f"{path} was looked at {len(before)} times before and {len(during)} times during the fault")
        red_before = [row for row in before if row.data.get("status") != _HEALTHY]
        if red_before:
            return unknown(f"{path} was red before the fault", red_before)
        red = next((row for row in during if row.data.get("status") == status), None)
        if red is None:
            return failed(f"{path} never answered {status}", during[-1:])
        return _in_time(f"{path} answered {status}", red, window, within_seconds)

    return judge


def log_event_appears(
    event: str, *, within_seconds: float, facts: Mapping[str, Collection[Any]] | None = None
) -> WindowCheck:
    """Every replica logs ``event`` within the bound, with its facts among those given, and did not in the calm."""

    def matches(row: Row) -> bool:
        return row.data.get("event") == event and all(
            row.data.get(name) in allowed for name, allowed in (facts or {}).items()
        )

    def judge(case: Case, window: Window) -> Finding:
        return each_replica(case, lambda replica: one(case, window, replica))

    def one(case: Case, window: Window, replica: str) -> Finding:
        log = service_log(case.evidence, replica)
        before = _within(log, windows.calm(window))
        if not before:
            return unknown("no log line before the fault")
        early = [row for row in before if matches(row)]
        if early:
            return unknown(f"{event} was logged before the fault", early)
        during = _within(log, windows.fault(window))
        found = next((row for row in during if matches(row)), None)
        if found is None:
            alike = [row for row in during if row.data.get("event") == event]
            return failed(f"{event} was not logged" + (" with its facts" if alike else ""), alike or during)
        return _in_time(f"{event} was logged", found, window, within_seconds)

    return judge


def counter_increases(prefix: str, *, within_seconds: float) -> WindowCheck:
    """On every replica a counter that stood still in the calm moves within the bound.

    ``prefix``: of the sample's name, such as ``firewall_db_errors_total{error_type="connection"}``, or without labels:
    then the sum over them counts.
    """

    def judge(case: Case, window: Window) -> Finding:
        return each_replica(case, lambda replica: one(case, window, replica))

    def one(case: Case, window: Window, replica: str) -> Finding:
        before = _readings(case, windows.calm(window), replica, prefix)
        during = _readings(case, windows.fault(window), replica, prefix)
        if len(before) < 2 or not during:  # noqa: PLR2004 - standing still takes two looks
            return unknown(f"{prefix} was read {len(before)} times before and {len(during)} times during the fault")
        if before[0][1] != before[-1][1]:
            return unknown(f"{prefix} moved before the fault", [before[0][0], before[-1][0]])
        level = before[-1][1]
        moved = next((row for row, value in during if value != level), None)
        if moved is None:
            return failed(f"{prefix} stayed at {level:g}", [during[-1][0]])
        return _in_time(f"{prefix} increased", moved, window, within_seconds)

    return judge


def first_increase(case: Case, window: Window, prefix: str) -> tuple[float | None, tuple[EvidenceReference, ...]]:
    """Read the clock of detection of a mode without an alert: until the counter has moved on every replica."""
    moved = []
    for replica in replicas_of(case):
        before = _readings(case, windows.calm(window), replica, prefix)
        during = _readings(case, windows.fault(window), replica, prefix)
        if not before or not during:
            return None, ()
        found = next((row for row, value in during if value != before[-1][1]), None)
        if found is None:
            return None, (during[-1][0].reference,)
        moved.append(found)
    if not moved:
        return None, ()
    last = max(moved, key=lambda row: row.t)
    return windows.since_injected(window, last.t), (last.reference,)


def alert_fires(alert: str, *, within_seconds: float, env: str | None = None) -> WindowCheck:
    """``alert`` is active in Alertmanager under its own name within the bound, and was not in the calm.

    ``env``: of this environment; without it, of whichever.
    """

    def judge(case: Case, window: Window) -> Finding:
        before = _within(_alert_looks(case), windows.calm(window))
        during = _within(_alert_looks(case), windows.fault(window))
        if not before or not during:
            return unknown(f"alerts were seen {len(before)} times before and {len(during)} times during the fault")
        early = [row for row in before if alert in _active(row)]
        if early:
            return unknown(f"{alert} was active before the fault", early)
        found = next((row for row in during if alert in _active(row, env)), None)
        if found is None:
            return failed(f"{alert} did not become active", during[-1:])
        return _in_time(f"{alert} was active", found, window, within_seconds)

    return judge


def alert_is_delivered(alert: str, *, within_seconds: float, env: str | None = None) -> WindowCheck:
    """Alertmanager hands ``alert`` to a receiver within the bound. ``env``: as above."""

    def judge(case: Case, window: Window) -> Finding:
        rows = [row for row in case.evidence.rows(NOTIFICATIONS) if "alerts" in row.data]
        if not rows:
            return unknown("nothing was ever delivered, not even the watchdog")
        found = next((row for row in _within(rows, windows.whole(window)) if alert in _delivered(row, env)), None)
        if found is None:
            return failed(f"{alert} was not delivered")
        return _in_time(f"{alert} was delivered", found, window, within_seconds)

    return judge


def alert_goes_only_to(receiver: str, alert: str, *, env: str, within_seconds: float) -> WindowCheck:
    """In this environment ``alert`` is handed to ``receiver`` within the bound, and to no other one."""

    def judge(case: Case, window: Window) -> Finding:
        rows = [row for row in case.evidence.rows(NOTIFICATIONS) if "alerts" in row.data]
        if not rows:
            return unknown("nothing was ever delivered, not even the watchdog")
        told = [row for row in _within(rows, windows.whole(window)) if alert in _delivered(row, env)]
        if not told:
            return failed(f"{alert} of {env} was not delivered")
        others = [row for row in told if row.data["receiver"] != receiver]
        if others:
            names = ", ".join(sorted({str(row.data["receiver"]) for row in others}))
            return failed(f"{alert} of {env} was delivered to {names}", others)
        return _in_time(f"{alert} of {env} was delivered to {receiver} alone", told[0], window, within_seconds)

    return judge


def nothing_else_pages(expected: ExpectedAlerts, *, settle_seconds: float) -> WindowCheck:
    """From the injection to the end of its drain no other alert is active, and none is delivered.

    A symptom that its cause inhibits is often seen first. So a ``suppressed`` alert may be active until the first
    ``firing`` one is, and ``settle_seconds`` longer (Alertmanager waits that long before it delivers); after that,
    and in what was delivered, it counts like any other.
    """
    allowed = expected.firing | expected.co_alerts | {_WATCHDOG}

    def judge(case: Case, window: Window) -> Finding:
        looks = _within(_alert_looks(case), windows.whole(window))
        if not looks:
            return unknown("alerts were not seen")
        cause = next((row.t for row in looks if _active(row) & expected.firing), None)
        settled = looks[0].t + settle_seconds if cause is None else cause + settle_seconds
        wrong = [
            (row, name)
            for row in looks
            for name in sorted(_active(row) - allowed)
            if name not in expected.suppressed or row.t > settled
        ]
        wrong += [
            (row, name)
            for row in _within(case.evidence.rows(NOTIFICATIONS), windows.whole(window))
            for name in sorted(_delivered(row) - allowed)
        ]
        if wrong:
            names = ", ".join(sorted({name for _, name in wrong}))
            return failed(f"also active or delivered: {names}", [row for row, _ in wrong])
        return passed(f"no other alert in {len(looks)} looks", [looks[0], looks[-1]])

    return judge


def first_active(
    case: Case, window: Window, alert: str, *, env: str | None = None
) -> tuple[float | None, tuple[EvidenceReference, ...]]:
    """Read the clock of detection: seconds from the injection to ``alert`` being active in Alertmanager."""
    looks = _within(_alert_looks(case), windows.whole(window))
    if window.injected is None or not looks:
        return None, ()
    found = next((row for row in looks if alert in _active(row, env)), None)
    if found is None:
        return None, (looks[-1].reference,)
    return windows.since_injected(window, found.t), (found.reference,)


def _in_time(what: str, row: Row, window: Window, within_seconds: float) -> Finding:
    after = windows.since_injected(window, row.t)
    bound = f"{seconds(within_seconds)} allowed"
    if after > within_seconds:
        return failed(f"{what} only after {seconds(after)}, {bound}", [row])
    return passed(f"{what} after {seconds(after)}, {bound}", [row])


def _within(rows: Sequence[Row], stretch: tuple[float, float]) -> list[Row]:
    start, end = stretch
    return [row for row in rows if start <= row.t < end]


def _looks(case: Case, stretch: tuple[float, float], replica: str, path: str) -> list[Row]:
    return [
        row
        for row in case.evidence.between(HEALTH, *stretch)
        if row.data["replica"] == replica and row.data["path"] == path
    ]


def _readings(case: Case, stretch: tuple[float, float], replica: str, prefix: str) -> list[tuple[Row, float]]:
    found = []
    for row in case.evidence.between(METRICS, *stretch):
        if row.data["replica"] == replica and "series" in row.data:
            values = [value for name, value in row.data["series"].items() if name.startswith(prefix)]
            if values:
                found.append((row, float(sum(values))))
    return found


def _alert_looks(case: Case) -> list[Row]:
    return [row for row in case.evidence.rows(ALERTS) if "alerts" in row.data]


def _active(row: Row, env: str | None = None) -> frozenset[str]:
    """Return the alerts that page: those that nothing suppresses, "unprocessed" included."""
    return _names((one for one in row.data["alerts"] if one["state"] != "suppressed"), env)


def _delivered(row: Row, env: str | None = None) -> frozenset[str]:
    """Return the alerts that a delivery says fire; one that says "resolved" pages nobody."""
    return _names((one for one in row.data.get("alerts", ()) if one.get("status") == "firing"), env)


def _names(alerts: Iterable[Mapping[str, Any]], env: str | None) -> frozenset[str]:
    return frozenset(one["name"] for one in alerts if env is None or one["labels"].get("env") == env)
