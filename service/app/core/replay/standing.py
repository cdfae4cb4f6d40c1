"""What replay knows at one point of the log: every target's head, every open proposal, the rules in force.

All of it comes from entries read so far, nothing from the database. Times are the canonical texts: they sort as the
instants they spell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from app.core.governance.policy_set import PolicySet, QuorumRule
from app.core.governance.root import Root
from app.core.governance.validators import ValidatorSet
from app.core.governed.shapes import Pin
from app.core.log.bodies import Content, Inputs
from app.core.quorum.tally import Tally
from app.core.quorum.votes import VerifiedVote
from app.core.signing.keys import Verify
from app.core.signing.statement import Ballot
from app.errors import FirewallError

Version = TypeVar("Version")

ACTIVE: Final = "active"
FROZEN: Final = "frozen"
DEGRADED: Final = "degraded"
POLICIES: Final = "governance/policies"
VALIDATORS: Final = "governance/validators"
CORPUS: Final = "governance/corpus"
ROOT: Final = "governance/root"


@dataclass(frozen=True, slots=True)
class Objection:
    """Why an entry does not follow from those before it. `code` is stable; index -1: not about one entry."""

    index: int
    code: str
    message: str


Object = Callable[[Objection], None]
"""Replay raises at the first; the verifier of a bundle collects them all."""


class DoesNotFollow(Exception):
    """The first objection of a replay."""

    def __init__(self, objection: Objection) -> None:
        super().__init__(objection.message)
        self.objection = objection


@dataclass(slots=True)
class Head:
    """A target as it stands."""

    config: dict[str, Any]
    version: int
    digest: str
    document: Any
    state: str = ACTIVE
    digests: dict[int, str] = field(default_factory=dict)
    """Every version there was, by number."""


@dataclass(frozen=True, slots=True)
class LastCount:
    """A tally, the instant from which the same votes may count otherwise, and how many keys were revoked."""

    tally: Tally
    holds_until: datetime | None
    revoked_keys: int


@dataclass(slots=True)
class Plan:
    """What a simulation and its ballot fix for one epoch, and the votes of that epoch in log order."""

    record: dict[str, Any]
    ballot: Ballot
    rule: dict[str, Any]
    inputs: Inputs
    result: Any
    successor: ValidatorSet | None
    """The set that a change of governance/validators would bring into force."""
    votes: list[VerifiedVote] = field(default_factory=list)
    count: LastCount | None = None
    """The last count of them; None when a vote came or went since."""
    quorum_rule: QuorumRule | None = None
    """The rule, typed: once it was counted by."""


@dataclass(slots=True)
class Standing:
    """A proposal as it stands. What only open proposals need is dropped when they end."""

    id: str
    target: str
    kind: str
    proposer: str
    base_version: int
    base_digest: str
    proposal_digest: str
    patch_digest: str
    accepted_at: str
    expires_at: str
    content: Content | None
    state: str = "pending"
    epoch: int = 1
    last_leaf: str = ""
    plan: Plan | None = None
    approved_at: str | None = None
    version: int | None = None
    """The version it made."""


@dataclass(slots=True)
class Rules:
    """Every version of the documents that govern, parsed."""

    policies: dict[int, PolicySet] = field(default_factory=dict)
    electorates: dict[int, ValidatorSet] = field(default_factory=dict)
    corpora: dict[int, Any] = field(default_factory=dict)
    documents: dict[tuple[str, int], Any] = field(default_factory=dict)
    """All of them as they stand in the log, by target and version."""
    roots: dict[int, Root] = field(default_factory=dict)
    revoked_keys: dict[str, str] = field(default_factory=dict)
    """Key identity -> the instant from which it is not believed."""


@dataclass(frozen=True, slots=True)
class Obligation:
    """A signature still to be verified. `code` is what to object if it is wrong."""

    index: int
    code: str
    public_key: bytes
    message: bytes
    signature: bytes


def told(error: FirewallError) -> str:
    """Return what is wrong, in one line."""
    flaws = "; ".join(f"{flaw.pointer or '/'}: {flaw.message}" for flaw in error.flaws)
    return flaws or str(error)


class Unreadable(Exception):
    """An entry about which nothing more can be said."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Known:
    """Everything known after some entries, and the entry at hand. `gaps`: the entries are only a part of the log."""

    object_to: Object
    gaps: bool = False
    index: int = -1
    heads: dict[str, Head] = field(default_factory=dict)
    proposals: dict[str, Standing] = field(default_factory=dict)
    applying: dict[str, str] = field(default_factory=dict)
    """Target -> the proposal that is being applied to it."""
    rules: Rules = field(default_factory=Rules)
    obligations: list[Obligation] = field(default_factory=list)

    def refuse(self, code: str, message: str) -> None:
        """Object to the entry at hand."""
        self.object_to(Objection(self.index, code, message))

    def require(self, holds: bool, code: str, message: str) -> None:  # noqa: FBT001 - it is the claim itself
        """Object to the entry at hand if a claim does not hold."""
        if not holds:
            self.object_to(Objection(self.index, code, message))

    def owing(self, code: str) -> Verify:
        """Return a verifier that believes every signature and puts it down as an obligation."""

        def put_down(public_key: bytes, message: bytes, signature: bytes) -> bool:
            self.obligations.append(Obligation(self.index, code, public_key, message, signature))
            return True

        return put_down

    def head(self, name: str | None) -> Head:
        """Return a target's head.

        Raises:
            Unreadable: there is no such target.
        """
        head = self.heads.get(name or "")
        if head is None:
            raise Unreadable("unknown-target", f"there is no target {name}")
        return head

    def pinned(self, name: str, pin: Pin, versions: Mapping[int, Version]) -> Version:
        """Return the version of a governing document that was named.

        Raises:
            Unreadable: there was never such a version.
        """
        known = versions.get(pin.version)
        if known is None or self.head(name).digests.get(pin.version) != pin.digest:
            raise Unreadable("rules-in-force", f"there is no version {pin.version} of {name} with that digest")
        return known

    def electorate(self, plan: Plan) -> ValidatorSet:
        """Return the validator set that a ballot names."""
        return self.pinned(VALIDATORS, plan.ballot.predicate.validator_set, self.rules.electorates)
