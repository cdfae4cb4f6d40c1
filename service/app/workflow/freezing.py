"""Freezing and unfreezing (transition 18).

Freezing is one person's, at once: from then on nothing is applied. Unfreezing takes a quorum of tier high or above: an
approved proposal for this target whose votes stand at that instant; whoever froze in a panic does not thaw alone.
"""

import msgspec

from app.core.documents.identifiers import Principal, ProposalId
from app.core.governed.lifecycle import State
from app.core.governed.target import Tier
from app.core.log.events import Draft
from app.errors import NotApproved, NotFrozen, StaleBase, UnknownTarget
from app.resilience.deadline import Deadline
from app.storage import governance, proposals, targets
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import Events, clock
from app.storage.governance import Documents
from app.storage.targets import StoredTarget, TargetState
from app.workflow import quorum
from app.workflow.target_views import TargetShown, config_of, shown


class Freezing:
    """Freezes and unfreezes targets."""

    def __init__(self, database: Database, events: Events, documents: Documents) -> None:
        self._database = database
        self._events = events
        self._documents = documents

    async def freeze(
        self, name: str, *, reason: str, principal: Principal, request: str | None, deadline: Deadline
    ) -> TargetShown:
        """Let nothing be applied to a target any more; one that is frozen stays as it is.

        Raises:
            UnknownTarget: there is none of that name.
        """

        async def work(connection: Connection) -> StoredTarget:
            held = await targets.lock(connection, name)
            if held is None:
                raise UnknownTarget
            if held.state == "frozen":
                return held
            draft = Draft(
                kind="frozen",
                principal=principal,
                body={"reason": reason},
                target=name,
                state_from=held.state,
                state_to="frozen",
                request=request,
            )
            return await self._become(connection, held, "frozen", draft, reason=reason)

        return shown(await self._database.transact("target_freeze", work, deadline=deadline))

    async def unfreeze(
        self, name: str, *, by: ProposalId, principal: Principal, request: str | None, deadline: Deadline
    ) -> TargetShown:
        """Let a target's proposals be applied again, on the word of the quorum of one of them.

        Raises:
            UnknownTarget, NotFrozen: there is nothing to unfreeze.
            NotApproved, StaleBase, BallotSuperseded: that proposal has no quorum of tier high for this target now.
        """

        async def work(connection: Connection) -> StoredTarget:
            pins = await governance.lock_pins(connection)
            held = await targets.lock(connection, name)
            if held is None:
                raise UnknownTarget
            if held.state != "frozen":
                raise NotFrozen
            proposal = await proposals.lock(connection, by)
            if proposal is None or proposal.target != name or proposal.state is not State.APPROVED:
                raise NotApproved
            if (proposal.base_version, proposal.base_digest) != (held.version, held.digest):
                raise StaleBase
            now = await clock(connection)
            poll = await quorum.open_poll(connection, await self._documents.rules(connection, pins), proposal)
            tally = await quorum.recount(connection, poll, now=now)
            is_high = proposal.tier is not None and Tier(proposal.tier) >= Tier.HIGH
            if not tally.met or not is_high or proposal.expires_at <= now:
                raise NotApproved
            state = _state_of(held)
            draft = Draft(
                kind="unfrozen",
                principal=principal,
                body={"reason": "quorum", "proposal": str(by), "tally": tally.record()},
                target=name,
                state_from="frozen",
                state_to=state,
                request=request,
            )
            return await self._become(connection, held, state, draft)

        return shown(await self._database.transact("target_unfreeze", work, deadline=deadline))

    async def _become(
        self, connection: Connection, held: StoredTarget, state: TargetState, draft: Draft, *, reason: str | None = None
    ) -> StoredTarget:
        await targets.set_state(connection, held.name, state, reason=reason)
        await self._events.append(connection, draft)
        return msgspec.structs.replace(held, state=state, frozen_reason=reason)


def _state_of(held: StoredTarget) -> TargetState:
    """Return what a target is when it is not frozen: degraded while its actuator is known to run something else."""
    has_actuator = config_of(held).actuator is not None
    is_other = held.observed_version == held.version and held.observed_digest != held.digest
    return "degraded" if has_actuator and is_other else "active"
