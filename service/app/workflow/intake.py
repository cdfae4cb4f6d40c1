"""Intake, the first stage: strict decode -> rules decide -> one transaction -> answer (architecture.md).

The answer is given after COMMIT, never before. A retry with the same key gets the same bytes; the record of the answer
is written in the transaction of the effect, so there is never one without the other.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import msgspec
from psycopg import errors

from app.core import proposal as rules
from app.core import strict_json
from app.core.identifiers import RANDOM_BYTES, EventId, Principal, ProposalId, uuid7
from app.core.proposal import Intake, Proposal
from app.errors import IdempotencyInProgress, IdempotencyKeyReused, NotFound
from app.resilience.deadline import Deadline
from app.storage import idempotency, proposals
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.idempotency import Answer, Scope

ROUTE: Final = "/api/v1/proposals"
CREATED: Final = 201
OFF_LOOP_BYTES: Final = 64 * 1024
"""Larger bodies are decoded in a thread: 1 MiB takes some 50 ms, and the loop answers probes (FM08)."""

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to answer, and whether it was answered before."""

    answer: Answer
    is_replay: bool


class Proposals:
    """Creates and reads proposals."""

    def __init__(self, database: Database, *, random: Callable[[int], bytes]) -> None:
        self._database = database
        self._random = random

    async def create(self, body: bytes, *, key: str, principal: Principal, deadline: Deadline) -> Outcome:
        """Store the proposal in `body` once, however often it is sent.

        Raises:
            MalformedBody, InvalidProposal: the body is not acceptable.
            IdempotencyInProgress, IdempotencyKeyReused: the key is taken.
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
            # The first request committed between our look and our insert: now its answer is there.
            return await self._database.transact("proposal_create", work, deadline=deadline)

    async def get(self, proposal_id: ProposalId, *, deadline: Deadline) -> Proposal:
        """Return one proposal.

        Raises:
            NotFound: there is none of that id.
            DatabaseUnavailable, QueryTimeout: it could not be read.
        """

        async def work(connection: Connection) -> Proposal | None:
            return await proposals.get(connection, proposal_id)

        found = await self._database.read("proposal_get", work, deadline=deadline)
        if found is None:
            raise NotFound
        return found

    async def newest_before(self, position: UUID, *, limit: int, deadline: Deadline) -> Sequence[Proposal]:
        """Return at most `limit` proposals before `position`, newest first.

        Raises:
            DatabaseUnavailable, QueryTimeout: they could not be read.
        """

        async def work(connection: Connection) -> Sequence[Proposal]:
            return await proposals.newest_before(connection, position, limit=limit)

        return await self._database.read("proposal_list", work, deadline=deadline)

    async def _store(self, connection: Connection, intake: Intake, scope: Scope) -> Outcome:
        beginning = await idempotency.begin(connection, scope)
        if beginning.earlier is not None:
            if beginning.earlier.fingerprint != intake.fingerprint:
                raise IdempotencyKeyReused
            return Outcome(beginning.earlier, is_replay=True)
        if not beginning.is_alone:
            raise IdempotencyInProgress
        milliseconds = int(beginning.now.timestamp() * 1000)
        proposal = await proposals.insert(
            connection,
            intake,
            proposal_id=ProposalId(uuid7(milliseconds, self._random(RANDOM_BYTES))),
            event_id=EventId(uuid7(milliseconds, self._random(RANDOM_BYTES))),
            principal=scope.principal,
            now=beginning.now,
        )
        answer = Answer(
            fingerprint=intake.fingerprint,
            status=CREATED,
            location=f"{ROUTE}/{proposal.id}",
            response=_encode(proposal),
        )
        await idempotency.record(connection, scope, answer, now=beginning.now)
        return Outcome(answer, is_replay=False)


async def _accept(body: bytes) -> Intake:
    if len(body) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(_accept_now, body)
    return _accept_now(body)


def _accept_now(body: bytes) -> Intake:
    return rules.accept(body, strict_json.decode(body))
