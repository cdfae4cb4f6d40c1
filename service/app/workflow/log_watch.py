"""Whether the log in the database is the one that was published: asked once a second, and before each signature (FM15).

The high-water mark says what was published. The database must still hold it: at least that many entries, with the same
root over the first of them, and no checkpoint that contradicts it. Everything that cannot be compared counts as wrong.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from app.core.log.checkpoint import Checkpoint, CheckpointFlaw
from app.core.log.merkle import CompactRange
from app.security.log_key import LogKey
from app.storage import log, log_quarantine, log_tree
from app.storage.connection import Connection
from app.storage.log import Backlog, LogChanged
from app.storage.log_quarantine import Quarantine, Reason
from app.storage.log_tree import LogDamaged, StoredCheckpoint
from app.storage.session import Session
from app.storage.watermark import Watermark, WatermarkUnreadable

WORK_SECONDS: Final = 4.0
"""The longest one transaction of the log may take; less than `session.IDLE_SECONDS`."""


@dataclass(slots=True)
class Lead:
    """This replica numbers: the token it writes with, and the tree as of its last commit."""

    token: int
    tree: CompactRange


@dataclass(frozen=True, slots=True)
class Look:
    """What one look showed; `quarantine` says why the log is not to be relied on."""

    size: int
    backlog: Backlog
    marked: Checkpoint | None
    marked_note: bytes | None
    newest: StoredCheckpoint | None
    quarantine: Quarantine | None
    is_new: bool
    """Whether nobody has recorded that quarantine yet."""


class LogWatch:
    """Compares the database with the high-water mark."""

    def __init__(self, watermark: Watermark, key: LogKey) -> None:
        self._watermark = watermark
        self._key = key

    async def look(self, session: Session, lead: Lead | None) -> Look:
        """Compare; twice before saying that something is wrong, for a mark may move between two readings.

        Raises:
            FencedOff, LogChanged: if `lead` is not the sequencer's any more.
            psycopg.Error: if the database did not answer.
        """
        first = await self._compare(session, lead)
        return await self._compare(session, lead) if first.is_new else first

    async def _compare(self, session: Session, lead: Lead | None) -> Look:
        # The file is read before the database: what is published in between is no rewind.
        unreadable: Reason | None = None
        marked: tuple[Checkpoint, bytes] | None = None
        try:
            marked = await asyncio.to_thread(self._watermark.read)
        except WatermarkUnreadable:
            unreadable = "watermark-unreadable"
        checkpoint, note = marked or (None, None)

        async def work(connection: Connection) -> Look:
            size = await log_tree.size(connection) if lead is None else await log.require_token(connection, lead.token)
            newest = await log_tree.newest_checkpoint(connection)
            found = await log_quarantine.find(connection)
            reason = unreadable or await self._reason(connection, size, checkpoint, newest)
            if lead is not None and reason is None:
                await _require_tree(connection, lead.tree, size)
            is_new = found is None and reason is not None
            if reason is not None:
                found = found or Quarantine(reason, size, None if checkpoint is None else checkpoint.size)
            return Look(size, await log.backlog(connection), checkpoint, note, newest, found, is_new)

        return await session.transact("log_look", work, seconds=WORK_SECONDS)

    async def _reason(
        self, connection: Connection, size: int, marked: Checkpoint | None, newest: StoredCheckpoint | None
    ) -> Reason | None:
        """Return why the log is not an extension of what was published, or None."""
        if marked is None and newest is not None:
            return "watermark-missing"
        published = [] if marked is None else [marked]
        if any(one.size > size for one in published):
            return "rewound"
        try:
            if newest is not None and marked is not None and newest.size > marked.size:
                # Another replica, with a mark of its own, has published more than ours has seen.
                published.append(self._key.open(newest.note))
            for one in published:
                if one.size > size or await log_tree.root_at(connection, one.size) != one.root:
                    return "forked"
            await log_tree.root_at(connection, size)
        except LogDamaged:
            return "damaged"
        except CheckpointFlaw:
            return "forked"
        return None


async def _require_tree(connection: Connection, tree: CompactRange, size: int) -> None:
    """Refuse to go on with a tree in mind that is not the stored one.

    Raises:
        LogChanged: if it is another.
    """
    if size != tree.size or await log_tree.root_at(connection, size) != tree.root:
        raise LogChanged
