"""Rebuilding a simulation's inputs from what the log says, so that anybody can run it again.

Nothing of the service's own copy is used: the policy set, the corpus and the base are the ones that the entries lead
to. If the digest of what comes out is not the one in the record, the simulation was of something else.
"""

from typing import Any

import msgspec

from app.core import canonical
from app.core.bodies import Content, Inputs
from app.core.shapes import Pin
from app.core.simulation_inputs import OracleReading, ProposalFacts, Reference, SimulationInputs, Versioned
from app.core.standing import CORPUS, POLICIES, VALIDATORS, Known, Standing, Unreadable
from app.core.target import Tier


def inputs_of(known: Known, proposal: Standing, told: Inputs, *, base: Any) -> bytes:
    """Return the canonical bytes of the inputs of a proposal's simulation.

    `told`: what its event says of them. `base`: the document it starts from.

    Raises:
        Unreadable: a governing document of that version and digest never was in force, or a field is malformed.
    """
    if proposal.content is None:
        raise Unreadable("transition", "the proposal has ended")
    known.pinned(VALIDATORS, told.validator_set, known.rules.electorates)
    content = msgspec.convert(proposal.content, Content)
    try:
        inputs = SimulationInputs(
            engine=told.engine,
            proposal=ProposalFacts(
                id=proposal.id,
                kind=content.kind,  # type: ignore[arg-type]
                target=content.target,
                base_version=content.base_version,
                base_digest=content.base_digest,
                proposal_digest=proposal.proposal_digest,
                proposer=proposal.proposer,
                declared_risk=Tier(content.declared_risk),
                accepted_at=proposal.accepted_at,
                rationale_characters=len(content.rationale),
            ),
            patch=content.patch,
            target=known.head(proposal.target).config,
            base=base,
            policy_set=_versioned(known, POLICIES, told.policy_set),
            corpus=_versioned(known, CORPUS, told.corpus),
            validator_set=Reference(told.validator_set.version, told.validator_set.digest),
            oracle_readings=[msgspec.convert(one, OracleReading) for one in told.oracle_readings],
            oracle_missing=told.oracle_missing,
        )
    except (msgspec.ValidationError, ValueError) as error:
        raise Unreadable("inputs", f"the inputs cannot be rebuilt: {error}") from None
    return canonical.encode_value({"_type": "amgf/simulation-inputs", "v": 1, **msgspec.to_builtins(inputs)})


def _versioned(known: Known, name: str, pin: Pin) -> Versioned:
    versions = {version: document for (of, version), document in known.rules.documents.items() if of == name}
    return Versioned(pin.version, pin.digest, known.pinned(name, pin, versions))
