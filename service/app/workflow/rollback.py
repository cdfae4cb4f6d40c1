"""Going back: a rollback is a proposal like any other, whose result is an older version's content.

Versions only grow: going back from 5 to 3 makes 6 with the content of 3. The patch is the difference between the two
documents, so the plan shows what changes, and simulation, votes and apply are the usual ones. Who has only the role
break_glass makes a proposal of that kind: nothing but a rollback, never of the rules, two people for critical targets.
"""

import asyncio
import hashlib
from datetime import datetime
from typing import Annotated, Final

import msgspec

from app.core.documents import canonical, difference
from app.core.documents.identifiers import Principal, ProposalId
from app.core.documents.strict_json import NUMBER_MAX
from app.core.governed import proposal
from app.core.governed.lifecycle import Kind
from app.core.governed.proposal import Intake, ProposalContent, Restores
from app.core.governed.target import is_governance
from app.core.log.events import SERVICE
from app.errors import AlreadyCurrent, Flaw, InvalidBody, UnknownTarget, UnknownVersion
from app.resilience.deadline import Deadline
from app.storage import targets
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.targets import Content, StoredTarget
from app.workflow.attempts import Attempt, Attempts, Effect, Outcome
from app.workflow.bodies import OFF_LOOP_BYTES
from app.workflow.intake import CREATED, ROUTE, Proposals, require_current
from app.workflow.reading import shown

VERSIONS_BACK_MAX: Final = 100
"""So many proposals at most are marked as rolled back by one apply."""

_encode: Final = msgspec.json.Encoder().encode


class RollbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go back to, and why."""

    to_version: Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=proposal.RATIONALE_CHARACTERS_MAX)]


class Way(msgspec.Struct, frozen=True):
    """From the current version back to an older one."""

    current: Content
    restored: Content


class Rollbacks:
    """Proposes rollbacks."""

    def __init__(self, database: Database, intake: Proposals) -> None:
        self._database = database
        self._attempts = Attempts(database)
        self._intake = intake

    async def propose(
        self, name: str, body: bytes, told: RollbackBody, attempt: Attempt, *, kind: Kind, deadline: Deadline
    ) -> Outcome:
        """Open a proposal to restore an older version.

        Raises:
            UnknownTarget, UnknownVersion: there is no such target; it was never applied in that version.
            AlreadyCurrent: its content is the current one.
            InvalidBody: it is too far back, or governs the rules.
            DuplicateOpen, StaleBase, IdempotencyInProgress, IdempotencyKeyReused: as for any proposal.
            DatabaseUnavailable, QueryTimeout, OutcomeUnknown: as everywhere.
        """
        if is_governance(name):
            raise InvalidBody([Flaw("", "governance", "the rules go forward only: propose a change of them")])

        async def look(connection: Connection) -> Way:
            return await _way(connection, name, told.to_version)

        way = await self._database.read("rollback_read", look, deadline=deadline)
        intake = await accept(way, body=body, reason=told.reason, kind=kind)

        async def work(connection: Connection, now: datetime) -> Effect:
            held = await targets.share(connection, name)
            require_current(held, version=way.current.snapshot.version, digest=way.current.snapshot.digest)
            stored = await self._intake.store(connection, intake, kind=kind, attempt=attempt, now=now)
            return Effect(CREATED, _encode(shown(stored)), f"{ROUTE}/{stored.id}")

        return await self._attempts.once("rollback_propose", attempt, work, deadline=deadline)

    async def open_itself(
        self, connection: Connection, held: StoredTarget, *, failed: ProposalId, reason: str, now: datetime
    ) -> None:
        """Open a rollback of a locked target whose newest version did not arrive, where there is a version before."""
        version = await targets.last_applied(connection, held.name, before=held.version)
        if version is None:
            return
        try:
            way = await _way(connection, held.name, version)
        except AlreadyCurrent:
            return
        body = msgspec.json.encode({"to_version": version, "reason": reason, "failed": str(failed)})
        intake = await accept(way, body=body, reason=reason, kind=Kind.ROLLBACK)
        attempt = Attempt(Principal(SERVICE), f"{ROUTE}/{failed}", str(failed), intake.fingerprint)
        await self._intake.store(connection, intake, kind=Kind.ROLLBACK, attempt=attempt, now=now)


async def _way(connection: Connection, name: str, version: int) -> Way:
    current = await targets.current(connection, name)
    if current is None:
        raise UnknownTarget
    if current.snapshot.version - version > VERSIONS_BACK_MAX:
        raise InvalidBody([Flaw("/to_version", "too-far", f"at most {VERSIONS_BACK_MAX} versions back")])
    restored = await targets.snapshot(connection, name, version)
    if restored is None or not await targets.was_applied(connection, name, version):
        raise UnknownVersion
    if restored.snapshot.digest == current.snapshot.digest:
        raise AlreadyCurrent
    return Way(current=current, restored=restored)


async def accept(way: Way, *, body: bytes, reason: str, kind: Kind) -> Intake:
    """Return the intake of a rollback; large documents are compared beside the loop."""
    if len(way.current.content) + len(way.restored.content) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(_accept, way, body, reason, kind)
    return _accept(way, body, reason, kind)


def _accept(way: Way, body: bytes, reason: str, kind: Kind) -> Intake:
    old, new = way.current, way.restored
    patch = difference.between(msgspec.json.decode(old.content), msgspec.json.decode(new.content))
    content = ProposalContent(
        target=old.snapshot.target,
        base_version=old.snapshot.version,
        base_digest=old.snapshot.digest,
        patch=[],
        rationale=reason,
    )
    restores = Restores(version=new.snapshot.version, digest=new.snapshot.digest)
    record = proposal.record_of(content, patch=patch, is_plain=False, kind=kind, restores=restores)
    return Intake(
        content=content,
        expires_at=None,
        body=body,
        body_digest=hashlib.sha256(body).hexdigest(),
        fingerprint=canonical.digest(body),
        record=record,
        proposal_digest=canonical.digest(record),
    )
