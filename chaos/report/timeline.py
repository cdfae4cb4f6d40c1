"""What one scenario's evidence says over time, ready to draw: nothing is judged here and nothing is drawn.

Every reader takes what is there: a file that is missing, or a line that is not as expected, leaves a gap in the
picture and never an error, for the picture is needed most when something went wrong.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from chaos.evidence import Evidence, Row
from chaos.figures import HISTORY, latency, quantile
from chaos.journal import read_windows
from chaos.precision import ALERTS, NOTIFICATIONS
from chaos.result import ScenarioResult
from chaos.scenario import Window

OUTCOMES = ("ok", "fail", "info")
_CIRCUIT = "firewall_circuit_state"
_CIRCUIT_STATES = {0: "closed", 1: "half-open", 2: "open"}
_CONNECTION_EVENTS = {"database_unreachable": "failed", "database_reconnected": "succeeded"}
_GAP_SECONDS = 5.0  # between two samples; beyond it nothing is known
Read = TypeVar("Read")
_ALERT_ORDER = ("pending", "suppressed", "active")


@dataclass(frozen=True, slots=True)
class Bar:
    """A state that held from ``start`` to ``end``."""

    start: float
    end: float
    state: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An instant worth a line: injected, bitten, detected, mitigated, undone, recovered."""

    t: float
    kind: str
    injection: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """All series of one scenario; instants in ``t``."""

    start: float
    end: float
    windows: tuple[Window, ...]
    marks: tuple[Mark, ...]
    requests: Mapping[str, Mapping[int, int]]  # outcome -> second -> answers
    p50: Mapping[int, float]  # second -> seconds
    p99: Mapping[int, float]
    readiness: Mapping[str, tuple[Bar, ...]]  # replica -> ready | not ready | no answer
    circuits: Mapping[str, tuple[Bar, ...]]  # replica -> closed | half-open | open
    alerts: Mapping[str, tuple[Bar, ...]]  # alert -> pending | suppressed | active
    notifications: tuple[tuple[float, str, str], ...]  # t, alert, firing | resolved
    attempts: Mapping[str, tuple[tuple[float, str], ...]]  # replica -> (t, failed | succeeded)


@dataclass(slots=True)
class _Samples:
    """Turns samples of a state into bars."""

    bars: dict[str, list[Bar]] = field(default_factory=lambda: defaultdict(list))
    last: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, t: float, state: str) -> None:
        bars = self.bars[name]
        since = t - self.last.get(name, -math.inf)
        if bars and since <= _GAP_SECONDS:
            previous = bars[-1]
            bars[-1] = Bar(previous.start, t, previous.state)
            if previous.state != state:
                bars.append(Bar(t, t, state))
        else:
            bars.append(Bar(t, t, state))
        self.last[name] = t

    def result(self) -> dict[str, tuple[Bar, ...]]:
        return {name: tuple(self.bars[name]) for name in sorted(self.bars)}


def read_timeline(evidence: Evidence, result: ScenarioResult) -> Timeline:
    """Read the series of one scenario."""
    nothing: tuple[Window, ...] = ()
    windows = _guarded(read_windows, nothing, evidence)
    answers = [row for row in _rows(evidence, HISTORY) if row.data.get("type") in OUTCOMES]
    p50, p99 = _latencies(answers)
    ends = [row.t for name in (HISTORY, "journal.jsonl", ALERTS) for row in _rows(evidence, name)[-1:]]
    return Timeline(
        start=0.0,
        end=max([1.0, *ends]),
        windows=windows,
        marks=tuple(_marks(windows, result)),
        requests=_by_second(answers),
        p50=p50,
        p99=p99,
        readiness=_readiness(_rows(evidence, "samples/health.jsonl")),
        circuits=_circuits(_rows(evidence, "samples/metrics.jsonl")),
        alerts=_alerts(_rows(evidence, ALERTS)),
        notifications=tuple(_notifications(_rows(evidence, NOTIFICATIONS))),
        attempts=_guarded(_attempts, {}, evidence),
    )


def _guarded(read: Callable[..., Read], instead: Read, *arguments: Any) -> Read:
    try:
        return read(*arguments)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return instead


def _rows(evidence: Evidence, name: str) -> tuple[Row, ...]:
    return _guarded(evidence.rows, (), name)


def _marks(windows: Iterable[Window], result: ScenarioResult) -> Iterator[Mark]:
    for window in windows:
        instants: dict[str, float | None] = {
            "injected": window.injected,
            "bitten": window.bitten,
            "undone": window.undone,
            "recovered": window.recovered,
        }
        if result.clocks is not None:
            for kind, clock, since in (
                ("detected", result.clocks.detect, window.injected),
                ("mitigated", result.clocks.mitigate, window.injected),
                ("recovered", result.clocks.recover, window.undone),
            ):
                after = clock.by_injection.get(window.injection)
                if after is not None and since is not None:
                    instants[kind] = since + after  # what was judged, rather than when the harness was sure of it
        for kind, t in instants.items():
            if t is not None:
                yield Mark(t, kind, window.injection)


def _by_second(answers: Iterable[Row]) -> dict[str, dict[int, int]]:
    counted: dict[str, dict[int, int]] = {outcome: defaultdict(int) for outcome in OUTCOMES}
    for row in answers:
        counted[row.data["type"]][int(row.t)] += 1
    return counted


def _latencies(answers: Iterable[Row]) -> tuple[dict[int, float], dict[int, float]]:
    seconds: dict[int, list[float]] = defaultdict(list)
    for row in answers:
        seconds[int(row.t)].append(_guarded(latency, 0.0, row))
    return (
        {second: quantile(values, 0.5) for second, values in sorted(seconds.items())},
        {second: quantile(values, 0.99) for second, values in sorted(seconds.items())},
    )


def _readiness(rows: Iterable[Row]) -> dict[str, tuple[Bar, ...]]:
    samples = _Samples()
    for row in rows:
        if row.data.get("path") == "/health/ready":
            status = row.data.get("status")
            state = "no answer" if status is None else "ready" if status == 200 else "not ready"  # noqa: PLR2004 - HTTP
            samples.add(str(row.data.get("replica")), row.t, state)
    return samples.result()


def _circuits(rows: Iterable[Row]) -> dict[str, tuple[Bar, ...]]:
    samples = _Samples()
    for row in rows:
        series = row.data.get("series")
        for name, value in series.items() if isinstance(series, dict) else ():
            if name.startswith(_CIRCUIT) and isinstance(value, int | float):
                samples.add(str(row.data.get("replica")), row.t, _CIRCUIT_STATES.get(int(value), "open"))
    return samples.result()


def _alerts(rows: Iterable[Row]) -> dict[str, tuple[Bar, ...]]:
    samples = _Samples()
    for row in rows:
        held: dict[str, str] = {}
        alerts = row.data.get("alerts")
        for alert in alerts if isinstance(alerts, list) else ():
            name, state = str(alert.get("name")), str(alert.get("state"))
            if alert.get("labels", {}).get("severity") == "none" or state not in _ALERT_ORDER:
                continue
            held[name] = max(state, held.get(name, state), key=_ALERT_ORDER.index)
        for name in {*held, *samples.last}:
            samples.add(name, row.t, held.get(name, "inactive"))
    bars = {name: tuple(bar for bar in bars if bar.state != "inactive") for name, bars in samples.result().items()}
    return {name: bars[name] for name in sorted(bars, key=lambda name: min((b.start for b in bars[name]), default=0.0))}


def _notifications(rows: Iterable[Row]) -> Iterator[tuple[float, str, str]]:
    for row in rows:
        alerts = row.data.get("alerts")
        for alert in alerts if isinstance(alerts, list) else ():
            labels = alert.get("labels", {})
            if labels.get("severity") != "none":
                yield row.t, str(labels.get("alertname")), str(alert.get("status", row.data.get("status")))


def _attempts(evidence: Evidence) -> dict[str, tuple[tuple[float, str], ...]]:
    """Read the connection attempts each replica's own log tells of."""
    origin = evidence.origin
    attempts: dict[str, tuple[tuple[float, str], ...]] = {}
    for path in sorted((evidence.folder / "logs").glob("replica-*.log")):
        found = []
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if not any(event in line for event in _CONNECTION_EVENTS):
                    continue
                entry: dict[str, Any] = _guarded(json.loads, {}, line)
                outcome = _CONNECTION_EVENTS.get(str(entry.get("event")))
                if outcome is not None and "timestamp" in entry:
                    wall = datetime.fromisoformat(str(entry["timestamp"])).timestamp()
                    found.append((origin.of_wall(wall), outcome))
        attempts[path.stem] = tuple(found)
    return attempts
