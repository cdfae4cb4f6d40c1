"""Checks eleven to fourteen of a bundle: the log's proofs, the attestation, the observation."""

from app.core.documents import canonical, instants
from app.core.log import merkle
from app.core.log.merkle import ProofFlaw
from app.core.signing import envelope as dsse
from app.core.signing import keys, statement
from app.core.signing.statement import Attestation
from app.core.verification.evidence import Evidence
from app.core.verification.terms import FAIL, NOT_APPLICABLE, OK, UNCHECKED, Outcome, Trust, digest_of, judged, objected
from app.errors import FirewallError


def included(evidence: Evidence, _trust: Trust) -> Outcome:
    """11: leaf and body are of their digests, and the checkpoint's tree has each leaf where it should be."""
    if evidence.tree is None:
        return FAIL, f"the checkpoint is not the log's: {evidence.tree_flaw}"
    flaws = []
    for one in (*evidence.bundle.context, *evidence.bundle.events):
        raw = one.raw()
        if canonical.digest(raw.body or b"") != one.leaf.get("body"):
            flaws.append(f"entry {one.index}: the body is not the leaf's")
        try:
            merkle.verify_inclusion(
                leaf=merkle.leaf_hash(raw.leaf),
                index=one.index,
                size=evidence.tree.size,
                proof=one.hashes(),
                root=evidence.tree.root,
            )
        except (ProofFlaw, ValueError) as flaw:
            flaws.append(f"entry {one.index}: {flaw}")
    count = len(evidence.bundle.context) + len(evidence.bundle.events)
    return judged(flaws, f"{count} entries under the signed checkpoint of size {evidence.tree.size}")


def grown(evidence: Evidence, trust: Trust) -> Outcome:
    """12: the checkpoint extends the one that the verifier saw last."""
    kept, tree, offered = trust.kept, evidence.tree, evidence.bundle.consistency
    if kept is None:
        return NOT_APPLICABLE, "no earlier checkpoint was kept"
    if tree is None or kept.origin != tree.origin:
        return FAIL, f"the checkpoint is not one of {kept.origin}"
    if kept.size > tree.size:
        return UNCHECKED, f"the one kept is newer (size {kept.size}): fetch the bundle again"
    if kept.size < tree.size and (offered is None or offered.from_size != kept.size):
        return UNCHECKED, f"the bundle proves nothing from size {kept.size}: fetch it with ?from={kept.size}"
    proof = [] if kept.size == tree.size or offered is None else offered.hashes()
    try:
        merkle.verify_consistency(
            first=kept.size, first_root=kept.root, second=tree.size, second_root=tree.root, proof=proof
        )
    except (ProofFlaw, ValueError) as flaw:
        return FAIL, f"the log does not extend the one seen at size {kept.size}: {flaw}"
    return OK, f"it extends the one seen at size {kept.size}"


def attested(evidence: Evidence, trust: Trust) -> Outcome:
    """13: the attestation is the service's, about this target, of this or a later version, and has not expired."""
    if evidence.bundle.attestation is None:
        return NOT_APPLICABLE, "the bundle has no attestation"
    try:
        envelope = dsse.from_value(evidence.bundle.attestation)
        root = evidence.known.rules.roots[max(evidence.known.rules.roots)]
        known = {keys.keyid(key): key for key in root.keys_at("service", trust.now)}
        key = known.get(envelope.signatures[0].keyid)
        if key is None:
            return FAIL, "it is not signed by the service's key"
        payload = dsse.opened(envelope, key, payload_type=dsse.IN_TOTO, verify=trust.verify)
        said = statement.decode(payload, Attestation)
        begins, ends = (
            instants.from_text(said.predicate.time_created),
            instants.from_text(said.predicate.expires_at),
        )
    except (FirewallError, KeyError, ValueError) as error:
        return FAIL, f"it is not an attestation of the service: {error}"
    flaws = [sentence for is_wrong, sentence in _attestation_flaws(evidence, said) if is_wrong]
    if not begins < ends or ends <= trust.now:
        flaws.append(f"it expired at {said.predicate.expires_at}")
    return judged(flaws, f"version {said.predicate.version}, until {said.predicate.expires_at}")


def _attestation_flaws(evidence: Evidence, said: Attestation) -> list[tuple[bool, str]]:
    predicate, proposal = said.predicate, evidence.proposal
    if proposal is None:
        return [(True, "there is no proposal that it could be about")]
    is_of_this = proposal.version is not None and predicate.version == proposal.version
    subject = (statement.subject("snapshot", predicate.digest),)
    return [
        (predicate.target != proposal.target, "it is about another target"),
        (said.subject != subject, "its subject is not its digest"),
        (proposal.version is not None and predicate.version < proposal.version, "it is about an earlier version"),
        (is_of_this and predicate.digest != digest_of(evidence.bundle.result), "this version has another digest"),
    ]


def observed(evidence: Evidence, _trust: Trust) -> Outcome:
    """14: what an actuator says that it runs is what was decided."""
    flaws = objected(evidence, 14)
    seen, proposal = evidence.bundle.observation, evidence.proposal
    if seen is None and not flaws:
        return NOT_APPLICABLE, "nobody observed it"
    if seen is not None and proposal is not None and proposal.version is not None:
        is_of_this = seen.version == proposal.version
        if is_of_this and seen.digest != digest_of(evidence.bundle.result):
            flaws.append("the actuator runs another document under this version")
        if seen.version < proposal.version:
            flaws.append(f"the actuator runs version {seen.version}")
    return judged(flaws, f"version {seen.version} runs" if seen else "")
