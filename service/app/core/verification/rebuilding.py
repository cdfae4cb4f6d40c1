"""Rebuilding a simulation's inputs from what the log says, so that anybody can run it again.

Nothing of the service's own copy is used: the policy set, the corpus and the base are the ones that the entries lead
to. If the digest of what comes out is not the one in the record, the simulation was of something else.
"""

from typing import Any

import msgspec

from app.core.documents import canonical
from app.core.governed.shapes import Pin
from app.core.log.bodies import Content, Inputs
from app.core.replay.standing import CORPUS, POLICIES, VALIDATORS, Known, Standing, Unreadable
from app.core.simulation.inputs import OracleReading, ProposalFacts, Reference, SimulationInputs, Versioned


def assembled(
    told: Inputs, *, proposal: ProposalFacts, patch: list[Any], config: Any, base: Any, policies: Any, corpus: Any
) -> bytes:
    """Return the canonical bytes of a simulation's inputs. `told`: what its event says of them.

    Raises:
        Unreadable: a field is malformed.
    """
    try:
        inputs = SimulationInputs(
            engine=told.engine,
            proposal=proposal,
            patch=patch,
            target=config,
            base=base,
            policy_set=Versioned(told.policy_set.version, told.policy_set.digest, policies),
            corpus=Versioned(told.corpus.version, told.corpus.digest, corpus),
            validator_set=Reference(told.validator_set.version, told.validator_set.digest),
            oracle_readings=[msgspec.convert(one, OracleReading) for one in told.oracle_readings],
            oracle_missing=told.oracle_missing,
        )
    except msgspec.ValidationError as error:
        raise Unreadable("inputs", f"the inputs cannot be rebuilt: {error}") from None
    return canonical.encode_value({"_type": "amgf/simulation-inputs", "v": 1, **msgspec.to_builtins(inputs)})


def facts_of(
    content: Content, *, proposal_id: str, proposal_digest: str, proposer: str, accepted_at: str
) -> ProposalFacts:
    """Return what a simulation may know of a proposal.

    Raises:
        Unreadable: the record names no tier or kind that there is.
    """
    try:
        return msgspec.convert(
            {
                "id": proposal_id,
                "kind": content.kind,
                "target": content.target,
                "base_version": content.base_version,
                "base_digest": content.base_digest,
                "proposal_digest": proposal_digest,
                "proposer": proposer,
                "declared_risk": content.declared_risk,
                "accepted_at": accepted_at,
                "rationale_characters": len(content.rationale),
            },
            ProposalFacts,
        )
    except msgspec.ValidationError as error:
        raise Unreadable("inputs", f"the inputs cannot be rebuilt: {error}") from None


def inputs_of(known: Known, proposal: Standing, told: Inputs, *, base: Any) -> bytes:
    """Return the canonical bytes of the inputs of a proposal's simulation, from what replay knows.

    `base`: the document it starts from.

    Raises:
        Unreadable: a governing document of that version and digest never was in force, or a field is malformed.
    """
    if proposal.content is None:
        raise Unreadable("transition", "the proposal has ended")
    known.pinned(VALIDATORS, told.validator_set, known.rules.electorates)
    content = proposal.content
    facts = facts_of(
        content,
        proposal_id=proposal.id,
        proposal_digest=proposal.proposal_digest,
        proposer=proposal.proposer,
        accepted_at=proposal.accepted_at,
    )
    return assembled(
        told,
        proposal=facts,
        patch=content.patch,
        config=known.head(proposal.target).config,
        base=base,
        policies=_document(known, POLICIES, told.policy_set),
        corpus=_document(known, CORPUS, told.corpus),
    )


def _document(known: Known, name: str, pin: Pin) -> Any:
    versions = {version: document for (of, version), document in known.rules.documents.items() if of == name}
    return known.pinned(name, pin, versions)
