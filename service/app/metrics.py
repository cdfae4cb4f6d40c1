"""Every metric, declared once, with its unit and bounded labels; what is counted is present from the start at 0.

Histograms by route or operation appear with their first observation, which `rate()` therefore does not see: each is a
dozen series or more, and rules take them over all routes or operations together.

The document's six names are the constants REQUEST_COUNT, REQUEST_DURATION, DB_ERRORS, DB_QUERY_DURATION,
AUTH_ATTEMPTS and RATE_LIMIT_REJECTIONS. The labels `service`, `env` and `pod` are the scraper's.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

DB_ERROR_TYPES: Final = ("connection", "timeout", "pool", "query", "conflict")
CONNECT_OUTCOMES: Final = (
    "connected",
    "refused",
    "timeout",
    "closed",
    "name_resolution",
    "authentication",
    "starting",
    "too_many_connections",
    "read_only",
    "other",
)
SIMULATION_OUTCOMES: Final = (
    "allow",
    "deny",
    "inconclusive",
    "deadline",
    "crashed",
    "memory-limit",
    "cpu-limit",
    "protocol",
    "invalid-inputs",
    "engine-mismatch",
    "nondeterministic",
    "unavailable",
)
WORKER_LOSSES: Final = ("deadline", "crashed", "memory-limit", "cpu-limit", "protocol", "unavailable")
REFUSAL_REASONS: Final = ("full", "timeout", "circuit_open")
DATABASE: Final = "database"
VALKEY: Final = "valkey"
VALKEY_ERROR_TYPES: Final = ("connection", "timeout", "protocol")
UNMATCHED: Final = "unmatched"
"""The `route` of a request that meets none: raw paths never become labels (FM12)."""

disable_created_metrics()  # type: ignore[no-untyped-call]

REQUEST_COUNT = Counter(
    "firewall_requests_total",
    "Requests answered.",
    ("method", "route", "route_class", "status", "status_class"),
)
REQUEST_DURATION = Histogram(
    "firewall_request_duration_seconds",
    "Time from the request's first byte to its answer's last.",
    ("route", "route_class"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 30),
)
REQUESTS_IN_FLIGHT = Gauge("firewall_requests_in_flight", "Requests being worked on.")
DB_ERRORS = Counter("firewall_db_errors_total", "Errors of the database, by class.", ("error_type",))
DB_QUERY_DURATION = Histogram(
    "firewall_db_query_duration_seconds",
    "Time of one unit of work in the database, its transaction included.",
    ("operation",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
DB_ZOMBIES = Gauge("firewall_db_zombies", "Units of work that were answered for at the deadline and still run.")
DB_REPEATED_UNITS = Counter(
    "firewall_db_repeated_units_total", "Units of work run again because their connection was lost before COMMIT."
)
DB_CONNECT_ATTEMPTS = Counter(
    "firewall_db_connect_attempts_total", "Attempts of the reconnection driver, by outcome.", ("outcome",)
)
CLIENT_BUCKETS: Final = 32
"""So many groups the clients are divided into: enough to tell one client from all of them, few enough to keep."""
CLIENT_REQUESTS = Counter(
    "firewall_client_requests_total", "Requests answered, by the group that a hash puts the client in.", ("bucket",)
)
CLIENT_REFUSALS = Counter(
    "firewall_client_refusals_total", "Those of them that were answered with a client error.", ("bucket",)
)
AUTH_ATTEMPTS = Counter("firewall_auth_attempts_total", "Credentials checked.", ("status",))
RATE_LIMIT_REJECTIONS = Counter("firewall_rate_limit_rejections_total", "Requests over the rate.", ("scope",))
RATE_LIMIT_LOCAL = Counter(
    "firewall_rate_limit_local_total", "Requests judged by this replica alone, because the shared buckets are gone."
)
VALKEY_ERRORS = Counter("firewall_valkey_errors_total", "Calls to Valkey without an answer, by class.", ("error_type",))
DEPENDENCY_UP = Gauge("firewall_dependency_up", "1 while the last probe of the dependency succeeded.", ("dependency",))
CIRCUIT_STATE = Gauge("firewall_circuit_state", "0 closed, 1 half-open, 2 open.", ("dependency",))
SCHEMA_COMPATIBLE = Gauge(
    "firewall_schema_compatible", "1 until the database's schema is seen to be another than this code's."
)
CLOCK_OFFSET = Gauge(
    "firewall_clock_offset_seconds", "How far this replica's clock is ahead of the database's; readiness ends at 10."
)
READY = Gauge("firewall_ready", "1 while this replica wants traffic.")
POOL_CONNECTIONS = Gauge("firewall_pool_connections", "Connections of the pool.", ("state",))
WAITING_ROOM_WAITERS = Gauge("firewall_waiting_room_waiters", "Requests that wait for the database to come back.")
WAITING_ROOM_REFUSALS = Counter(
    "firewall_waiting_room_refusals_total", "Requests refused because the database is gone.", ("reason",)
)
ATTESTATION_FAILURES = Counter("firewall_attestation_failures_total", "Attestations that could not be made or renewed.")
LOG_STATUS = Gauge("firewall_log_status", "1 for what this replica does with the log.", ("status",))
LOG_QUARANTINED = Gauge(
    "firewall_log_quarantined", "1 while the log in the database does not extend what was published."
)
LOG_SIZE = Gauge("firewall_log_entries", "Entries of the log when this replica last looked.")
LOG_CHECKPOINT_LAG = Gauge(
    "firewall_log_checkpoint_lag_seconds", "Age of the oldest event that no signed checkpoint covers."
)
LOG_UNSEQUENCED = Gauge("firewall_log_unsequenced_events", "Events that have no number yet.")
LOG_ENTRIES = Counter("firewall_log_sequenced_total", "Events that this replica gave a number.")
LOG_CHECKPOINTS = Counter("firewall_log_checkpoints_total", "Checkpoints that this replica signed.")
LOG_SESSIONS_ENDED = Counter(
    "firewall_log_sessions_ended_total", "Sessions of the log's loop that ended by an error or by another sequencer."
)
SIMULATIONS = Counter("firewall_simulations_total", "Simulations, by verdict or by why there is none.", ("outcome",))
SIMULATION_DURATION = Histogram(
    "firewall_simulation_duration_seconds",
    "Time of one question to the sandbox, the wait for a worker included.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
SANDBOX_WORKERS = Gauge("firewall_sandbox_workers", "Worker processes of the sandbox that take requests.")
SANDBOX_WORKERS_LOST = Counter(
    "firewall_sandbox_workers_lost_total", "Worker processes that were killed or died, by reason.", ("reason",)
)
EVENT_LOOP_LAG = Gauge("firewall_event_loop_lag_seconds", "How late the event loop was in its last second.")


WORKER_OUTCOMES: Final = ("done", "idle", "unavailable", "refused", "failed")
DELIVERY_OUTCOMES: Final = (
    "received",
    "no-key",
    "host-not-allowed",
    "timeout",
    "unreachable",
    "status-1xx",
    "status-3xx",
    "status-4xx",
    "status-5xx",
)
WORKER_STEPS = Counter("firewall_worker_steps_total", "Steps of the work beside answering.", ("loop", "outcome"))
DELIVERIES = Counter("firewall_deliveries_total", "Snapshots sent to actuators, by what came of it.", ("outcome",))
APPLICATIONS_FAILED = Counter("firewall_applications_failed_total", "Applications given up, by reason.", ("reason",))


def route_class(route: str) -> str:
    """Return `api`, `health`, `docs` or `other`: latency objectives hold for `api` only."""
    for prefix, name in (("/api/", "api"), ("/health", "health"), ("/schema", "docs")):
        if route.startswith(prefix):
            return name
    return "other"


def status_class(status: int) -> str:
    """Return `2xx` and the like."""
    return f"{status // 100}xx"


def client_bucket(who: str) -> str:
    """Return the group of a client, a principal or an address: the same in every process."""
    return f"{zlib.crc32(who.encode()) % CLIENT_BUCKETS:02d}"


def count_client(who: str, *, is_refused: bool) -> None:
    """Count an answer for its client's group (FM12): no client gets a series of its own, however many there are."""
    bucket = client_bucket(who)
    CLIENT_REQUESTS.labels(bucket).inc()
    if is_refused:
        CLIENT_REFUSALS.labels(bucket).inc()


def initialise(routes: Iterable[tuple[str, str, Iterable[int]]]) -> None:
    """Show what is counted at 0: `routes` are (method, route, the statuses it documents)."""
    for method, route, statuses in routes:
        kind = route_class(route)
        for status in statuses:
            REQUEST_COUNT.labels(method, route, kind, str(status), status_class(status))
    for metric, values in _VALUES:
        for value in values:
            metric.labels(value)
    DEPENDENCY_UP.labels(DATABASE).set(0)
    for dependency in (DATABASE, VALKEY):
        CIRCUIT_STATE.labels(dependency).set(0)
    SCHEMA_COMPATIBLE.set(1)


_VALUES: Final[Sequence[tuple[Counter | Gauge, Sequence[str]]]] = (
    (DB_ERRORS, DB_ERROR_TYPES),
    (DB_CONNECT_ATTEMPTS, CONNECT_OUTCOMES),
    (AUTH_ATTEMPTS, ("valid", "invalid", "expired")),
    (RATE_LIMIT_REJECTIONS, ("address", "principal")),
    (VALKEY_ERRORS, VALKEY_ERROR_TYPES),
    (SIMULATIONS, SIMULATION_OUTCOMES),
    (SANDBOX_WORKERS_LOST, WORKER_LOSSES),
    (WAITING_ROOM_REFUSALS, REFUSAL_REASONS),
    (POOL_CONNECTIONS, ("open", "in_use", "idle")),
    (CLIENT_REQUESTS, [f"{number:02d}" for number in range(CLIENT_BUCKETS)]),
    (CLIENT_REFUSALS, [f"{number:02d}" for number in range(CLIENT_BUCKETS)]),
)
"""Metrics of one label, with its values."""
