"""What the sequencer writes: numbers for events, the tree's nodes, checkpoints; a batch is one transaction (FM15).

Every function runs on the caller's connection, inside the caller's transaction. Refused: a batch of somebody whose
token is no longer the newest (`FencedOff`), a batch on top of another tree than the caller knows (`LogChanged`), and by
the database itself: a number twice, an event twice, a gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from app.core.log import merkle
from app.core.log.checkpoint import Checkpoint
from app.core.log.merkle import CompactRange, Node, Range
from app.storage import log_tree
from app.storage.connection import Connection

LOCK_KEY: Final = 0x616D6766_2D6C6F67
""""amgf-log" in ASCII: the advisory lock of whoever numbers."""
GENESIS: Final = "genesis"
BACKLOG_COUNTED_MAX: Final = 100_000

TRY_LOCK: Final = "SELECT pg_try_advisory_lock(%s)"
NEW_HOLDER: Final = """
    UPDATE log_sequencer SET token = token + 1, holder = %s, since = clock_timestamp() RETURNING token"""
SIZE_FOR_HOLDER: Final = """
    SELECT (SELECT coalesce(max(index) + 1, 0) FROM log_entries) FROM log_sequencer WHERE token = %s FOR UPDATE"""
# A look by key for each row: a join would read all events as long as there are few of them.
QUEUED: Final = """
    SELECT ordinal, event_id, queued_at, (SELECT leaf FROM events WHERE id = event_id)
    FROM log_queue ORDER BY ordinal LIMIT %s"""
QUEUED_GENESIS: Final = """
    SELECT queue.ordinal, queue.event_id, queue.queued_at, events.leaf
    FROM events JOIN log_queue AS queue ON queue.event_id = events.id AND queue.ordinal = events.ordinal
    WHERE events.kind = %s ORDER BY queue.ordinal LIMIT 1"""
ADD_ENTRIES: Final = """
    INSERT INTO log_entries (index, event_id, leaf_hash, queued_at)
    SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::bytea[], %s::timestamptz[])"""
ADD_NODES: Final = """
    INSERT INTO log_nodes (level, number, hash) SELECT * FROM unnest(%s::smallint[], %s::bigint[], %s::bytea[])"""
UNQUEUE: Final = "DELETE FROM log_queue WHERE ordinal = ANY(%s)"
ADD_CHECKPOINT: Final = """
    INSERT INTO log_checkpoints (size, root, note) VALUES (%s, %s, %s) ON CONFLICT (size) DO NOTHING"""
# What no checkpoint covers: events without a number, and the first entry beyond the newest checkpoint.
BACKLOG: Final = """
    SELECT (SELECT count(*) FROM (SELECT FROM log_queue LIMIT %s) AS waiting),
           coalesce(extract(epoch FROM clock_timestamp() - least(
               (SELECT queued_at FROM log_queue ORDER BY ordinal LIMIT 1),
               (SELECT queued_at FROM log_entries WHERE index = (SELECT coalesce(max(size), 0) FROM log_checkpoints))
           )), 0)::float8"""


class FencedOff(Exception):
    """Somebody else numbers: the token is not the newest any more."""


class LogChanged(Exception):
    """The log in the database is not the one that the caller has in mind."""


@dataclass(frozen=True, slots=True)
class Queued:
    """An event that waits for its number."""

    ordinal: int
    event_id: UUID
    queued_at: datetime
    leaf: bytes


class Backlog(msgspec.Struct, frozen=True):
    """What no checkpoint covers yet: events without a number, and the age of the oldest uncovered one."""

    unsequenced: int
    lag_seconds: float


async def try_lock(connection: Connection) -> bool:
    """Take the sequencer's lock for this session if nobody else holds it."""
    row = await (await connection.execute(TRY_LOCK, [LOCK_KEY])).fetchone()
    return row is not None and bool(row[0])


async def take_token(connection: Connection, *, holder: str) -> int:
    """Return a new token; every older one is worthless from this transaction's commit on."""
    row = await (await connection.execute(NEW_HOLDER, [holder])).fetchone()
    if row is None:
        raise LogChanged("the sequencer's row is gone")
    return int(row[0])


async def require_token(connection: Connection, token: int) -> int:
    """Return the log's size; nobody gets a new token before this transaction has ended.

    Raises:
        FencedOff: if the token is not the newest.
    """
    row = await (await connection.execute(SIZE_FOR_HOLDER, [token])).fetchone()
    if row is None:
        raise FencedOff
    return int(row[0])


async def tree(connection: Connection) -> CompactRange:
    """Return the tree as it is stored."""
    size = await log_tree.size(connection)
    hashes = await log_tree.hashes(connection, merkle.subtrees(Range(0, size)))
    return CompactRange(size, tuple(hashes))


async def queued(connection: Connection, *, size: int, limit: int) -> Sequence[Queued]:
    """Return at most `limit` events that wait and whose transactions have committed, in the order they get numbers.

    By ordinal, that is, in the order they were inserted: whoever writes the next event of a chain waits for the commit
    of the one before (storage/events.py), so what is visible here is never without what it follows. The log begins with
    the genesis; until there is one, nothing gets a number.
    """
    cursor = await connection.execute(QUEUED, [limit]) if size else await connection.execute(QUEUED_GENESIS, [GENESIS])
    return [Queued(row[0], row[1], row[2], bytes(row[3])) for row in await cursor.fetchall()]


async def append(connection: Connection, known: CompactRange, waiting: Sequence[Queued]) -> CompactRange:
    """Number `waiting` on top of the tree `known`; return the tree that stands if the transaction commits.

    Raises:
        LogChanged: if somebody else took one of them.
    """
    leaf_hashes = [merkle.leaf_hash(one.leaf) for one in waiting]
    grown, complete = known.extended(leaf_hashes)
    await connection.execute(
        ADD_ENTRIES,
        [
            list(range(known.size, grown.size)),
            [one.event_id for one in waiting],
            leaf_hashes,
            [one.queued_at for one in waiting],
        ],
    )
    await connection.execute(ADD_NODES, _columns(complete))
    cursor = await connection.execute(UNQUEUE, [[one.ordinal for one in waiting]])
    if cursor.rowcount != len(waiting):
        raise LogChanged("somebody else numbers")
    return grown


async def add_checkpoint(connection: Connection, checkpoint: Checkpoint, note: bytes) -> None:
    """Keep a signed checkpoint: from the commit on it is served."""
    await connection.execute(ADD_CHECKPOINT, [checkpoint.size, checkpoint.root, note])


async def backlog(connection: Connection) -> Backlog:
    """Return what no checkpoint covers."""
    row = await (await connection.execute(BACKLOG, [BACKLOG_COUNTED_MAX])).fetchone()
    if row is None:
        return Backlog(unsequenced=0, lag_seconds=0)
    return Backlog(unsequenced=row[0], lag_seconds=max(0.0, row[1]))


def _columns(nodes: Sequence[tuple[Node, bytes]]) -> list[list[int] | list[bytes]]:
    return [[node.level for node, _ in nodes], [node.number for node, _ in nodes], [content for _, content in nodes]]
