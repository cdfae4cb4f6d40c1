"""The part of replay that is about a proposal's life: taken in, simulated, decided, applied, gone back on."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from app.core.documents import canonical, patch
from app.core.governance import validators
from app.core.governed import lifecycle, target
from app.core.governed.target import Tier
from app.core.log import bodies
from app.core.log.entry import Entry
from app.core.replay import fold_targets, fold_votes, parts
from app.core.replay.standing import (
    ACTIVE,
    CORPUS,
    DEGRADED,
    FROZEN,
    POLICIES,
    VALIDATORS,
    Head,
    Known,
    Plan,
    Standing,
    Unreadable,
    told,
)
from app.core.signing import statement
from app.errors import FirewallError, PatchFailed

ROLLING_BACK: Final = frozenset({lifecycle.Kind.ROLLBACK, lifecycle.Kind.BREAK_GLASS})

_content: Final = msgspec.json.Decoder(bodies.Content)
_ballot: Final = msgspec.json.Decoder(statement.Ballot)


def created(known: Known, entry: Entry, body: parts.ProposalCreated) -> None:
    """Take a new proposal."""
    leaf = entry.leaf
    content = parts.typed(body.content, _content, "body-shape")
    known.require(leaf.proposal == body.id, "leaf", "the leaf names another proposal")
    known.require(leaf.target == content.target, "leaf", "the proposal is about another target")
    known.require(leaf.prev is None, "prev", "a proposal's chain begins with its creation")
    known.require(body.id not in known.proposals, "duplicate-id", "a proposal of this id was created before")
    begins = (leaf.state_from, leaf.state_to, leaf.epoch) == (None, lifecycle.State.PENDING, 1)
    known.require(begins, "transition", "a proposal begins as pending, in epoch 1")
    head = known.head(content.target)
    is_head = (content.base_version, content.base_digest) == (head.version, head.digest)
    known.require(is_head, "base", f"the base is not the head of {content.target}, version {head.version}")
    known.require(body.accepted_at < body.expires_at, "expiry", "it expires before it was accepted")
    _require_restored(known, content, head)
    known.proposals[body.id] = Standing(
        id=body.id,
        target=content.target,
        kind=content.kind,
        proposer=body.proposer,
        base_version=content.base_version,
        base_digest=content.base_digest,
        proposal_digest=parts.digest(body.content),
        patch_digest=entry.digest(content.patch),
        accepted_at=body.accepted_at,
        expires_at=body.expires_at,
        content=content,
        last_leaf=entry.leaf_digest,
    )


def _require_restored(known: Known, content: bodies.Content, head: Head) -> None:
    """Object unless a rollback, and nothing else, names the version that it puts back."""
    is_way_back = content.kind in ROLLING_BACK
    known.require((content.restores is not None) == is_way_back, "restores", "only a rollback restores a version")
    if content.restores is not None and not known.gaps:
        once = head.digests.get(content.restores.version)
        known.require(once == content.restores.digest, "restores", "there was no such version to go back to")


def simulated(known: Known, _entry: Entry, body: parts.Simulated, proposal: Standing) -> None:
    """Take a plan and its ballot; the patch is applied again."""
    record = _record(known, body, verdict="allow")
    result = _result(known, proposal)
    digest = canonical.digest(canonical.encode_value(result))
    known.require(digest == record.get("result_digest"), "result-digest", "patch and base give another result")
    restores = None if proposal.content is None else proposal.content.restores
    if restores is not None:
        known.require(restores.digest == digest, "restores", "the result is not the version to go back to")
    tier = _tier(known, proposal, record)
    policies = known.pinned(POLICIES, body.inputs.policy_set, known.rules.policies)
    known.pinned(VALIDATORS, body.inputs.validator_set, known.rules.electorates)
    known.pinned(CORPUS, body.inputs.corpus, known.rules.corpora)
    rule_digest = parts.digest(body.quorum_rule)
    is_rule = policies.quorum_rule_digest(tier) == rule_digest
    known.require(is_rule, "quorum-rule", "the policy set has another rule for this tier")
    ballot = parts.typed(body.ballot, _ballot, "ballot")
    fold_votes.require_ballot(known, proposal, body, record, ballot=ballot, rule_digest=rule_digest)
    proposal.expires_at = body.expires_at
    proposal.plan = Plan(
        record=record,
        ballot=ballot,
        rule=parts.value(body.quorum_rule),
        inputs=body.inputs,
        result=result,
        successor=_successor(proposal, result),
    )


def denied(known: Known, _entry: Entry, body: parts.Denied, _proposal: Standing) -> None:
    """Take a plan that the rules refuse."""
    _record(known, body, verdict="deny")


def _record(known: Known, body: parts.Simulated | parts.Denied, *, verdict: str) -> dict[str, Any]:
    record, digest = parts.value(body.simulation), parts.digest(body.simulation)
    known.require(digest == body.simulation_digest, "simulation-digest", "the digest is not the record's")
    is_record = record.get("_type") == "amgf/simulation" and record.get("verdict") == verdict
    known.require(is_record, "verdict", f"the record does not say {verdict}")
    known.require(record.get("engine") == body.inputs.engine, "verdict", "record and inputs name different engines")
    return record


def _result(known: Known, proposal: Standing) -> Any:
    """Return what the patch makes of the base: as long as the proposal is not stale, the base is the head."""
    head = known.head(proposal.target)
    if head.version != proposal.base_version or proposal.content is None:
        raise Unreadable("base", "the target has moved on: the proposal is stale")
    try:
        return patch.apply(head.document, patch.parse(proposal.content.patch)).value
    except PatchFailed as error:
        raise Unreadable("result-digest", f"the patch cannot be applied: {error}") from None


def _tier(known: Known, proposal: Standing, record: Mapping[str, Any]) -> Tier:
    try:
        tier = Tier(record["tier"])
        least = max(
            Tier(known.head(proposal.target).config["minimum_tier"]),
            Tier(proposal.content.declared_risk if proposal.content else None),
            *(Tier(one["tier"]) for one in record["tier_sources"]),
        )
    except (KeyError, TypeError, ValueError):
        raise Unreadable("tier", "the record's tiers cannot be read") from None
    if target.is_governance(proposal.target):
        least = Tier.GOVERNANCE
    known.require(tier >= least, "tier", f"the tier is {tier.value}, its sources say {least.value}")
    return tier


def _successor(proposal: Standing, result: Any) -> validators.ValidatorSet | None:
    if proposal.target != VALIDATORS:
        return None
    try:
        return validators.parse(result)
    except FirewallError as error:
        raise Unreadable("rules-malformed", f"not a validator set: {told(error)}") from None


def reopened(known: Known, entry: Entry, body: bodies.Reopened, proposal: Standing) -> None:
    """Take the next epoch: every vote is void."""
    is_next = body.epoch == entry.leaf.epoch == proposal.epoch + 1
    known.require(is_next, "epoch", f"after epoch {proposal.epoch} comes the next")
    proposal.epoch = body.epoch
    proposal.plan = proposal.approved_at = None


def stale(known: Known, _entry: Entry, body: bodies.Stale, proposal: Standing) -> None:
    """Take the end of a proposal whose base is not the head any more."""
    head = known.head(proposal.target)
    winner = known.proposals.get(body.winner)
    made = winner is not None and (winner.target, winner.version) == (proposal.target, body.version)
    known.require(head.version > proposal.base_version or known.gaps, "stale", "the target has not moved")
    known.require(made or known.gaps, "stale", "that proposal did not make that version")


def expired(known: Known, entry: Entry, _body: bodies.Nothing, proposal: Standing) -> None:
    """Take the end of a proposal whose time is over."""
    known.require(entry.leaf.at >= proposal.expires_at, "expiry", f"it expires at {proposal.expires_at}")


def approved(known: Known, entry: Entry, body: parts.Tallied, proposal: Standing) -> None:
    """Take an approval: the votes are counted again."""
    tally = fold_votes.require_tally(known, entry, bytes(body.tally), proposal)
    known.require(tally.met, "quorum", "the votes do not meet the rule")
    proposal.approved_at = entry.leaf.at


def rejected(known: Known, entry: Entry, body: parts.Tallied, proposal: Standing) -> None:
    """Take a rejection."""
    tally = fold_votes.require_tally(known, entry, bytes(body.tally), proposal)
    known.require(tally.lost, "quorum", "the rule can still be met")


def approval_lost(known: Known, entry: Entry, body: parts.Tallied, proposal: Standing) -> None:
    """Take the loss of an approval."""
    tally = fold_votes.require_tally(known, entry, bytes(body.tally), proposal)
    known.require(not tally.met, "quorum", "the votes still meet the rule")
    proposal.approved_at = None


def applying(known: Known, entry: Entry, body: parts.Applying, proposal: Standing) -> None:
    """Take a decision: the head moves, by one version, to what was simulated and voted for."""
    head = known.head(proposal.target)
    made, plan = body.snapshot, proposal.plan
    if plan is None:
        raise Unreadable("transition", "there is no plan to apply")
    known.require(head.state != FROZEN, "frozen", "the target is frozen")
    busy = known.applying.get(proposal.target)
    known.require(busy is None, "applying-twice", f"proposal {busy} is being applied")
    is_base = (head.version, head.digest) == (proposal.base_version, proposal.base_digest)
    known.require(is_base, "base", "the target has moved on")
    known.require(
        (made.target, made.version, made.parent_digest, made.proposal)
        == (proposal.target, proposal.base_version + 1, proposal.base_digest, proposal.id),
        "version",
        f"version {proposal.base_version} of {proposal.target} is followed by the next",
    )
    is_plan = made.digest == plan.record.get("result_digest")
    known.require(is_plan, "result-digest", "what is applied is not what was simulated")
    fold_votes.require_decision(known, entry, body, proposal)
    head.version, head.digest, head.document = made.version, made.digest, plan.result
    head.digests[made.version] = made.digest
    proposal.version = made.version
    known.applying[proposal.target] = proposal.id
    if target.is_governance(proposal.target):
        fold_targets.put_in_force(known, proposal.target, made.version, plan.result)


def applied(known: Known, _entry: Entry, body: bodies.Observed, proposal: Standing) -> None:
    """Take the word of an actuator that it runs the new version."""
    head = known.head(proposal.target)
    if body.observation is not None:
        seen = (body.observation.version, body.observation.digest)
        known.require(seen == (head.version, head.digest), "observation", "the actuator saw another version")
    known.applying.pop(proposal.target, None)
    proposal.plan = proposal.content = None
    if head.state == DEGRADED:
        head.state = ACTIVE


def apply_failed(known: Known, _entry: Entry, _body: bodies.Nothing, proposal: Standing) -> None:
    """Take it that the new version did not arrive."""
    head = known.head(proposal.target)
    known.applying.pop(proposal.target, None)
    if head.state == ACTIVE:
        head.state = DEGRADED


def rolled_back(known: Known, _entry: Entry, body: bodies.RolledBack, proposal: Standing) -> None:
    """Take it that an applied proposal was taken back by another."""
    by = known.proposals.get(body.by)
    made = by is not None and (by.target, by.version) == (proposal.target, body.version)
    is_rollback = made and by is not None and by.kind in ROLLING_BACK
    known.require(is_rollback or known.gaps, "rolled-back", "no rollback made that version")
