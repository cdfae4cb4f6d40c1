"""Everything a simulation depends on, as one sequence of bytes.

The inputs are canonical JSON, typed "amgf/simulation-inputs"; their digest stands in the record. Whoever holds them
can simulate again, anywhere, and must get the same record: there is nothing else that a simulation may look at. They
carry no secrets and no free text of the proposer's (of the rationale only its length).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from app.core.documents import canonical, instants
from app.core.governed.target import Tier
from app.core.simulation import engine

INPUT_BYTES_MAX: Final = 8 * 1_048_576
"""Base, patch, policy set and corpus have at most 1 MiB each."""
Kind = Literal["mutation", "governance", "rollback", "break_glass"]


class InvalidInputs(Exception):
    """The bytes are not the canonical inputs of a simulation; a fault of ours, or somebody tampered."""


class EngineMismatch(Exception):
    """The inputs are of another engine than this process has: its record would not be comparable."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every field is required."""


class ProposalFacts(_Strict, frozen=True):
    """What a simulation may know of a proposal. `accepted_at` is the rules' `now`: RFC 3339, UTC, microseconds."""

    id: str
    kind: Kind
    target: str
    base_version: int
    base_digest: str
    proposal_digest: str
    proposer: str
    declared_risk: Tier
    accepted_at: str
    rationale_characters: int


class Versioned(_Strict, frozen=True):
    """A governed document at one version, with its content. `digest`: of the document's canonical bytes."""

    version: int
    digest: str
    document: Any


class Reference(_Strict, frozen=True):
    """A governed document at one version, by its digest only."""

    version: int
    digest: str


class OracleReading(_Strict, frozen=True):
    """One answer of an external risk service, kept so that it can be replayed. It can only add points."""

    source: str
    request_digest: str
    response_digest: str
    at: str
    ttl_seconds: int
    points: int | None


class SimulationInputs(_Strict, frozen=True):
    """The decoded inputs."""

    engine: dict[str, Any]
    proposal: ProposalFacts
    patch: list[Any]
    target: dict[str, Any]
    base: Any
    policy_set: Versioned
    corpus: Versioned
    validator_set: Reference
    oracle_readings: list[OracleReading]
    oracle_missing: bool


def build_inputs(
    *,
    proposal: ProposalFacts,
    patch: Sequence[Mapping[str, Any]],
    target: Mapping[str, Any],
    base: Any,
    policy_set: Versioned,
    corpus: Versioned,
    validator_set: Reference,
    oracle_readings: Sequence[OracleReading] = (),
    oracle_missing: bool = False,
) -> bytes:
    """Return the canonical bytes of a simulation's inputs.

    `patch`: the RFC 6902 operations as JSON. `target`: `TargetConfig.record()`. `base`: the document decoded from the
    base snapshot's canonical bytes.
    """
    inputs = SimulationInputs(
        engine=engine.describe(),
        proposal=proposal,
        patch=list(patch),
        target=dict(target),
        base=base,
        policy_set=policy_set,
        corpus=corpus,
        validator_set=validator_set,
        oracle_readings=list(oracle_readings),
        oracle_missing=oracle_missing,
    )
    return canonical.encode_value({"_type": "amgf/simulation-inputs", "v": 1, **msgspec.to_builtins(inputs)})


def parse_inputs(inputs: bytes) -> SimulationInputs:
    """Return the decoded inputs.

    Raises:
        InvalidInputs: if they are not JSON, not canonical, too large, or not of this shape.
    """
    if len(inputs) > INPUT_BYTES_MAX:
        raise InvalidInputs("too large")
    try:
        value = msgspec.json.decode(inputs)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidInputs("not JSON") from None
    # A key that stands twice, 1.0 for 1, another order: whatever has two spellings does not survive this.
    if canonical.encode_value(value) != inputs:
        raise InvalidInputs("not canonical")
    if not isinstance(value, dict) or value.pop("_type", None) != "amgf/simulation-inputs" or value.pop("v", None) != 1:
        raise InvalidInputs("not typed as inputs")
    try:
        parsed = msgspec.convert(value, SimulationInputs)
        instants.from_text(parsed.proposal.accepted_at)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidInputs(str(error)[:200]) from None
    return parsed
