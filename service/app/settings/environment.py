"""Every setting: its name, its default, what it accepts and what it is for; the only list of them.

A field `pool_wait_seconds` is the variable `FIREWALL_POOL_WAIT_SECONDS`. The text below a field is its meaning, which
`python -m app.settings reference` puts into service/README.md. No default where a wrong guess would be unsafe: who we
are, where the database is, every secret (FM16: "sensible defaults where safe").
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from app.settings.kinds import (
    Addresses,
    FileInFolder,
    Host,
    Names,
    NamesIfAny,
    Origin,
    Party,
    Pepper,
    Port,
    PrincipalLimits,
    RatePerMinute,
    Role,
    SecretFile,
    SeedFile,
    TokenKeysFile,
    seconds,
    whole,
    word,
)
from app.settings.policies import Environment

PREFIX: Final = "FIREWALL_"


class OurEnvironment(BaseSettings):
    """Reads the mapping given as `environ`, not the process's environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the given mapping only."""
        del env_settings, dotenv_settings, file_secret_settings
        return (_MappingSource(settings_cls, init_settings.init_kwargs["environ"]),)  # type: ignore[attr-defined]


class _MappingSource(EnvSettingsSource):
    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items()}


class DatabaseEnvironment(OurEnvironment):
    """What the service and all its commands read."""

    database_host: Host
    database_port: Port = 5432
    database_name: Role = "firewall"


class ServiceEnvironment(DatabaseEnvironment):
    """What `python -m app` reads."""

    environment: Annotated[Environment, Field(title="development, staging or production")]
    """production is stricter about secrets and logs"""
    replica: Annotated[str, word(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "a pod name: letters, digits and -")]
    host: Host = "127.0.0.1"
    """to listen on"""
    port: Port = 8000
    """the API"""
    metrics_port: Port = 9000
    """`/metrics`; another port than the API's"""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Field(title="debug, info, warning or error")] = (
        "info"
    )
    """no debug in production"""
    allowed_hosts: Names = ("localhost", "127.0.0.1", "[::1]")
    """Host headers that are ours; probes are exempt"""
    trusted_proxies: Addresses = ("127.0.0.1", "::1")
    """peers whose X-Forwarded-For is believed, its last entry"""
    shutdown_drain_seconds: Annotated[float, seconds(0, 60)] = 2.0
    """serve on after readiness turned red"""
    shutdown_grace_seconds: Annotated[float, seconds(0.5, 60)] = 10.0
    """finish what is under way"""
    liveness_lag_seconds: Annotated[float, seconds(1, 300)] = 30.0
    """an event loop later than this is not alive"""

    database_user: Role = "firewall_app"
    """a role without DDL"""
    database_password_file: SecretFile
    """in production at least 16 characters, not one of them over and over"""
    database_connect_timeout_seconds: Annotated[int, whole(2, 10)] = 2
    database_backoff_initial_seconds: Annotated[float, seconds(0.1, 30)] = 1.0
    """at most the next one"""
    database_backoff_max_seconds: Annotated[float, seconds(0.1, 30)] = 30.0
    query_timeout_seconds: Annotated[float, seconds(0.1, 300)] = 30.0
    """a statement's ceiling (FM02); the request's deadline less 0.2 counts too"""
    lock_timeout_seconds: Annotated[float, seconds(0.05, 60)] = 1.0
    """less than the statement's"""
    pool_connections_min: Annotated[int, whole(1, 100)] = 2
    """kept open; one more belongs to the health probe"""
    pool_connections_max: Annotated[int, whole(1, 100)] = 8
    pool_wait_seconds: Annotated[float, seconds(0.05, 30)] = 1.0
    """for a free connection; less than the request's deadline"""
    breaker_failures: Annotated[int, whole(1, 100)] = 5
    """in a row"""
    breaker_cooldown_seconds: Annotated[float, seconds(0.05, 60)] = 1.0
    """before a call may probe; the driver does not wait for it"""
    waiting_room_waiters_max: Annotated[int, whole(1, 10_000)] = 64
    waiting_room_wait_seconds: Annotated[float, seconds(0.05, 30)] = 2.0
    """less than the request's deadline"""
    health_probe_interval_seconds: Annotated[float, seconds(0.05, 10)] = 1.0
    """with the next one at most 2 together"""
    health_probe_timeout_seconds: Annotated[float, seconds(0.05, 10)] = 0.8

    request_deadline_seconds: Annotated[float, seconds(0.5, 330)] = 3.0
    """every answer comes by then"""
    body_bytes_max: Annotated[int, whole(1024, 1_048_576)] = 1_048_576
    api_key_pepper_file: Pepper
    """changing it invalidates every key"""
    api_key_fresh_seconds: Annotated[float, seconds(0, 3600)] = 30.0
    """a verified key is believed without asking; a revoked one at most so long"""
    api_key_stale_seconds_max: Annotated[float, seconds(0, 86_400)] = 900.0
    """the same while the database is gone"""
    api_key_cache_entries_max: Annotated[int, whole(1, 1_000_000)] = 10_000

    token_keys_file: TokenKeysFile | None = None
    """the keys that sign tokens; the three of tokens together or not at all"""
    token_issuer: Party | None = None
    """what `iss` must be, to the letter"""
    token_audience: Party | None = None
    """what `aud` must be or hold"""
    token_cache_entries_max: Annotated[int, whole(1, 1_000_000)] = 10_000
    """good signatures that are remembered"""

    rate_limit_per_minute: RatePerMinute = 250
    """a principal's requests a minute (FM06)"""
    rate_limit_burst: RatePerMinute = 250
    """as many at once, after a quiet time"""
    rate_limit_address_per_minute: RatePerMinute = 250
    """an address's requests without a known key"""
    rate_limit_address_burst: RatePerMinute = 250
    rate_limit_principals: PrincipalLimits = Field(default_factory=dict)
    """limits of single principals, rate and burst"""
    rate_limit_replicas: Annotated[int, whole(1, 1000)] = 1
    """among how many a limit is divided while Valkey is gone"""
    rate_limit_entries_max: Annotated[int, whole(100, 1_000_000)] = 10_000
    """clients that a replica remembers"""
    valkey_host: Host | None = None
    """none: each replica counts alone"""
    valkey_port: Port = 6379
    valkey_password_file: SecretFile | None = None
    valkey_timeout_seconds: Annotated[float, seconds(0.01, 1)] = 0.1
    """what a silent Valkey costs a request, once"""

    service_key_file: SeedFile | None = None
    """signs decisions and attestations (Ed25519); without it nothing is applied or attested"""
    actuator_key_file: Pepper | None = None
    """each target's delivery key is derived from it; without it actuators get nothing"""
    actuator_hosts: NamesIfAny = ()
    """host names, or host:port, that actuators may be at"""
    delivery_timeout_seconds: Annotated[float, seconds(0.1, 30)] = 3.0
    """one attempt"""
    delivery_attempts_max: Annotated[int, whole(1, 100)] = 8
    """then the application has failed"""
    delivery_observation_seconds: Annotated[float, seconds(0.1, 600)] = 10.0
    """what was received and not observed by then is sent again"""
    worker_pause_seconds: Annotated[float, seconds(0.02, 60)] = 0.5
    """rest of a loop that found nothing to do"""
    worker_deadline_seconds: Annotated[float, seconds(1, 60)] = 5.0
    """one step of a loop"""
    idempotency_kept_seconds: Annotated[float, seconds(3600, 2_592_000)] = 86_400.0
    """how long the answer to an Idempotency-Key is kept; it is deleted soon after, and the key may be used again"""
    log_key_file: SeedFile | None = None
    """signs checkpoints (Ed25519); the three of the log together or not at all"""
    log_origin: Origin | None = None
    log_watermark_file: FileInFolder | None = None
    """the high-water mark; in a folder outside the database's backups, shared by all replicas"""
    log_batch_seconds: Annotated[float, seconds(0.01, 2)] = 0.2
    """between two batches of at most 256 events"""
    log_checkpoint_seconds: Annotated[float, seconds(0.05, 2)] = 1.0
    """between two looks, and two signatures"""


class _OwnerEnvironment(DatabaseEnvironment):
    migrator_user: Role = "firewall_owner"
    """commands only"""
    migrator_password_file: SecretFile
    """commands only"""


class MigratorEnvironment(_OwnerEnvironment):
    """What `app.migrations.*` read."""

    migration_lock_wait_seconds: Annotated[float, seconds(0, 600)] = 30.0
    """commands only: for another runner"""


class KeyCreationEnvironment(_OwnerEnvironment):
    """What `app.security.api_keys` reads."""

    api_key_pepper_file: Pepper


class LogRecoveryEnvironment(KeyCreationEnvironment):
    """What `app.workflow.log_recovery` reads."""

    log_origin: Origin
    log_watermark_file: FileInFolder


MODELS: Final = (ServiceEnvironment, MigratorEnvironment, KeyCreationEnvironment, LogRecoveryEnvironment)
NAMES: Final = frozenset(PREFIX + field.upper() for model in MODELS for field in model.model_fields)
"""Every variable of ours, of the service and its commands: all are started with one environment."""
