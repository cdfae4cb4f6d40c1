"""Counting the stored votes of a proposal again, and taking the step that follows (transitions 7, 8 and 9).

No counter is kept and no stored result is believed: every count opens the envelopes again, under the lock of the
proposal's row and of the rules in force. A vote whose envelope does not verify any more counts for nothing and is
reported: somebody wrote to the table beside us.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec

from app import log
from app.core.documents import canonical
from app.core.governance import validators
from app.core.governance.validators import ValidatorSet
from app.core.governed.lifecycle import State
from app.core.governed.target import Tier
from app.core.log.events import SERVICE
from app.core.quorum import tally as quorum
from app.core.quorum import votes
from app.core.quorum.tally import Tally
from app.core.quorum.votes import VerifiedVote
from app.core.signing import envelope as dsse
from app.core.signing import statement
from app.core.signing.statement import Ballot
from app.errors import BallotSuperseded, FirewallError, NotSimulated
from app.security.signatures import verify
from app.storage import ballot_box, proposals, simulations
from app.storage.ballot_box import StoredVote
from app.storage.connection import Connection
from app.storage.events import Events
from app.storage.governance import VALIDATORS, Rules
from app.storage.proposals import Step, StoredProposal
from app.storage.simulations import StoredSimulation

COUNTED_STATES: Final = frozenset({State.SIMULATED, State.APPROVED})


class Poll(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch of a proposal: what is voted on, under which rules, by whom, until when."""

    proposal: StoredProposal
    simulation: StoredSimulation
    rules: Rules
    ballot: Ballot
    ballot_digest: str
    expires_at: datetime
    successor: ValidatorSet | None
    revoked_keys: frozenset[str]


async def open_poll(connection: Connection, rules: Rules, proposal: StoredProposal) -> Poll:
    """Return the poll of a proposal's present epoch.

    Raises:
        NotSimulated: there is no ballot yet.
        BallotSuperseded: the rules in force are others than those it was simulated under.
    """
    simulation = await simulations.get(connection, proposal.id, proposal.epoch)
    ballot = await simulations.get_ballot(connection, proposal.id, proposal.epoch)
    if simulation is None or ballot is None:
        raise NotSimulated
    if simulation.pins.changed_in(rules.pins):
        raise BallotSuperseded
    successor = _successor(proposal, simulation)
    keys = [
        key.keyid
        for one in (rules.validators, successor)
        if one is not None
        for who in one.validators
        for key in who.keys
    ]
    return Poll(
        proposal=proposal,
        simulation=simulation,
        rules=rules,
        ballot=statement.decode(ballot.statement, Ballot),
        ballot_digest=canonical.digest(ballot.statement),
        expires_at=ballot.expires_at,
        successor=successor,
        revoked_keys=frozenset(await ballot_box.revoked_keys(connection, keys)),
    )


async def recount(connection: Connection, poll: Poll, *, now: datetime) -> Tally:
    """Return the tally of the stored votes of a poll, at an instant of the database's clock."""
    proposal = poll.proposal
    stored = await ballot_box.of_epoch(connection, proposal.id, proposal.epoch)
    if proposal.tier is None:
        raise AssertionError("a proposal that was simulated has a tier")
    return quorum.tally(
        poll.rules.policies.quorum_of(Tier(proposal.tier)),
        poll.rules.validators,
        [vote for vote in (_opened(poll, one) for one in stored) if vote is not None],
        proposal=str(proposal.id),
        epoch=proposal.epoch,
        proposer=proposal.principal,
        now=now,
        successor=poll.successor,
        revoked_keys=poll.revoked_keys,
    )


async def decide(connection: Connection, events: Events, proposal: StoredProposal, tally: Tally) -> StoredProposal:
    """Take the step that a tally asks for, if any: to approved, to rejected, or back to simulated.

    Raises:
        Overtaken: the proposal is not where it was when it was counted.
    """
    state_to = _next(proposal.state, tally)
    if state_to is None:
        return proposal
    step = Step(
        proposal_id=proposal.id,
        state_from=proposal.state,
        state_to=state_to,
        principal=SERVICE,
        body={"tally": tally.record()},
        at=tally.at,
        changes={} if state_to is State.REJECTED else {"approved_at": tally.at if state_to is State.APPROVED else None},
    )
    return (await proposals.move(connection, events, step)).proposal


def verified(vote: StoredVote) -> VerifiedVote:
    """Return a stored vote as the rules see it."""
    return VerifiedVote(
        digest=vote.digest,
        proposal=str(vote.proposal_id),
        epoch=vote.epoch,
        validator=vote.validator,
        principal=vote.principal,
        keyid=vote.keyid,
        role=vote.role,
        decision=vote.decision,  # type: ignore[arg-type]
        recomputed=vote.recomputed,
        issued_at=vote.issued_at,
        expires_at=vote.expires_at,
        is_revoked=vote.revoked_at is not None,
    )


def _next(state: State, tally: Tally) -> State | None:
    if state is State.SIMULATED:
        if tally.met:
            return State.APPROVED
        return State.REJECTED if tally.lost else None
    if state is State.APPROVED and not tally.met:
        return State.SIMULATED
    return None


def _successor(proposal: StoredProposal, simulation: StoredSimulation) -> ValidatorSet | None:
    if proposal.target != VALIDATORS or simulation.after is None:
        return None
    return validators.parse(msgspec.json.decode(simulation.after))


def _opened(poll: Poll, stored: StoredVote) -> VerifiedVote | None:
    """Return a vote as its envelope says it, checked as it was when it came; None if it says no such thing."""
    try:
        envelope = dsse.decode(stored.envelope)
        vote = votes.check(
            envelope,
            ballot=poll.ballot,
            ballot_expires_at=poll.expires_at,
            electorate=poll.rules.validators,
            proposer=poll.proposal.principal,
            principal=stored.principal,
            now=stored.at,
            verify=verify,
            successor=poll.successor,
        )
    except FirewallError as error:
        log.get().error("stored_vote_refused", vote=str(stored.id), proposal=str(stored.proposal_id), code=error.code)
        return None
    return replace(vote, is_revoked=stored.revoked_at is not None)
