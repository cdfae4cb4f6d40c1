"""The life of a proposal, as data: states, and the only steps between them (firewall.md section 3).

The database holds the same table and refuses every other step (migration 0002); a test compares the two. Each step
writes one event, of the kind that stands here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a proposal stands."""

    PENDING = "pending"
    SIMULATING = "simulating"
    SIMULATED = "simulated"
    """Votes are open."""
    APPROVED = "approved"
    APPLYING = "applying"
    APPLIED = "applied"
    """Final, unless a later rollback takes it back."""
    DENIED = "denied"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    STALE = "stale"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


class Kind(StrEnum):
    """What a proposal is for. The last two come only from a request to roll back."""

    MUTATION = "mutation"
    GOVERNANCE = "governance"
    ROLLBACK = "rollback"
    BREAK_GLASS = "break_glass"


@dataclass(frozen=True, slots=True)
class Transition:
    """One step: its number in the design, who takes it, and the event that it writes."""

    number: int
    state_from: State | None
    state_to: State
    trigger: str
    event: str


OPEN: Final = (State.PENDING, State.SIMULATING, State.SIMULATED, State.APPROVED)
"""Not decided yet: may go stale, be withdrawn, expire."""
TERMINAL: Final = frozenset(
    {
        State.DENIED,
        State.REJECTED,
        State.EXPIRED,
        State.WITHDRAWN,
        State.STALE,
        State.FAILED,
        State.ROLLED_BACK,
    }
)


def _open_to(number: int, state_to: State, trigger: str, event: str) -> tuple[Transition, ...]:
    return tuple(Transition(number, state_from, state_to, trigger, event) for state_from in OPEN)


TRANSITIONS: Final = (
    Transition(1, None, State.PENDING, "proposer", "proposal-created"),
    Transition(2, State.PENDING, State.SIMULATING, "simulator takes a lease", "simulation-started"),
    Transition(3, State.SIMULATING, State.PENDING, "janitor: lease lost", "simulation-returned"),
    Transition(4, State.SIMULATING, State.FAILED, "attempts used up, or inconclusive", "simulation-failed"),
    Transition(5, State.SIMULATING, State.DENIED, "simulator", "denied"),
    Transition(6, State.SIMULATING, State.SIMULATED, "simulator", "simulated"),
    Transition(7, State.SIMULATED, State.APPROVED, "quorum", "approved"),
    Transition(8, State.SIMULATED, State.REJECTED, "quorum", "rejected"),
    Transition(9, State.APPROVED, State.SIMULATED, "quorum", "approval-lost"),
    Transition(10, State.SIMULATED, State.PENDING, "janitor: the rules changed", "reopened"),
    Transition(10, State.APPROVED, State.PENDING, "janitor: the rules changed", "reopened"),
    *_open_to(11, State.STALE, "the apply that won", "stale"),
    *_open_to(12, State.WITHDRAWN, "proposer or admin", "withdrawn"),
    *_open_to(13, State.EXPIRED, "the database's clock", "expired"),
    Transition(14, State.APPROVED, State.APPLYING, "applier, or automatic", "applying"),
    Transition(15, State.APPLYING, State.APPLIED, "observation", "applied"),
    Transition(16, State.APPLYING, State.FAILED, "dispatcher", "apply-failed"),
    Transition(17, State.APPLIED, State.ROLLED_BACK, "apply of a rollback", "rolled-back"),
)

_BY_STEP: Final[Mapping[tuple[State | None, State], Transition]] = {
    (step.state_from, step.state_to): step for step in TRANSITIONS
}


def transition(state_from: State | None, state_to: State) -> Transition | None:
    """Return the step between two states, or None if there is none."""
    return _BY_STEP.get((state_from, state_to))
