"""Simulating a proposal on a shadow copy: the plan that validators sign (firewall.md section 6).

One pure function from bytes to a record. No clock, no randomness, no input or output, no hash order: the same inputs
give the same record in every process on every machine with the same engine, or the proposal fails as
nondeterministic. What it cannot conclude is `inconclusive`, never `allow`.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

from app.core.simulation_inputs import (
    InvalidInputs,
    OracleReading,
    ProposalFacts,
    Reference,
    SimulationInputs,
    Versioned,
    build_inputs,
    parse_inputs,
)

__all__ = (
    "ALLOW",
    "DENY",
    "INCONCLUSIVE",
    "Evaluator",
    "InvalidInputs",
    "OracleReading",
    "ProposalFacts",
    "Reference",
    "Simulated",
    "SimulationInputs",
    "Versioned",
    "build_inputs",
    "parse_inputs",
    "simulate",
)

ALLOW: Final = "allow"
DENY: Final = "deny"
INCONCLUSIVE: Final = "inconclusive"


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulation's outcome.

    `record` is typed "amgf/simulation" (its digest is the simulation_digest); `after` is the canonical content of the
    resulting snapshot, None when the patch gave none.
    """

    record: dict[str, Any]
    after: bytes | None


class Evaluator(Protocol):
    """The parts of a simulation that run a stranger's program: rules and schemas. Lives in the sandbox."""


def simulate(inputs: bytes, evaluator: Evaluator) -> Simulated:
    """Return what the proposal would do.

    Raises:
        InvalidInputs: if the bytes are not the inputs of a simulation of this engine.
    """
    raise NotImplementedError
