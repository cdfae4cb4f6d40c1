"""What is wrong together although each setting is right alone, and what production does not accept (FM16)."""

import errno
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from app.errors import SettingProblem
from app.settings.environment import PREFIX, DatabaseEnvironment, ServiceEnvironment
from app.settings.policies import Secret

PRODUCTION_PASSWORD_CHARACTERS_MIN: Final = 16
PRODUCTION_SECRET_DISTINCT_MIN: Final = 8
"""Different bytes in a secret: fewer is one key pressed over and over."""
STATEMENT_MARGIN_SECONDS: Final = 0.2
"""A statement ends this long before the request's deadline, so that the server's own answer is what we report."""
READINESS_RED_SECONDS: Final = 2.0
"""FM01: readiness is red this soon after the database is lost; probe interval and time-out must fit in."""
RESOLVE_SECONDS: Final = 1.0

Resolve = Callable[[str], bool]
Rule = tuple[bool, str, str]
"""Whether it holds, the setting that is named when it does not, what that one accepts then."""


def contradictions(read: ServiceEnvironment) -> list[SettingProblem]:
    """Return every rule between settings that does not hold."""
    rules = [*_timeouts(read), *_pairs(read)]
    if read.environment == "production":
        rules += _production(read)
    return [
        SettingProblem(PREFIX + name, "contradicts another setting", accepted)
        for holds, name, accepted in rules
        if not holds
    ]


def unresolvable(read: DatabaseEnvironment, resolve: Resolve) -> list[SettingProblem]:
    """Return the hosts that do not exist (docs/adr/0034)."""
    hosts = {"DATABASE_HOST": read.database_host}
    if isinstance(read, ServiceEnvironment):
        hosts["HOST"] = read.host
        if read.valkey_host is not None:
            hosts["VALKEY_HOST"] = read.valkey_host
    return [
        SettingProblem(PREFIX + name, "does not resolve", "a host name that resolves, or an IP address")
        for name, host in hosts.items()
        if not resolve(host)
    ]


def resolves(host: str) -> bool:
    """Say whether a host exists, as far as the resolver knows within a second.

    Only a resolver that says "there is no such name" makes it a wrong setting. One that is silent or broken is an
    outage like the database's own (FM01), and no reason to refuse to start.
    """
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        pass
    else:
        return True
    is_absent = threading.Event()

    def look() -> None:
        try:
            socket.getaddrinfo(host, None)
        except socket.gaierror as error:
            if error.errno in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}:
                is_absent.set()
        except UnicodeError:  # no name at all: a label that is empty or too long
            is_absent.set()

    # A thread of its own, never waited for to its end: a resolver may take ten seconds to give up.
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(RESOLVE_SECONDS)
    return not is_absent.is_set()


def cannot_listen(error: OSError) -> SettingProblem | None:
    """Return the setting that a failed bind speaks of; `None` when the port is merely taken."""
    wrong: Mapping[int, tuple[str, str, str]] = {
        errno.EADDRNOTAVAIL: ("HOST", "not an address of this host", "an address of this host, or 0.0.0.0"),
        errno.EACCES: ("PORT", "may not be listened on", "a port that this user may listen on, 1024 and above"),
    }
    found = wrong.get(error.errno or 0)
    return None if found is None else SettingProblem(PREFIX + found[0], *found[1:])


def statement_budget(read: ServiceEnvironment) -> float:
    """Return how long a statement may take within a request."""
    return read.request_deadline_seconds - STATEMENT_MARGIN_SECONDS


def _timeouts(read: ServiceEnvironment) -> Iterator[Rule]:
    """Timeouts nest: request > statement > lock; each wait ends before the request does."""
    yield (
        read.waiting_room_wait_seconds < read.request_deadline_seconds,
        "WAITING_ROOM_WAIT_SECONDS",
        "less than FIREWALL_REQUEST_DEADLINE_SECONDS",
    )
    yield (
        read.pool_wait_seconds < read.request_deadline_seconds,
        "POOL_WAIT_SECONDS",
        "less than FIREWALL_REQUEST_DEADLINE_SECONDS",
    )
    yield (
        read.lock_timeout_seconds < min(read.query_timeout_seconds, statement_budget(read)),
        "LOCK_TIMEOUT_SECONDS",
        "less than FIREWALL_QUERY_TIMEOUT_SECONDS and FIREWALL_REQUEST_DEADLINE_SECONDS - 0.2",
    )
    yield (
        read.health_probe_interval_seconds + read.health_probe_timeout_seconds <= READINESS_RED_SECONDS,
        "HEALTH_PROBE_TIMEOUT_SECONDS",
        f"with FIREWALL_HEALTH_PROBE_INTERVAL_SECONDS at most {READINESS_RED_SECONDS:g} s together",
    )
    yield (
        read.database_backoff_initial_seconds <= read.database_backoff_max_seconds,
        "DATABASE_BACKOFF_INITIAL_SECONDS",
        "at most FIREWALL_DATABASE_BACKOFF_MAX_SECONDS",
    )
    yield (
        read.api_key_fresh_seconds <= read.api_key_stale_seconds_max,
        "API_KEY_FRESH_SECONDS",
        "at most FIREWALL_API_KEY_STALE_SECONDS_MAX",
    )


def _pairs(read: ServiceEnvironment) -> Iterator[Rule]:
    """Settings that only make sense beside another one."""
    log = (read.log_key_file, read.log_origin, read.log_watermark_file)
    yield read.port != read.metrics_port, "METRICS_PORT", "another port than FIREWALL_PORT"
    yield (
        read.pool_connections_min <= read.pool_connections_max,
        "POOL_CONNECTIONS_MIN",
        "at most FIREWALL_POOL_CONNECTIONS_MAX",
    )
    yield (
        len({one is None for one in log}) == 1,
        "LOG_ORIGIN",
        "FIREWALL_LOG_KEY_FILE, FIREWALL_LOG_ORIGIN and FIREWALL_LOG_WATERMARK_FILE, all three or none",
    )
    yield (
        len({one is None for one in (read.token_keys_file, read.token_issuer, read.token_audience)}) == 1,
        "TOKEN_ISSUER",
        "FIREWALL_TOKEN_KEYS_FILE, FIREWALL_TOKEN_ISSUER and FIREWALL_TOKEN_AUDIENCE, all three or none",
    )
    yield (
        read.valkey_timeout_seconds < read.request_deadline_seconds,
        "VALKEY_TIMEOUT_SECONDS",
        "less than FIREWALL_REQUEST_DEADLINE_SECONDS",
    )
    yield (
        read.valkey_host is not None or read.valkey_password_file is None,
        "VALKEY_HOST",
        "set when FIREWALL_VALKEY_PASSWORD_FILE is",
    )
    yield (
        not read.actuator_hosts or read.actuator_key_file is not None,
        "ACTUATOR_HOSTS",
        "only together with FIREWALL_ACTUATOR_KEY_FILE: without it nothing is delivered",
    )


def _production(read: ServiceEnvironment) -> Iterator[Rule]:
    """No debugging, and no secret that is short, monotonous or used twice."""
    yield read.log_level != "debug", "LOG_LEVEL", "not debug in production"
    yield (
        len(read.database_password_file.reveal()) >= PRODUCTION_PASSWORD_CHARACTERS_MIN,
        "DATABASE_PASSWORD_FILE",
        f"at least {PRODUCTION_PASSWORD_CHARACTERS_MIN} characters in production",
    )
    yield (
        read.valkey_password_file is None
        or len(read.valkey_password_file.reveal()) >= PRODUCTION_PASSWORD_CHARACTERS_MIN,
        "VALKEY_PASSWORD_FILE",
        f"at least {PRODUCTION_PASSWORD_CHARACTERS_MIN} characters in production",
    )
    seen: dict[bytes, str] = {}
    for field in type(read).model_fields:
        secret = getattr(read, field)
        if not isinstance(secret, Secret):
            continue
        yield (
            len(set(secret.reveal())) >= PRODUCTION_SECRET_DISTINCT_MIN,
            field.upper(),
            f"at least {PRODUCTION_SECRET_DISTINCT_MIN} different characters in production",
        )
        first = seen.setdefault(secret.reveal(), field)
        yield first == field, field.upper(), f"in production another secret than that of {PREFIX}{first.upper()}"
