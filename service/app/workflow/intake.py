"""Intake, the first stage: strict decode -> rules decide -> one transaction -> answer (architecture.md).

The answer is given after COMMIT, never before. Refused: a target that does not exist, a base that is no longer (or
never was) current, a frozen target, an equal proposal that is still open, a kind that the target does not take, an
expiry in the past or beyond any tier's.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import msgspec

from app.core.documents import instants, strict_json
from app.core.documents.identifiers import RANDOM_BYTES, Principal, ProposalId, uuid7
from app.core.governed import proposal as rules
from app.core.governed import target
from app.core.governed.lifecycle import OPEN, Kind, State
from app.core.governed.proposal import Intake
from app.core.governed.target import Tier
from app.errors import (
    Flaw,
    Forbidden,
    InvalidProposal,
    NotFound,
    NotOpen,
    StaleBase,
    TargetFrozen,
    UnknownTarget,
)
from app.resilience.deadline import Deadline
from app.storage import proposals, targets
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import Events, clock
from app.storage.proposals import NewProposal, Step, StoredProposal
from app.storage.targets import StoredTarget
from app.workflow import bodies
from app.workflow.attempts import Attempt, Attempts, Effect, Outcome
from app.workflow.reading import shown
from app.workflow.simulation import DryRun

ROUTE: Final = "/api/v1/proposals"
CREATED: Final = 201
DONE: Final = 200
EXPIRY: Final = timedelta(days=7)
"""Until the tier is known; no tier allows longer."""
UNFREEZING: Final = Tier.HIGH
"""Of this risk and above a proposal is taken in for a frozen target too: its quorum can unfreeze it."""

_encode: Final = msgspec.json.Encoder().encode


class Rehearsal(Protocol):
    """What simulates without storing anything."""

    async def dry_run(
        self, content: dict[str, Any], *, proposal_digest: str, proposer: Principal, deadline: Deadline
    ) -> DryRun:
        """Return what the simulation of that content record says."""


class Proposals:
    """Takes proposals in, and lets them be withdrawn."""

    def __init__(
        self,
        database: Database,
        events: Events,
        *,
        random: Callable[[int], bytes],
        rehearsal: Rehearsal,
        accepted: Callable[[], object] = lambda: None,
    ) -> None:
        self._database = database
        self._attempts = Attempts(database)
        self._events = events
        self._random = random
        self._rehearsal = rehearsal
        self._accepted = accepted

    async def create(
        self, body: bytes, *, key: str, principal: Principal, request: str | None, deadline: Deadline
    ) -> Outcome:
        """Store the proposal in `body` once, however often it is sent.

        Raises:
            MalformedBody, InvalidProposal: the body is not acceptable.
            UnknownTarget, StaleBase, TargetFrozen: the target is not there, or not as the proposal takes it to be.
            DuplicateOpen: an equal proposal is open.
            IdempotencyInProgress, IdempotencyKeyReused: the key is taken.
            DatabaseUnavailable, QueryTimeout: nothing was done.
            OutcomeUnknown: it may have been done.
        """
        intake = await bodies.accepted(accept, body)
        attempt = Attempt(principal, ROUTE, key, intake.fingerprint, request)

        async def work(connection: Connection, now: datetime) -> Effect:
            await _require_base(connection, intake, now)
            stored = await self.store(connection, intake, kind=Kind(intake.content.kind), attempt=attempt, now=now)
            return Effect(CREATED, _encode(shown(stored)), f"{ROUTE}/{stored.id}")

        outcome = await self._attempts.once("proposal_create", attempt, work, deadline=deadline)
        self._accepted()
        return outcome

    async def dry_run(self, body: bytes, *, principal: Principal, deadline: Deadline) -> bytes:
        """Simulate the proposal in `body` and store nothing; return the answer.

        Raises:
            MalformedBody, InvalidProposal, UnknownTarget, StaleBase, TargetFrozen: as `create`.
            SimulationBusy: too many wait for it already.
            DatabaseUnavailable, QueryTimeout: it could not be read.
        """
        intake = await bodies.accepted(accept, body)

        async def work(connection: Connection) -> None:
            now = await clock(connection)
            await _require_base(connection, intake, now)

        await self._database.read("proposal_dry_run", work, deadline=deadline)
        content: dict[str, Any] = msgspec.json.decode(intake.record)
        found = await self._rehearsal.dry_run(
            content, proposal_digest=intake.proposal_digest, proposer=principal, deadline=deadline
        )
        return _encode(found)

    async def withdraw(
        self, proposal_id: ProposalId, attempt: Attempt, *, is_admin: bool, deadline: Deadline
    ) -> Outcome:
        """Close an open proposal: its proposer may, and an admin (transition 12).

        Raises:
            NotFound, Forbidden, NotOpen: it is not there, not theirs, or decided already.
        """

        async def work(connection: Connection, now: datetime) -> Effect:
            del now
            held = await proposals.lock(connection, proposal_id)
            if held is None:
                raise NotFound
            if held.principal != attempt.principal and not is_admin:
                raise Forbidden
            if held.state not in OPEN:
                raise NotOpen
            step = Step(
                proposal_id=held.id,
                state_from=held.state,
                state_to=State.WITHDRAWN,
                principal=attempt.principal,
                body={},
                request=attempt.request,
            )
            moved = await proposals.move(connection, self._events, step)
            return Effect(DONE, _encode(shown(moved.proposal)))

        return await self._attempts.once("proposal_withdraw", attempt, work, deadline=deadline)

    async def store(
        self, connection: Connection, intake: Intake, *, kind: Kind, attempt: Attempt, now: datetime
    ) -> StoredProposal:
        """Store an accepted proposal with its first event, in the caller's transaction."""
        new = NewProposal(
            id=ProposalId(uuid7(int(now.timestamp() * 1000), self._random(RANDOM_BYTES))),
            principal=attempt.principal,
            kind=kind,
            target=intake.content.target,
            base_version=intake.content.base_version,
            base_digest=intake.content.base_digest,
            body=intake.body,
            body_digest=intake.body_digest,
            content=intake.record,
            proposal_digest=intake.proposal_digest,
            created_at=now,
            expires_at=min(intake.expires_at or now + EXPIRY, now + EXPIRY),
        )
        body = {
            "id": str(new.id),
            "content": msgspec.Raw(new.content),
            "proposer": new.principal,
            "accepted_at": instants.to_text(new.created_at),
            "expires_at": instants.to_text(new.expires_at),
            "body_digest": new.body_digest,
        }
        return await proposals.insert(connection, self._events, new, body=body, request=attempt.request)


def require_current(held: StoredTarget | None, *, version: int, digest: str) -> StoredTarget:
    """Return the target if that is its current version.

    Raises:
        UnknownTarget, StaleBase: it is not.
    """
    if held is None:
        raise UnknownTarget
    if (held.version, held.digest) != (version, digest):
        raise StaleBase
    return held


async def _require_base(connection: Connection, intake: Intake, now: datetime) -> None:
    """Check a proposal against its target, which stays as it is until the transaction ends.

    Raises:
        UnknownTarget, StaleBase, TargetFrozen, InvalidProposal: it is not as the proposal takes it to be.
    """
    content = intake.content
    # Before the event draws its place: in the order of events, the base is the target's head.
    held = await targets.share(connection, content.target)
    held = require_current(held, version=content.base_version, digest=content.base_digest)
    if held.state == "frozen" and Tier(content.declared_risk) < UNFREEZING:
        raise TargetFrozen
    if target.is_governance(content.target) is not (Kind(content.kind) is Kind.GOVERNANCE):
        raise InvalidProposal([Flaw("/kind", "invalid-value", "governance/ takes the kind governance, others do not")])
    if intake.expires_at is not None and not now < intake.expires_at <= now + EXPIRY:
        raise InvalidProposal([Flaw("/expires_at", "invalid-value", "not in the past, at most 7 days ahead")])
    if content.supersedes is not None:
        earlier = await proposals.get(connection, ProposalId(content.supersedes))
        if earlier is None or earlier.target != content.target:
            raise InvalidProposal([Flaw("/supersedes", "invalid-value", "no proposal for this target")])


def accept(body: bytes) -> Intake:
    """Return the intake of a body.

    Raises:
        MalformedBody, InvalidProposal: it is not acceptable.
    """
    return rules.accept(body, strict_json.decode(body))
