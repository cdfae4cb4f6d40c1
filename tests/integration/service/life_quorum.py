"""Who must agree, counted a second time: written from the table of tiers, without a line of the service's own count."""

from collections.abc import Collection
from dataclasses import dataclass

TIERS = ("low", "medium", "high", "critical", "governance")
HUMANS = {"olga": ("owner", "acme"), "sam": ("safety", "watch"), "zoe": ("security", "acme")}
MACHINES = ("robot", "replica")
VALIDATORS = (*HUMANS, *MACHINES)


@dataclass
class Vote:
    """One that the service accepted. `label`: which of the envelopes that the test made."""

    label: int
    by: str
    decision: str
    epoch: int
    is_superseded: bool = False
    is_revoked: bool = False

    @property
    def stands(self) -> bool:
        return not self.is_superseded and not self.is_revoked


def count(tier: str, votes: Collection[Vote], *, proposer: str, revoked: Collection[str]) -> tuple[bool, bool]:
    """Return whether there is a quorum, and whether there can be none any more, of the votes of one epoch."""
    able = {one for one in VALIDATORS if one not in revoked and f"{one}-person" != proposer}
    standing = {vote.by: vote.decision for vote in votes if vote.stands and vote.by in able}
    approving = {one for one, decision in standing.items() if decision == "approve"}
    rejecting = {one for one, decision in standing.items() if decision == "reject"}
    vetoers = {"high": {"sam"}, "critical": set(HUMANS)}.get(tier, set())
    is_vetoed = bool(rejecting & vetoers)
    eligible = len(able & HUMANS.keys())
    is_met = _is_enough(tier, approving, eligible) and not is_vetoed
    return is_met, is_vetoed or not _is_enough(tier, approving | (able - rejecting), eligible)


def _is_enough(tier: str, approving: set[str], eligible: int) -> bool:
    people = approving & HUMANS.keys()
    machines = len(approving & set(MACHINES))
    roles = {HUMANS[one][0] for one in people}
    orgs = {HUMANS[one][1] for one in people}
    match tier:
        case "low":
            return bool(approving)
        case "medium":
            return bool(people) and machines >= 1
        case "high":
            return eligible >= 3 and {"owner", "safety"} <= roles and len(orgs) >= 2 and machines >= 1
        case "critical":
            return eligible >= 3 and len(people) >= 3 and machines >= 1
        case _:
            return len(people) >= 2  # Of three with one weight each: two thirds.
