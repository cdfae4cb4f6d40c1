"""Copies what the database holds at the end of a scenario, in one snapshot: what the checks hold the history against.

Writes ``database.jsonl``: ``{t, begun: true}`` before the snapshot is taken, ``{t, table, xmin, row: {...}}``, after
each table ``{t, table, rows: n}``: an empty table and a missing or torn dump are different things. Binary columns
stand there in PostgreSQL's hexadecimal form; ``xmin`` names the transaction that wrote the row as it is.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

import psycopg
from psycopg import sql

from chaos.evidence import EvidenceWriter
from chaos.probes.sampler import describe
from chaos.record import DATABASE

TABLES = ("proposals", "events", "idempotency_records")
GATE_TABLES = (
    "targets",
    "snapshots",
    "simulations",
    "ballots",
    "votes",
    "vote_revocations",
    "decisions",
    "applications",
    "key_revocations",
    "log_entries",
    "log_checkpoints",
)
# Large, and told by a digest in the same row; the answers of idempotency records repeat what the others hold.
LEFT_OUT: Final[Mapping[str, Collection[str]]] = {
    "simulations": ("inputs", "after", "inverse"),
    "idempotency_records": ("response",),
}
SETTLED_SECONDS: Final = 10.0
_LOOK_SECONDS = 0.2
_UNSETTLED = """
    SELECT (SELECT count(*) FROM events e WHERE NOT EXISTS (SELECT FROM log_entries l WHERE l.event_id = e.id))
         + (SELECT count(*) FROM proposals WHERE state = 'applying')
"""


async def dump_database(
    conninfo: str, writer: EvidenceWriter, *, tables: tuple[str, ...] | None = None, deadline_seconds: float = 60.0
) -> None:
    """Write every row of the tables; what goes wrong becomes ``{t, error}`` and the checks know nothing.

    ``tables``: by default all that there are of ``TABLES`` and ``GATE_TABLES``.
    """
    writer.append(DATABASE, {"begun": True})
    try:
        async with asyncio.timeout(deadline_seconds), await psycopg.AsyncConnection.connect(conninfo) as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            for table in tables or (*TABLES, *await _present(connection)):
                await _dump_table(connection, table, writer)
    except (TimeoutError, OSError, psycopg.Error) as error:
        writer.append(DATABASE, {"error": describe(error)})


async def settled(conninfo: str, *, within_seconds: float = SETTLED_SECONDS) -> bool:
    """Wait until every event is in the log and nothing is being applied; say whether that came about."""
    try:
        async with asyncio.timeout(within_seconds), await psycopg.AsyncConnection.connect(conninfo) as connection:
            await connection.set_autocommit(True)
            if not await _present(connection):
                return True
            while await _unsettled(connection):  # noqa: ASYNC110 - bounded by the deadline above
                await asyncio.sleep(_LOOK_SECONDS)
    except (TimeoutError, OSError, psycopg.Error):
        return False
    return True


async def _unsettled(connection: psycopg.AsyncConnection) -> int:
    row = await (await connection.execute(_UNSETTLED)).fetchone()
    return int(row[0]) if row else 0


async def _present(connection: psycopg.AsyncConnection) -> tuple[str, ...]:
    """Return the gate's tables that this schema has."""
    query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    found = {name for (name,) in await (await connection.execute(query)).fetchall()}
    return tuple(table for table in GATE_TABLES if table in found)


async def _dump_table(connection: psycopg.AsyncConnection, table: str, writer: EvidenceWriter) -> None:
    left_out = list(LEFT_OUT.get(table, ()))
    query = sql.SQL("SELECT to_jsonb(t) - %s::text[], t.xmin::text FROM {} t").format(sql.Identifier(table))
    count = 0
    async with connection.cursor() as cursor:
        await cursor.execute(query, (left_out,))
        async for row, xmin in cursor:
            writer.append(DATABASE, {"table": table, "xmin": xmin, "row": row})
            count += 1
    writer.append(DATABASE, {"table": table, "rows": count})
