"""Intake, the first stage: strict decode -> rules decide -> one transaction -> answer (architecture.md).

The answer is given after COMMIT, never before. A retry with the same key gets the same bytes; the record of the answer
is written in the transaction of the effect, so there is never one without the other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import errors

from app.core import instants, strict_json
from app.core import proposal as rules
from app.core.identifiers import RANDOM_BYTES, Principal, ProposalId, uuid7
from app.core.lifecycle import Kind
from app.core.proposal import Intake, Proposal
from app.errors import DuplicateOpen, IdempotencyInProgress, IdempotencyKeyReused, NotFound
from app.resilience.deadline import Deadline
from app.storage import idempotency, proposals
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import Events
from app.storage.idempotency import Answer, Scope
from app.storage.proposals import ONE_OPEN, NewProposal, StoredProposal

ROUTE: Final = "/api/v1/proposals"
CREATED: Final = 201
OFF_LOOP_BYTES: Final = 64 * 1024
"""Larger bodies are decoded in a thread: 1 MiB takes some 50 ms, and the loop answers probes (FM08)."""

EXPIRY: Final = timedelta(days=7)
"""Until the tier is known; no tier allows longer."""


class _Content(msgspec.Struct):
    patch: list[Any]
    rationale: str


_content: Final = msgspec.json.Decoder(_Content)
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to answer, and whether it was answered before."""

    answer: Answer
    is_replay: bool


class Proposals:
    """Creates and reads proposals."""

    def __init__(self, database: Database, events: Events, *, random: Callable[[int], bytes]) -> None:
        self._database = database
        self._events = events
        self._random = random

    async def create(self, body: bytes, *, key: str, principal: Principal, deadline: Deadline) -> Outcome:
        """Store the proposal in `body` once, however often it is sent.

        Raises:
            MalformedBody, InvalidProposal: the body is not acceptable.
            IdempotencyInProgress, IdempotencyKeyReused: the key is taken.
            DuplicateOpen: an equal proposal is open.
            DatabaseUnavailable, QueryTimeout: nothing was done.
            OutcomeUnknown: it may have been done.
        """
        intake = await _accept(body)
        scope = Scope(principal=principal, method="POST", route=ROUTE, key=key)

        async def work(connection: Connection) -> Outcome:
            return await self._store(connection, intake, scope)

        try:
            return await self._database.transact("proposal_create", work, deadline=deadline)
        except errors.UniqueViolation:
            # Perhaps the first request committed between our look and our insert: then its answer is there now.
            return await self._again(work, deadline)

    async def _again(self, work: Callable[[Connection], Awaitable[Outcome]], deadline: Deadline) -> Outcome:
        try:
            return await self._database.transact("proposal_create", work, deadline=deadline)
        except errors.UniqueViolation as error:
            if error.diag.constraint_name == ONE_OPEN:
                raise DuplicateOpen from None
            raise

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

    async def newest_before(self, position: UUID, *, limit: int, deadline: Deadline) -> Sequence[Proposal]:
        """Return at most `limit` proposals before `position`, newest first.

        Raises:
            DatabaseUnavailable, QueryTimeout: they could not be read.
        """

        async def work(connection: Connection) -> Sequence[StoredProposal]:
            return await proposals.newest_before(connection, position, limit=limit)

        return [shown(one) for one in await self._database.read("proposal_list", work, deadline=deadline)]

    async def _store(self, connection: Connection, intake: Intake, scope: Scope) -> Outcome:
        beginning = await idempotency.begin(connection, scope)
        if beginning.earlier is not None:
            if beginning.earlier.fingerprint != intake.fingerprint:
                raise IdempotencyKeyReused
            return Outcome(beginning.earlier, is_replay=True)
        if not beginning.is_alone:
            raise IdempotencyInProgress
        milliseconds = int(beginning.now.timestamp() * 1000)
        new = NewProposal(
            id=ProposalId(uuid7(milliseconds, self._random(RANDOM_BYTES))),
            principal=scope.principal,
            kind=Kind.MUTATION,
            target=intake.content.target,
            base_version=intake.content.base_version,
            base_digest=None,
            body=intake.body,
            body_digest=intake.body_digest,
            content=intake.record,
            proposal_digest=intake.proposal_digest,
            created_at=beginning.now,
            expires_at=beginning.now + EXPIRY,
        )
        stored = await proposals.insert(connection, self._events, new, body=_told(new))
        proposal = shown(stored)
        answer = Answer(
            fingerprint=intake.fingerprint,
            status=CREATED,
            location=f"{ROUTE}/{proposal.id}",
            response=_encode(proposal),
        )
        await idempotency.record(connection, scope, answer, now=beginning.now)
        return Outcome(answer, is_replay=False)


def _told(new: NewProposal) -> dict[str, Any]:
    """Return the body of the event, all that replay needs."""
    return {
        "id": str(new.id),
        "content": msgspec.Raw(new.content),
        "proposer": new.principal,
        "accepted_at": instants.to_text(new.created_at),
        "expires_at": instants.to_text(new.expires_at),
        "body_digest": new.body_digest,
    }


def shown(stored: StoredProposal) -> Proposal:
    """Return the proposal as it is answered."""
    content = _content.decode(stored.content)
    return Proposal(
        id=stored.id,
        state=stored.state,
        created_at=stored.created_at,
        principal=stored.principal,
        proposal_digest=stored.proposal_digest,
        body_digest=stored.body_digest,
        target=stored.target,
        base_version=stored.base_version,
        patch=content.patch,
        rationale=content.rationale,
    )


async def _accept(body: bytes) -> Intake:
    if len(body) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(_accept_now, body)
    return _accept_now(body)


def _accept_now(body: bytes) -> Intake:
    return rules.accept(body, strict_json.decode(body))
