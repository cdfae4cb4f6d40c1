"""What a simulation is told: read in one transaction, written as canonical bytes outside it.

Nothing else reaches a simulation: no clock, no names of people but the proposer's, of the rationale only its length.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from app.core.documents import instants
from app.core.governed.target import Tier
from app.core.simulation import plan as simulation
from app.core.simulation.plan import ProposalFacts, Reference, Versioned
from app.storage.connection import Connection
from app.storage.governance import CORPUS, POLICIES, Rules

BASE: Final = """
    SELECT t.config, t.version, current.proposal_id, base.content, clock_timestamp()
    FROM targets AS t JOIN snapshots AS current ON current.target = t.name AND current.version = t.version
    LEFT JOIN snapshots AS base ON base.target = t.name AND base.version = %s
    WHERE t.name = %s"""


@dataclass(frozen=True, slots=True)
class Base:
    """A target with the snapshot a proposal starts from; `winner`: the proposal that made the current one."""

    config: bytes
    content: bytes
    current_version: int
    winner: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Parts:
    """What the inputs are made of; making them may take long, so no transaction waits for it."""

    facts: ProposalFacts
    patch: list[Any]
    base: Base
    rules: Rules

    def inputs(self) -> bytes:
        """Return the canonical bytes."""
        pins, documents = self.rules.pins, self.rules.documents
        return simulation.build_inputs(
            proposal=self.facts,
            patch=self.patch,
            target=msgspec.json.decode(self.base.config),
            base=msgspec.json.decode(self.base.content),
            policy_set=Versioned(pins.policies.version, pins.policies.digest, documents[POLICIES]),
            corpus=Versioned(pins.corpus.version, pins.corpus.digest, documents[CORPUS]),
            validator_set=Reference(pins.validators.version, pins.validators.digest),
        )


async def read_base(connection: Connection, target: str, version: int) -> Base | None:
    """Return a target at a version, or None if it is not there or never had that version."""
    row = await (await connection.execute(BASE, [version, target])).fetchone()
    if row is None or row[3] is None:
        return None
    return Base(
        config=bytes(row[0]),
        content=bytes(row[3]),
        current_version=row[1],
        winner=None if row[2] is None else str(row[2]),
        now=row[4],
    )


def facts_of(
    content: dict[str, Any], *, proposal_id: str, proposal_digest: str, proposer: str, at: datetime
) -> ProposalFacts:
    """Return what a simulation may know of a proposal's content record."""
    return ProposalFacts(
        id=proposal_id,
        kind=content["kind"],
        target=content["target"],
        base_version=content["base_version"],
        base_digest=content["base_digest"],
        proposal_digest=proposal_digest,
        proposer=proposer,
        declared_risk=Tier(content["declared_risk"]),
        accepted_at=instants.to_text(at),
        rationale_characters=len(content["rationale"]),
    )


def told(inputs: bytes, rules: Rules) -> dict[str, Any]:
    """Return what the event says of the inputs, as far as it stands nowhere else."""
    given = simulation.parse_inputs(inputs)
    return {
        "engine": given.engine,
        "oracle_readings": msgspec.to_builtins(given.oracle_readings),
        "oracle_missing": given.oracle_missing,
        "policy_set": msgspec.to_builtins(rules.pins.policies),
        "corpus": msgspec.to_builtins(rules.pins.corpus),
        "validator_set": msgspec.to_builtins(rules.pins.validators),
    }
