"""What the bodies of events hold, as far as replay reads them (docs/formats.md has every field).

A body may say more than this; what stands here it must say, with these types. Whether the documents inside are what
they should be is for the rules that read them.
"""

from typing import Any, Final

import msgspec

from app.core.governed.shapes import Pin


class Genesis(msgspec.Struct, frozen=True):
    """The offline bundle that founded this log."""

    genesis: dict[str, Any]


class TargetCreated(msgspec.Struct, frozen=True):
    """A target and its first version."""

    config: dict[str, Any]
    document: Any
    digest: str


class Content(msgspec.Struct, frozen=True):
    """A proposal's content record, of which replay reads this."""

    target: str
    base_version: int
    base_digest: str
    kind: str
    patch: list[dict[str, Any]]
    rationale: str
    declared_risk: str
    supersedes: str | None
    restores: Pin | None = None


class ProposalCreated(msgspec.Struct, frozen=True):
    """A proposal as it was taken in."""

    id: str
    content: dict[str, Any]
    proposer: str
    accepted_at: str
    expires_at: str


class Inputs(msgspec.Struct, frozen=True):
    """What of a simulation's inputs stands nowhere else in the log."""

    engine: dict[str, Any]
    policy_set: Pin
    corpus: Pin
    validator_set: Pin
    oracle_readings: list[Any]
    oracle_missing: bool


class Simulated(msgspec.Struct, frozen=True):
    """A plan, and the ballot opened for it."""

    simulation: dict[str, Any]
    simulation_digest: str
    inputs: Inputs
    quorum_rule: dict[str, Any]
    ballot: dict[str, Any]
    expires_at: str


class Denied(msgspec.Struct, frozen=True):
    """A plan that the rules refuse."""

    simulation: dict[str, Any]
    simulation_digest: str
    inputs: Inputs


class Signed(msgspec.Struct, frozen=True):
    """A vote or a revocation."""

    envelope: dict[str, Any]


class Tallied(msgspec.Struct, frozen=True):
    """A count, with its reasons."""

    tally: dict[str, Any]


class Reopened(msgspec.Struct, frozen=True):
    """Why all votes are void. `epoch` is the new one."""

    cause: str
    epoch: int


class Stale(msgspec.Struct, frozen=True):
    """Which proposal made which version before this one could."""

    winner: str
    version: int


class Snapshot(msgspec.Struct, frozen=True):
    """A new version of a target, by digest."""

    target: str
    version: int
    digest: str
    parent_digest: str | None
    proposal: str | None


class Applying(msgspec.Struct, frozen=True):
    """The decision and the version it makes."""

    decision: dict[str, Any]
    snapshot: Snapshot


class Observed(msgspec.Struct, frozen=True):
    """What an actuator saw; None when the target has none."""

    observation: Pin | None


class RolledBack(msgspec.Struct, frozen=True):
    """Which proposal took it back, making which version."""

    by: str
    version: int


class KeyRevoked(msgspec.Struct, frozen=True):
    """Whose key is not to be believed any more."""

    validator: str
    keyid: str
    reason: str


class Recovered(msgspec.Struct, frozen=True):
    """The log was shortened by a restore and goes on: sizes before and after."""

    from_: int = msgspec.field(name="from")
    to: int


class Nothing(msgspec.Struct, frozen=True):
    """Nothing that replay reads."""


BODIES: Final[dict[str, type[msgspec.Struct]]] = {
    "genesis": Genesis,
    "target-created": TargetCreated,
    "proposal-created": ProposalCreated,
    "simulation-started": Nothing,
    "simulation-returned": Nothing,
    "simulated": Simulated,
    "denied": Denied,
    "simulation-failed": Nothing,
    "vote-cast": Signed,
    "vote-revoked": Signed,
    "approved": Tallied,
    "rejected": Tallied,
    "approval-lost": Tallied,
    "reopened": Reopened,
    "stale": Stale,
    "withdrawn": Nothing,
    "expired": Nothing,
    "applying": Applying,
    "applied": Observed,
    "apply-failed": Nothing,
    "rolled-back": RolledBack,
    "frozen": Nothing,
    "unfrozen": Nothing,
    "key-revoked": KeyRevoked,
    "log-recovered": Recovered,
}
"""One for each kind of event; a test compares them with `events.KINDS`."""
