"""What anybody may read of the log: what a published checkpoint covers, and nothing beyond it.

Reads go on in quarantine. While the database is gone, or in quarantine, the newest checkpoint that this replica knows
to be published is answered, with its age; everything else needs the database.
"""

import base64
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from app.core.log import merkle, tiles
from app.core.log.merkle import ProofFlaw
from app.core.log.tiles import Tile
from app.errors import DatabaseUnavailable, NotFound, QueryTimeout
from app.resilience.deadline import Deadline
from app.storage import log_tree
from app.storage.connection import Connection
from app.storage.database import Database
from app.workflow.log_state import LogState

Result = TypeVar("Result")

PAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Leaves and bodies of one page, before base64; one entry is answered however large it is."""


class EntryDocument(msgspec.Struct, frozen=True):
    """An entry of the log; leaf and body in standard base64. `body` is null where it was erased."""

    index: int
    leaf: str
    body: str | None


class EntriesPage(msgspec.Struct, frozen=True):
    """Entries in log order, and how many are published."""

    size: int
    items: list[EntryDocument]


class InclusionProof(msgspec.Struct, frozen=True):
    """That an entry stands in the tree of `size` entries (RFC 9162 section 2.1.3); hashes in standard base64."""

    index: int
    size: int
    leaf_hash: str
    root: str
    hashes: list[str]
    checkpoint: str | None
    """The signed note over exactly this size, if one was signed."""


class ConsistencyProof(msgspec.Struct, frozen=True):
    """That the tree of `second` entries extends that of `first` (RFC 9162 section 2.1.4); hashes in standard base64."""

    first: int
    second: int
    first_root: str
    second_root: str
    hashes: list[str]


class Published(msgspec.Struct, frozen=True):
    """A signed note; `age_seconds` is None when it is the newest that the database has."""

    note: bytes
    age_seconds: float | None


class LogReading:
    """Reads the log. Everything raises DatabaseUnavailable and QueryTimeout unless it says otherwise."""

    def __init__(self, database: Database, state: LogState) -> None:
        self._database = database
        self._state = state

    async def checkpoint(self, *, deadline: Deadline) -> Published:
        """Return the newest checkpoint; while the database is gone or behind, the newest that is known here.

        Nobody is shown less than this replica has shown before, until a recovery moves the high-water mark back.

        Raises:
            NotFound: nothing was published yet.
        """
        known = self._state.published()
        if self._state.is_quarantined and known is not None:
            return Published(*known)
        try:
            newest = await self._read(log_tree.newest_checkpoint, deadline)
        except (DatabaseUnavailable, QueryTimeout):
            known = self._state.published()  # others may have been shown more since this was asked
            if known is None:
                raise
            return Published(*known)
        if newest is not None and self._state.confirmed(newest.note, size=newest.size):
            return Published(newest.note, None)
        known = self._state.published()
        if known is None:
            raise NotFound
        return Published(*known)

    async def entries(self, *, begin: int, limit: int, deadline: Deadline) -> EntriesPage:
        """Return at most `limit` published entries from `begin` on; fewer if they are large."""

        async def work(connection: Connection) -> EntriesPage:
            size = await _published_size(connection)
            end = min(begin + limit, size)
            found = await log_tree.entries(connection, begin=begin, end=end, bytes_max=PAGE_BYTES_MAX)
            items = [
                EntryDocument(one.index, _text(one.leaf), None if one.body is None else _text(one.body))
                for one in found
            ]
            return EntriesPage(size, items)

        return await self._read(work, deadline)

    async def tile(self, level: int, tile: Tile, *, deadline: Deadline) -> bytes:
        """Return the hashes of a tile, 32 bytes each.

        Raises:
            NotFound: the published tree does not reach that far.
        """
        tree_level = level * tiles.LEVELS_PER_TILE

        async def work(connection: Connection) -> bytes:
            if tree_level >= merkle.LEVELS or tile.end > await _published_size(connection) >> tree_level:
                raise NotFound
            return await log_tree.level_hashes(connection, tree_level, begin=tile.begin, end=tile.end)

        return await self._read(work, deadline)

    async def entries_tile(self, tile: Tile, *, deadline: Deadline) -> bytes:
        """Return the leaves of a tile, each behind its length.

        Raises:
            NotFound: the published tree does not reach that far.
        """

        async def work(connection: Connection) -> bytes:
            if tile.end > await _published_size(connection):
                raise NotFound
            return tiles.bundle(await log_tree.leaves(connection, begin=tile.begin, end=tile.end))

        return await self._read(work, deadline)

    async def inclusion(self, *, index: int, size: int | None, deadline: Deadline) -> InclusionProof:
        """Prove that an entry stands in the tree of `size` entries (None: of the newest checkpoint).

        Raises:
            NotFound: there is no such entry, or no such published tree.
        """

        async def work(connection: Connection) -> InclusionProof:
            covered = await self._covered(connection, size)
            ranges = merkle.inclusion_ranges(index, covered)
            leaf = merkle.Range(index, index + 1)
            whole = merkle.Range(0, covered)
            leaf_hash, root, *hashes = await log_tree.proof(connection, [leaf, whole, *ranges])
            signed = await log_tree.checkpoint_of(connection, covered)
            return InclusionProof(
                index=index,
                size=covered,
                leaf_hash=_text(leaf_hash),
                root=_text(root),
                hashes=[_text(one) for one in hashes],
                checkpoint=None if signed is None else signed.note.decode(),
            )

        return await self._prove(work, deadline)

    async def consistency(self, *, first: int, second: int | None, deadline: Deadline) -> ConsistencyProof:
        """Prove that the tree of `second` entries (None: of the newest checkpoint) extends that of `first`.

        Raises:
            NotFound: there is no such published tree, or `first` is the larger.
        """

        async def work(connection: Connection) -> ConsistencyProof:
            covered = await self._covered(connection, second)
            ranges = merkle.consistency_ranges(first, covered)
            old, new = merkle.Range(0, first), merkle.Range(0, covered)
            first_root, second_root, *hashes = await log_tree.proof(connection, [old, new, *ranges])
            return ConsistencyProof(
                first=first,
                second=covered,
                first_root=_text(first_root),
                second_root=_text(second_root),
                hashes=[_text(one) for one in hashes],
            )

        return await self._prove(work, deadline)

    async def _covered(self, connection: Connection, size: int | None) -> int:
        published = await _published_size(connection)
        if size is None:
            return published
        if size > published:
            raise NotFound
        return size

    async def _prove(self, work: Callable[[Connection], Awaitable[Result]], deadline: Deadline) -> Result:
        try:
            return await self._read(work, deadline)
        except ProofFlaw:
            raise NotFound from None

    async def _read(self, work: Callable[[Connection], Awaitable[Result]], deadline: Deadline) -> Result:
        return await self._database.read("log_read", work, deadline=deadline)


async def _published_size(connection: Connection) -> int:
    newest = await log_tree.newest_checkpoint(connection)
    return 0 if newest is None else newest.size


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
