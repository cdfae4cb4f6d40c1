"""Reading proposals: one, a page of them, and what happened to one. Nothing here changes anything."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from app.core.documents.identifiers import EventId, ProposalId
from app.core.governed.proposal import Proposal, Restores, TierName
from app.errors import NotFound
from app.resilience.deadline import Deadline
from app.storage import events as stored_events
from app.storage import proposals
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import StoredEvent
from app.storage.proposals import Filter, StoredProposal

EVENTS_MAX: Final = 1000
"""Of one proposal, the first ones; only votes that are cast again and again could bring it near."""


class _Content(msgspec.Struct):
    patch: list[Any]
    rationale: str
    declared_risk: str
    evidence: list[str]
    supersedes: uuid.UUID | None
    restores: Restores | None


_content: Final = msgspec.json.Decoder(_Content)


class EventShown(msgspec.Struct, frozen=True):
    """One event of a proposal. `leaf` is the log's entry as it is hashed, `body` what its digest stands for."""

    id: EventId
    kind: str
    at: datetime
    state_from: str | None
    state_to: str | None
    epoch: int
    leaf_digest: str
    leaf: Any
    body: Any


class History(msgspec.Struct, frozen=True):
    """What happened to a proposal, oldest first."""

    items: list[EventShown]


def shown(stored: StoredProposal) -> Proposal:
    """Return the proposal as it is answered."""
    content = _content.decode(stored.content)
    return Proposal(
        id=stored.id,
        state=stored.state,
        revision=stored.revision,
        epoch=stored.epoch,
        tier=cast("TierName | None", stored.tier),
        created_at=stored.created_at,
        expires_at=stored.expires_at,
        principal=stored.principal,
        proposal_digest=stored.proposal_digest,
        body_digest=stored.body_digest,
        kind=stored.kind,
        target=stored.target,
        base_version=stored.base_version,
        base_digest=stored.base_digest,
        patch=content.patch,
        rationale=content.rationale,
        declared_risk=content.declared_risk,
        evidence=content.evidence,
        supersedes=content.supersedes,
        restores=content.restores,
    )


class ProposalReader:
    """Reads proposals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, proposal_id: ProposalId, *, deadline: Deadline) -> Proposal:
        """Return one proposal.

        Raises:
            NotFound: there is none of that id.
            DatabaseUnavailable, QueryTimeout: it could not be read.
        """

        async def work(connection: Connection) -> StoredProposal | None:
            return await proposals.get(connection, proposal_id)

        found = await self._database.read("proposal_get", work, deadline=deadline)
        if found is None:
            raise NotFound
        return shown(found)

    async def newest_before(
        self, position: UUID, *, chosen: Filter, limit: int, deadline: Deadline
    ) -> Sequence[Proposal]:
        """Return at most `limit` proposals before `position`, newest first.

        Raises:
            DatabaseUnavailable, QueryTimeout: they could not be read.
        """

        async def work(connection: Connection) -> Sequence[StoredProposal]:
            return await proposals.newest_before(connection, position, limit=limit, chosen=chosen)

        return [shown(one) for one in await self._database.read("proposal_list", work, deadline=deadline)]

    async def history(self, proposal_id: ProposalId, *, deadline: Deadline) -> History:
        """Return what happened to one proposal, its first `EVENTS_MAX` events.

        Raises:
            NotFound: there is none of that id.
            DatabaseUnavailable, QueryTimeout: it could not be read.
        """

        async def work(connection: Connection) -> Sequence[StoredEvent]:
            return await stored_events.of_proposal(connection, proposal_id, limit=EVENTS_MAX)

        found = await self._database.read("proposal_events", work, deadline=deadline)
        if not found:
            raise NotFound
        return History([_event(one) for one in found])


def _event(stored: StoredEvent) -> EventShown:
    return EventShown(
        id=stored.id,
        kind=stored.kind,
        at=stored.at,
        state_from=stored.state_from,
        state_to=stored.state_to,
        epoch=stored.epoch,
        leaf_digest=stored.leaf_digest,
        leaf=msgspec.Raw(stored.leaf),
        body=None if stored.body is None else msgspec.Raw(stored.body),
    )
