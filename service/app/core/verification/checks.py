"""Checks one to ten of a bundle, one function each: what was looked at, and a sentence.

Most of what can be wrong was objected to by the replay of the entries; a check takes the objections that are its own,
by their code, and adds what replay does not know: the trust that the verifier brought, and documents by digest.
"""

from collections.abc import Mapping
from typing import Any

from app.core.documents import canonical, patch
from app.core.governance import genesis
from app.core.verification.evidence import Case, Evidence
from app.core.verification.terms import (
    CHAIN,
    FAIL,
    IN_FORCE,
    NOT_APPLICABLE,
    UNCHECKED,
    Outcome,
    Trust,
    digest_of,
    judged,
    objected,
)
from app.errors import FirewallError, PatchFailed


def strict(evidence: Evidence, _trust: Trust) -> Outcome:
    """1: every entry has the shape of its kind (that the file could be read is known by now)."""
    count = len(evidence.bundle.events) + len(evidence.bundle.context)
    return judged(objected(evidence, 1), f"{count} entries, each of its kind's shape")


def rooted(evidence: Evidence, trust: Trust) -> Outcome:
    """2: the genesis is the pinned one, signed by its founders, and every later root follows."""
    flaws = objected(evidence, 2)
    first = evidence.bundle.context[0]
    try:
        found = genesis.from_value(first.body.get("genesis"))
        founders = genesis.verify_signatures(found, verify=trust.verify)
    except FirewallError as error:
        return FAIL, f"entry {first.index} is no genesis that its founders signed: {error}"
    if first.index != 0 or found.digest() != trust.genesis.digest():
        flaws.append("the bundle begins with another genesis than the trusted one")
    versions = len(evidence.known.rules.roots)
    return judged(flaws, f"the trusted genesis, signed by {', '.join(founders)}; root version {versions}")


def digests(evidence: Evidence, _trust: Trust) -> Outcome:
    """3: proposal, base, patch and result are what the digests say that were signed."""
    flaws = objected(evidence, 3)
    content = evidence.bundle.events[0].body.get("content")
    if not isinstance(content, dict):
        return FAIL, "the first event does not hold the proposal"
    if evidence.base_maker is None and not evidence.known.heads.get(str(content.get("target"))):
        flaws.append("nothing shows where the base version comes from")
    if digest_of(evidence.bundle.base) != content.get("base_digest"):
        flaws.append("the base is not the document of base_digest")
    for case in evidence.cases:
        flaws += _case_flaws(evidence, content, case)
    return judged(flaws, "each is the SHA-256 of its canonical bytes; the patch on the base gives the result")


def _case_flaws(evidence: Evidence, content: Mapping[str, Any], case: Case) -> list[str]:
    result = case.record.get("result_digest")
    if case.ballot is None:
        return []
    flaws = []
    subjects = {one.get("name"): one.get("digest", {}).get("sha256") for one in case.ballot.get("subject", [])}
    asked = case.ballot.get("predicate", {})
    claims = {
        "the proposal": (digest_of(content), f"sha256:{subjects.get('proposal')}"),
        "the patch": (digest_of(content.get("patch")), asked.get("patch_digest")),
        "the base": (content.get("base_digest"), asked.get("base_digest")),
        "the simulation": (digest_of(case.record), asked.get("simulation_digest")),
        "the result": (result, f"sha256:{subjects.get('snapshot')}"),
    }
    flaws += [f"{name} is not what the ballot names" for name, (found, named) in claims.items() if found != named]
    if digest_of(evidence.bundle.result) != result:
        flaws.append("the result is not the document of result_digest")
    try:
        made = patch.apply(evidence.bundle.base, patch.parse(content.get("patch"))).value
    except PatchFailed as error:
        return [*flaws, f"the patch cannot be applied to the base: {error}"]
    if digest_of(made) != result:
        flaws.append("the patch applied to the base gives another result")
    return flaws


def resimulated(evidence: Evidence, trust: Trust) -> Outcome:
    """4: the same inputs, rebuilt, give the same record here."""
    if not evidence.cases:
        return NOT_APPLICABLE, "it was never simulated to an end"
    flaws, missing = [], []
    for case in evidence.cases:
        if case.inputs is None:
            flaws.append(f"epoch {case.epoch}: {case.flaw}")
        elif canonical.digest(case.inputs) != case.record.get("inputs_digest"):
            flaws.append(f"epoch {case.epoch}: the simulation was of other inputs")
        else:
            again = trust.resimulate(case.inputs)
            if again.record is None:
                missing.append(f"epoch {case.epoch}: {again.why}, digest unchecked")
            elif again.record != canonical.encode_value(case.record):
                flaws.append(f"epoch {case.epoch}: running it again gives another record")
    if flaws or not missing:
        return judged(flaws, f"{len(evidence.cases)} run again, byte for byte the same record")
    return UNCHECKED, "; ".join(missing)


def in_force(evidence: Evidence, _trust: Trust) -> Outcome:
    """5: the rules it was judged by were put in force lawfully, before, and were still when it was applied."""
    rules = evidence.known.rules
    told = f"policy set {max(rules.policies, default=0)}, validator set {max(rules.electorates, default=0)}"
    return judged(objected(evidence, IN_FORCE), f"{told}, each change replayed with its own votes")


def signatures(evidence: Evidence, _trust: Trust) -> Outcome:
    """6: every signature, its key's window, distinct people and keys, never the proposer."""
    cast = sum(one.leaf.get("kind") == "vote-cast" for one in evidence.bundle.events)
    flaws = objected(evidence, 6)
    if not cast and not flaws:
        return NOT_APPLICABLE, "nobody voted"
    return judged(flaws, f"{cast} votes, by keys that were valid, none of them the proposer's")


def ballots(evidence: Evidence, _trust: Trust) -> Outcome:
    """7: what was signed is the ballot in every field, and the ballot is the plan's."""
    flaws = objected(evidence, 7)
    if not flaws and not any(case.ballot for case in evidence.cases):
        return NOT_APPLICABLE, "no ballot was opened"
    return judged(flaws, "every vote is the ballot but for decision, reason and times")


def quorum(evidence: Evidence, _trust: Trust) -> Outcome:
    """8: the tally counted again, by the rule of the tier, at the instant of each decision."""
    flaws = objected(evidence, 8)
    kinds = [one.leaf.get("kind") for one in evidence.bundle.events]
    counted = sum(kind in {"approved", "rejected", "approval-lost", "applying"} for kind in kinds)
    if not counted and not flaws:
        return NOT_APPLICABLE, "nothing was decided by votes"
    return judged(flaws, f"{counted} tallies, counted again to the same bytes")


def revocations(evidence: Evidence, _trust: Trust) -> Outcome:
    """9: no vote that was counted had been taken back."""
    flaws = objected(evidence, 9)
    taken = sum(one.leaf.get("kind") == "vote-revoked" for one in evidence.bundle.events)
    keys_revoked = len(evidence.known.rules.revoked_keys)
    return judged(flaws, f"{taken} votes and {keys_revoked} keys were revoked, none of them counted")


def chained(evidence: Evidence, _trust: Trust) -> Outcome:
    """10: each event names the one before it, and each step is one of the table's."""
    return judged(objected(evidence, CHAIN), f"{len(evidence.bundle.events)} events from creation on, without a gap")
