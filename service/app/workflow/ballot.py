"""From a simulation's record to a ballot: what must hold before anybody is asked to sign."""

import msgspec

from app.core.documents import canonical
from app.core.governed.target import Tier, is_governance
from app.core.signing import statement
from app.core.signing.statement import Ballot, BallotPredicate
from app.core.simulation import plan as simulation
from app.sandbox.result import SandboxResult
from app.storage.governance import Rules
from app.storage.proposals import StoredProposal
from app.storage.simulations import StoredSimulation
from app.workflow import governing


def flaw_of(proposal: StoredProposal, base: bytes, found: SandboxResult, rules: Rules) -> str | None:
    """Return why a record decides nothing, or None.

    What the sandbox says is believed only as far as it says what it must: the governance tier is forced here again.
    """
    record = found.document()
    verdict = record["verdict"]
    if verdict == simulation.INCONCLUSIVE:
        return str(next((reason["code"] for reason in record["reasons"]), "inconclusive"))
    if verdict != simulation.ALLOW:
        return None
    if is_governance(proposal.target) and record["tier"] != Tier.GOVERNANCE.value:
        return "tier-not-forced"
    if found.after is None or canonical.digest(found.after) != record["result_digest"]:
        return "result-missing"
    flaws = governing.flaws_of(proposal.target, proposal.kind, base, found.after, rules=rules, at=proposal.created_at)
    return f"unconstitutional:{flaws[0].code}" if flaws else None


def ballot_of(proposal: StoredProposal, stored: StoredSimulation, rules: Rules, *, tier: Tier, nonce: str) -> Ballot:
    """Return the exact bytes to sign, as a statement: the plan, its tier and the rules it was made under."""
    if stored.result_digest is None:
        raise AssertionError("an allowed simulation has a result")
    patch = msgspec.json.decode(proposal.content)["patch"]
    predicate = BallotPredicate(
        proposal=str(proposal.id),
        target=proposal.target,
        base_version=proposal.base_version,
        base_digest=proposal.base_digest,
        patch_digest=canonical.digest(canonical.encode_value(patch)),
        simulation_digest=stored.digest,
        tier=tier,
        quorum_rule_digest=rules.policies.quorum_rule_digest(tier),
        policy_set=rules.pins.policies,
        validator_set=rules.pins.validators,
        epoch=proposal.epoch,
        nonce=nonce,
    )
    return statement.ballot(
        proposal_digest=proposal.proposal_digest, result_digest=stored.result_digest, predicate=predicate
    )
