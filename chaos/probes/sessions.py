"""Counts the database's sessions by application name, twice a second, directly and not through Toxiproxy.

Writes ``samples/sessions.jsonl``: ``{t, sessions: {"replica-1": 4, ...}, ages: {"replica-1": [2.5, ...], ...}}`` or
``{t, error}``; an age is in seconds, so that a session which a fault left behind can be told from one made after it.
Replicas give their pod's name as ``application_name``; a replica without a session is absent, not zero.
"""

from functools import partial
from types import TracebackType
from typing import Any, Self

import psycopg

from chaos.evidence import EvidenceWriter
from chaos.probes.sampler import every, sample
from chaos.probes.targets import Targets

SESSIONS = "samples/sessions.jsonl"
APPLICATION_NAME = "chaos-sessions"
_COUNT = """
    SELECT application_name, array_agg(extract(epoch FROM clock_timestamp() - backend_start)::float8)
    FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND datname = current_database() AND application_name <> %s
    GROUP BY application_name
"""


async def watch_sessions(
    targets: Targets, writer: EvidenceWriter, *, period_seconds: float = 0.5, deadline_seconds: float = 1.0
) -> None:
    """Sample until cancelled."""
    if targets.database is None:
        return
    async with _Monitor(targets.database) as monitor:
        await every(
            period_seconds,
            partial(sample, writer, SESSIONS, monitor.count, deadline_seconds=deadline_seconds),
        )


class _Monitor:
    """Keeps one connection; a failed look drops it, the next one makes another."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.AsyncConnection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop()

    async def count(self) -> dict[str, Any]:
        try:
            if self._connection is None:
                self._connection = await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True, application_name=APPLICATION_NAME
                )
            rows = await (await self._connection.execute(_COUNT, (APPLICATION_NAME,))).fetchall()
        except BaseException:  # a cancelled look (its deadline) leaves a connection nobody may use again
            await self._drop()
            raise
        return {"sessions": {name: len(ages) for name, ages in rows}, "ages": dict(rows)}

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
