"""What the log answers from its stored hashes: roots, proofs, tiles, entries, the newest checkpoint. Reads only.

Nothing is computed from leaves: a proof of any size takes a few dozen rows. A hash that should be there and is not
raises `LogDamaged`; what was never there is the caller's mistake and checked before (mode 15).
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from app.core.log import merkle
from app.core.log.merkle import Node, Range
from app.storage.connection import Connection

SIZE: Final = "SELECT coalesce(max(index) + 1, 0) FROM log_entries"
HASHES: Final = """
    SELECT coalesce(entries.leaf_hash, nodes.hash)
    FROM unnest(%s::smallint[], %s::bigint[]) WITH ORDINALITY AS wanted (level, number, place)
    LEFT JOIN log_nodes AS nodes ON nodes.level = wanted.level AND nodes.number = wanted.number
    LEFT JOIN log_entries AS entries ON wanted.level = 0 AND entries.index = wanted.number
    ORDER BY wanted.place"""
LEAF_HASHES: Final = "SELECT leaf_hash FROM log_entries WHERE index >= %s AND index < %s ORDER BY index"
NODE_HASHES: Final = "SELECT hash FROM log_nodes WHERE level = %s AND number >= %s AND number < %s ORDER BY number"
LEAVES: Final = """
    SELECT events.leaf FROM log_entries AS entries JOIN events ON events.id = entries.event_id
    WHERE entries.index >= %s AND entries.index < %s ORDER BY entries.index"""
ENTRIES: Final = """
    SELECT index, leaf, body FROM (
        SELECT entries.index, events.leaf, events.body,
               sum(octet_length(events.leaf) + coalesce(octet_length(events.body), 0)) OVER (ORDER BY entries.index)
                   AS bytes
        FROM log_entries AS entries JOIN events ON events.id = entries.event_id
        WHERE entries.index >= %(begin)s AND entries.index < %(end)s
    ) AS counted
    WHERE bytes <= %(bytes_max)s OR index = %(begin)s ORDER BY index"""
NEWEST_CHECKPOINT: Final = "SELECT size, root, note FROM log_checkpoints ORDER BY size DESC LIMIT 1"
CHECKPOINT_OF: Final = "SELECT size, root, note FROM log_checkpoints WHERE size = %s"


class LogDamaged(Exception):
    """A hash of the tree, or a leaf, is missing in the database."""


class StoredCheckpoint(msgspec.Struct, frozen=True):
    """A checkpoint and the note that carries it."""

    size: int
    root: bytes
    note: bytes


class StoredEntry(msgspec.Struct, frozen=True):
    """One entry; `body` is None where it was erased."""

    index: int
    leaf: bytes
    body: bytes | None


async def size(connection: Connection) -> int:
    """Return how many entries have a number."""
    row = await (await connection.execute(SIZE)).fetchone()
    return int(row[0]) if row else 0


async def hashes(connection: Connection, nodes: Sequence[Node]) -> list[bytes]:
    """Return the hashes of perfect subtrees, in the order asked for.

    Raises:
        LogDamaged: if one is missing.
    """
    levels, numbers = [node.level for node in nodes], [node.number for node in nodes]
    rows = await (await connection.execute(HASHES, [levels, numbers])).fetchall()
    if any(row[0] is None for row in rows):
        raise LogDamaged("a node of the tree is missing")
    return [bytes(row[0]) for row in rows]


async def root_at(connection: Connection, size: int) -> bytes:
    """Return the root of the first `size` entries.

    Raises:
        LogDamaged: if the tree does not reach that far, or has holes.
    """
    return merkle.fold(await hashes(connection, merkle.subtrees(Range(0, size))))


async def proof(connection: Connection, ranges: Sequence[Range]) -> list[bytes]:
    """Return the hash of each stretch, in one round trip.

    Raises:
        LogDamaged: if a node is missing.
    """
    parts = [merkle.subtrees(one) for one in ranges]
    found = iter(await hashes(connection, [node for part in parts for node in part]))
    return [merkle.fold([next(found) for _ in part]) for part in parts]


async def level_hashes(connection: Connection, level: int, *, begin: int, end: int) -> bytes:
    """Return the hashes of one level from `begin` up to, not including, `end`, joined: the content of a tile.

    Raises:
        LogDamaged: if one is missing.
    """
    if level == 0:
        cursor = await connection.execute(LEAF_HASHES, [begin, end])
    else:
        cursor = await connection.execute(NODE_HASHES, [level, begin, end])
    joined = b"".join(bytes(row[0]) for row in await cursor.fetchall())
    if len(joined) != (end - begin) * merkle.HASH_BYTES:
        raise LogDamaged("a node of the tree is missing")
    return joined


async def leaves(connection: Connection, *, begin: int, end: int) -> list[bytes]:
    """Return the leaves from `begin` up to, not including, `end`.

    Raises:
        LogDamaged: if one is missing.
    """
    rows = await (await connection.execute(LEAVES, [begin, end])).fetchall()
    if len(rows) != end - begin:
        raise LogDamaged("a leaf is missing")
    return [bytes(row[0]) for row in rows]


async def entries(connection: Connection, *, begin: int, end: int, bytes_max: int) -> list[StoredEntry]:
    """Return entries from `begin` on, at least one if there is one, then no more than fit into `bytes_max`."""
    cursor = await connection.execute(ENTRIES, {"begin": begin, "end": end, "bytes_max": bytes_max})
    return [
        StoredEntry(row[0], bytes(row[1]), None if row[2] is None else bytes(row[2])) for row in await cursor.fetchall()
    ]


async def newest_checkpoint(connection: Connection) -> StoredCheckpoint | None:
    """Return the checkpoint of the largest size."""
    return _checkpoint(await (await connection.execute(NEWEST_CHECKPOINT)).fetchone())


async def checkpoint_of(connection: Connection, size: int) -> StoredCheckpoint | None:
    """Return the checkpoint of one size."""
    return _checkpoint(await (await connection.execute(CHECKPOINT_OF, [size])).fetchone())


def _checkpoint(row: tuple[int, bytes, bytes] | None) -> StoredCheckpoint | None:
    return None if row is None else StoredCheckpoint(row[0], bytes(row[1]), bytes(row[2]))
