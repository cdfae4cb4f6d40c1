"""Settings, read once at start, all problems reported at once (FM16).

`load` turns the environment into narrow frozen structs; nothing else in the service reads the environment or knows
pydantic. Refused: a value that is missing, blank, of the wrong type or out of range, a variable with our prefix that
does not exist (a typo), settings that contradict each other, a secret file that others may read. A message names the
variable and what is accepted, never a value: a secret pasted into the wrong variable must not reach a log.
"""

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from app.errors import InvalidSettings

PREFIX: Final = "FIREWALL_"
EXIT_INVALID_SETTINGS: Final = 78
"""EX_CONFIG of sysexits.h; a documented exit code (docs/adr/0006)."""
SECRET_BYTES_MAX: Final = 4096
PEPPER_BYTES_MIN: Final = 32
SEED_BYTES: Final = 32
TOKEN_KEYS_BYTES_MAX: Final = 65_536
PRODUCTION_PASSWORD_CHARACTERS_MIN: Final = 16
STATEMENT_MARGIN_SECONDS: Final = 0.2
"""A statement ends this long before the request's deadline, so that the server's own answer is what we report."""
READINESS_RED_SECONDS: Final = 2.0
"""FM01: readiness is red this soon after the database is lost; probe interval and time-out must fit in."""
KNOWN_BAD_SECRETS: Final = frozenset({"changeme", "firewall", "password", "postgres", "secret"})

PRINCIPAL: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")

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
    worker: WorkerPolicy = WorkerPolicy()
    delivery: DeliveryPolicy = DeliveryPolicy()
    """The 32-byte seed of the key that signs decisions and attestations; None: nothing is applied or attested."""


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


def _whole(minimum: int, maximum: int) -> Any:
    return Field(ge=minimum, le=maximum, description=f"a whole number from {minimum} to {maximum}")


def _seconds(minimum: float, maximum: float) -> Any:
    return Field(
        ge=minimum, le=maximum, allow_inf_nan=False, description=f"a number of seconds from {minimum:g} to {maximum:g}"
    )


def _word(pattern: str, meaning: str) -> Any:
    return Field(pattern=pattern, description=meaning)


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _split_limits(value: object) -> object:
    """Read `name=250,other=1000` as limits by name."""
    if not isinstance(value, str):
        return value
    limits = {}
    for part in value.split(","):
        name, separator, number = part.strip().partition("=")
        if not separator or name in limits or not PRINCIPAL.fullmatch(name) or not re.fullmatch(r"[0-9]{1,7}", number):
            raise ValueError("unfit")
        limits[name] = int(number)
    return limits


def _read_private(path: object, bytes_max: int) -> bytes:
    """Return what stands in a file of mode 0600, of which nothing is believed if others may write it."""
    try:
        with Path(str(path)).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(bytes_max + 1).rstrip(b"\r\n")
    except OSError:
        raise ValueError("unreadable") from None
    if not stat.S_ISREG(mode) or mode & 0o077 or not 0 < len(content) <= bytes_max:
        raise ValueError("unfit")
    return content


def read_token_keys(path: object) -> bytes:
    """Return the content of the file of token keys; `app.security.token_keys` knows what it means.

    Raises:
        ValueError: it is unreadable, empty, too large, or others may read it.
    """
    try:
        return _read_private(path, TOKEN_KEYS_BYTES_MAX)
    except ValueError:
        raise ValueError(f"wanted: {_TOKEN_KEYS_RULE}") from None


def _a_key_file(path: object) -> Path:
    read_token_keys(path)
    return Path(str(path))


def _read_secret(path: object) -> Secret:
    content = _read_private(path, SECRET_BYTES_MAX)
    if b"\0" in content or content.decode("utf-8", "replace").strip().lower() in KNOWN_BAD_SECRETS:
        raise ValueError("unfit")
    return Secret(content)


def _read_seed(path: object) -> Secret:
    """Read a key file: one line, standard base64 of the seed's 32 bytes."""
    try:
        seed = base64.b64decode(_read_secret(path).reveal(), validate=True)
    except binascii.Error:
        raise ValueError("unfit") from None
    if len(seed) != SEED_BYTES:
        raise ValueError("unfit")
    return Secret(seed)


def _in_a_folder(path: Path) -> Path:
    if not path.is_absolute() or path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError("unfit")
    return path


def _long_enough(pepper: Secret) -> Secret:
    if len(pepper.reveal()) < PEPPER_BYTES_MIN:
        raise ValueError("short")
    return pepper


_FILE_RULE: Final = "a readable file with mode 0600, not empty, not a well-known default"
_TOKEN_KEYS_RULE: Final = f"a readable file with mode 0600, not empty, at most {TOKEN_KEYS_BYTES_MAX} bytes"
Host = Annotated[str, _word(r"^[A-Za-z0-9._:\-\[\]]{1,253}$", "a host name or an IP address")]
Port = Annotated[int, _whole(1, 65535)]
Role = Annotated[str, _word(r"^[a-z_][a-z0-9_]{0,62}$", "lower-case letters, digits and _, at most 63")]
SecretFile = Annotated[Any, BeforeValidator(_read_secret), Field(description=_FILE_RULE)]
Pepper = Annotated[
    Any,
    BeforeValidator(_read_secret),
    AfterValidator(_long_enough),
    Field(description=f"{_FILE_RULE}, at least {PEPPER_BYTES_MIN} bytes"),
]
SeedFile = Annotated[
    Any, BeforeValidator(_read_seed), Field(description=f"{_FILE_RULE}: standard base64 of a {SEED_BYTES}-byte seed")
]
Origin = Annotated[
    str,
    _word(r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$", "the log's name, like a URL without scheme: firewall.example/log"),
]
FileInFolder = Annotated[
    Path, AfterValidator(_in_a_folder), Field(description="an absolute path in a folder that can be written to")
]
TokenKeysFile = Annotated[Path, BeforeValidator(_a_key_file), Field(description=_TOKEN_KEYS_RULE)]
Party = Annotated[
    str, _word(r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$", "the exact text that tokens say, such as an https address")
]
RatePerMinute = Annotated[int, _whole(1, 1_000_000)]
Limits = Annotated[
    dict[str, RatePerMinute],
    NoDecode,
    BeforeValidator(_split_limits),
    Field(max_length=100, description="principals and requests a minute: name=250,other=1000, 1 to 1000000 each"),
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:\-\[\]]{1,253}$")]
Names = Annotated[
    tuple[Name, ...],
    NoDecode,
    BeforeValidator(_split),
    Field(min_length=1, max_length=100, description="host names or addresses separated by commas"),
]
NamesIfAny = Annotated[
    tuple[Name, ...],
    NoDecode,
    BeforeValidator(_split),
    Field(max_length=100, description="host names or addresses separated by commas"),
]


class _Environment(BaseSettings):
    """Reads the mapping given as `environ`, not the process's environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

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


class _DatabaseEnvironment(_Environment):
    database_host: Host
    database_port: Port = 5432
    database_name: Role = "firewall"


class _ServiceEnvironment(_DatabaseEnvironment):
    environment: Annotated[Environment, Field(description="development, staging or production")]
    replica: Annotated[str, _word(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "a pod name: letters, digits and -")]
    host: Host = "127.0.0.1"
    port: Port = 8000
    metrics_port: Port = 9000
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Field(description="debug … error")] = "info"
    allowed_hosts: Names = ("localhost", "127.0.0.1", "[::1]")
    trusted_proxies: Names = ("127.0.0.1", "::1")
    shutdown_drain_seconds: Annotated[float, _seconds(0, 60)] = 2.0
    shutdown_grace_seconds: Annotated[float, _seconds(0.5, 60)] = 10.0
    liveness_lag_seconds: Annotated[float, _seconds(1, 300)] = 30.0

    database_user: Role = "firewall_app"
    database_password_file: SecretFile
    database_connect_timeout_seconds: Annotated[int, _whole(2, 10)] = 2
    database_backoff_initial_seconds: Annotated[float, _seconds(0.1, 30)] = 1.0
    database_backoff_max_seconds: Annotated[float, _seconds(0.1, 30)] = 30.0
    query_timeout_seconds: Annotated[float, _seconds(0.1, 300)] = 30.0
    lock_timeout_seconds: Annotated[float, _seconds(0.05, 60)] = 1.0
    pool_connections_min: Annotated[int, _whole(1, 100)] = 2
    pool_connections_max: Annotated[int, _whole(1, 100)] = 8
    pool_wait_seconds: Annotated[float, _seconds(0.05, 30)] = 1.0
    breaker_failures: Annotated[int, _whole(1, 100)] = 5
    breaker_cooldown_seconds: Annotated[float, _seconds(0.05, 60)] = 1.0
    waiting_room_waiters_max: Annotated[int, _whole(1, 10_000)] = 64
    waiting_room_wait_seconds: Annotated[float, _seconds(0.05, 30)] = 2.0
    health_probe_interval_seconds: Annotated[float, _seconds(0.05, 10)] = 1.0
    health_probe_timeout_seconds: Annotated[float, _seconds(0.05, 10)] = 0.8

    request_deadline_seconds: Annotated[float, _seconds(0.5, 330)] = 3.0
    body_bytes_max: Annotated[int, _whole(1024, 1_048_576)] = 1_048_576
    api_key_pepper_file: Pepper
    api_key_fresh_seconds: Annotated[float, _seconds(0, 3600)] = 30.0
    api_key_stale_seconds_max: Annotated[float, _seconds(0, 86_400)] = 900.0
    api_key_cache_entries_max: Annotated[int, _whole(1, 1_000_000)] = 10_000

    token_keys_file: TokenKeysFile | None = None
    token_issuer: Party | None = None
    token_audience: Party | None = None
    token_cache_entries_max: Annotated[int, _whole(1, 1_000_000)] = 10_000
    # FM06: 250 requests a minute and client, all of them at once if they come after a quiet minute.
    rate_limit_per_minute: RatePerMinute = 250
    rate_limit_burst: Annotated[int, _whole(1, 1_000_000)] = 250
    rate_limit_address_per_minute: RatePerMinute = 250
    rate_limit_address_burst: Annotated[int, _whole(1, 1_000_000)] = 250
    rate_limit_principals: Limits = Field(default_factory=dict)
    rate_limit_replicas: Annotated[int, _whole(1, 1000)] = 1
    rate_limit_entries_max: Annotated[int, _whole(100, 1_000_000)] = 10_000
    valkey_host: Host | None = None
    valkey_port: Port = 6379
    valkey_password_file: SecretFile | None = None
    valkey_timeout_seconds: Annotated[float, _seconds(0.01, 1)] = 0.1

    service_key_file: SeedFile | None = None
    actuator_key_file: Pepper | None = None
    actuator_hosts: NamesIfAny = ()
    worker_pause_seconds: Annotated[float, _seconds(0.02, 60)] = 0.5
    worker_deadline_seconds: Annotated[float, _seconds(1, 60)] = 5.0
    delivery_timeout_seconds: Annotated[float, _seconds(0.1, 30)] = 3.0
    delivery_attempts_max: Annotated[int, _whole(1, 100)] = 8
    delivery_observation_seconds: Annotated[float, _seconds(0.1, 600)] = 10.0
    log_key_file: SeedFile | None = None
    log_origin: Origin | None = None
    log_watermark_file: FileInFolder | None = None
    log_batch_seconds: Annotated[float, _seconds(0.01, 2)] = 0.2
    log_checkpoint_seconds: Annotated[float, _seconds(0.05, 2)] = 1.0


class _MigratorEnvironment(_DatabaseEnvironment):
    migrator_user: Role = "firewall_owner"
    migrator_password_file: SecretFile
    migration_lock_wait_seconds: Annotated[float, _seconds(0, 600)] = 30.0


class _KeyCreationEnvironment(_DatabaseEnvironment):
    migrator_user: Role = "firewall_owner"
    migrator_password_file: SecretFile
    api_key_pepper_file: Pepper


class _LogRecoveryEnvironment(_KeyCreationEnvironment):
    log_origin: Origin
    log_watermark_file: FileInFolder


_MODELS: Final = (_ServiceEnvironment, _MigratorEnvironment, _KeyCreationEnvironment)
NAMES: Final = frozenset(PREFIX + field.upper() for model in _MODELS for field in model.model_fields)
"""Every variable of ours, of the service and its commands: all are started with one environment."""

Read = TypeVar("Read", bound=_Environment)


def _contradictions(read: _ServiceEnvironment) -> list[str]:
    """Return what is wrong together although each is right alone."""
    rules: list[tuple[bool, str, str]] = [
        (read.port != read.metrics_port, "METRICS_PORT", "another port than FIREWALL_PORT"),
        (
            read.pool_connections_min <= read.pool_connections_max,
            "POOL_CONNECTIONS_MIN",
            "at most FIREWALL_POOL_CONNECTIONS_MAX",
        ),
        (
            read.database_backoff_initial_seconds <= read.database_backoff_max_seconds,
            "DATABASE_BACKOFF_INITIAL_SECONDS",
            "at most FIREWALL_DATABASE_BACKOFF_MAX_SECONDS",
        ),
        (
            read.waiting_room_wait_seconds < read.request_deadline_seconds,
            "WAITING_ROOM_WAIT_SECONDS",
            "less than FIREWALL_REQUEST_DEADLINE_SECONDS",
        ),
        (
            read.pool_wait_seconds < read.request_deadline_seconds,
            "POOL_WAIT_SECONDS",
            "less than FIREWALL_REQUEST_DEADLINE_SECONDS",
        ),
        (
            read.lock_timeout_seconds < min(read.query_timeout_seconds, _statement_budget(read)),
            "LOCK_TIMEOUT_SECONDS",
            "less than FIREWALL_QUERY_TIMEOUT_SECONDS and FIREWALL_REQUEST_DEADLINE_SECONDS - 0.2",
        ),
        (
            read.health_probe_interval_seconds + read.health_probe_timeout_seconds <= READINESS_RED_SECONDS,
            "HEALTH_PROBE_TIMEOUT_SECONDS",
            f"with FIREWALL_HEALTH_PROBE_INTERVAL_SECONDS at most {READINESS_RED_SECONDS:g} s together",
        ),
        (
            read.api_key_fresh_seconds <= read.api_key_stale_seconds_max,
            "API_KEY_FRESH_SECONDS",
            "at most FIREWALL_API_KEY_STALE_SECONDS_MAX",
        ),
        (
            len({one is None for one in (read.token_keys_file, read.token_issuer, read.token_audience)}) == 1,
            "TOKEN_ISSUER",
            "FIREWALL_TOKEN_KEYS_FILE, FIREWALL_TOKEN_ISSUER and FIREWALL_TOKEN_AUDIENCE, all three or none",
        ),
        (
            read.valkey_timeout_seconds < read.request_deadline_seconds,
            "VALKEY_TIMEOUT_SECONDS",
            "less than FIREWALL_REQUEST_DEADLINE_SECONDS",
        ),
        (
            read.valkey_host is not None or read.valkey_password_file is None,
            "VALKEY_HOST",
            "set when FIREWALL_VALKEY_PASSWORD_FILE is",
        ),
        (
            len({one is None for one in (read.log_key_file, read.log_origin, read.log_watermark_file)}) == 1,
            "LOG_ORIGIN",
            "FIREWALL_LOG_KEY_FILE, FIREWALL_LOG_ORIGIN and FIREWALL_LOG_WATERMARK_FILE, all three or none",
        ),
    ]
    if read.environment == "production":
        password = read.database_password_file.reveal()
        rules += [
            (read.log_level != "debug", "LOG_LEVEL", "not debug in production"),
            (
                len(password) >= PRODUCTION_PASSWORD_CHARACTERS_MIN,
                "DATABASE_PASSWORD_FILE",
                f"at least {PRODUCTION_PASSWORD_CHARACTERS_MIN} characters in production",
            ),
        ]
    broken = [(name, accepted) for holds, name, accepted in rules if not holds]
    return [f"{PREFIX}{name}: contradicts another setting; accepted: {accepted}" for name, accepted in broken]


def _statement_budget(read: _ServiceEnvironment) -> float:
    return read.request_deadline_seconds - STATEMENT_MARGIN_SECONDS


def _describe(error: ValidationError, model: type[_Environment]) -> list[str]:
    kinds = {"missing": "missing", "extra_forbidden": "unknown"}
    problems = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(detail["loc"][0])
        accepted = model.model_fields[field].description
        kind = kinds.get(detail["type"], "not acceptable")
        problems[field] = f"{PREFIX}{field.upper()}: {kind}; accepted: {accepted}"
    return list(problems.values())


def _read(model: type[Read], environ: Mapping[str, str]) -> Read:
    """Read one model; raise `InvalidSettings` with every problem, unknown names of ours included."""
    unknown = sorted(name for name in environ if name.upper().startswith(PREFIX) and name not in NAMES)
    problems = [f"{_printable(name)}: unknown; accepted: a name from service/README.md" for name in unknown]
    ours = {name: environ[name] for name in environ if name in NAMES}
    try:
        read = model(environ=ours)  # type: ignore[call-arg]
    except ValidationError as error:
        raise InvalidSettings([*problems, *_describe(error, model)]) from None
    if isinstance(read, _ServiceEnvironment):
        problems += _contradictions(read)
    if problems:
        raise InvalidSettings(problems)
    return read


def _printable(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "?", name)[:80]


def process_environment() -> Mapping[str, str]:
    """Return this process's environment; the only place that looks at it."""
    return os.environ  # noqa: TID251 - this is settings.py


def load(environ: Mapping[str, str]) -> Settings:
    """Return the service's settings.

    Raises:
        InvalidSettings: with one line for each problem.
    """
    read = _read(_ServiceEnvironment, environ)
    return Settings(
        environment=read.environment,
        server=ServerPolicy(
            host=read.host,
            port=read.port,
            metrics_port=read.metrics_port,
            drain_seconds=read.shutdown_drain_seconds,
            grace_seconds=read.shutdown_grace_seconds,
            log_level=read.log_level,
        ),
        http=HttpPolicy(
            replica=read.replica,
            request_deadline_seconds=read.request_deadline_seconds,
            body_bytes_max=read.body_bytes_max,
            allowed_hosts=read.allowed_hosts,
            trusted_proxies=read.trusted_proxies,
            liveness_lag_seconds=read.liveness_lag_seconds,
        ),
        database=_address(read, user=read.database_user, password=read.database_password_file),
        database_policy=DatabasePolicy(
            connect_timeout_seconds=read.database_connect_timeout_seconds,
            statement_timeout_seconds=min(read.query_timeout_seconds, _statement_budget(read)),
            lock_timeout_seconds=read.lock_timeout_seconds,
            connections_min=read.pool_connections_min,
            connections_max=read.pool_connections_max,
            pool_wait_seconds=read.pool_wait_seconds,
            backoff_initial_seconds=read.database_backoff_initial_seconds,
            backoff_max_seconds=read.database_backoff_max_seconds,
            breaker_failures=read.breaker_failures,
            breaker_cooldown_seconds=read.breaker_cooldown_seconds,
            waiters_max=read.waiting_room_waiters_max,
            wait_seconds=read.waiting_room_wait_seconds,
            probe_interval_seconds=read.health_probe_interval_seconds,
            probe_timeout_seconds=read.health_probe_timeout_seconds,
        ),
        keys=KeyPolicy(
            pepper=read.api_key_pepper_file,
            fresh_seconds=read.api_key_fresh_seconds,
            stale_seconds_max=read.api_key_stale_seconds_max,
            entries_max=read.api_key_cache_entries_max,
        ),
        tokens=_tokens(read),
        rate_limit=_rate_limit(read),
        log=_log(read),
        service_seed=read.service_key_file,
        worker=WorkerPolicy(pause_seconds=read.worker_pause_seconds, deadline_seconds=read.worker_deadline_seconds),
        delivery=DeliveryPolicy(
            key=read.actuator_key_file,
            hosts=read.actuator_hosts,
            timeout_seconds=read.delivery_timeout_seconds,
            attempts_max=read.delivery_attempts_max,
            # Whoever takes a delivery answers for it so long: its sending, and what is written before and after.
            lease_seconds=read.delivery_timeout_seconds + 2 * read.worker_deadline_seconds,
            observation_seconds=read.delivery_observation_seconds,
        ),
    )


def _tokens(read: _ServiceEnvironment) -> TokenPolicy | None:
    if read.token_keys_file is None or read.token_issuer is None or read.token_audience is None:
        return None
    return TokenPolicy(
        keys_file=read.token_keys_file,
        issuer=read.token_issuer,
        audience=read.token_audience,
        entries_max=read.token_cache_entries_max,
    )


def _rate_limit(read: _ServiceEnvironment) -> RateLimitPolicy:
    valkey = None
    if read.valkey_host is not None:
        valkey = ValkeyAddress(host=read.valkey_host, port=read.valkey_port, password=read.valkey_password_file)
    return RateLimitPolicy(
        principal=RateLimit(read.rate_limit_per_minute, read.rate_limit_burst),
        address=RateLimit(read.rate_limit_address_per_minute, read.rate_limit_address_burst),
        # A raised limit is meant for a client known to be well; a minute's worth at once is its burst.
        principals={name: RateLimit(number, number) for name, number in read.rate_limit_principals.items()},
        replicas=read.rate_limit_replicas,
        entries_max=read.rate_limit_entries_max,
        valkey=valkey,
        valkey_policy=ValkeyPolicy(timeout_seconds=read.valkey_timeout_seconds),
    )


def _log(read: _ServiceEnvironment) -> LogPolicy | None:
    if read.log_key_file is None or read.log_origin is None or read.log_watermark_file is None:
        return None
    return LogPolicy(
        seed=read.log_key_file,
        origin=read.log_origin,
        watermark=read.log_watermark_file,
        batch_seconds=read.log_batch_seconds,
        checkpoint_seconds=read.log_checkpoint_seconds,
    )


def load_migrator(environ: Mapping[str, str]) -> MigratorSettings:
    """Return the settings of the migration commands.

    Raises:
        InvalidSettings: with one line for each problem.
    """
    read = _read(_MigratorEnvironment, environ)
    return MigratorSettings(
        database=_address(read, user=read.migrator_user, password=read.migrator_password_file),
        lock_wait_seconds=read.migration_lock_wait_seconds,
    )


def load_key_creation(environ: Mapping[str, str]) -> KeyCreationSettings:
    """Return the settings of the command that creates API keys.

    Raises:
        InvalidSettings: with one line for each problem.
    """
    read = _read(_KeyCreationEnvironment, environ)
    return KeyCreationSettings(
        database=_address(read, user=read.migrator_user, password=read.migrator_password_file),
        pepper=read.api_key_pepper_file,
    )


def load_log_recovery(environ: Mapping[str, str]) -> LogRecoverySettings:
    """Return the settings of the command that recovers the log.

    Raises:
        InvalidSettings: with one line for each problem.
    """
    read = _read(_LogRecoveryEnvironment, environ)
    return LogRecoverySettings(
        database=_address(read, user=read.migrator_user, password=read.migrator_password_file),
        pepper=read.api_key_pepper_file,
        origin=read.log_origin,
        watermark=read.log_watermark_file,
    )


def _address(read: _DatabaseEnvironment, *, user: str, password: Secret) -> DatabaseAddress:
    return DatabaseAddress(
        host=read.database_host, port=read.database_port, name=read.database_name, user=user, password=password
    )
