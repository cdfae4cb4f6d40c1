"""yoyo underneath, with what it lacks: a migration and the record of it commit together, and checksums are kept.

yoyo runs a migration's steps on one connection and records it on another, so a kill between the two leaves a version
that is applied but not recorded, and the next run fails on it. Here both are one transaction. yoyo also keeps a lock in
a table, which outlives a killed runner; ours is `lock.held`, and yoyo is told that it holds its own.
"""

from typing import Any, Final

import psycopg
from psycopg import Connection, errors
from yoyo import read_migrations
from yoyo.backends import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

from app.errors import MigrationFailed
from app.migrations import catalogue
from app.settings import DatabaseAddress

LOCK_TIMEOUT: Final = "5s"
"""How long one statement waits for a table: a fast ALTER behind a slow reader would block everyone behind itself."""
CREATE_RECORD: Final = """
    CREATE TABLE IF NOT EXISTS schema_versions (
        id text PRIMARY KEY,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )"""
SELECT_APPLIED: Final = "SELECT id, checksum FROM schema_versions"


def applied(connection: Connection[tuple[Any, ...]]) -> dict[str, str]:
    """Return what a database has applied: version id -> checksum; empty if it never saw a migration."""
    try:
        return dict(connection.execute(SELECT_APPLIED).fetchall())
    except errors.UndefinedTable:
        return {}


class Ledger(PostgresqlPsycopgBackend):  # type: ignore[misc]
    """yoyo's backend for one run, under `lock.held`."""

    def __init__(self, address: DatabaseAddress) -> None:
        uri = DatabaseURI(
            scheme="postgresql+psycopg",
            username=address.user,
            password=address.password.reveal().decode(),
            hostname=address.host,
            port=address.port,
            database=address.name,
            args={"application_name": "firewall-migrations", "options": f"-c lock_timeout={LOCK_TIMEOUT}"},
        )
        super().__init__(uri, "_yoyo_migration")
        self._is_locked = True
        self._checksums = {version.id: version.checksum for version in catalogue.expected()}

    def apply_pending(self) -> list[str]:
        """Apply every version that is not; return their ids.

        Raises:
            MigrationFailed: at the first that fails; those before it stay.
        """
        self.execute(CREATE_RECORD)
        self.execute("GRANT SELECT ON schema_versions TO PUBLIC")
        self.ensure_internal_schema_updated()
        done = []
        for migration in self.to_apply(read_migrations(str(catalogue.VERSIONS_FOLDER))):
            self._run(migration, "apply")
            done.append(migration.id)
        return done

    def roll_back_newest(self) -> str | None:
        """Take back the newest applied version; return its id, or None if there is none.

        Raises:
            MigrationFailed: if it cannot be taken back; the schema is as it was.
        """
        self.ensure_internal_schema_updated()
        migrations = list(self.to_rollback(read_migrations(str(catalogue.VERSIONS_FOLDER))))
        if not migrations:
            return None
        self._run(migrations[0], "rollback")
        return str(migrations[0].id)

    def _run(self, migration: Any, direction: str) -> None:
        try:
            with self.transaction():
                migration.process_steps(self, direction)
                if direction == "apply":
                    self.mark_one(migration, log=False)
                    self.execute(
                        "INSERT INTO schema_versions (id, checksum) VALUES (:id, :checksum)",
                        {"id": migration.id, "checksum": self._checksums[migration.id]},
                    )
                else:
                    self.unmark_one(migration, log=False)
                    self.execute("DELETE FROM schema_versions WHERE id = :id", {"id": migration.id})
                self.log_migration(migration, direction)
        except psycopg.Error as error:
            raise MigrationFailed(migration.id, error.sqlstate) from None
