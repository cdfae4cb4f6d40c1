"""One runner at a time: a PostgreSQL advisory lock on a connection of its own (FM03, FM11).

The lock belongs to the session, so a runner that is killed leaves nothing behind; a row in a lock table would stay. The
connection is never pooled: a session lock returned to a pool is held by nobody and everybody (reliability.md finding
11). A second runner waits, bounded, then fails with one clear line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import errors

from app.errors import MigrationLocked
from app.settings import DatabaseAddress

LOCK_KEY: Final = 0x616D6766_6D696772
""""amgfmigr" in ASCII; one key for all runners of one database."""
CONNECT_TIMEOUT_SECONDS: Final = 5
TCP_USER_TIMEOUT_MILLISECONDS: Final = 10_000


def connect(address: DatabaseAddress, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
    """Return a connection of our own, in autocommit mode.

    Raises:
        psycopg.OperationalError: if there is none to be had.
    """
    return psycopg.connect(
        host=address.host,
        port=address.port,
        dbname=address.name,
        user=address.user,
        password=address.password.reveal().decode(),
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        tcp_user_timeout=TCP_USER_TIMEOUT_MILLISECONDS,
        application_name="firewall-migrations",
        autocommit=True,
        **options,
    )


@contextmanager
def held(address: DatabaseAddress, *, wait_seconds: float) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Hold the lock; yields the connection that holds it.

    Raises:
        MigrationLocked: if another runner still holds it after `wait_seconds`.
    """
    with connect(address) as connection:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{max(1, int(wait_seconds * 1000))}ms"])
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        except errors.LockNotAvailable:
            raise MigrationLocked(f"another runner held the migration lock for {wait_seconds:g} s") from None
        yield connection
