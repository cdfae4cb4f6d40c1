"""Replaying the log, entry by entry: does each follow from those before it?

`Fold.take` reads one entry, objects to what does not follow, and moves what it knows. Nothing is believed because the
service wrote it: states come from the transition table, versions and digests from patches applied again, tallies from
the votes counted again, rules from the versions that the log itself put in force. Signatures are put down as
obligations, for the caller to verify in any order and on any processor.

With `gaps` the entries are a part of the log, as a bundle carries it: other proposals are missing, those that are here
are whole. What only the missing ones could tell is then not asked.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from app.core.governed import lifecycle
from app.core.governed.lifecycle import State
from app.core.log.entry import Entry
from app.core.replay import fold_life, fold_targets, fold_votes, parts
from app.core.replay.standing import Known, Object, Obligation, Standing, Unreadable

VOTING: Final = frozenset({State.SIMULATED, State.APPROVED})
STEPS: Final[Mapping[tuple[str | None, str | None], str]] = {
    (step.state_from, step.state_to): step.event for step in lifecycle.TRANSITIONS
}
UNCHAINED: Final = frozenset({"genesis", "log-recovered"})
"""Events that belong to no target: they are a chain of their own."""

Rule = Callable[[Known, Entry, Any], None]
RuleOfProposal = Callable[[Known, Entry, Any, Standing], None]

OF_TARGETS: Final[Mapping[str, Rule]] = {
    "genesis": fold_targets.founded,
    "target-created": fold_targets.created,
    "frozen": fold_targets.frozen,
    "unfrozen": fold_targets.unfrozen,
    "key-revoked": fold_targets.key_revoked,
    "log-recovered": fold_targets.recovered,
}
OF_PROPOSALS: Final[Mapping[str, RuleOfProposal]] = {
    "simulated": fold_life.simulated,
    "denied": fold_life.denied,
    "vote-cast": fold_votes.cast,
    "vote-revoked": fold_votes.revoke,
    "approved": fold_life.approved,
    "rejected": fold_life.rejected,
    "approval-lost": fold_life.approval_lost,
    "reopened": fold_life.reopened,
    "stale": fold_life.stale,
    "expired": fold_life.expired,
    "applying": fold_life.applying,
    "applied": fold_life.applied,
    "apply-failed": fold_life.apply_failed,
    "rolled-back": fold_life.rolled_back,
}
"""What a kind demands beside its step in the transition table; kinds that are not here demand nothing more."""


class Fold:
    """What is known after the entries taken so far."""

    def __init__(self, *, object_to: Object, gaps: bool = False) -> None:
        self.known = Known(object_to=object_to, gaps=gaps)
        self._chains: dict[str | None, str] = {}
        self._seen: set[str] = set()

    def take(self, entry: Entry) -> None:
        """Take the next entry; object to what does not follow."""
        leaf, known = entry.leaf, self.known
        known.index = entry.index
        known.require(leaf.id not in self._seen, "duplicate-id", "an event of this id was taken before")
        self._seen.add(leaf.id)
        known.require(bool(known.heads) or leaf.kind == "genesis", "genesis", "the first entry is the genesis")
        try:
            body = parts.body(entry)
            if leaf.proposal is None:
                self._take_of_target(entry, body)
            elif leaf.kind == "proposal-created":
                fold_life.created(known, entry, body)
            else:
                self._take_of_proposal(entry, body, leaf.proposal)
        except Unreadable as reason:
            known.refuse(reason.code, str(reason))

    def settle(self) -> list[Obligation]:
        """Return the signatures that wait to be verified, and forget them."""
        owed, self.known.obligations = self.known.obligations, []
        return owed

    def _take_of_target(self, entry: Entry, body: Any) -> None:
        leaf, known = entry.leaf, self.known
        rule = OF_TARGETS.get(leaf.kind)
        if rule is None:
            raise Unreadable("leaf", f"an event of the kind {leaf.kind} belongs to a proposal")
        chain = None if leaf.kind in UNCHAINED else leaf.target
        last = self._chains.get(chain)
        is_next = leaf.prev == last or (known.gaps and last is None)
        known.require(is_next, "prev", "prev is not the leaf before it in this target's chain")
        self._chains[chain] = entry.leaf_digest
        rule(known, entry, body)

    def _take_of_proposal(self, entry: Entry, body: Any, proposal_id: str) -> None:
        leaf, known = entry.leaf, self.known
        proposal = known.proposals.get(proposal_id)
        if proposal is None:
            raise Unreadable("unknown-proposal", "no proposal of this id was created")
        known.require(leaf.target == proposal.target, "leaf", "the proposal is about another target")
        is_next = leaf.prev == proposal.last_leaf
        known.require(is_next, "prev", "prev is not the leaf before it in this proposal's chain")
        proposal.last_leaf = entry.leaf_digest
        self._require_step(entry, proposal)
        rule = OF_PROPOSALS.get(leaf.kind)
        try:
            if rule is not None:
                rule(known, entry, body, proposal)
        finally:
            proposal.state = leaf.state_to or proposal.state
        if proposal.state in lifecycle.TERMINAL:
            proposal.plan = proposal.content = None

    def _require_step(self, entry: Entry, proposal: Standing) -> None:
        leaf, known = entry.leaf, self.known
        # A message is put together only where it is needed: this is done for every entry.
        if leaf.state_from != proposal.state:
            known.refuse("transition", f"it was {proposal.state}, not {leaf.state_from}")
        if leaf.kind in {"vote-cast", "vote-revoked"}:
            stays = leaf.state_to == leaf.state_from and leaf.state_from in VOTING
            known.require(stays, "transition", "votes change no state, and only while they are open")
        elif STEPS.get((leaf.state_from, leaf.state_to)) != leaf.kind:
            known.refuse("transition", f"there is no step {leaf.kind} from {leaf.state_from} to {leaf.state_to}")
        if leaf.kind != "reopened" and leaf.epoch != proposal.epoch:
            known.refuse("epoch", f"the epoch was {proposal.epoch}")
