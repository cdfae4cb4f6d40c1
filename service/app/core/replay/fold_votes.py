"""The part of replay that is about consent: ballots, votes, revocations, tallies, decisions.

A vote is checked by the same function as when it was taken in, a tally counted by the same function as when it
approved; what is stored must be byte for byte what comes out.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from app.core.documents import canonical, instants
from app.core.documents.strict_json import Document
from app.core.governance.policy_set import QuorumRule
from app.core.governed.target import Tier
from app.core.log import bodies
from app.core.log.entry import Entry
from app.core.quorum import tally as counting
from app.core.quorum import votes
from app.core.replay import parts
from app.core.replay.standing import POLICIES, ROOT, VALIDATORS, Known, LastCount, Plan, Standing, Unreadable, told
from app.core.signing import envelope as dsse
from app.core.signing import keys, statement
from app.core.signing.statement import Ballot, Decision
from app.errors import BadSignature, BindingMismatch, FirewallError, Flaw, NotEligible, ProposerCannotVote

TYPED: Final = ("_type", "v", "tier")


def require_ballot(
    known: Known,
    proposal: Standing,
    body: parts.Simulated,
    record: Mapping[str, Any],
    *,
    ballot: Ballot,
    rule_digest: str,
) -> None:
    """Object unless the ballot is about this plan of this proposal and nothing else."""
    asked = ballot.predicate
    expected = {
        "proposal": proposal.id,
        "target": proposal.target,
        "base_version": proposal.base_version,
        "base_digest": proposal.base_digest,
        "patch_digest": proposal.patch_digest,
        "simulation_digest": body.simulation_digest,
        "tier": record.get("tier"),
        "quorum_rule_digest": rule_digest,
        "policy_set": {"version": body.inputs.policy_set.version, "digest": body.inputs.policy_set.digest},
        "validator_set": {"version": body.inputs.validator_set.version, "digest": body.inputs.validator_set.digest},
        "epoch": proposal.epoch,
        "nonce": asked.nonce,
    }
    found = msgspec.to_builtins(asked)
    if found != expected:
        for name, value in expected.items():
            known.require(found[name] == value, "ballot", f"the ballot's {name} is not the plan's")
    subject = (
        statement.subject("proposal", proposal.proposal_digest),
        statement.subject("snapshot", str(record.get("result_digest"))),
    )
    known.require(ballot.subject == subject, "ballot", "the ballot's subjects are not the proposal and its result")


def cast(known: Known, entry: Entry, body: parts.Signed, proposal: Standing) -> None:
    """Take a vote."""
    plan = _plan(proposal)
    try:
        envelope = dsse.from_canonical(body.envelope)
        vote = votes.check(
            envelope,
            ballot=plan.ballot,
            ballot_expires_at=instants.from_text(proposal.expires_at),
            electorate=known.electorate(plan),
            proposer=proposal.proposer,
            principal=None,
            now=instants.from_text(entry.leaf.at),
            verify=known.owing("vote-signature"),
            successor=plan.successor,
            revoked_keys=known.rules.revoked_keys,
        )
    except (BadSignature, NotEligible, ProposerCannotVote) as error:
        known.refuse("vote-signature", f"not a vote of somebody who may: {told(error)}")
        return
    except BindingMismatch as error:
        known.refuse("vote-ballot", f"not a vote on this ballot: {told(error)}")
        return
    is_first = all(one.digest != vote.digest for one in plan.votes)
    known.require(is_first, "vote-twice", "the same vote was cast before")
    plan.votes.append(vote)
    plan.count = None


def revoke(known: Known, entry: Entry, body: parts.Signed, proposal: Standing) -> None:
    """Take a vote back."""
    plan = _plan(proposal)
    try:
        envelope = dsse.from_canonical(body.envelope)
        said = statement.decode(envelope.peek(), statement.Revocation).predicate
        place = next((place for place, one in enumerate(plan.votes) if one.digest == said.vote), None)
        if place is None or plan.votes[place].is_revoked:
            known.refuse("revocation", "there is no such vote to take back")
            return
        votes.check_revocation(
            envelope,
            vote=plan.votes[place],
            electorate=known.electorate(plan),
            principal=None,
            now=instants.from_text(entry.leaf.at),
            verify=known.owing("revocation"),
            successor=plan.successor,
            revoked_keys=known.rules.revoked_keys,
        )
    except FirewallError as error:
        known.refuse("revocation", f"not a revocation by the voter: {told(error)}")
        return
    plan.votes[place] = replace(plan.votes[place], is_revoked=True)
    plan.count = None


def require_tally(known: Known, entry: Entry, record: bytes, proposal: Standing) -> counting.Tally:
    """Count again; object unless the canonical record is byte for byte what comes out. Return the count."""
    tally = count(known, proposal, instants.from_text(entry.leaf.at))
    # Texts, whole numbers and ASCII names: there is nothing that the quick encoder writes otherwise.
    if record == canonical.encode(Document(tally.record(), is_plain=True)):
        return tally
    counted = msgspec.json.decode(record).get("counted")
    for one in counted if isinstance(counted, list) else []:
        why = next((why for vote, why in tally.not_counted if vote.digest == one.get("vote")), None)
        known.require(why not in {"revoked", "key-revoked"}, "revoked-counted", "a vote that was taken back is counted")
    known.refuse("tally", "counting again gives another tally")
    return tally


def _decision_as_counted(
    known: Known, entry: Entry, payload: bytes, made: bodies.Snapshot, plan: Plan
) -> tuple[Decision | None, counting.Tally | None]:
    """Return the decision with the tally it carries if both are what the last count makes them, None otherwise."""
    tally = _last_count(known, plan, instants.from_text(entry.leaf.at))
    if tally is None:
        return None, None
    said = statement.decision_on(
        payload, plan.ballot, version=made.version, result_digest=made.digest, tally=tally.record()
    )
    return said, tally if said is not None else None


def _last_count(known: Known, plan: Plan, now: datetime) -> counting.Tally | None:
    """Return the last count of these votes, as of now; None if it may come out otherwise."""
    last = plan.count
    if last is None or last.revoked_keys != len(known.rules.revoked_keys) or now < last.tally.at:
        return None
    if last.holds_until is not None and now >= last.holds_until:
        return None
    return replace(last.tally, at=now)


def count(known: Known, proposal: Standing, now: datetime) -> counting.Tally:
    """Return the tally of the votes in the log; the last count holds until a vote or a key begins or ends."""
    plan = _plan(proposal)
    tally = _last_count(known, plan, now)
    if tally is None:
        tally = _counted(known, plan, proposal, now)
        holds_until = counting.next_change(known.electorate(plan), plan.votes, now=now, successor=plan.successor)
        plan.count = LastCount(tally, holds_until, len(known.rules.revoked_keys))
    return tally


def _counted(known: Known, plan: Plan, proposal: Standing, now: datetime) -> counting.Tally:
    if plan.quorum_rule is None:
        rule = {name: value for name, value in plan.rule.items() if name not in TYPED}
        plan.quorum_rule = msgspec.convert(rule, QuorumRule)
    return counting.tally(
        plan.quorum_rule,
        known.electorate(plan),
        plan.votes,
        proposal=proposal.id,
        epoch=proposal.epoch,
        proposer=proposal.proposer,
        now=now,
        successor=plan.successor,
        revoked_keys=known.rules.revoked_keys,
    )


def require_decision(known: Known, entry: Entry, body: parts.Applying, proposal: Standing) -> None:
    """Object unless the service's decision is signed, about this ballot, and carried by a quorum at that instant."""
    plan = _plan(proposal)
    try:
        envelope = dsse.from_canonical(body.decision)
        key = _service_key(known, envelope.signatures[0].keyid, instants.from_text(entry.leaf.at))
        payload = dsse.opened(envelope, key, payload_type=dsse.IN_TOTO, verify=known.owing("decision-signature"))
        said, tally = _decision_as_counted(known, entry, payload, body.snapshot, plan)
        if said is None:
            said = statement.decode(payload, Decision)
    except FirewallError as error:
        known.refuse("decision-signature", f"not a decision of the service: {told(error)}")
        return
    decision = said.predicate
    is_bound = statement.is_about(decision, plan.ballot.predicate)
    known.require(is_bound and said.subject == plan.ballot.subject, "decision", "the decision is about another ballot")
    made = body.snapshot
    known.require(
        (decision.version, decision.result_digest) == (made.version, made.digest),
        "decision",
        "the decision is about another version",
    )
    if tally is None:
        tally = require_tally(known, entry, canonical.encode_value(decision.tally), proposal)
    known.require(tally.met, "quorum", "the votes do not meet the rule")
    _require_rules_in_force(known, plan)
    lock = timedelta(seconds=plan.rule["time_lock_seconds"])
    approved_at = instants.from_text(proposal.approved_at) if proposal.approved_at else None
    is_open = approved_at is not None and instants.from_text(entry.leaf.at) >= approved_at + lock
    known.require(is_open, "time-lock", "it was applied before the time-lock passed")
    alone = decision.applier == proposal.proposer and plan.rule["applier_not_proposer"]
    known.require(not alone, "applier", "the proposer applied it")
    expected = "auto" if decision.applier is None else None
    known.require(
        expected is None or plan.rule["apply"] == expected or Tier(plan.rule["tier"]) < Tier.HIGH,
        "applier",
        "nobody applied what is applied by hand",
    )


def _service_key(known: Known, keyid: str, at: datetime) -> bytes:
    in_force = known.rules.roots[known.head(ROOT).version]
    for key in in_force.keys_at("service", at):
        if keys.keyid(key) == keyid:
            return key
    raise BadSignature([Flaw("/signatures/0/keyid", "unknown-key", "not a key of the service")])


def _require_rules_in_force(known: Known, plan: Plan) -> None:
    asked = plan.ballot.predicate
    for name, pin in ((POLICIES, asked.policy_set), (VALIDATORS, asked.validator_set)):
        head = known.head(name)
        in_force = (head.version, head.digest) == (pin.version, pin.digest)
        known.require(in_force, "rules-in-force", f"version {pin.version} of {name} was not in force")


def _plan(proposal: Standing) -> Plan:
    if proposal.plan is None:
        raise Unreadable("transition", "no ballot is open")
    return proposal.plan
