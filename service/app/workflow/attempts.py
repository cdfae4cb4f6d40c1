"""Attempts: a request with an Idempotency-Key has its effect once, however often it is sent.

The answer is recorded in the transaction of the effect, so there is never one without the other; a repetition gets the
same bytes. What is refused leaves no record: it may be tried again under the same key.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg import errors

from app.core.documents.identifiers import Principal
from app.errors import AlreadyApplying, DuplicateOpen, FirewallError, IdempotencyInProgress, IdempotencyKeyReused
from app.resilience.deadline import Deadline
from app.storage import idempotency
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.idempotency import Answer, Scope

MEANINGS: Final[Mapping[str, type[FirewallError]]] = {
    "proposals_one_open": DuplicateOpen,
    "proposals_one_applying": AlreadyApplying,
}
"""Unique constraints whose violation tells the client something, if a second look finds no earlier answer."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who asks for what under which key. `fingerprint`: digest of the body's canonical bytes."""

    principal: Principal
    route: str
    key: str
    fingerprint: str
    request: str | None = None
    method: str = "POST"

    @property
    def scope(self) -> Scope:
        """What the key means one thing in."""
        return Scope(principal=self.principal, method=self.method, route=self.route, key=self.key)


@dataclass(frozen=True, slots=True)
class Effect:
    """What an attempt did, as it is answered now and to every repetition."""

    status: int
    response: bytes
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to answer, and whether it was answered before."""

    answer: Answer
    is_replay: bool


Work = Callable[[Connection, datetime], Awaitable[Effect]]
"""Does it, in the transaction; gets the database's time at its beginning."""


class Attempts:
    """Runs attempts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def once(self, operation: str, attempt: Attempt, work: Work, *, deadline: Deadline) -> Outcome:
        """Do `work` in one transaction with the record of its answer, or find the answer of the first time.

        Raises:
            IdempotencyInProgress, IdempotencyKeyReused: the key is taken.
            DatabaseUnavailable, QueryTimeout: nothing was done.
            OutcomeUnknown: it may have been done.
            FirewallError: what `work` raises, and nothing was done; what a unique constraint means.
        """

        async def unit(connection: Connection) -> Outcome:
            return await _unit(connection, attempt, work)

        try:
            return await self._database.transact(operation, unit, deadline=deadline)
        except errors.UniqueViolation:
            # Perhaps the first request committed between our look and our insert: then its answer is there now.
            try:
                return await self._database.transact(operation, unit, deadline=deadline)
            except errors.UniqueViolation as error:
                meaning = MEANINGS.get(error.diag.constraint_name or "")
                if meaning is None:
                    raise
                raise meaning from None


async def _unit(connection: Connection, attempt: Attempt, work: Work) -> Outcome:
    beginning = await idempotency.begin(connection, attempt.scope)
    if beginning.earlier is not None:
        if beginning.earlier.fingerprint != attempt.fingerprint:
            raise IdempotencyKeyReused
        return Outcome(beginning.earlier, is_replay=True)
    if not beginning.is_alone:
        raise IdempotencyInProgress
    effect = await work(connection, beginning.now)
    answer = Answer(
        fingerprint=attempt.fingerprint, status=effect.status, location=effect.location, response=effect.response
    )
    await idempotency.record(connection, attempt.scope, answer, now=beginning.now)
    return Outcome(answer, is_replay=False)
