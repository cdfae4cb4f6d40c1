"""A failure mode 1 run that looks recorded: a small scenario and the evidence folder it would leave behind.

Two injections (proxy_down, silent_proxy), two replicas; everything follows from
``SEED``. Tests take the folder and spoil one file, to see the judge refuse it.
"""

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaos.evidence import Evidence, EvidenceWriter, Origin
from chaos.journal import Event, Journal
from chaos.matrix import load_matrix
from chaos.result import EvidenceReference, RunRecord
from chaos.scenario import Case, Check, Finding, Injection, Observation, Scenario, ScenarioClocks, Window
from chaos.verdict import Verdict

SEED = 20261123
ORIGIN = Origin(
    monotonic_ns=1_000_000_000_000, wall_ns=int(datetime(2026, 11, 23, 9, 30, tzinfo=UTC).timestamp()) * 10**9
)
EXPECTATIONS = {
    "failure_mode": "FM01",
    "alert": "DatabaseConnectionDown",
    "severity": "critical",
    "detect_seconds": 8,
    "mitigate_seconds": 5,
    "recover_seconds": 12,
    "budget_share_max": 0.024,
}
REPLICAS = ("replica-1", "replica-2")
END = 128.0


@dataclass(frozen=True, slots=True)
class Course:
    """When one injection's phases begin, in ``t``."""

    name: str
    kind: str
    baseline: float
    inject: float
    undo: float
    observation: str

    @property
    def recovered(self) -> float:
        return self.undo + 9.4


COURSES = (
    Course("proxy_down", "proxy_down", 4.0, 14.0, 38.0, "connect to 127.0.0.1:15431: refused (111)"),
    Course("silent_proxy", "silent_proxy", 60.0, 70.0, 98.0, "SELECT 1 through 127.0.0.1:15431: no answer in 2.0 s"),
)


@dataclass(slots=True)
class RecordedFault:
    kind: str
    needs: frozenset[str] = field(default_factory=frozenset)

    def parameters(self) -> dict[str, Any]:
        return {"proxies": ["database-1", "database-2"]}

    async def inject(self, stack: object) -> None: ...

    async def bites(self, stack: object) -> Observation:
        return Observation(ok=stack is not None, text="")

    async def undo(self, stack: object) -> None: ...

    async def is_gone(self, stack: object) -> Observation:
        return Observation(ok=stack is not None, text="")


def scenario() -> Scenario:
    """Return a scenario with a check for each of the 13 claims and one invariant."""
    checks: dict[str, Check] = {
        claim.id: seen("journal.jsonl", "drained") for claim in load_matrix().mode("FM01").claims
    }
    checks["FM01.D1"] = each_window("samples/health.jsonl", lambda row: row["status"] == 503, "health answered 503")
    checks["FM01.D2"] = each_window("samples/health.jsonl", lambda row: row["ms"] > 900, "a probe waited")
    checks["FM01.D4"] = each_window(
        "samples/alerts.jsonl",
        lambda row: any(alert["name"] == "DatabaseConnectionDown" for alert in row["alerts"]),
        "DatabaseConnectionDown was active",
    )
    checks["FM01.M3"] = each_window("samples/metrics.jsonl", lambda row: circuit(row) == 2, "the circuit opened")
    checks["FM01.R5"] = each_window("runbook.jsonl", lambda row: row["step"] == 5 and row["ok"], "step 5 succeeded")
    return Scenario(
        failure_mode="FM01",
        slug="fm01_database_connection_failure",
        injections=tuple(
            Injection(name=course.name, fault=RecordedFault(course.kind), hold_seconds={"fast": 24.0})
            for course in COURSES
        ),
        checks=checks,
        clocks=ScenarioClocks(
            detect=first(
                "samples/alerts.jsonl",
                lambda row: any(alert["name"] == "DatabaseConnectionDown" for alert in row["alerts"]),
            ),
            mitigate=first("samples/metrics.jsonl", lambda row: circuit(row) == 2),
            recover=recovered,
        ),
        alert="DatabaseConnectionDown",
        suppressed_alerts=frozenset({"HighServerErrorRate"}),
        invariants={"I1": nothing_lost},
    )


def circuit(row: Mapping[str, Any]) -> float | None:
    state: float | None = row.get("series", {}).get('firewall_circuit_state{dependency="database"}')
    return state


def seen(file: str, event: str) -> Check:
    def check(case: Case) -> Finding:
        rows = [row for row in case.evidence.rows(file) if row.data.get("event") == event]
        if not rows:
            return Finding(Verdict.UNKNOWN, f"no {event} in {file}")
        return Finding(Verdict.PASS, f"{event}, {len(rows)} times", (rows[0].reference,))

    return check


def each_window(file: str, is_it: Callable[[dict[str, Any]], bool], what: str) -> Check:
    def check(case: Case) -> Finding:
        references: list[EvidenceReference] = []
        for window in case.windows:
            assert window.injected is not None
            rows = case.evidence.between(file, window.injected, window.recovered or END)
            if not rows:
                return Finding(Verdict.UNKNOWN, f"{file} says nothing during {window.injection}")
            hit = next((row for row in rows if is_it(row.data)), None)
            if hit is None:
                return Finding(Verdict.FAIL, f"{window.injection}: never: {what}", (rows[0].reference,))
            references.append(hit.reference)
        return Finding(Verdict.PASS, f"{what} in all {len(references)} windows", tuple(references))

    return check


def nothing_lost(case: Case) -> Finding:
    """No acknowledged proposal is lost."""
    stored = {row.data["row"]["id"] for row in case.evidence.rows("database.jsonl")}
    acknowledged = [
        row for row in case.evidence.rows("history.jsonl") if row.data["type"] == "ok" and "proposal" in row.data
    ]
    lost = [row for row in acknowledged if row.data["proposal"] not in stored]
    if not acknowledged:
        return Finding(Verdict.UNKNOWN, "nothing was acknowledged")
    if lost:
        return Finding(Verdict.FAIL, f"{len(lost)} acknowledged proposals are not stored", (lost[0].reference,))
    return Finding(
        Verdict.PASS, f"all {len(acknowledged)} acknowledged proposals are stored", (acknowledged[-1].reference,)
    )


def first(file: str, is_it: Callable[[dict[str, Any]], bool]) -> Callable[..., Any]:
    def read(case: Case, window: Window) -> tuple[float | None, tuple[EvidenceReference, ...]]:
        assert window.injected is not None
        rows = case.evidence.between(file, window.injected, window.undone or END)
        hit = next((row for row in rows if is_it(row.data)), None)
        if hit is not None:
            return hit.t - window.injected, (hit.reference,)
        return None, tuple(row.reference for row in rows[:1])

    return read


def recovered(case: Case, window: Window) -> tuple[float | None, tuple[EvidenceReference, ...]]:
    rows = [row for row in case.evidence.rows("journal.jsonl") if row.data["event"] in {"recovered", "not_recovered"}]
    own = tuple(row.reference for row in rows if row.data["injection"] == window.injection)
    if window.recovered is None or window.undone is None:
        return None, own
    return window.recovered - window.undone, own


def record(folder: Path, *, per_second: float = 4.0) -> Evidence:
    """Write the evidence of a run in which everything held; few requests unless a picture wants more."""
    chance = random.Random(SEED)  # noqa: S311 - a rehearsed history, not a secret
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "environment.json").write_text(
        json.dumps(
            {
                "failure_mode": "FM01",
                "slug": "fm01_database_connection_failure",
                "origin_monotonic_ns": ORIGIN.monotonic_ns,
                "origin_wall_ns": ORIGIN.wall_ns,
                "profile": "fast",
                "seed": SEED,
                "isolation": "root",
                "versions": {"postgres": "18.6", "toxiproxy": "2.12.0", "prometheus": "2.53.1"},
                "expectations": EXPECTATIONS,
            }
        )
    )
    writer = EvidenceWriter(folder, ORIGIN)
    _journal(Journal(writer), writer)
    _history(writer, chance, per_second)
    for tick in range(int(END)):
        _samples(writer, float(tick), chance)
    _logs(folder)
    writer.close()
    return Evidence(folder)


def _journal(journal: Journal, writer: EvidenceWriter) -> None:
    journal.write(Event.SCENARIO_STARTED, t=0.0, failure_mode="FM01", slug="fm01", profile="fast", seed=SEED)
    journal.write(Event.WORLD_UP, t=3.6)
    for course in COURSES:
        name = course.name
        journal.write(Event.BASELINE_STARTED, injection=name, t=course.baseline)
        journal.write(Event.BASELINE_STEADY, injection=name, t=course.baseline + 8)
        parameters = {"proxies": ["database-1", "database-2"]}
        journal.write(
            Event.INJECTION_STARTED, injection=name, t=course.inject - 0.02, kind=course.kind, parameters=parameters
        )
        journal.write(Event.INJECTED, injection=name, t=course.inject)
        journal.write(Event.BITTEN, injection=name, t=course.inject + 0.3, observation=course.observation)
        journal.write(Event.HOLD_ENDED, injection=name, t=course.undo - 0.1)
        journal.write(Event.UNDO_STARTED, injection=name, t=course.undo)
        journal.write(Event.UNDONE, injection=name, t=course.undo + 0.2, observation="connect and SELECT 1: answered")
        journal.write(Event.RECOVERY_STARTED, injection=name, t=course.undo + 0.25)
        journal.write(Event.RECOVERED, injection=name, t=course.recovered)
        journal.write(Event.DRAINED, injection=name, t=course.recovered + 3)
        for proves, t, text in (
            ("bite", course.inject + 0.3, course.observation),
            ("undo", course.undo + 0.2, "connect and SELECT 1 through 127.0.0.1:15431: answered in 2 ms"),
        ):
            row = {"t": t, "injection": name, "proves": proves, "ok": True, "observation": text}
            writer.append("receipts.jsonl", row)
        _runbook(writer, course)
    journal.write(Event.SCENARIO_FINISHED, t=END)


def _runbook(writer: EvidenceWriter, course: Course) -> None:
    steps = (
        (1, "automated", "watch the service reconnect", 0.01),
        (2, "manual", "pg_isready -h 127.0.0.1 -p 5432", 0.04),
        (3, "manual", "python -m runbooks.probe tcp 127.0.0.1 15431", 0.11),
        (4, "manual", "psql -XAtc 'select current_user' # <script>alert(1)</script>", 0.06),
        (5, "rollback", "curl -fsS -X POST http://127.0.0.1:9100/replicas/replica-1/restart", 2.31),
    )
    t = course.undo + 0.3
    for step, kind, command, seconds in steps:
        writer.append(
            "runbook.jsonl",
            {
                "t": t,
                "injection": course.name,
                "stage": "recovery",
                "step": step,
                "kind": kind,
                "command": command,
                "exit_code": 0,
                "output": "accepting connections",
                "seconds": seconds,
                "ok": True,
            },
        )
        t += seconds


def course_at(t: float) -> Course | None:
    """Return the injection whose harm is visible at an instant."""
    return next((course for course in COURSES if course.inject <= t < course.undo + 4.0), None)


def _arrivals(chance: random.Random, per_second: float) -> Iterator[float]:
    t = 3.8
    while (t := t + chance.expovariate(per_second)) < END - 2:
        yield t


def _history(writer: EvidenceWriter, chance: random.Random, per_second: float) -> None:
    for op, t in enumerate(_arrivals(chance, per_second), start=1):
        writes = chance.random() < 2 / 3
        kind = "propose" if writes else "list"
        course = course_at(t)
        completion: dict[str, Any] = {"op": op, "kind": kind, "replica": chance.choice(REPLICAS)}
        if course is None:
            seconds = 0.006 * math.exp(chance.gauss(0, 0.45))
            completion |= {"type": "ok", "status": 201 if writes else 200}
            if writes:
                completion["proposal"] = f"{op:08x}-0000-7000-8000-000000000000"
                writer.append("database.jsonl", {"t": END, "table": "proposals", "row": {"id": completion["proposal"]}})
        elif t - course.inject < 2.4:
            seconds = min(2.0, 0.4 + 1.8 * chance.random())
            silent = course.kind == "silent_proxy" and writes
            completion |= {"type": "info" if silent else "fail", "status": 504 if silent else 503}
        else:
            seconds = 0.002 * math.exp(chance.gauss(0, 0.3))
            completion |= {"type": "fail", "status": 503, "code": "database-unavailable", "retry_after": 2}
        writer.append("history.jsonl", {"t": t, "op": op, "type": "invoke", "kind": kind, "intended": t})
        writer.append("history.jsonl", {"t": t + seconds, **completion, "ms": round(seconds * 1000, 3)})


def _samples(writer: EvidenceWriter, t: float, chance: random.Random) -> None:
    course = course_at(t - 1.2)
    down = course is not None
    for replica in REPLICAS:
        for path, status in (
            ("/health", 503 if down else 200),
            ("/health/ready", 503 if down else 200),
            ("/health/live", 200),
        ):
            ms = 950 + 100 * chance.random() if down and path == "/health" else 3 + chance.random()
            row = {"t": t, "replica": replica, "path": path, "status": status, "ms": round(ms, 2), "error": None}
            writer.append("samples/health.jsonl", row)
        state = 2 if course is not None and t - course.inject > 2.5 and t < course.undo else 1 if down and t > 5 else 0
        if down and course is not None and t - course.inject <= 2.5:
            state = 0
        series = {'firewall_circuit_state{dependency="database"}': state, "firewall_pool_connections": 0 if down else 2}
        writer.append("samples/metrics.jsonl", {"t": t, "replica": replica, "series": series})
    alerts: list[dict[str, Any]] = [
        {"name": "Watchdog", "state": "active", "inhibited_by": [], "labels": {"severity": "none"}}
    ]
    for course in COURSES:
        if course.inject + 4.5 <= t < course.undo + 6:
            alerts.append(alert("DatabaseConnectionDown", "active"))
        if course.inject + 6.5 <= t < course.undo + 8:
            alerts.append(alert("HighServerErrorRate", "suppressed", inhibited_by=["DatabaseConnectionDown"]))
        if t == math.ceil(course.inject + 5):
            notify(writer, t + 0.3, "DatabaseConnectionDown", "firing")
        if t == math.ceil(course.undo + 6.5):
            notify(writer, t + 0.4, "DatabaseConnectionDown", "resolved")
    writer.append("samples/alerts.jsonl", {"t": t, "alerts": alerts})


def alert(name: str, state: str, *, inhibited_by: list[str] | None = None) -> dict[str, Any]:
    labels = {"severity": "critical", "service": "firewall"}
    return {"name": name, "state": state, "inhibited_by": inhibited_by or [], "labels": labels}


def notify(writer: EvidenceWriter, t: float, name: str, status: str) -> None:
    delivered = {"status": status, "labels": {"alertname": name, "severity": "critical"}, "annotations": {}}
    writer.append("notifications.jsonl", {"t": t, "receiver": "page", "status": status, "alerts": [delivered]})


def _logs(folder: Path) -> None:
    (folder / "logs").mkdir()
    for number, replica in enumerate(REPLICAS, start=1):
        lines = [_log_line(3.5, "service_started", replica=replica)]
        for course in COURSES:
            t, step = course.inject + 0.35 + number / 20, 1.0
            attempt = 1
            while t < course.undo:
                error = "refused" if course.kind == "proxy_down" else "timeout"
                lines.append(
                    _log_line(t, "database_unreachable", error_type=error, attempt=attempt, next_attempt_seconds=step)
                )
                t, step, attempt = t + step * 1.04, min(step * 2, 8.0), attempt + 1
            lines.append(_log_line(course.undo + 3.8, "database_reconnected", attempts=attempt, outage_seconds=27.1))
        (folder / "logs" / f"{replica}.log").write_text("".join(lines))


def _log_line(t: float, event: str, **facts: Any) -> str:
    wall = datetime.fromtimestamp(ORIGIN.wall_ns / 1e9 + t, tz=UTC)
    return (
        json.dumps({"timestamp": wall.isoformat(timespec="microseconds"), "level": "info", "event": event, **facts})
        + "\n"
    )


def record_run(run_folder: Path, *, per_second: float = 4.0) -> RunRecord:
    """Write a whole run of one scenario."""
    record(run_folder / "fm01_database_connection_failure", per_second=per_second)
    run = RunRecord(
        run_id="20261123T093000Z-ab12",
        profile="fast",
        seed=SEED,
        command=f"./justw gameday fm01 --seed {SEED}",
        started_at="2026-11-23T09:30:00+00:00",
        host={
            "root": {"available": True, "reason": "user id 0", "unlocks": "namespaces without a user namespace"},
            "cgroup_v2": {"available": False, "reason": "only version 1 is mounted", "unlocks": "FM07 by memory.max"},
        },
        scenarios=("fm01_database_connection_failure",),
        finished=True,
    )
    run.write(run_folder)
    return run


def edit(folder: Path, file: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Rewrite a ``.jsonl`` file; ``None`` drops the line."""
    rows = [change(json.loads(line)) for line in (folder / file).read_text().splitlines()]
    (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None))


def append(folder: Path, file: str, *rows: dict[str, Any]) -> None:
    """Add lines to a ``.jsonl`` file."""
    writer = EvidenceWriter(folder, ORIGIN)
    for row in rows:
        writer.append(file, row)
    writer.close()
