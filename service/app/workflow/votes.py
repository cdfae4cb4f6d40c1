"""The third stage: votes, what takes them back, and the tally that follows from those that are stored.

Each request is one transaction under the lock of the proposal's row: check, store, count again, decide. No counter is
kept, so two votes that cross the threshold at once are counted one after the other, and only the first that finds the
rule met takes the step (transitions 7, 8 and 9). The tally is taken at the instant of its event, so that anybody who
has the log computes the same record.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.core.documents.identifiers import RANDOM_BYTES, Principal, ProposalId, uuid7
from app.core.governed.lifecycle import State
from app.core.log.events import Draft
from app.core.quorum import votes
from app.core.quorum.tally import Tally
from app.core.quorum.votes import VerifiedVote
from app.core.signing import envelope as dsse
from app.core.signing.envelope import Envelope
from app.errors import (
    AlreadyApplying,
    BallotClosed,
    BallotSuperseded,
    NotFound,
    NotSimulated,
    TooManyVotes,
)
from app.resilience.deadline import Deadline
from app.security.signatures import verify
from app.storage import ballot_box, governance, proposals
from app.storage.ballot_box import StoredVote, VoteId
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import Events, clock
from app.storage.governance import Documents, Rules
from app.storage.proposals import StoredProposal
from app.workflow import quorum
from app.workflow.attempts import Attempt, Attempts, Effect, Outcome

ROUTE: Final = "/api/v1/proposals"
CREATED: Final = 201
KNOWN: Final = 200
VOTES_OF_ONE_MAX: Final = 16
"""How often one principal may vote in one epoch; all of them are read at each count."""
APPLIED: Final = frozenset({State.APPLYING, State.APPLIED, State.ROLLED_BACK})

Done = tuple[int, StoredVote, StoredProposal, Tally | None]
"""What one request did: its status, the vote, the proposal after it, and the tally if there was a new one."""

_encode: Final = msgspec.json.Encoder().encode


class VoteRecord(msgspec.Struct, frozen=True):
    """A vote as it is answered. `digest`: of its canonical envelope."""

    id: UUID
    proposal: UUID
    epoch: int
    validator: str
    role: str
    keyid: str
    decision: str
    recomputed: bool
    digest: str
    issued_at: datetime
    expires_at: datetime
    at: datetime
    superseded_at: datetime | None
    revoked_at: datetime | None
    envelope: dict[str, Any]


class VoteReceipt(msgspec.Struct, frozen=True):
    """What a vote or its revocation led to: the proposal's state and the tally, which is null when nothing new came."""

    vote: VoteRecord
    state: str
    epoch: int
    tally: dict[str, Any] | None


class Votes:
    """Takes votes and their revocations; moves proposals when a quorum is reached, missed or lost."""

    def __init__(
        self, database: Database, events: Events, documents: Documents, *, random: Callable[[int], bytes]
    ) -> None:
        self._database = database
        self._attempts = Attempts(database)
        self._events = events
        self._documents = documents
        self._random = random

    async def cast(self, proposal_id: ProposalId, body: bytes, attempt: Attempt, *, deadline: Deadline) -> Outcome:
        """Store a vote once, however often it is sent, and take the step that follows from it.

        Raises:
            MalformedBody, BadSignature, BindingMismatch: the body is not a good vote.
            NotEligible, ProposerCannotVote: the signer has no vote here.
            NotFound, NotSimulated, BallotClosed, BallotSuperseded, TooManyVotes: there is no such vote to give.
            IdempotencyInProgress, IdempotencyKeyReused: the key is taken.
            DatabaseUnavailable, QueryTimeout: nothing was done.
            OutcomeUnknown: it may have been done.
        """
        envelope = dsse.decode(body)

        async def work(connection: Connection, now: datetime) -> Effect:
            del now  # Older than the lock that everything here waits for.
            return _effect(await self._cast(connection, proposal_id, envelope, attempt))

        return await self._attempts.once("vote_cast", attempt, work, deadline=deadline)

    async def revoke(
        self, proposal_id: ProposalId, vote_id: UUID, body: bytes, attempt: Attempt, *, deadline: Deadline
    ) -> Outcome:
        """Take a vote back; an approval that rested on it is lost (transition 9).

        Raises:
            AlreadyApplying: the change is on its way, or done.
            BallotClosed, BallotSuperseded: the vote counts no longer anyway.
            And what `cast` raises.
        """
        envelope = dsse.decode(body)

        async def work(connection: Connection, now: datetime) -> Effect:
            del now
            return _effect(await self._revoke(connection, proposal_id, vote_id, envelope, attempt))

        return await self._attempts.once("vote_revoke", attempt, work, deadline=deadline)

    async def of_proposal(
        self, proposal_id: ProposalId, *, after: UUID, limit: int, deadline: Deadline
    ) -> Sequence[VoteRecord]:
        """Return at most `limit` votes of a proposal with ids above `after`, oldest first, of every epoch.

        Raises:
            NotFound: there is no such proposal.
            DatabaseUnavailable, QueryTimeout: they could not be read.
        """

        async def work(connection: Connection) -> Sequence[StoredVote]:
            if await proposals.get(connection, proposal_id) is None:
                raise NotFound
            return await ballot_box.of_proposal(connection, proposal_id, after=after, limit=limit)

        found = await self._database.read("vote_list", work, deadline=deadline)
        return [shown(vote) for vote in found]

    async def _cast(
        self, connection: Connection, proposal_id: ProposalId, envelope: Envelope, attempt: Attempt
    ) -> Done:
        rules, proposal = await self._enter(connection, proposal_id)
        known = await ballot_box.by_digest(connection, envelope.digest())
        if known is not None and known.proposal_id == proposal_id and known.principal == attempt.principal:
            return KNOWN, known, proposal, None
        _require_open(proposal, envelope)
        poll = await quorum.open_poll(connection, rules, proposal)
        now = await clock(connection)
        if now >= poll.expires_at:
            raise BallotClosed
        checked = votes.check(
            envelope,
            ballot=poll.ballot,
            ballot_expires_at=poll.expires_at,
            electorate=rules.validators,
            proposer=proposal.principal,
            principal=attempt.principal,
            now=now,
            verify=verify,
            successor=poll.successor,
            revoked_keys=poll.revoked_keys,
        )
        if await ballot_box.count_of(connection, proposal_id, proposal.epoch, attempt.principal) >= VOTES_OF_ONE_MAX:
            raise TooManyVotes
        vote = self._to_store(checked, envelope, proposal_id, at=now)
        await ballot_box.insert(connection, vote)
        await self._tell(connection, proposal, "vote-cast", envelope, attempt, at=now)
        tally = await quorum.recount(connection, poll, now=now)
        return CREATED, vote, await quorum.decide(connection, self._events, proposal, tally), tally

    async def _revoke(
        self,
        connection: Connection,
        proposal_id: ProposalId,
        vote_id: UUID,
        envelope: Envelope,
        attempt: Attempt,
    ) -> Done:
        rules, proposal = await self._enter(connection, proposal_id)
        vote = await ballot_box.by_id(connection, proposal_id, vote_id)
        if vote is None:
            raise NotFound
        if vote.revoked_at and await ballot_box.revocation_digest(connection, vote.id) == envelope.digest():
            return KNOWN, vote, proposal, None
        _require_revocable(proposal, vote)
        poll = await quorum.open_poll(connection, rules, proposal)
        now = await clock(connection)
        votes.check_revocation(
            envelope,
            vote=quorum.verified(vote),
            electorate=rules.validators,
            principal=attempt.principal,
            now=now,
            verify=verify,
            successor=poll.successor,
            revoked_keys=poll.revoked_keys,
        )
        await ballot_box.revoke(
            connection, vote, principal=attempt.principal, envelope=envelope.encode(), digest=envelope.digest(), at=now
        )
        await self._tell(connection, proposal, "vote-revoked", envelope, attempt, at=now)
        tally = await quorum.recount(connection, poll, now=now)
        moved = await quorum.decide(connection, self._events, proposal, tally)
        return CREATED, msgspec.structs.replace(vote, revoked_at=now), moved, tally

    async def _enter(self, connection: Connection, proposal_id: ProposalId) -> tuple[Rules, StoredProposal]:
        pins = await governance.lock_pins(connection)
        proposal = await proposals.lock(connection, proposal_id)
        if proposal is None:
            raise NotFound
        return await self._documents.rules(connection, pins), proposal

    async def _tell(
        self,
        connection: Connection,
        proposal: StoredProposal,
        kind: str,
        envelope: Envelope,
        attempt: Attempt,
        *,
        at: datetime,
    ) -> None:
        draft = Draft(
            kind=kind,
            principal=attempt.principal,
            request=attempt.request,
            body={"envelope": envelope.document()},
            target=proposal.target,
            proposal_id=proposal.id,
            state_from=proposal.state,
            state_to=proposal.state,
            epoch=proposal.epoch,
            at=at,
        )
        await self._events.append_after(connection, draft, prev=proposal.last_leaf)

    def _to_store(self, vote: VerifiedVote, envelope: Envelope, proposal_id: ProposalId, *, at: datetime) -> StoredVote:
        return StoredVote(
            id=VoteId(uuid7(int(at.timestamp() * 1000), self._random(RANDOM_BYTES))),
            proposal_id=proposal_id,
            epoch=vote.epoch,
            principal=Principal(vote.principal),
            validator=vote.validator,
            role=vote.role,
            keyid=vote.keyid,
            decision=vote.decision,
            recomputed=vote.recomputed,
            envelope=envelope.encode(),
            digest=vote.digest,
            issued_at=vote.issued_at,
            expires_at=vote.expires_at,
            at=at,
        )


def shown(vote: StoredVote) -> VoteRecord:
    """Return a vote as it is answered."""
    return VoteRecord(
        id=vote.id,
        proposal=vote.proposal_id,
        epoch=vote.epoch,
        validator=vote.validator,
        role=vote.role,
        keyid=vote.keyid,
        decision=vote.decision,
        recomputed=vote.recomputed,
        digest=vote.digest,
        issued_at=vote.issued_at,
        expires_at=vote.expires_at,
        at=vote.at,
        superseded_at=vote.superseded_at,
        revoked_at=vote.revoked_at,
        envelope=msgspec.json.decode(vote.envelope),
    )


def _effect(done: Done) -> Effect:
    status, vote, proposal, tally = done
    receipt = VoteReceipt(
        vote=shown(vote), state=proposal.state, epoch=proposal.epoch, tally=None if tally is None else tally.record()
    )
    return Effect(status, _encode(receipt), f"{ROUTE}/{vote.proposal_id}/votes")


def _require_open(proposal: StoredProposal, envelope: Envelope) -> None:
    """Refuse a vote that comes too early or too late; what it says of itself decides only which of the two."""
    claimed = votes.unchecked(envelope)
    is_of_earlier_epoch = claimed["proposal"] == str(proposal.id) and claimed["epoch"] < proposal.epoch
    if proposal.state in {State.PENDING, State.SIMULATING}:
        raise BallotSuperseded if is_of_earlier_epoch else NotSimulated
    if proposal.state is not State.SIMULATED:
        raise BallotClosed
    if is_of_earlier_epoch:
        raise BallotSuperseded


def _require_revocable(proposal: StoredProposal, vote: StoredVote) -> None:
    if proposal.state in APPLIED:
        raise AlreadyApplying
    if vote.epoch != proposal.epoch:
        raise BallotSuperseded
    if proposal.state not in {State.SIMULATED, State.APPROVED} or not vote.is_active:
        raise BallotClosed
