"""`create_service`: the only place that wires the parts together."""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.types import ASGIApp, Guard

from app import log, metrics
from app.api import api_keys as api_api_keys
from app.api import applications as api_applications
from app.api import bundles as api_bundles
from app.api import governance as api_governance
from app.api import problems, reference
from app.api import proposals as api_proposals
from app.api import targets as api_targets
from app.api import votes as api_votes
from app.api.api_keys import ApiKeysController
from app.api.applications import ApplicationsController, RollbacksController
from app.api.attestations import AttestationsController
from app.api.bundles import BundlesController
from app.api.dependencies import authentication
from app.api.governance import PoliciesController, RootController, ValidatorsController
from app.api.health import Checks, HealthController
from app.api.log import LogController
from app.api.middleware import Doorkeeper, Observed
from app.api.proposals import ProposalsController
from app.api.targets import TargetsController
from app.api.votes import VotesController
from app.migrations.catalogue import Comparison
from app.resilience.deadline import Clock
from app.resilience.lag import LoopLag
from app.resilience.rate_limit import RateLimiter
from app.resilience.readiness import CLOCK_SKEWED, DATABASE_LOST, SCHEMA_MISMATCH, STARTING, Readiness
from app.resilience.valkey import Valkey
from app.sandbox.pool import SandboxPool
from app.security.api_keys import ApiKeys
from app.security.authentication import Authenticator
from app.security.token_keys import KeyFile
from app.security.tokens import Tokens, WallClock
from app.settings import Settings
from app.stages import Parts, gate
from app.storage.clock import ClockCheck
from app.storage.connection import Connection
from app.storage.database import Database, Signals
from app.storage.schema import SchemaCheck
from app.workflow.delivery import Dispatcher
from app.workflow.log_state import LogState
from app.workflow.sequencer import Sequencer
from app.workflow.worker import Worker

VERSION: Final = "0.1.0"
REQUEST_ID_BYTES: Final = 12
CONTROLLERS: Final = (
    ProposalsController,
    ApplicationsController,
    VotesController,
    TargetsController,
    RollbacksController,
    PoliciesController,
    ValidatorsController,
    RootController,
    AttestationsController,
    BundlesController,
    LogController,
    ApiKeysController,
)
BODIES: Final = (
    *api_proposals.BODIES,
    *api_votes.BODIES,
    *api_applications.BODIES,
    *api_targets.BODIES,
    *api_governance.BODIES,
    *api_bundles.BODIES,
    *api_api_keys.BODIES,
)


@dataclass(frozen=True, slots=True)
class Service:
    """The parts that `__main__` and tests hold on to; `database` and `sandbox` are to be entered before serving."""

    application: ASGIApp
    litestar: Litestar
    """Inside `application`: its routes."""
    schema_document: dict[str, Any]
    database: Database
    sandbox: SandboxPool
    readiness: Readiness
    schema: SchemaCheck
    lag: LoopLag
    log: LogState
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]]
    """Loops to run beside the server until it stops; each survives the loss of the database."""
    worker: Worker
    """Works beside the server, inside `sandbox` and `dispatcher`."""
    dispatcher: Dispatcher
    refused: asyncio.Event
    """Set when the first schema seen is not ours: the service refuses to start (FM03)."""


def create_service(settings: Settings, *, clock: Clock, wall: WallClock = time.time) -> Service:
    """Wire the service; nothing is opened yet. `wall` is the clock by which tokens expire.

    Raises:
        InvalidSettings: the file of token keys holds none.
    """
    readiness = Readiness()
    refused = asyncio.Event()

    def schema_changed(comparison: Comparison) -> None:
        metrics.SCHEMA_COMPATIBLE.set(comparison.is_compatible)
        if comparison.is_compatible:
            readiness.withdraw(SCHEMA_MISMATCH)
        else:
            log.get().error("schema_mismatch", kind=comparison.kind, detail=comparison.detail)
            readiness.object_to(SCHEMA_MISMATCH)
            if not readiness.has_started:
                refused.set()

    schema = SchemaCheck(schema_changed)
    clocks = ClockCheck(partial(_clock_compared, readiness), clock=clock, wall=wall)

    async def verify(connection: Connection) -> None:
        await schema.verify(connection)
        await clocks.verify(connection)

    def database_found() -> None:
        if schema.comparison and schema.comparison.is_compatible:
            readiness.withdraw(DATABASE_LOST, STARTING)
        else:
            readiness.withdraw(DATABASE_LOST)

    database = Database(
        settings.database,
        settings.database_policy,
        replica=settings.http.replica,
        signals=Signals(verify=verify, found=database_found, lost=lambda: readiness.object_to(DATABASE_LOST)),
        clock=clock,
    )
    lag = LoopLag(clock=clock)
    log_state = LogState(is_on=settings.log is not None, clock=clock)
    background: list[Callable[[], Coroutine[Any, Any, None]]] = []
    if settings.log is not None:
        replica = settings.http.replica
        background.append(Sequencer(database, settings.log, log_state, replica=replica, clock=clock).run)
    valkey = None
    if settings.rate_limit.valkey is not None:
        valkey = Valkey(settings.rate_limit.valkey, settings.rate_limit.valkey_policy)
    limiter = RateLimiter(settings.rate_limit, valkey=valkey, clock=clock)
    background.append(limiter.watch)
    checks = Checks(
        replica=settings.http.replica,
        readiness=readiness,
        database=database,
        schema=schema,
        lag=lag,
        log=log_state,
        limiter=limiter,
        liveness_lag_seconds=settings.http.liveness_lag_seconds,
    )
    sandbox = SandboxPool()
    keys = ApiKeys(database, settings.keys, clock=clock)
    made = gate(Parts(settings, database, sandbox, log_state, keys, clock))
    background.extend(made.background)
    authenticator = Authenticator(keys, _tokens(settings, clock, wall))
    litestar = _litestar(settings, made.stages, checks, authentication(authenticator, limiter))
    schema_document = reference.complete(litestar, BODIES)
    for state in ("open", "in_use", "idle"):
        metrics.POOL_CONNECTIONS.labels(state).set_function(partial(_pool_count, database, state))
    metrics.LOG_CHECKPOINT_LAG.set_function(lambda: log_state.lag_seconds)
    metrics.LOG_UNSEQUENCED.set_function(lambda: log_state.unsequenced)
    return Service(
        application=Observed(
            litestar,
            settings.http,
            Doorkeeper(limiter, authenticator),
            fields=reference.fields(schema_document),
            clock=clock,
            new_request_id=lambda: secrets.token_hex(REQUEST_ID_BYTES),
        ),
        litestar=litestar,
        schema_document=schema_document,
        database=database,
        sandbox=sandbox,
        readiness=readiness,
        schema=schema,
        lag=lag,
        log=log_state,
        background=background,
        worker=made.worker,
        dispatcher=made.dispatcher,
        refused=refused,
    )


def _clock_compared(readiness: Readiness, offset: float, *, agrees: bool) -> None:
    metrics.CLOCK_OFFSET.set(offset)
    if agrees:
        readiness.withdraw(CLOCK_SKEWED)
    elif CLOCK_SKEWED not in readiness.reasons:
        log.get().error("clock_skewed", offset_seconds=round(offset, 3))
        readiness.object_to(CLOCK_SKEWED)


def _tokens(settings: Settings, clock: Clock, wall: WallClock) -> Tokens | None:
    policy = settings.tokens
    return None if policy is None else Tokens(KeyFile(policy.keys_file, clock=clock), policy, wall=wall)


def _pool_count(database: Database, state: str) -> float:
    return database.pool_counts()[state]


def _litestar(settings: Settings, stages: Mapping[str, object], checks: Checks, guard: Guard) -> Litestar:
    """Return the application; `stages` are what handlers ask for by name."""
    api = Router(
        "/",
        route_handlers=list(CONTROLLERS),
        guards=[guard],
        dependencies={name: _provide(stage) for name, stage in stages.items()},
    )
    health = Router("/", route_handlers=[HealthController], dependencies={"checks": _provide(checks)})
    litestar = Litestar(
        route_handlers=[api, health],
        exception_handlers=problems.HANDLERS,
        openapi_config=reference.openapi_config(VERSION),
        request_max_body_size=settings.http.body_bytes_max,
        logging_config=None,
        debug=False,
    )
    metrics.initialise(_documented_routes(litestar))
    return litestar


def _provide(part: object) -> Provide:
    return Provide(lambda: part, sync_to_thread=False)


def _documented_routes(litestar: Litestar) -> list[tuple[str, str, list[int]]]:
    """Return (method, route, statuses) of every route of the schema, and of requests that meet none."""
    routes: list[tuple[str, str, list[int]]] = []
    for path, item in litestar.openapi_schema.to_schema()["paths"].items():
        for method, operation in item.items():
            routes.append((method.upper(), path, [int(status) for status in operation["responses"]]))
    return [*routes, *((method, metrics.UNMATCHED, [404, 429]) for method in ("GET", "POST"))]
