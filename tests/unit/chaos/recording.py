"""Writes recorded scenarios for the tests of checks: the calm ones, and the ones a check must refuse."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaos.evidence import Evidence, EvidenceWriter, Origin
from chaos.history import HISTORY
from chaos.probes.alerts import ALERTS
from chaos.probes.attempts import ATTEMPTS
from chaos.probes.direct import DIRECT
from chaos.probes.health import HEALTH, PATHS
from chaos.probes.metrics import METRICS
from chaos.probes.replicas import REPLICAS
from chaos.probes.sessions import SESSIONS
from chaos.record import DATABASE
from chaos.scenario import Case, Window

REPLICA_NAMES = ("replica-1", "replica-2")
CLOSED = {'firewall_circuit_state{dependency="database"}': 0.0}
OPEN = {'firewall_circuit_state{dependency="database"}': 2.0}
# One injection: half a minute of calm, twenty seconds of fault, recovery.
WINDOW = Window(
    injection="refused",
    baseline_started=0.0,
    baseline_steady=9.0,
    injection_started=10.0,
    injected=10.0,
    bitten=10.2,
    hold_ended=30.0,
    undo_started=30.0,
    undone=30.2,
    recovered=40.0,
    drained=41.0,
)


class Recording:
    """Builds the folder of a scenario row by row; every method says what was seen when."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = EvidenceWriter(folder, Origin(monotonic_ns=0, wall_ns=0))
        (folder / "environment.json").write_text('{"origin_monotonic_ns": 0, "origin_wall_ns": 0}')
        self._operations = 0

    def case(self, *windows: Window, **expectations: Any) -> Case:
        return Case(Evidence(self.folder), windows or (WINDOW,), expectations)

    def row(self, name: str, t: float, **facts: Any) -> None:
        self._writer.append(name, {"t": t, **facts})

    def operation(
        self,
        t: float,
        *,
        kind: str = "propose",
        answer: str | None = "ok",
        status: int | None = None,
        ms: float = 20.0,
        lag: float = 0.0,
        key: str | None = None,
        body: str | None = None,
        principal: str = "client-1",
        invocation: Mapping[str, Any] | None = None,
        **completion: Any,
    ) -> int:
        """One operation due at ``t``; ``answer=None`` leaves it without a completion."""
        self._operations += 1
        number = self._operations
        facts: dict[str, Any] = {"op": number, "kind": kind}
        writes = {"key": key or f"key-{number}", "body_sha256": body or f"body-{number}"}
        self.row(
            HISTORY,
            t + lag,
            type="invoke",
            intended=t,
            principal=principal,
            **{**facts, **(writes if kind not in {"list", "get", "current"} else {}), **(invocation or {})},
        )
        if answer is not None:
            found = status or {"ok": 201 if kind not in {"list", "get"} else 200, "fail": 503, "info": None}[answer]
            self.row(HISTORY, t + ms / 1000, type=answer, status=found, ms=ms, **facts, **completion)
        return number

    def acknowledged(self, t: float, *, proposal: str, key: str, body: str, **more: Any) -> int:
        return self.operation(t, proposal=proposal, key=key, body=body, digest=f"answer of {proposal}", **more)

    def stored(
        self, proposal: str, *, body: str, key: str | None = None, events: int = 1, principal: str = "client-1"
    ) -> None:
        """A proposal in the database, its event and its idempotency record."""
        self.row(DATABASE, 90, table="proposals", row={"id": proposal, "principal": principal, "body_digest": body})
        for _ in range(events):
            self.row(DATABASE, 90, table="events", row={"proposal_id": proposal, "kind": "created"})
        if key is not None:
            self.row(DATABASE, 90, table="idempotency_records", row={"principal": principal, "key": key})

    def end_of_dump(self) -> None:
        rows = Evidence(self.folder).rows(DATABASE)
        for table in ("proposals", "events", "idempotency_records"):
            self.row(DATABASE, 91, table=table, rows=sum(row.data["table"] == table for row in rows))

    def traffic(self, start: float, end: float, *, per_second: float = 20, **operation: Any) -> None:
        """Even traffic of one kind between two instants."""
        count = round((end - start) * per_second)
        for step in range(count):
            self.operation(start + step / per_second, **operation)

    def health(
        self, start: float, end: float, *, status: int | None = 200, paths: Iterable[str] = PATHS, **more: Any
    ) -> None:
        for at in _steps(start, end, 0.25):
            for replica in more.get("replicas", REPLICA_NAMES):
                for path in paths:
                    answer = {"error": "timeout"} if status is None else {"status": status}
                    self.row(HEALTH, at, replica=replica, path=path, **answer)

    def direct(self, start: float, end: float, **answer: Any) -> None:
        """Requests to every replica directly, four times a second."""
        for at in _steps(start, end, 0.25):
            for replica in REPLICA_NAMES:
                self.row(DIRECT, at, replica=replica, **answer)

    def metrics(
        self, start: float, end: float, series: Mapping[str, float], *, replicas: Iterable[str] = REPLICA_NAMES
    ) -> None:
        for at in _steps(start, end, 0.5):
            for replica in replicas:
                self.row(METRICS, at, replica=replica, series=dict(series))

    def sessions(self, start: float, end: float, count: int, *, replicas: Iterable[str] = REPLICA_NAMES) -> None:
        """Sessions that all began when the stretch does."""
        for at in _steps(start, end, 0.5):
            ages = dict.fromkeys(replicas, [at - start] * count)
            self.row(SESSIONS, at, sessions=dict.fromkeys(replicas, count), ages=ages)

    def alerts(self, start: float, end: float, **state_by_name: str) -> None:
        for at in _steps(start, end, 0.25):
            alerts = [{"name": name, "state": state, "labels": {}} for name, state in state_by_name.items()]
            self.row(ALERTS, at, alerts=[{"name": "Watchdog", "state": "active", "labels": {}}, *alerts])

    def restarts(self, start: float, end: float, count: int, *, pid: int = 100) -> None:
        for at in _steps(start, end, 0.5):
            self.row(REPLICAS, at, replicas={name: {"pid": pid, "restarts": count} for name in REPLICA_NAMES})

    def attempts(self, replica: int, instants: Iterable[float], *, outcome: str = "accepted") -> None:
        for at in instants:
            self.row(ATTEMPTS, at, proxy=f"database-{replica}", outcome=outcome)

    def log(self, replica: str, lines: Iterable[tuple[float, str, Mapping[str, Any]]]) -> None:
        """Lines of a replica's log; the wall clock of a recording starts at the epoch."""
        path = self.folder / "logs" / f"{replica}.log"
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            for t, event, facts in lines:
                stamp = datetime.fromtimestamp(t, UTC).isoformat()
                file.write(json.dumps({"timestamp": stamp, "event": event, **facts}) + "\n")

    def calm(self, start: float, end: float, *, sessions: int = 4) -> None:
        """Everything as it should be."""
        self.traffic(start, end)
        self.health(start, end)
        self.metrics(start, end, CLOSED)
        self.sessions(start, end, sessions)
        self.alerts(start, end)
        self.restarts(start, end, 0)


def _steps(start: float, end: float, step: float) -> Iterable[float]:
    return (start + index * step for index in range(round((end - start) / step)))
