"""What the service was told, as narrow frozen structs: all that its other parts ever see of the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Environment = Literal["development", "staging", "production"]


class Secret:
    """Bytes that never show in a repr, a log line or a traceback's locals."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def reveal(self) -> bytes:
        """Return the bytes; call it only where they are used."""
        return self._content

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseAddress:
    """Where PostgreSQL is and who we are there."""

    host: str
    port: int
    name: str
    user: str
    password: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabasePolicy:
    """How the service treats its database; all lengths in seconds (FM01, FM02)."""

    connect_timeout_seconds: int = 2
    statement_timeout_seconds: float = 2.8
    lock_timeout_seconds: float = 1.0
    connections_min: int = 2
    connections_max: int = 8
    pool_wait_seconds: float = 1.0
    backoff_initial_seconds: float = 1.0
    backoff_max_seconds: float = 30.0
    breaker_failures: int = 5
    breaker_cooldown_seconds: float = 1.0
    waiters_max: int = 64
    wait_seconds: float = 2.0
    probe_interval_seconds: float = 1.0
    probe_timeout_seconds: float = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """API keys: the pepper, and how long a verified key is believed without asking the database."""

    pepper: Secret
    fresh_seconds: float = 30.0
    stale_seconds_max: float = 900.0
    entries_max: int = 10_000


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: what is added a minute, and what it holds at most (FM06)."""

    per_minute: int = 250
    burst: int = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class ValkeyAddress:
    """Where the shared buckets are."""

    host: str
    port: int
    password: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValkeyPolicy:
    """How long a request waits for Valkey, and how many do at once."""

    timeout_seconds: float = 0.1
    connections_max: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitPolicy:
    """How fast clients may ask (FM06)."""

    principal: RateLimit = RateLimit()
    address: RateLimit = RateLimit()
    """For requests whose credentials nobody has verified yet."""
    principals: Mapping[str, RateLimit] = field(default_factory=dict)
    """Of single principals, instead of `principal`."""
    replicas: int = 1
    """Among how many a limit is divided while Valkey is gone."""
    entries_max: int = 10_000
    valkey: ValkeyAddress | None = None
    """None: each replica counts alone."""
    valkey_policy: ValkeyPolicy = ValkeyPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPolicy:
    """JSON Web Tokens: whose we take, and how many good signatures are remembered (FM05)."""

    keys_file: Path
    issuer: str
    audience: str
    entries_max: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPolicy:
    """What the HTTP side accepts and promises."""

    replica: str
    request_deadline_seconds: float = 3.0
    body_bytes_max: int = 1_048_576
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    liveness_lag_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """The log that this service keeps: who it is, what it signs with, where its high-water mark lies (FM15)."""

    seed: Secret
    """The 32-byte seed of the Ed25519 key."""
    origin: str
    watermark: Path
    batch_entries_max: int = 256
    batch_seconds: float = 0.2
    checkpoint_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPolicy:
    """Where the process listens and how it stops."""

    host: str
    port: int
    metrics_port: int
    drain_seconds: float
    grace_seconds: float
    log_level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPolicy:
    """The work beside answering requests: how long one step may take, and the rest after one without work."""

    pause_seconds: float = 0.5
    deadline_seconds: float = 5.0
    idempotency_kept_seconds: float = 86_400.0
    """How long the answer to an Idempotency-Key is kept, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """How snapshots reach their actuators; all lengths in seconds."""

    key: Secret | None = None
    """Each target's key is derived from it; None: nothing is delivered to an actuator."""
    hosts: tuple[str, ...] = ()
    timeout_seconds: float = 3.0
    attempts_max: int = 8
    lease_seconds: float = 15.0
    observation_seconds: float = 10.0
    """What was received and not observed by then is sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the service was told, in parts for those who need them."""

    environment: Environment
    server: ServerPolicy
    http: HttpPolicy
    database: DatabaseAddress
    database_policy: DatabasePolicy
    keys: KeyPolicy
    tokens: TokenPolicy | None = None
    """None: no token is good."""
    rate_limit: RateLimitPolicy = RateLimitPolicy()
    log: LogPolicy | None = None
    """None: no log is kept; its metrics say so."""
    service_seed: Secret | None = None
    """The 32-byte seed of the key that signs decisions and attestations; None: nothing is applied or attested."""
    worker: WorkerPolicy = WorkerPolicy()
    delivery: DeliveryPolicy = DeliveryPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class MigratorSettings:
    """What `app.migrations.*` needs: the owner's address and how long to wait for another runner."""

    database: DatabaseAddress
    lock_wait_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCreationSettings:
    """What `app.security.api_keys create` needs: the owner's address and the pepper."""

    database: DatabaseAddress
    pepper: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecoverySettings:
    """What `app.workflow.log_recovery` needs: the owner's address, the pepper, where the high-water mark lies."""

    database: DatabaseAddress
    pepper: Secret
    origin: str
    watermark: Path
