"""Health: does the process work (live), does it want traffic (ready), could it ever serve (startup), and all at once.

Liveness never looks at the database: a restart does not bring a database back, and all replicas restarting together
make an outage longer (FM09). It looks at the event loop alone.
"""

from typing import Final

import msgspec
from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from app.resilience.breaker import State
from app.resilience.lag import LoopLag
from app.resilience.rate_limit import RateLimiter
from app.resilience.readiness import Readiness
from app.storage.database import Database
from app.storage.schema import SchemaCheck
from app.workflow.log_state import LogState

OK: Final = 200
UNAVAILABLE: Final = 503
LOG_QUARANTINE: Final = "log_quarantine"
"""Degraded, yet ready: reads go on, and proposals are taken in (FM15)."""
RATE_LIMIT_LOCAL: Final = "rate_limit_local"
"""Degraded, yet ready: Valkey is gone, each replica counts alone, and nothing else changes (FM06)."""


class Verdict(msgspec.Struct, frozen=True):
    """One question answered."""

    status: str
    reasons: list[str] = []


class Health(msgspec.Struct, frozen=True):
    """Everything at once, for people."""

    status: str
    replica: str
    ready: bool
    reasons: list[str]
    database: str
    circuit: str
    schema: str
    log: str
    rate_limit: str
    event_loop_lag_seconds: float


class Checks:
    """What the answers rest on."""

    def __init__(
        self,
        *,
        replica: str,
        readiness: Readiness,
        database: Database,
        schema: SchemaCheck,
        lag: LoopLag,
        log: LogState,
        limiter: RateLimiter,
        liveness_lag_seconds: float,
    ) -> None:
        self._replica = replica
        self._readiness = readiness
        self._database = database
        self._schema = schema
        self._lag = lag
        self._log = log
        self._limiter = limiter
        self._liveness_lag_seconds = liveness_lag_seconds

    def live(self) -> tuple[int, Verdict]:
        """Answer whether the process itself works."""
        if self._lag.seconds > self._liveness_lag_seconds:
            return UNAVAILABLE, Verdict("stalled", ["event_loop_lag"])
        return OK, Verdict("live")

    def ready(self) -> tuple[int, Verdict]:
        """Answer whether this replica wants traffic."""
        if self._readiness.is_ready:
            return OK, Verdict("ready")
        return UNAVAILABLE, Verdict("not_ready", list(self._readiness.reasons))

    def started(self) -> tuple[int, Verdict]:
        """Answer whether this replica has been able to serve since it started."""
        if self._readiness.has_started:
            return OK, Verdict("started")
        return UNAVAILABLE, Verdict("starting", list(self._readiness.reasons))

    def all(self) -> tuple[int, Health]:
        """Answer everything."""
        comparison = self._schema.comparison
        reasons = list(self._readiness.reasons)
        if self._log.is_quarantined:
            reasons.append(LOG_QUARANTINE)
        if self._limiter.is_degraded:
            reasons.append(RATE_LIMIT_LOCAL)
        return UNAVAILABLE if reasons else OK, Health(
            status="degraded" if reasons else "ok",
            replica=self._replica,
            ready=self._readiness.is_ready,
            reasons=reasons,
            database="up" if self._database.is_up else "down",
            circuit=State(self._database.circuit).name.lower().replace("_", "-"),
            schema=comparison.kind if comparison else "unknown",
            log=self._log.status.value,
            rate_limit=self._limiter.status,
            event_loop_lag_seconds=round(self._lag.seconds, 3),
        )


def _unwell(container: type[msgspec.Struct]) -> dict[int, ResponseSpec]:
    return {UNAVAILABLE: ResponseSpec(container, description="No.", generate_examples=False)}


class HealthController(Controller):
    """The probes of whatever runs the replicas."""

    path = "/health"
    tags = ("health",)

    @get("/", summary="Everything at once", responses=_unwell(Health))
    async def all(self, checks: NamedDependency[Checks]) -> Response[Health]:
        """Answer 200, or 503 with what is degraded."""
        status, health = checks.all()
        return Response(health, status_code=status)

    @get("/live", summary="Does the process work?", responses=_unwell(Verdict))
    async def live(self, checks: NamedDependency[Checks]) -> Response[Verdict]:
        """Answer 200 unless the event loop stalls; a lost database changes nothing here."""
        status, verdict = checks.live()
        return Response(verdict, status_code=status)

    @get("/ready", summary="Does it want traffic?", responses=_unwell(Verdict))
    async def ready(self, checks: NamedDependency[Checks]) -> Response[Verdict]:
        """Answer 503 within 2 s of losing the database, while draining, or with another schema."""
        status, verdict = checks.ready()
        return Response(verdict, status_code=status)

    @get("/startup", summary="Has it started?", responses=_unwell(Verdict))
    async def startup(self, checks: NamedDependency[Checks]) -> Response[Verdict]:
        """Answer 503 until the database was there once, with the right schema."""
        status, verdict = checks.started()
        return Response(verdict, status_code=status)
