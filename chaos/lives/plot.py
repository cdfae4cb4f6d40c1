"""What a life will be: drawn from chance alone before it begins, so that a seed gives the same lives again."""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Course(StrEnum):
    """How a life goes, if the gate does its work."""

    LOW = "low"  # a machine that recomputed is enough
    MEDIUM = "medium"  # a person and a machine
    HIGH = "high"  # two people of two roles and organisations, a machine, and somebody who applies it
    REJECTED = "rejected"  # everybody says no
    DENIED = "denied"  # the schema refuses the result
    WITHDRAWN = "withdrawn"  # by who proposed it
    LEFT = "left"  # nobody ever votes
    REVOKED = "revoked"  # a vote is taken back, and given again


class Trespass(StrEnum):
    """A vote that must be refused, and why."""

    PROPOSER = "the proposer votes"
    FOREIGN = "a vote on another proposal, sent again here"
    EPOCH = "another epoch"
    DIGEST = "another simulation"
    FORGED = "a signature by another key"
    STRANGER = "somebody who is no validator"
    IMPOSTOR = "another validator's vote, sent by this one"
    LATE = "after the decision"


_WEIGHTS: Final = {
    Course.LOW: 30,
    Course.MEDIUM: 36,
    Course.HIGH: 8,
    Course.REJECTED: 6,
    Course.DENIED: 6,
    Course.WITHDRAWN: 5,
    Course.LEFT: 4,
    Course.REVOKED: 5,
}
_TRESPASS_SHARE: Final = 0.5
_ROLLBACK_SHARE: Final = 0.2
_TWIN_SHARE: Final = 0.2
APPLIED: Final = frozenset({Course.LOW, Course.MEDIUM, Course.HIGH, Course.REVOKED})


@dataclass(frozen=True, slots=True)
class Plot:
    """One life. Everything else it needs to choose comes from ``seed``."""

    number: int
    course: Course
    target: int  # index into the moving targets
    proposer: int  # index into the people
    trespass: Trespass | None
    rolls_back: bool  # after it was applied
    votes_twice: bool  # each vote is sent twice at once, under one key
    seed: int

    @property
    def risk(self) -> str:
        """The risk that its proposer declares: the tier, unless a rule raises it."""
        if self.course is Course.HIGH:
            return "high"
        return "low" if self.course in {Course.LOW, Course.DENIED, Course.LEFT} else "medium"


def draw(number: int, chance: random.Random, *, targets: int, people: int) -> Plot:
    """Draw the next life."""
    (course,) = chance.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))
    trespass = chance.choice(list(Trespass)) if chance.random() < _TRESPASS_SHARE else None
    if trespass is Trespass.LATE and course not in APPLIED:
        trespass = Trespass.PROPOSER
    return Plot(
        number=number,
        course=course,
        target=chance.randrange(targets),
        proposer=chance.randrange(people),
        trespass=trespass,
        rolls_back=course in APPLIED and chance.random() < _ROLLBACK_SHARE,
        votes_twice=chance.random() < _TWIN_SHARE,
        seed=chance.getrandbits(64),
    )
