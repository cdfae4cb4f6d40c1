"""A log on real PostgreSQL: a server per test that may be ruined, events without their workflow, sequencers to run."""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from app.core.log import checkpoint as checkpoints
from app.core.log import merkle
from app.core.log.checkpoint import Checkpoint
from app.ed25519 import verify
from app.resilience.readiness import Readiness
from app.security.signatures import PrivateKey
from app.settings import DatabasePolicy, LogPolicy, Secret
from app.storage.database import Database, Signals
from app.storage.watermark import Watermark
from app.workflow.log_state import LogState
from app.workflow.sequencer import Sequencer
from compose.postgres_template import APPLICATION, OWNER
from tests.integration.service.running import QUICK, Server

ORIGIN = "firewall.test/log"
SEED = bytes(range(32))
KEY = PrivateKey(SEED)
QUICKLY: dict[str, float] = {"batch_seconds": 0.01, "checkpoint_seconds": 0.05}
TABLES = ("log_queue", "log_entries", "log_nodes", "log_checkpoints", "log_quarantine")
EMPTY = """
    SET session_replication_role = replica;
    TRUNCATE log_queue, log_entries, log_nodes, log_checkpoints, log_quarantine, events CASCADE;
    SET session_replication_role = origin"""
INSERT = """
    INSERT INTO events (id, kind, principal, epoch, at, leaf, body, prev)
    VALUES (%s, %s, 'tester', 1, now(), %s, %s, %s)"""


@dataclass
class Log:
    """The log of one test, seen from outside."""

    server: Server
    folder: Path
    _copies: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def mark(self) -> Watermark:
        return Watermark(self.folder / "watermark", origin=ORIGIN)

    def policy(self, **changes: Any) -> LogPolicy:
        made = LogPolicy(seed=Secret(SEED), origin=ORIGIN, watermark=self.folder / "watermark")
        return replace(made, **{**QUICKLY, **changes})

    @contextmanager
    def as_owner(self) -> Iterator[psycopg.Connection[Any]]:
        with self.server.connect(OWNER) as connection:
            yield connection

    @contextmanager
    def as_superuser(self) -> Iterator[psycopg.Connection[Any]]:
        """Triggers do not fire: a restore, or somebody who may do anything."""
        with self.server.connect() as connection:
            connection.execute("SET session_replication_role = replica")
            yield connection

    def add(self, *kinds: str) -> list[UUID]:
        with self.as_owner() as connection, connection.transaction():
            return [insert(connection, kind) for kind in kinds]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.server.connect() as connection:
            return connection.execute(query).fetchall()

    def size(self) -> int:
        return int(self.rows("SELECT count(*) FROM log_entries")[0][0])

    def leaves(self) -> list[bytes]:
        query = "SELECT leaf FROM log_entries JOIN events ON id = event_id ORDER BY index"
        return [bytes(row[0]) for row in self.rows(query)]

    def published(self) -> list[Checkpoint]:
        notes = self.rows("SELECT note FROM log_checkpoints ORDER BY size")
        return [open_note(bytes(row[0])) for row in notes]

    def newest(self) -> int:
        return int(self.rows("SELECT coalesce(max(size), 0) FROM log_checkpoints")[0][0])

    def backup(self) -> None:
        with self.server.connect() as connection:
            for table in ("events", *TABLES):
                query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))
                self._copies[table] = connection.execute(query).fetchall()
        self._copies["sequencer"] = self.rows("SELECT token FROM log_sequencer")

    def restore(self) -> None:
        """Put the database back to what it was at `backup`: rows that came later are gone."""
        with self.as_superuser() as connection, connection.transaction():
            for table, key in (
                ("log_queue", 0),
                ("log_entries", 0),
                ("log_checkpoints", 0),
                ("log_quarantine", 0),
                ("events", 0),
            ):
                kept = [row[key] for row in self._copies[table]]
                columns = connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(table)))
                assert columns.description is not None
                connection.execute(
                    sql.SQL("DELETE FROM {} WHERE NOT ({} = ANY(%s))").format(
                        sql.Identifier(table), sql.Identifier(columns.description[key].name)
                    ),
                    [kept],
                )
            kept_nodes = {(row[0], row[1]) for row in self._copies["log_nodes"]}
            for level, number in connection.execute("SELECT level, number FROM log_nodes").fetchall():
                if (level, number) not in kept_nodes:
                    connection.execute("DELETE FROM log_nodes WHERE level = %s AND number = %s", [level, number])
            connection.execute("UPDATE log_sequencer SET token = %s", [self._copies["sequencer"][0][0]])

    def assert_whole(self, *, published: bool = True) -> None:
        """Every event stands in the log once, in an order that follows, under one tree; every checkpoint is of it."""
        leaves = self.leaves()
        assert [row[0] for row in self.rows("SELECT index FROM log_entries ORDER BY index")] == list(range(len(leaves)))
        assert self.rows("SELECT count(*) FROM events")[0][0] == len(leaves)
        assert self.rows("SELECT count(*) FROM log_queue")[0][0] == 0
        hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
        stored = [bytes(row[0]) for row in self.rows("SELECT leaf_hash FROM log_entries ORDER BY index")]
        assert stored == hashes
        for checkpoint in self.published():
            grown, _ = merkle.CompactRange().extended(hashes[: checkpoint.size])
            assert grown.root == checkpoint.root
        if published:
            assert self.newest() == len(leaves)
            marked = self.mark.read()
            assert marked is not None
            assert marked[0] == self.published()[-1]


def insert(connection: psycopg.Connection[Any], kind: str, *, prev: str | None = None) -> UUID:
    """Write an event as storage/events.py does, but for its chain."""
    event_id = uuid4()
    leaf = json.dumps({"id": str(event_id), "kind": kind, "prev": prev}, separators=(",", ":")).encode()
    connection.execute(INSERT, [event_id, kind, leaf, b'{"of":"a test"}', prev])
    return event_id


def open_note(note: bytes) -> Checkpoint:
    return checkpoints.opened(note, origin=ORIGIN, public_key=KEY.public_key, verify=verify)


@pytest.fixture
def the_log(server: Server, tmp_path: Path) -> Log:
    with server.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'replica-%'"
        )
        connection.execute(EMPTY)
    return Log(server, tmp_path)


@dataclass(frozen=True)
class Replica:
    """A sequencer and what it knows, on a database pool of its own."""

    state: LogState
    database: Database


@asynccontextmanager
async def sequencing(
    log: Log, *, name: str = "replica-1", port: int | None = None, policy: DatabasePolicy = QUICK, **changes: Any
) -> AsyncIterator[Replica]:
    """Run one replica's sequencer until the block ends."""
    readiness = Readiness()

    async def verify_nothing(connection: Any) -> None:
        await connection.execute("SELECT 1")

    database = Database(
        log.server.address(port=port),
        policy,
        replica=name,
        signals=Signals(verify=verify_nothing, found=lambda: None, lost=lambda: readiness.object_to("database_lost")),
        clock=time.monotonic,
    )
    state = LogState(is_on=True, clock=time.monotonic)
    sequencer = Sequencer(database, log.policy(**changes), state, replica=name, clock=time.monotonic)
    async with database, asyncio.TaskGroup() as tasks:
        await database.first_attempt()
        running = tasks.create_task(sequencer.run())
        try:
            yield Replica(state, database)
        finally:
            running.cancel()


def key_file(folder: Path) -> Path:
    path = folder / f"log-key-{secrets.token_hex(4)}"
    path.write_bytes(base64.b64encode(SEED) + b"\n")
    path.chmod(0o600)
    return path


@asynccontextmanager
async def connected(log: Log) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection with the application's rights."""
    dsn = log.server.postgres.dsn(APPLICATION)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield connection
