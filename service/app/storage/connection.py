"""One connection to PostgreSQL: how it is made, cut, and what its errors mean.

Connections ask a gate before they go to the network, so that nothing but our own policy ever decides when the database
is tried (docs/adr/0004). A connection is cut by shutting its socket down: whoever waits on it wakes at once, even if
the other end will never say anything again. Cancelling instead would open a second connection to ask the server to
stop, wait 5 s for it and 5 s for the query (reliability.md finding 2).
"""

import contextlib
import os
import socket
import traceback
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol, Self

import psycopg
from psycopg import AsyncConnection, errors
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from app.settings import DatabaseAddress, DatabasePolicy, Secret

KEEPALIVE_IDLE_SECONDS: Final = 5
KEEPALIVE_INTERVAL_SECONDS: Final = 1
KEEPALIVE_COUNT: Final = 3
TCP_USER_TIMEOUT_MILLISECONDS: Final = 5_000
IDLE_IN_TRANSACTION_SECONDS: Final = 5

Row = tuple[Any, ...]
Connection = AsyncConnection[Row]

ErrorType = Literal["connection", "timeout", "pool", "query", "conflict"]
"""The label of `firewall_db_errors_total`."""
Cause = Literal[
    "refused",
    "timeout",
    "closed",
    "name_resolution",
    "authentication",
    "starting",
    "too_many_connections",
    "read_only",
    "other",
]
"""Why there is no database: the log's `error_type`."""


class Gate(Protocol):
    """Decides when a connection may be tried."""

    async def pass_through(self) -> None:
        """Return when trying is allowed; raise `psycopg.OperationalError` when it never will be."""

    def report_failure(self, error: psycopg.Error) -> None:
        """Learn that trying failed."""


class GatedConnection(AsyncConnection[Row]):
    """A connection that goes to the network only through its pool's gate."""

    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, gate: Gate, password: Secret, **kwargs: Any
    ) -> Self:
        """Connect when the gate allows it.

        Raises:
            psycopg.OperationalError: if it failed, or never will be allowed.
        """
        await gate.pass_through()
        try:
            return await super().connect(conninfo, password=password.reveal().decode(), **kwargs)
        except BaseException as error:
            # psycopg's frames hold the half-made connection in a cycle with the error: until the garbage collector came
            # by, the kernel would go on knocking at a door that we have given up on.
            traceback.clear_frames(error.__traceback__)
            if isinstance(error, psycopg.Error):
                gate.report_failure(error)
            raise


class OpenGate:
    """Lets everything through: for the reconnection driver, which decides for itself."""

    async def pass_through(self) -> None:
        """Allow at once."""

    def report_failure(self, error: psycopg.Error) -> None:
        """The driver sees the error itself."""


def parameters(address: DatabaseAddress, policy: DatabasePolicy, *, replica: str) -> Mapping[str, Any]:
    """Return what each connection is made with; time-outs of the server's side included."""
    options = {
        "statement_timeout": round(policy.statement_timeout_seconds * 1000),
        "lock_timeout": round(policy.lock_timeout_seconds * 1000),
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_SECONDS * 1000,
        "client_connection_check_interval": 1000,
        "timezone": "UTC",
    }
    return {
        "host": address.host,
        "port": address.port,
        "dbname": address.name,
        "user": address.user,
        "password": address.password,
        "autocommit": True,
        "application_name": replica,
        "connect_timeout": policy.connect_timeout_seconds,
        "keepalives_idle": KEEPALIVE_IDLE_SECONDS,
        "keepalives_interval": KEEPALIVE_INTERVAL_SECONDS,
        "keepalives_count": KEEPALIVE_COUNT,
        "tcp_user_timeout": TCP_USER_TIMEOUT_MILLISECONDS,
        "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
    }


def cut(connection: Connection) -> None:
    """Shut the socket down in both directions: every wait on it ends now, nothing more is sent."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def is_lost(error: BaseException) -> bool:
    """Whether the error speaks about the database's presence: gone, going, or no longer writable."""
    if isinstance(error, (errors.ReadOnlySqlTransaction, errors.InterfaceError)):
        return True
    if not isinstance(error, psycopg.OperationalError) or isinstance(error, PoolTimeout | TooManyRequests):
        return False
    # Class 08 connection, 57P0x shut down, crash, starting; without SQLSTATE it is libpq's own "gone".
    state = error.sqlstate
    return state is None or state.startswith(("08", "57P"))


def error_type(error: BaseException) -> ErrorType:
    """Return the class to count an error under."""
    if isinstance(error, (PoolTimeout, PoolClosed, TooManyRequests)):
        return "pool"
    if isinstance(error, (errors.QueryCanceled, errors.LockNotAvailable, errors.TransactionTimeout)):
        return "timeout"
    if isinstance(error, (errors.SerializationFailure, errors.DeadlockDetected)):
        return "conflict"
    return "connection" if is_lost(error) or isinstance(error, OSError) else "query"


_BY_TEXT: Final[tuple[tuple[str, Cause], ...]] = (
    ("connection refused", "refused"),
    ("timeout expired", "timeout"),
    ("timed out", "timeout"),
    ("could not translate host name", "name_resolution"),
    ("name or service not known", "name_resolution"),
    ("failed to resolve host", "name_resolution"),
    ("authentication failed", "authentication"),
    ("starting up", "starting"),
    ("shutting down", "starting"),
    ("recovery mode", "starting"),
    ("too many clients", "too_many_connections"),
    ("remaining connection slots", "too_many_connections"),
    ("closed the connection unexpectedly", "closed"),
    ("connection reset", "closed"),
    ("the connection is closed", "closed"),
    ("connection is lost", "closed"),
    ("terminating connection", "closed"),
)


def cause_of(error: BaseException) -> Cause:
    """Return why there is no database. libpq says it in words only; they are matched here and never logged."""
    if isinstance(error, (TimeoutError, psycopg.errors.ConnectionTimeout)):
        return "timeout"
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return "read_only"
    text = str(error).lower()
    return next((cause for fragment, cause in _BY_TEXT if fragment in text), "other")
