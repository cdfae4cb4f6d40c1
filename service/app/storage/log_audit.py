"""The whole log hashed anew from its leaves: what a check of a few nodes cannot see (FM15).

Reads everything, in order, in portions; some 15,000 entries a second on two cores. For the recovery command and for
audits, never in a request.
"""

from collections.abc import AsyncIterator
from typing import Final

from app.core.log import merkle
from app.core.log.merkle import CompactRange, Node
from app.storage import log_tree
from app.storage.connection import Connection

PORTION: Final = 2_000
LEAVES: Final = """
    SELECT entries.index, entries.leaf_hash, events.leaf
    FROM log_entries AS entries LEFT JOIN events ON events.id = entries.event_id
    WHERE entries.index >= %s ORDER BY entries.index LIMIT %s"""
CHECKPOINTS: Final = "SELECT size, root FROM log_checkpoints ORDER BY size"
COUNT_NODES: Final = "SELECT count(*) FROM log_nodes"


class AuditFlaw(Exception):
    """The log does not hash to what it says; `index` is the first entry, or the size of the first wrong checkpoint."""

    def __init__(self, index: int, what: str) -> None:
        super().__init__(f"entry {index}: {what}")
        self.index = index
        self.what = what


async def audit(connection: Connection) -> CompactRange:
    """Return the tree that the leaves make, after comparing it with every stored hash and checkpoint.

    Raises:
        AuditFlaw: at the first difference.
    """
    checkpoints = {size: bytes(root) for size, root in await (await connection.execute(CHECKPOINTS)).fetchall()}
    tree = CompactRange()
    nodes = 0
    async for portion in _portions(connection):
        complete: list[tuple[Node, bytes]] = []
        for index, stored, leaf in portion:
            if index != tree.size:
                raise AuditFlaw(tree.size, "is missing")
            if leaf is None or merkle.leaf_hash(leaf) != stored:
                raise AuditFlaw(index, "has another leaf than was hashed")
            tree, more = tree.extended([stored])
            complete += more
            if checkpoints.pop(tree.size, None) not in {None, tree.root}:
                raise AuditFlaw(index, "ends a tree of another root than was signed")
        await _require_nodes(connection, complete)
        nodes += len(complete)
    if checkpoints:
        raise AuditFlaw(tree.size, "is missing, and a checkpoint covers it")
    row = await (await connection.execute(COUNT_NODES)).fetchone()
    if row is None or row[0] != nodes:
        raise AuditFlaw(tree.size, "is missing, and nodes cover it")
    return tree


async def _require_nodes(connection: Connection, complete: list[tuple[Node, bytes]]) -> None:
    try:
        stored = await log_tree.hashes(connection, [node for node, _ in complete])
    except log_tree.LogDamaged:
        stored = [b""] * len(complete)
    for (node, content), found in zip(complete, stored, strict=True):
        if content != found:
            raise AuditFlaw((node.number + 1 << node.level) - 1, "completes a node that is stored otherwise")


async def _portions(connection: Connection) -> AsyncIterator[list[tuple[int, bytes, bytes | None]]]:
    begin = 0
    while True:
        rows = await (await connection.execute(LEAVES, [begin, PORTION])).fetchall()
        if not rows:
            return
        yield [(index, bytes(stored), None if leaf is None else bytes(leaf)) for index, stored, leaf in rows]
        begin = rows[-1][0] + 1
