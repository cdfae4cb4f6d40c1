"""One generation of connections: those made between two losses of the database.

When the database is lost the whole generation goes: no stale connection is tried one by one with a backoff of its own,
and a result of an old generation can never speak for the new one.

psycopg_pool keeps the minimum, grows and shrinks; but each new connection waits until the database answers somebody
else first, so that one that has fallen silent is not asked for more connections. Its own reconnection never runs: the
first failure to connect ends the generation.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from app.resilience.deadline import Clock
from app.settings import DatabasePolicy
from app.storage.connection import Connection, GatedConnection, OpenGate, cut

CLOSE_SECONDS: Final = 5.0


class GenerationLost(psycopg.OperationalError):
    """Connections of this generation are no longer made."""


class Generation:
    """A pool, and one connection beside it that the health probe owns, so that a full pool never looks like a loss."""

    def __init__(
        self,
        number: int,
        *,
        sentinel: Connection,
        parameters: Mapping[str, Any],
        policy: DatabasePolicy,
        clock: Clock,
        on_failure: Callable[["Generation", BaseException], object],
    ) -> None:
        self.number = number
        self.sentinel = sentinel
        self.opened_at = clock()
        self._on_failure = on_failure
        self._is_filling = True
        self._awaiting_sign: asyncio.Future[None] | None = None
        self._lost = False
        self._failure: psycopg.Error | None = None
        self._taken = 0
        self._beside: set[Connection] = set()
        self._pool: AsyncConnectionPool[GatedConnection] = AsyncConnectionPool(
            "",
            connection_class=GatedConnection,
            kwargs={**parameters, "gate": self},
            min_size=policy.connections_min,
            max_size=policy.connections_max,
            reconnect_timeout=0,
            open=False,
            name=f"generation-{number}",
        )

    @property
    def is_lost(self) -> bool:
        """Whether this generation has ended."""
        return self._lost

    def counts(self) -> Mapping[str, int]:
        """Return the pool's connections: open, in use, idle."""
        statistics = self._pool.get_stats()
        idle = statistics.get("pool_available", 0)
        return {"open": idle + self._taken, "in_use": self._taken, "idle": idle}

    async def open(self, seconds: float) -> None:
        """Fill the pool with its minimum.

        Raises:
            psycopg.OperationalError: if that failed or took longer than `seconds`.
        """
        try:
            await self._pool.open(wait=True, timeout=seconds)
        except PoolTimeout as error:
            raise (self._failure or error) from None
        if self._failure is not None:
            raise self._failure
        self._is_filling = False

    async def take(self, seconds: float) -> Connection:
        """Return a connection of the pool.

        Raises:
            psycopg.OperationalError: `PoolTimeout` if none was free in time, `PoolClosed` if the generation ended.
        """
        connection = await self._pool.getconn(seconds)
        self._taken += 1
        return connection

    async def give(self, connection: Connection) -> None:
        """Take a connection back; the pool replaces it if it is broken, unless the generation ended."""
        self._taken -= 1
        if self._lost:
            await connection.close()
        else:
            await self._pool.putconn(connection)  # type: ignore[arg-type]

    async def connect_beside(self, parameters: Mapping[str, Any], *, seconds: float) -> Connection:
        """Return a connection outside the pool, made after the next sign of life; it is cut when this generation ends.

        Raises:
            psycopg.OperationalError: if there was none to be had within `seconds`; the generation goes on.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.pass_through()
                connection = await GatedConnection.connect(gate=OpenGate(), **parameters)
        except TimeoutError:
            raise psycopg.errors.ConnectionTimeout from None
        if self._lost:
            await connection.close()
            raise GenerationLost
        self._beside.add(connection)
        return connection

    async def close_beside(self, connection: Connection) -> None:
        """Close a connection of `connect_beside`, and with it whatever lock its session holds."""
        self._beside.discard(connection)
        cut(connection)
        await connection.close()

    def sign_of_life(self) -> None:
        """Note that the database has just answered."""
        self._wake()

    def lose(self) -> None:
        """End the generation: from now on no connection is made or taken back."""
        self._lost = True
        self._wake()
        for connection in self._beside:
            cut(connection)

    async def close(self) -> None:
        """Close what is not in use; what is in use is closed when given back."""
        self.lose()
        cut(self.sentinel)
        with contextlib.suppress(psycopg.Error):
            await self.sentinel.close()
        with contextlib.suppress(psycopg.Error, PoolClosed):
            await self._pool.close(CLOSE_SECONDS)

    async def pass_through(self) -> None:
        """Wait for the next sign of life (the gate of `GatedConnection`).

        Raises:
            GenerationLost: if there will be none.
        """
        if not self._is_filling and not self._lost:
            if self._awaiting_sign is None:
                self._awaiting_sign = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._awaiting_sign)
        if self._lost:
            raise GenerationLost

    def report_failure(self, error: psycopg.Error) -> None:
        """End the generation: the pool could not connect, so the driver takes over."""
        self._failure = error
        self._on_failure(self, error)

    def _wake(self) -> None:
        if self._awaiting_sign is not None:
            self._awaiting_sign.set_result(None)
            self._awaiting_sign = None
