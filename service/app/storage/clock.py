"""Whether our clock agrees with the database's (FM05): tokens expire by ours, and everything else by the database's.

A replica whose clock is an hour slow would take tokens that expired long ago, and one that is fast would refuse all of
them. The database's clock is the one that all replicas share; asked at each probe, over the connection that is there.
"""

from collections.abc import Callable
from typing import Final, Protocol

from app.resilience.deadline import Clock
from app.storage.connection import Connection

OFFSET_SECONDS_MAX: Final = 10.0
QUERY: Final = "SELECT extract(epoch FROM clock_timestamp())::double precision"


class Told(Protocol):
    """Who is told of every comparison."""

    def __call__(self, offset: float, *, agrees: bool) -> None:
        """Take how far our clock is ahead of the database's, in seconds, and whether that is near enough."""


class ClockCheck:
    """Compares the clocks."""

    def __init__(self, told: Told, *, clock: Clock, wall: Callable[[], float]) -> None:
        self._told = told
        self._clock = clock
        self._wall = wall

    async def verify(self, connection: Connection) -> None:
        """Compare once; half of the question's time may lie on either side of the answer, and is not held against us.

        Raises:
            psycopg.Error: the database did not answer.
        """
        began = self._clock()
        row = await (await connection.execute(QUERY)).fetchone()
        ours, took = self._wall(), self._clock() - began
        if row is None:
            raise AssertionError("a SELECT without FROM returns a row")
        offset = ours - took / 2 - float(row[0])
        self._told(offset, agrees=abs(offset) - took / 2 <= OFFSET_SECONDS_MAX)
