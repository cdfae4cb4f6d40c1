"""Alert precision: because of a fault its declared alerts may be active, and nothing else may page.

Looks at what Alertmanager held (``samples/alerts.jsonl``) and at what it delivered (``notifications.jsonl``). An
alert belongs to the injection during which it began, so one that takes its time to resolve blames nobody else.

A symptom is often seen some seconds before the cause that inhibits it (its rule has a shorter ``for``). Alertmanager
waits before it delivers, so nobody is paged by that: such an alert may be active for ``SETTLE_SECONDS``, and must be
suppressed or gone by then. Once delivered it counts like any other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.evidence import Evidence, Row
from chaos.scenario import ExpectedAlerts, Finding, Scenario, Window
from chaos.verdict import Verdict

ALERTS = "samples/alerts.jsonl"
NOTIFICATIONS = "notifications.jsonl"
SETTLE_SECONDS = 5.0
_NOT_A_PAGE = "none"  # severity of the watchdog, which always fires


@dataclass(frozen=True, slots=True)
class _Onset:
    """An alert that began to be active, to be suppressed or to be delivered."""

    name: str
    state: str  # "active", "suppressed", "delivered"
    row: Row


def stray_alerts(scenario: Scenario, windows: Sequence[Window], evidence: Evidence) -> Finding | None:
    """Return a failure naming every alert that had no business there, or ``None``."""
    strays = [
        (onset, injection)
        for onset in (*_held(evidence.rows(ALERTS)), *_delivered(evidence.rows(NOTIFICATIONS)))
        for injection, expected in [_expected_at(onset.row.t, scenario, windows)]
        if not _is_allowed(onset, expected) and not _settles(onset, expected, evidence.rows(ALERTS))
    ]
    if not strays:
        return None
    texts = [
        f"{onset.name} was {onset.state} {_during(injection)} (t={onset.row.t:.1f} s)" for onset, injection in strays
    ]
    return Finding(
        verdict=Verdict.FAIL,
        reason="alerts that are not this failure's: " + "; ".join(texts),
        evidence=tuple(onset.row.reference for onset, _ in strays),
    )


def _during(injection: str | None) -> str:
    return "before any fault" if injection is None else f"because of {injection}"


def _expected_at(t: float, scenario: Scenario, windows: Sequence[Window]) -> tuple[str | None, ExpectedAlerts]:
    begun = [
        (start, window.injection)
        for window in windows
        for start in [window.injected if window.injection_started is None else window.injection_started]
        if start is not None and start <= t
    ]
    if not begun:
        return None, ExpectedAlerts()
    _, name = max(begun)
    injection = next(injection for injection in scenario.injections if injection.name == name)
    return name, scenario.expected_alerts(injection)


def _is_allowed(onset: _Onset, expected: ExpectedAlerts) -> bool:
    allowed = expected.firing | expected.co_alerts
    return onset.name in (allowed | expected.suppressed if onset.state == "suppressed" else allowed)


def _settles(onset: _Onset, expected: ExpectedAlerts, looks: Sequence[Row]) -> bool:
    """Say whether an alert that its cause is to inhibit was active only until that cause was seen."""
    if onset.state != "active" or onset.name not in expected.suppressed:
        return False
    later = [row for row in looks if row.t >= onset.row.t + SETTLE_SECONDS and "alerts" in row.data]
    return bool(later) and not any(
        alert["name"] == onset.name and alert["state"] == "active" for alert in later[0].data["alerts"]
    )


def _held(rows: Sequence[Row]) -> Iterator[_Onset]:
    before: dict[str, str] = {}
    for row in rows:
        if "alerts" not in row.data:
            continue  # the probe could not look: what it held before may still be held
        now: dict[str, str] = {}
        for alert in row.data["alerts"]:
            if not _is_page(alert.get("labels", {})):
                continue
            name, state = str(alert["name"]), str(alert["state"])
            if state == "active" or (state == "suppressed" and now.get(name) != "active"):
                now[name] = state
        for name, state in now.items():
            if state != before.get(name) and not (state == "suppressed" and before.get(name) == "active"):
                yield _Onset(name, state, row)
        before = now


def _delivered(rows: Sequence[Row]) -> Iterator[_Onset]:
    firing: set[str] = set()
    for row in rows:
        for alert in row.data.get("alerts", []):
            labels = alert.get("labels", {})
            name = str(labels.get("alertname"))
            if not _is_page(labels):
                continue
            if alert.get("status", row.data.get("status")) == "resolved":
                firing.discard(name)
            elif name not in firing:
                firing.add(name)
                yield _Onset(name, "delivered", row)


def _is_page(labels: Mapping[str, Any]) -> bool:
    return labels.get("severity") != _NOT_A_PAGE
