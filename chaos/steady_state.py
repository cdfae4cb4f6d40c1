"""Steady state: what "normal" measures, shown before a fault may be injected and again before it counts as over.

One pure function, ``departures``, tells why a stretch of the evidence is not steady. The engine asks it about the
last seconds while they are recorded, the judge about any stretch afterwards, and both get the same answer.
What was not seen is a departure: a silent probe is never a calm world.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from chaos.evidence import EvidenceWriter, Row
from chaos.history import HISTORY, Kind, Operation, Outcome, operations, quantile
from chaos.probes.alerts import ALERTS
from chaos.probes.health import HEALTH
from chaos.probes.metrics import METRICS, sample_name
from chaos.probes.sessions import SESSIONS
from chaos.scenario import Observation
from chaos.timeline import Growing, Timeline

_POLL_SECONDS = 0.25
_GAP_SECONDS_MAX = 1.5  # between two looks of a probe, and at either end of the stretch
_ANSWERED_WITHIN_SECONDS = 6.0  # a client's deadline and a little: how far back an invocation may lie
_CLOSED = 0.0
_DATABASE_CIRCUIT = sample_name("firewall_circuit_state", dependency="database")
# Refusals that are right: the generator uses keys again with another body, and sends twins at once, of which either
# may be told that the other is under way.
_RIGHT_REFUSALS = frozenset({(Kind.REUSE, 422), (Kind.REUSE, 409), (Kind.RETRY, 409), (Kind.PROPOSE, 409)})


@dataclass(frozen=True)
class SteadyState:
    """What must hold for ``seconds`` in a row.

    Attributes:
        replicas: must all be ready, with a closed circuit and enough sessions.
        seconds: length of the stretch.
        p99_seconds: of all requests begun in the stretch, from their intended start.
        requests_min: fewer prove nothing.
        sessions_min: database sessions of each replica (FM01: "maintains minimum connections").
        alerts_allowed: names of alerts that may be active; ``None``: alerts are not looked at. After a fault its
            own alert stays active on purpose for a while, so that it goes on inhibiting its symptoms.
    """

    replicas: tuple[str, ...]
    seconds: float = 5.0
    p99_seconds: float = 0.2
    requests_min: int = 30
    sessions_min: int = 1
    alerts_allowed: frozenset[str] | None = frozenset({"Watchdog"})

    @classmethod
    def expected(
        cls,
        expectations: Mapping[str, Any],
        *,
        replicas: Sequence[str],
        alerts_allowed: frozenset[str] | None = frozenset({"Watchdog"}),
    ) -> "SteadyState":
        """Read the numbers from the expectations of a failure mode, where they state them."""
        return cls(
            replicas=tuple(replicas),
            seconds=float(expectations.get("steady_seconds", cls.seconds)),
            p99_seconds=float(expectations.get("steady_p99_seconds", cls.p99_seconds)),
            sessions_min=int(expectations.get("pool_connections_min", cls.sessions_min)),
            alerts_allowed=alerts_allowed,
        )


def departures(timeline: Timeline, expected: SteadyState, end: float) -> tuple[str, ...]:
    """Say why ``[end - expected.seconds, end)`` is not steady; an empty tuple means that it is."""
    start = end - expected.seconds
    return (
        *_unready(timeline, expected, start, end),
        *_unhappy_clients(timeline, expected, start, end),
        *_open_circuits(timeline, expected, start, end),
        *_missing_sessions(timeline, expected, start, end),
        *_active_alerts(timeline, expected, start, end),
    )


def steady_from(timeline: Timeline, expected: SteadyState, *, start: float, end: float) -> float | None:
    """Return the earliest instant from which it was steady for ``expected.seconds``, all of them after ``start``.

    ``None`` when there is none before ``end``. Resolution: a quarter of a second, and the very last stretch.
    """
    last = end - expected.seconds
    at = start
    while at < last:
        if not departures(timeline, expected, at + expected.seconds):
            return at
        at += _POLL_SECONDS
    return last if start <= last and not departures(timeline, expected, end) else None


def recent(folder: Path, expectations: Mapping[str, Any]) -> Growing:
    """Return the last seconds of a folder, as many as ``departures`` looks back on; one serves a whole scenario."""
    seconds = SteadyState.expected(expectations, replicas=()).seconds
    return Growing(folder, keep_seconds=seconds + 2 * _ANSWERED_WITHIN_SECONDS)


async def wait(
    writer: EvidenceWriter,
    timeline: Timeline,
    expected: SteadyState,
    *,
    deadline_seconds: float,
    since: float | None = None,
) -> Observation:
    """Wait until the seconds just recorded are steady; at the deadline, say what was still missing.

    They may reach back to ``since``, on the evidence's clock; by default to now. The deadline counts from now.
    """
    started = writer.origin.elapsed()
    while True:
        now = writer.origin.elapsed()
        missing: tuple[str, ...] = ("not long enough yet",)
        if now - (started if since is None else since) >= expected.seconds:
            # In a thread: the first look reads all that was recorded since the last; the load generator must go on.
            missing = await asyncio.to_thread(departures, timeline, expected, now)
            if not missing:
                return Observation(ok=True, text=f"steady for {expected.seconds:g} s")
        if now - started >= deadline_seconds:
            return Observation(ok=False, text=f"not steady after {deadline_seconds:g} s: {'; '.join(missing)}")
        await asyncio.sleep(_POLL_SECONDS)


def _unready(timeline: Timeline, expected: SteadyState, start: float, end: float) -> Iterator[str]:
    looks = [row for row in timeline.between(HEALTH, start, end) if row.data["path"] == "/health/ready"]
    for replica in expected.replicas:
        own = [row for row in looks if row.data["replica"] == replica]
        if _has_gap(own, start, end):
            yield f"{replica}: readiness not seen throughout ({len(own)} looks)"
        wrong = [row for row in own if row.data.get("status") != 200]  # noqa: PLR2004 - HTTP
        if wrong:
            yield f"{replica}: not ready ({_last_answer(wrong)})"


def _unhappy_clients(timeline: Timeline, expected: SteadyState, start: float, end: float) -> Iterator[str]:
    history = operations(timeline.between(HISTORY, start - _ANSWERED_WITHIN_SECONDS, end))
    touching = [
        one for one in history if one.invoked >= start or (one.completed is not None and one.completed >= start)
    ]
    answered = [one for one in touching if one.completion is not None]
    if len(answered) < expected.requests_min:
        yield f"only {len(answered)} requests answered, {expected.requests_min} needed"
    if _has_gap([one.invocation for one in touching if one.invoked >= start], start, end):
        yield "requests not sent throughout"
    wrong = [one for one in answered if one.is_bad or _is_wrongly_refused(one)]
    if wrong:
        what = wrong[-1].status or wrong[-1].answer("error")
        yield f"{len(wrong)} of {len(answered)} requests failed (last: {wrong[-1].kind} {what})"
    waits = [one.seconds if one.seconds is not None else end - one.intended for one in touching]
    p99 = quantile(waits, 0.99)
    if p99 is not None and p99 > expected.p99_seconds:
        yield f"p99 is {p99 * 1000:.0f} ms, {expected.p99_seconds * 1000:.0f} ms allowed"


def _is_wrongly_refused(one: Operation) -> bool:
    # Whole lives compete, and trespass on purpose: what they are refused is judged by the invariants.
    is_of_a_life = "life" in one.invocation.data
    return one.outcome is not Outcome.OK and not is_of_a_life and (one.kind, one.status) not in _RIGHT_REFUSALS


def _open_circuits(timeline: Timeline, expected: SteadyState, start: float, end: float) -> Iterator[str]:
    rows = timeline.between(METRICS, start, end)
    for replica in expected.replicas:
        own = [row for row in rows if row.data["replica"] == replica and "series" in row.data]
        if _has_gap(own, start, end):
            yield f"{replica}: metrics not seen throughout ({len(own)} looks)"
        states = {row.data["series"].get(_DATABASE_CIRCUIT) for row in own}
        if states - {_CLOSED}:
            yield f"{replica}: circuit not closed throughout ({_DATABASE_CIRCUIT} was {sorted(map(str, states))})"


def _missing_sessions(timeline: Timeline, expected: SteadyState, start: float, end: float) -> Iterator[str]:
    rows = [row for row in timeline.between(SESSIONS, start, end) if "sessions" in row.data]
    if _has_gap(rows, start, end):
        yield f"database sessions not seen throughout ({len(rows)} looks)"
    if not rows:
        return
    for replica in expected.replicas:
        count = rows[-1].data["sessions"].get(replica, 0)
        if count < expected.sessions_min:
            yield f"{replica}: {count} database sessions, {expected.sessions_min} needed"


def _active_alerts(timeline: Timeline, expected: SteadyState, start: float, end: float) -> Iterator[str]:
    if expected.alerts_allowed is None:
        return
    rows = [row for row in timeline.between(ALERTS, start, end) if "alerts" in row.data]
    if _has_gap(rows, start, end):
        yield f"alerts not seen throughout ({len(rows)} looks)"
    active = {one["name"] for row in rows for one in row.data["alerts"] if one["state"] != "suppressed"}
    if active - expected.alerts_allowed:
        yield f"alerts active: {', '.join(sorted(active - expected.alerts_allowed))}"


def _has_gap(looks: Sequence[Row], start: float, end: float) -> bool:
    """Whether somewhere in the stretch nobody looked for too long, or nobody looked at all."""
    instants = [start, *(row.t for row in looks), end]
    return not looks or any(later - earlier > _GAP_SECONDS_MAX for earlier, later in pairwise(instants))


def _last_answer(rows: Sequence[Row]) -> str:
    return str(rows[-1].data.get("status") or rows[-1].data.get("error"))
