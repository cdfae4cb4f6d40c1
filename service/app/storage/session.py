"""One connection of its own, outside the pool: for what holds an advisory lock as long as it lives (FM01, FM15).

A lock of a session dies with the session, so the session must die with its holder. The server is told to end it after a
few seconds without a word (a process that was stopped or cut off says none), to probe the network beneath it, and every
piece of work is cut off at its own deadline.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from app import metrics
from app.resilience.deadline import Clock
from app.storage.connection import Connection, cut

Result = TypeVar("Result")

IDLE_SECONDS: Final = 5
"""Longer than any pause of a holder that is well, shorter than anybody waits for its successor."""
SERVER_OPTIONS: Final[Mapping[str, int]] = {
    "idle_session_timeout": IDLE_SECONDS * 1000,
    "tcp_keepalives_idle": IDLE_SECONDS,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": IDLE_SECONDS * 1000,
}


def session_parameters(parameters: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Return what such a connection is made with; `name` tells it from the replica's pool."""
    options = " ".join(f"-c {option}={value}" for option, value in SERVER_OPTIONS.items())
    return {
        **parameters,
        "application_name": f"{parameters['application_name']}-{name}",
        "options": f"{parameters['options']} {options}",
    }


class Session:
    """A connection that belongs to its borrower until the loan ends."""

    def __init__(self, connection: Connection, *, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    async def transact(
        self, operation: str, work: Callable[[Connection], Awaitable[Result]], *, seconds: float
    ) -> Result:
        """Run `work` in one transaction, cut off after `seconds`; return after COMMIT was answered.

        An error of the connection means that the session and its locks are gone, and, if COMMIT had been sent, that
        its outcome is not known: read the truth from the database in a new session.

        Raises:
            psycopg.Error: if it did not work out.
        """
        timer = asyncio.get_running_loop().call_later(seconds, cut, self._connection)
        began = self._clock()
        try:
            async with self._connection.transaction():
                return await work(self._connection)
        finally:
            timer.cancel()
            metrics.DB_QUERY_DURATION.labels(operation).observe(self._clock() - began)
