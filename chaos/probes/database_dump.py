"""Copies what the database holds at the end of a scenario, in one snapshot: what the checks hold the history against.

Writes ``database.jsonl``: ``{t, table, row: {...}}``, after each table ``{t, table, rows: n}``: an empty table and a
missing or torn dump are different things. Binary columns stand there in PostgreSQL's hexadecimal form.
"""

import asyncio

import psycopg
from psycopg import sql

from chaos.evidence import EvidenceWriter
from chaos.probes.sampler import describe

DATABASE = "database.jsonl"
TABLES = ("proposals", "events", "idempotency_records")


async def dump_database(
    conninfo: str, writer: EvidenceWriter, *, tables: tuple[str, ...] = TABLES, deadline_seconds: float = 30.0
) -> None:
    """Write every row of the tables; what goes wrong becomes ``{t, error}`` and the checks know nothing."""
    try:
        async with asyncio.timeout(deadline_seconds), await psycopg.AsyncConnection.connect(conninfo) as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            for table in tables:
                await _dump_table(connection, table, writer)
    except (TimeoutError, OSError, psycopg.Error) as error:
        writer.append(DATABASE, {"error": describe(error)})


async def _dump_table(connection: psycopg.AsyncConnection, table: str, writer: EvidenceWriter) -> None:
    query = sql.SQL("SELECT to_jsonb(t) FROM {} t").format(sql.Identifier(table))
    count = 0
    async with connection.cursor() as cursor:
        await cursor.execute(query)
        async for (row,) in cursor:
            writer.append(DATABASE, {"table": table, "row": row})
            count += 1
    writer.append(DATABASE, {"table": table, "rows": count})
