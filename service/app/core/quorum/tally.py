"""The tally: which votes count, and whether they are enough (firewall.md section 7).

Pure: the same rule, electorate, votes and instant give the same record on every machine, and no counter is kept.
Counted are distinct principals with distinct key bytes, one vote each, the last one sent. Abstaining counts for
nothing; rejecting loses the proposal where the role has a veto, and else only takes that voter's approval away.
A machine counts as a recompute and as nothing else. Weights are capped so that nobody alone reaches a share, and a
share always takes two people. The share is of the whole set's people: nobody makes the electorate smaller by
proposing, or by letting keys lapse.

For a proposal that changes the validator set the rule must be met twice: by the set in force and by its `successor`,
except recomputes and vetoes, which are the old set's (TUF's rule for a new root).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from app.core.documents import instants
from app.core.governance.policy_set import QuorumRule
from app.core.governance.validators import Key, Validator, ValidatorSet
from app.core.quorum import counting
from app.core.quorum.counting import Missing, Standing
from app.core.quorum.votes import CLOCK_TOLERANCE, VerifiedVote

ANYBODY: Final = "*"

CountedAs = Literal["human", "recompute", "reject", "abstain"]


@dataclass(frozen=True, slots=True)
class Tally:
    """The counted votes with the reasons for what was not counted.

    `lost`: vetoed, or not to be reached even if everybody who still may vote approved. `missing`: what a quorum
    lacks. `counted`: (vote, as what); `not_counted`: (vote, why); both sorted by the vote's digest.
    """

    proposal: str
    epoch: int
    at: datetime
    met: bool
    lost: bool
    vetoed_by: tuple[str, ...]
    standing: Standing
    successor: Standing | None
    missing: tuple[Missing, ...]
    counted: tuple[tuple[VerifiedVote, CountedAs], ...]
    not_counted: tuple[tuple[VerifiedVote, str], ...]

    def record(self) -> dict[str, Any]:
        """Return the typed record: plain JSON values without fractions, equal wherever it is computed."""
        return {
            "_type": "amgf/tally",
            "v": 1,
            "proposal": self.proposal,
            "epoch": self.epoch,
            "at": instants.to_text(self.at),
            "met": self.met,
            "lost": self.lost,
            "vetoed_by": list(self.vetoed_by),
            "standing": self.standing.record(),
            "successor": None if self.successor is None else self.successor.record(),
            "missing": [one.record() for one in self.missing],
            "counted": [
                {"vote": vote.digest, "validator": vote.validator, "role": vote.role, "as": counted_as}
                for vote, counted_as in self.counted
            ],
            "not_counted": [
                {"vote": vote.digest, "validator": vote.validator, "why": why} for vote, why in self.not_counted
            ],
        }


def tally(
    rule: QuorumRule,
    electorate: ValidatorSet,
    votes: Sequence[VerifiedVote],
    *,
    proposal: str,
    epoch: int,
    proposer: str,
    now: datetime,
    successor: ValidatorSet | None = None,
    revoked_keys: Collection[str] = (),
) -> Tally:
    """Return the tally of votes in the order in which they were accepted.

    `revoked_keys`: keyids. `successor`: the set that a change of `governance/validators` would bring into force.
    """
    sieve = _Sieve(_holders(electorate, successor), proposal, epoch, proposer, now, frozenset(revoked_keys))
    live, refused = sieve.sift(votes)
    counted: list[tuple[VerifiedVote, CountedAs]] = []
    for vote in live:
        counted_as = _counted_as(vote, sieve.holders[vote.validator, vote.keyid][0])
        if counted_as is None:
            refused.append((vote, "not-recomputed"))
        else:
            counted.append((vote, counted_as))
    approving = {vote.principal for vote, counted_as in counted if counted_as in {"human", "recompute"}}
    rejecting = {vote.principal for vote, counted_as in counted if counted_as == "reject"}
    vetoed_by = tuple(
        sorted(one.id for one in electorate.validators if one.principal in rejecting and _has_veto(rule, one))
    )
    count = counting.Count(rule, electorate, successor, proposer=proposer, now=now, revoked_keys=sieve.revoked_keys)
    standing, successors, missing = count.of(approving)
    # Every requirement only grows with approvals: where nothing is missing, nothing is hopeless.
    hopeless = count.at_best(approving, without=rejecting) if missing else ()
    return Tally(
        proposal=proposal,
        epoch=epoch,
        at=now,
        met=not missing and not vetoed_by,
        lost=bool(vetoed_by or hopeless),
        vetoed_by=vetoed_by,
        standing=standing,
        successor=successors,
        missing=missing,
        counted=tuple(sorted(counted, key=lambda one: one[0].digest)),
        not_counted=tuple(sorted(refused, key=lambda one: (one[0].digest, one[1]))),
    )


def next_change(
    electorate: ValidatorSet, votes: Sequence[VerifiedVote], *, now: datetime, successor: ValidatorSet | None = None
) -> datetime | None:
    """Return the first instant after now at which a tally of the same votes may be another; None: never.

    Time comes into a count in four places: keys begin and end, votes begin to be believed and expire.
    """
    instants_of_keys = (*electorate.edges, *(() if successor is None else successor.edges))
    instants_of_votes = (edge for one in votes for edge in (one.issued_at - CLOCK_TOLERANCE, one.expires_at))
    return min((edge for edge in (*instants_of_keys, *instants_of_votes) if edge > now), default=None)


def _holders(
    electorate: ValidatorSet, successor: ValidatorSet | None
) -> Mapping[tuple[str, str], tuple[Validator, Key]]:
    """Return who holds which key, by validator and keyid; the set in force goes before its successor."""
    return electorate.holders if successor is None else {**successor.holders, **electorate.holders}


def _counted_as(vote: VerifiedVote, holder: Validator) -> CountedAs | None:
    if vote.decision != "approve":
        return vote.decision
    if holder.is_human:
        return "human"
    return "recompute" if vote.recomputed else None


def _has_veto(rule: QuorumRule, validator: Validator) -> bool:
    """`*` is every person's veto; a machine has one only by name."""
    return validator.role in rule.veto or (validator.is_human and ANYBODY in rule.veto)


@dataclass(frozen=True, slots=True)
class _Sieve:
    """Which votes are live: at most one of a principal and one of a key."""

    holders: Mapping[tuple[str, str], tuple[Validator, Key]]
    proposal: str
    epoch: int
    proposer: str
    now: datetime
    revoked_keys: frozenset[str]

    def sift(self, votes: Sequence[VerifiedVote]) -> tuple[list[VerifiedVote], list[tuple[VerifiedVote, str]]]:
        refused: list[tuple[VerifiedVote, str]] = []
        seen: set[str] = set()
        last: dict[str, VerifiedVote] = {}
        for vote in votes:
            why = "duplicate" if vote.digest in seen else self._foreign(vote)
            seen.add(vote.digest)
            if why is not None:
                refused.append((vote, why))
                continue
            if vote.principal in last:
                refused.append((last[vote.principal], "superseded"))
            last[vote.principal] = vote
        keys: dict[str, VerifiedVote] = {}
        for vote in sorted(last.values(), key=lambda one: (one.validator, one.digest)):
            why = self._void(vote) or ("same-key" if vote.keyid in keys else None)
            if why is None:
                keys[vote.keyid] = vote
            else:
                refused.append((vote, why))
        return list(keys.values()), refused

    def _foreign(self, vote: VerifiedVote) -> str | None:
        """Say why a vote is none in this ballot at all: it does not even supersede an earlier one."""
        if (vote.validator, vote.keyid) not in self.holders:
            return "not-a-validator"
        holder, key = self.holders[vote.validator, vote.keyid]
        reasons = (
            ("other-proposal", vote.proposal != self.proposal),
            ("other-epoch", vote.epoch != self.epoch),
            ("proposer", self.proposer in {vote.principal, holder.principal}),
            ("not-the-holder", (holder.principal, holder.role) != (vote.principal, vote.role)),
            ("outside-window", not key.is_valid_at(vote.issued_at)),
            ("early", vote.issued_at > self.now + CLOCK_TOLERANCE),
        )
        for why, is_so in reasons:
            if is_so:
                return why
        return None

    def _void(self, vote: VerifiedVote) -> str | None:
        """Say why a vote that stood does not stand any more; what it superseded stays superseded."""
        if vote.is_revoked:
            return "revoked"
        if vote.keyid in self.revoked_keys:
            return "key-revoked"
        return "expired" if vote.expires_at <= self.now else None
