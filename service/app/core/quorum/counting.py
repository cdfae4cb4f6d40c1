"""The arithmetic of a quorum: what approvals weigh in an electorate, and what a rule still lacks.

Every requirement only grows with approvals, so "everybody who still may" is the best case: what it lacks, no vote can
bring. Whole numbers only.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from app.core.governance.policy_set import QuorumRule
from app.core.governance.validators import Validator, ValidatorSet

HUMANS_OF_A_SHARE: Final = 2
"""A share of the weight always takes two people."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the approvals of one electorate come to. `roles` and `orgs` are those of the approving humans."""

    humans: int
    recomputes: int
    roles: tuple[str, ...]
    orgs: tuple[str, ...]
    eligible_humans: int
    weight: int
    weight_total: int

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "humans": self.humans,
            "recomputes": self.recomputes,
            "roles": list(self.roles),
            "orgs": list(self.orgs),
            "eligible_humans": self.eligible_humans,
            "weight": self.weight,
            "weight_total": self.weight_total,
        }


@dataclass(frozen=True, slots=True)
class Missing:
    """One requirement that is not met: of which electorate, which, how much is needed and how much is there."""

    electorate: Literal["current", "successor"]
    requirement: str
    needed: int
    have: int

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "electorate": self.electorate,
            "requirement": self.requirement,
            "needed": self.needed,
            "have": self.have,
        }


@dataclass(frozen=True, slots=True)
class Count:
    """A rule with the electorates it is applied to, at one instant."""

    rule: QuorumRule
    electorate: ValidatorSet
    successor: ValidatorSet | None
    proposer: str
    now: datetime
    revoked_keys: frozenset[str]

    def of(self, approving: Collection[str]) -> tuple[Standing, Standing | None, tuple[Missing, ...]]:
        """Return where the approvals of these principals stand, and what is missing."""
        standing = self._standing(self.electorate, approving, self._eligible(self.electorate))
        missing = list(self._missing(standing, self.electorate, "current"))
        if self.successor is None:
            return standing, None, tuple(missing)
        successors = self._standing(self.successor, approving, self._eligible(self.successor))
        missing += self._missing(successors, self.successor, "successor")
        return standing, successors, tuple(missing)

    def at_best(self, approving: Collection[str], *, without: Collection[str]) -> tuple[Missing, ...]:
        """Return what would be missing if everybody approved who still may, except `without`."""
        missing: list[Missing] = []
        for name, validator_set in (("current", self.electorate), ("successor", self.successor)):
            if validator_set is None:
                continue
            open_to = self._may_still_vote(validator_set)
            best = {*approving, *(one.principal for one in open_to if one.principal not in without)}
            standing = self._standing(validator_set, best, open_to)
            missing += self._missing(standing, validator_set, name)  # type: ignore[arg-type]
        return tuple(missing)

    def _eligible(self, validator_set: ValidatorSet) -> tuple[Validator, ...]:
        return validator_set.eligible(proposer=self.proposer, at=self.now, revoked_keys=self.revoked_keys)

    def _may_still_vote(self, validator_set: ValidatorSet) -> tuple[Validator, ...]:
        return tuple(
            one
            for one in validator_set.validators
            if one.principal != self.proposer and one.may_still_vote(self.now, revoked=self.revoked_keys)
        )

    def _standing(
        self, validator_set: ValidatorSet, approving: Collection[str], eligible: Collection[Validator]
    ) -> Standing:
        approvers = [
            one for one in validator_set.validators if one.principal in approving and one.principal != self.proposer
        ]
        return standing_of(capped_weights(self.rule, validator_set), approvers, eligible)

    def _missing(
        self, standing: Standing, validator_set: ValidatorSet, electorate: Literal["current", "successor"]
    ) -> Iterator[Missing]:
        for requirement, needed, have in _requirements(self.rule, standing, validator_set):
            is_of_old_set = requirement == "recomputes"
            if have < needed and not (is_of_old_set and electorate == "successor"):
                yield Missing(electorate, requirement, needed, have)


def standing_of(
    weights: Mapping[str, int], approvers: Collection[Validator], eligible: Collection[Validator]
) -> Standing:
    """Return where the approvals of these validators stand, in a set of these weights."""
    humans = [one for one in approvers if one.is_human]
    return Standing(
        humans=len(humans),
        recomputes=len(approvers) - len(humans),
        roles=tuple(sorted({one.role for one in humans})),
        orgs=tuple(sorted({one.org for one in humans})),
        eligible_humans=sum(one.is_human for one in eligible),
        weight=sum(weights[one.id] for one in humans),
        weight_total=sum(weights.values()),
    )


def lacking(
    rule: QuorumRule,
    validator_set: ValidatorSet,
    there: Collection[Validator],
    *,
    weights: Mapping[str, int] | None = None,
) -> list[tuple[str, int, int]]:
    """Return (requirement, needed, have) of what the rule would lack if all who are there approved.

    `weights`: `capped_weights` of rule and set, for whoever asks often.
    """
    standing = standing_of(weights or capped_weights(rule, validator_set), there, there)
    return [one for one in _requirements(rule, standing, validator_set) if one[2] < one[1]]


def _requirements(rule: QuorumRule, standing: Standing, validator_set: ValidatorSet) -> Iterator[tuple[str, int, int]]:
    share = share_needed(rule, standing.weight_total)
    orgs_there = len(validator_set.orgs)
    spare = max(0, standing.humans - rule.humans) if rule.human_replaces_recompute else 0
    yield "humans", max(rule.humans, HUMANS_OF_A_SHARE if share else 0), standing.humans
    yield "recomputes", rule.recomputes, standing.recomputes + spare
    yield "eligible_humans", rule.eligible_humans_min, standing.eligible_humans
    for role in rule.roles:
        yield f"role:{role}", 1, int(role in standing.roles)
    yield "orgs", min(rule.orgs_min, orgs_there), len(standing.orgs)
    yield "weight", share, standing.weight


def share_needed(rule: QuorumRule, total: int) -> int:
    """Return the least weight that is the rule's share of the total, rounded up."""
    return -(-rule.weight_numerator * total // rule.weight_denominator)


def capped_weights(rule: QuorumRule, validator_set: ValidatorSet) -> Mapping[str, int]:
    """Return each person's weight by id, under the highest cap with which nobody alone reaches the share."""
    share = rule.weight_numerator, rule.weight_denominator
    known = validator_set.weights_of_share.get(share)
    if known is None:
        known = validator_set.weights_of_share[share] = _capped_weights(rule, validator_set)
    return known


def _capped_weights(rule: QuorumRule, validator_set: ValidatorSet) -> Mapping[str, int]:
    weights = {one.id: one.weight for one in validator_set.humans()}
    caps = range(2, max(weights.values(), default=1) + 1)
    cap = 1 + bisect_left(caps, True, key=lambda cap: _reached_alone(rule, weights, cap))
    return {validator: min(weight, cap) for validator, weight in weights.items()}


def _reached_alone(rule: QuorumRule, weights: Mapping[str, int], cap: int) -> bool:
    total = sum(min(weight, cap) for weight in weights.values())
    return rule.weight_numerator > 0 and cap * rule.weight_denominator >= rule.weight_numerator * total
