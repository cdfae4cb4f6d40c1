"""Reads the environment once and turns it into policies, or says everything that is wrong with it (FM16).

Refused: a value that is missing, blank, of the wrong type or out of range, a variable with our prefix that does not
exist (a typo), settings that contradict each other, a secret file that others may read or that holds a default, a host
that does not exist. A message names the variable and what is accepted, never a value.
"""

import difflib
import os
import re
from collections.abc import Mapping
from typing import Final, TypeVar

from pydantic import ValidationError

from app.errors import InvalidSettings, SettingProblem
from app.settings.contradictions import Resolve, contradictions, resolves, statement_budget, unresolvable
from app.settings.environment import (
    NAMES,
    PREFIX,
    DatabaseEnvironment,
    KeyCreationEnvironment,
    LogRecoveryEnvironment,
    MigratorEnvironment,
    OurEnvironment,
    ServiceEnvironment,
)
from app.settings.kinds import Unfit
from app.settings.policies import (
    DatabaseAddress,
    DatabasePolicy,
    DeliveryPolicy,
    HttpPolicy,
    KeyCreationSettings,
    KeyPolicy,
    LogPolicy,
    LogRecoverySettings,
    MigratorSettings,
    RateLimit,
    RateLimitPolicy,
    Secret,
    ServerPolicy,
    Settings,
    TokenPolicy,
    ValkeyAddress,
    ValkeyPolicy,
    WorkerPolicy,
)
from app.settings.shown import accepted

ALIKE_MIN: Final = 0.8
"""How alike (difflib's ratio) a name of ours must be to be suggested for an unknown one."""

Read = TypeVar("Read", bound=DatabaseEnvironment)


def process_environment() -> Mapping[str, str]:
    """Return this process's environment; the only place that looks at it."""
    return os.environ  # noqa: TID251 - this is where the settings are read


def read_environment(model: type[Read], environ: Mapping[str, str], *, resolve: Resolve = resolves) -> Read:
    """Read one model.

    Raises:
        InvalidSettings: with every problem, unknown names of ours included.
    """
    problems = [_unknown(name) for name in sorted(environ) if name.upper().startswith(PREFIX) and name not in NAMES]
    ours = {name: environ[name] for name in environ if name in NAMES}
    try:
        read = model(environ=ours)  # type: ignore[call-arg]
    except ValidationError as error:
        raise InvalidSettings([*problems, *_described(error, model, ours)]) from None
    problems += unresolvable(read, resolve)
    if isinstance(read, ServiceEnvironment):
        problems += contradictions(read)
    if problems:
        raise InvalidSettings(problems)
    return read


def _unknown(name: str) -> SettingProblem:
    alike = difflib.get_close_matches(name.upper(), sorted(NAMES), n=1, cutoff=ALIKE_MIN)
    suggestion = f", perhaps {alike[0]}" if alike else ""
    return SettingProblem(
        re.sub(r"[^A-Za-z0-9_]", "?", name)[:80], "unknown", f"a name from service/README.md{suggestion}"
    )


def _described(error: ValidationError, model: type[OurEnvironment], environ: Mapping[str, str]) -> list[SettingProblem]:
    """Return one problem for each field; what pydantic says of the value itself is left out."""
    problems = {}
    for detail in error.errors(include_url=False, include_input=False):
        field = str(detail["loc"][0])
        name = PREFIX + field.upper()
        if detail["type"] == "missing":
            what = "missing"
        elif not environ.get(name, "").strip():
            what = "blank"
        else:
            raised = detail.get("ctx", {}).get("error")
            what = str(raised) if isinstance(raised, Unfit) else "not acceptable"
        problems[field] = SettingProblem(name, what, accepted(model.model_fields[field]))
    return list(problems.values())


def load(environ: Mapping[str, str], *, resolve: Resolve = resolves) -> Settings:
    """Return the service's settings.

    Raises:
        InvalidSettings: with one line for each problem.
    """
    read = read_environment(ServiceEnvironment, environ, resolve=resolve)
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
            statement_timeout_seconds=min(read.query_timeout_seconds, statement_budget(read)),
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
        worker=WorkerPolicy(
            pause_seconds=read.worker_pause_seconds,
            deadline_seconds=read.worker_deadline_seconds,
            idempotency_kept_seconds=read.idempotency_kept_seconds,
        ),
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


def _tokens(read: ServiceEnvironment) -> TokenPolicy | None:
    if read.token_keys_file is None or read.token_issuer is None or read.token_audience is None:
        return None
    return TokenPolicy(
        keys_file=read.token_keys_file,
        issuer=read.token_issuer,
        audience=read.token_audience,
        entries_max=read.token_cache_entries_max,
    )


def _rate_limit(read: ServiceEnvironment) -> RateLimitPolicy:
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


def _log(read: ServiceEnvironment) -> LogPolicy | None:
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
    read = read_environment(MigratorEnvironment, environ)
    return MigratorSettings(
        database=_address(read, user=read.migrator_user, password=read.migrator_password_file),
        lock_wait_seconds=read.migration_lock_wait_seconds,
    )


def load_key_creation(environ: Mapping[str, str]) -> KeyCreationSettings:
    """Return the settings of the command that creates API keys.

    Raises:
        InvalidSettings: with one line for each problem.
    """
    read = read_environment(KeyCreationEnvironment, environ)
    return KeyCreationSettings(
        database=_address(read, user=read.migrator_user, password=read.migrator_password_file),
        pepper=read.api_key_pepper_file,
    )


def load_log_recovery(environ: Mapping[str, str]) -> LogRecoverySettings:
    """Return the settings of the command that recovers the log.

    Raises:
        InvalidSettings: with one line for each problem.
    """
    read = read_environment(LogRecoveryEnvironment, environ)
    return LogRecoverySettings(
        database=_address(read, user=read.migrator_user, password=read.migrator_password_file),
        pepper=read.api_key_pepper_file,
        origin=read.log_origin,
        watermark=read.log_watermark_file,
    )


def _address(read: DatabaseEnvironment, *, user: str, password: Secret) -> DatabaseAddress:
    return DatabaseAddress(
        host=read.database_host, port=read.database_port, name=read.database_name, user=user, password=password
    )
