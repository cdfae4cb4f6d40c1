"""Whether the database may be written to and has the schema this code was written for (FM01, FM03).

One round trip: `SELECT 1` would succeed on a server that refuses every write (gpustack ran so for three days).
"""

from collections.abc import Callable
from typing import Final

from psycopg import errors

from app.migrations import catalogue
from app.migrations.catalogue import Comparison
from app.storage.connection import Connection

READ_ONLY: Final = "on"
QUERY: Final = """
    SELECT current_setting('transaction_read_only'), id, checksum
    FROM (SELECT) AS one_row LEFT JOIN schema_versions ON true"""
QUERY_WITHOUT_TABLE: Final = "SELECT current_setting('transaction_read_only')"


class SchemaCheck:
    """Remembers the last comparison and tells when it changes."""

    def __init__(self, on_change: Callable[[Comparison], None]) -> None:
        self._on_change = on_change
        self.comparison: Comparison | None = None

    async def verify(self, connection: Connection) -> None:
        """Check once.

        Raises:
            psycopg.errors.ReadOnlySqlTransaction: if the server takes no writes.
            psycopg.Error: if it did not answer.
        """
        applied: dict[str, str] = {}
        try:
            rows = await (await connection.execute(QUERY)).fetchall()
            applied = {version: checksum for _, version, checksum in rows if version is not None}
        except errors.UndefinedTable:
            rows = await (await connection.execute(QUERY_WITHOUT_TABLE)).fetchall()
        if rows[0][0] == READ_ONLY:
            raise errors.ReadOnlySqlTransaction
        comparison = catalogue.compare(catalogue.expected(), applied)
        if comparison != self.comparison:
            self.comparison = comparison
            self._on_change(comparison)
