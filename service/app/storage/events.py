"""Events: written by one function, in the transaction of what they tell, each naming the one before it.

The chain of a proposal (or, where there is none, of a target) grows under the lock of its row, so that no two events
have one predecessor; unique indexes say the same. Events without either (the genesis) stand alone.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from app.core.documents.identifiers import RANDOM_BYTES, EventId, ProposalId, uuid7
from app.core.log import events as rules
from app.core.log.events import Draft, Event
from app.storage.connection import Connection

# Reading the clock after the lock was granted keeps the times of one chain in its order.
LOCK_PROPOSAL: Final = "SELECT last_leaf FROM proposals WHERE id = %s FOR UPDATE"
LOCK_TARGET: Final = "SELECT last_leaf FROM targets WHERE name = %s FOR NO KEY UPDATE"
CLOCK: Final = "SELECT clock_timestamp()"
INSERT: Final = """
    INSERT INTO events
        (id, kind, target, proposal_id, principal, request, state_from, state_to, epoch, at, leaf, prev, body)
    VALUES (%(id)s, %(kind)s, %(target)s, %(proposal_id)s, %(principal)s, %(request)s, %(state_from)s, %(state_to)s,
            %(epoch)s, %(at)s, %(leaf)s, %(prev)s, %(body)s)"""
# One statement, one round trip: the event, and the head of its chain.
INSERT_OF_PROPOSAL: Final = f"""
    WITH written AS ({INSERT})
    UPDATE proposals SET last_leaf = %(leaf_digest)s WHERE id = %(proposal_id)s"""  # noqa: S608 - a constant
INSERT_OF_TARGET: Final = f"""
    WITH written AS ({INSERT})
    UPDATE targets SET last_leaf = %(leaf_digest)s WHERE name = %(target)s"""  # noqa: S608 - a constant
OF_PROPOSAL: Final = """
    SELECT id, kind, at, state_from, state_to, epoch, leaf, leaf_digest, body FROM events
    WHERE proposal_id = %s ORDER BY ordinal LIMIT %s"""


class StoredEvent(msgspec.Struct, frozen=True):
    """One row of a chain, oldest first. `body` is None where it was erased."""

    id: EventId
    kind: str
    at: datetime
    state_from: str | None
    state_to: str | None
    epoch: int
    leaf: bytes
    leaf_digest: str
    body: bytes | None


class Events:
    """Writes events. `actor_key` stands between a principal and its hash in the leaves."""

    def __init__(self, *, actor_key: bytes, random: Callable[[int], bytes]) -> None:
        self._actor_key = actor_key
        self._random = random

    async def append(self, connection: Connection, draft: Draft) -> Event:
        """Write one event at the end of its chain, in the caller's transaction.

        Raises:
            LookupError: the proposal or target that it belongs to does not exist.
            ValueError: it is none of the known kinds.
        """
        return await self.append_after(connection, draft, prev=await _last_leaf(connection, draft))

    async def append_after(self, connection: Connection, draft: Draft, *, prev: str | None) -> Event:
        """Write one event after the leaf `prev`, for who holds the lock of the chain's row and read the leaf from it.

        Raises:
            ValueError: it is none of the known kinds.
        """
        at = draft.at or await clock(connection)
        return await self._write(connection, draft, at=at, prev=prev)

    async def _write(self, connection: Connection, draft: Draft, *, at: datetime, prev: str | None) -> Event:
        event_id = EventId(uuid7(int(at.timestamp() * 1000), self._random(RANDOM_BYTES)))
        event = rules.seal(draft, event_id=event_id, at=at, prev=prev, actor_key=self._actor_key)
        await connection.execute(
            _insert(draft),
            {
                "id": event.id,
                "kind": draft.kind,
                "target": draft.target,
                "proposal_id": draft.proposal_id,
                "principal": draft.principal,
                "request": draft.request,
                "state_from": draft.state_from,
                "state_to": draft.state_to,
                "epoch": draft.epoch,
                "at": event.at,
                "leaf": event.leaf,
                "leaf_digest": event.leaf_digest,
                "prev": event.prev,
                "body": event.body,
            },
        )
        return event


async def clock(connection: Connection) -> datetime:
    """Return the database's time at this moment, not at the transaction's beginning."""
    row = await (await connection.execute(CLOCK)).fetchone()
    if row is None:
        raise AssertionError("a clock always answers")
    now: datetime = row[0]
    return now


def _insert(draft: Draft) -> str:
    if draft.proposal_id is not None:
        return INSERT_OF_PROPOSAL
    return INSERT if draft.target is None else INSERT_OF_TARGET


async def _last_leaf(connection: Connection, draft: Draft) -> str | None:
    if draft.proposal_id is not None:
        cursor = await connection.execute(LOCK_PROPOSAL, [draft.proposal_id])
    elif draft.target is not None:
        cursor = await connection.execute(LOCK_TARGET, [draft.target])
    else:
        return None
    row = await cursor.fetchone()
    if row is None:
        raise LookupError("an event belongs to a proposal or target that exists")
    last: str | None = row[0]
    return last


async def of_proposal(connection: Connection, proposal_id: ProposalId, *, limit: int) -> Sequence[StoredEvent]:
    """Return at most `limit` events of a proposal, oldest first."""
    rows = await (await connection.execute(OF_PROPOSAL, [proposal_id, limit])).fetchall()
    return [StoredEvent(*row) for row in rows]
