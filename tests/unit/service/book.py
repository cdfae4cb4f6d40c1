"""A log written by hand for tests, with real keys: honest, or with one thing altered before it is hashed and chained.

`Book(alter=...)` hands each leaf and body over before they are sealed. What follows is written on top of what was
altered, as a dishonest service would: digests, chains and signatures of the service's own are made after the fact.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from app.core.documents import canonical, instants, patch
from app.core.governance import genesis, policy_set
from app.core.governance.policy_set import PolicySet
from app.core.governance.validators import ValidatorSet, parse
from app.core.governed import target as targets
from app.core.governed.shapes import Pin
from app.core.governed.target import Tier
from app.core.log import checkpoint, merkle
from app.core.log.entry import Raw
from app.core.quorum import tally as quorum
from app.core.quorum.votes import VerifiedVote
from app.core.signing import envelope, statement
from app.core.signing.keys import to_base64
from app.core.signing.statement import Ballot, BallotPredicate, Decided
from tests.unit.service import electorate
from tests.unit.service.electorate import NOW, ORIGIN, private_key

Alter = Callable[[str, dict[str, Any], dict[str, Any]], None]
"""(kind, leaf, body), changed in place."""
DOCUMENT: dict[str, Any] = {"budgets": {"tokens_per_day": 100}, "prompts": {"system": "Be kind."}, "share": 0.5}
TARGET = "agents/router"
PROPOSER = "agent-1"
CORPUS: dict[str, Any] = {"v": 1, "cases": []}
LOG, SERVICE = private_key("log"), private_key("service")
ENGINE: dict[str, Any] = {"name": "amgf-simulation", "revision": 1, "packages": {"cel-expr-python": "0.1.3"}}
INPUTS_UNKNOWN = "sha256:" + "0" * 64


def nothing(_kind: str, _leaf: dict[str, Any], _body: dict[str, Any]) -> None:
    """Alter nothing."""


def digest_of(value: Any) -> str:
    return canonical.digest(canonical.encode_value(value))


def uuid(name: str) -> str:
    digits = hashlib.sha256(name.encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"


def policies(**tiers: Mapping[str, Any]) -> dict[str, Any]:
    """The default policy set; `low={"humans": 1}` changes a tier's rule. Nothing is time-locked."""
    document = policy_set.DEFAULT.document()
    for tier, rule in document["quorum"].items():
        rule["time_lock_seconds"] = 0
        rule.update(tiers.get(tier, {}))
    return document


def founding(*, rules: dict[str, Any] | None = None, validators: dict[str, Any] | None = None) -> genesis.Genesis:
    founders = [private_key(f"founder-{one}") for one in ("a", "b", "c")]
    root = {
        "v": 1,
        "version": 1,
        "origin": ORIGIN,
        "log_key": to_base64(LOG.public_key),
        "service_key": to_base64(SERVICE.public_key),
        "threshold": 2,
        "founders": [
            {"id": f"founder-{one}", "public_key": to_base64(key.public_key)}
            for one, key in zip("abc", founders, strict=True)
        ],
        "old_keys": [],
    }
    unsigned = genesis.found(
        root=root,
        policies=rules or policies(),
        validators=validators or electorate.founding(),
        corpus=CORPUS,
        created_at=NOW - timedelta(days=1),
    )
    signed = [key.seal(unsigned.payload(), envelope.GENESIS).signatures[0] for key in founders[:2]]
    return genesis.found(
        root=unsigned.root,
        policies=unsigned.policies,
        validators=unsigned.validators,
        corpus=unsigned.corpus,
        created_at=NOW - timedelta(days=1),
        signatures=signed,
    )


@dataclass
class Written:
    """A proposal as the book knows it."""

    id: str
    target: str
    content: dict[str, Any]
    proposer: str
    accepted_at: str
    expires_at: str
    state: str | None = None
    epoch: int = 1
    last_leaf: str | None = None
    result: Any = None
    record: dict[str, Any] = field(default_factory=dict)
    ballot: Ballot | None = None
    rule: dict[str, Any] = field(default_factory=dict)
    votes: list[VerifiedVote] = field(default_factory=list)
    envelopes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Governed:
    version: int
    document: Any

    @property
    def digest(self) -> str:
        return digest_of(self.document)

    @property
    def pin(self) -> dict[str, Any]:
        return {"version": self.version, "digest": self.digest}


class Book:
    """A log in the making."""

    def __init__(
        self, *, alter: Alter = nothing, rules: dict[str, Any] | None = None, validators: dict[str, Any] | None = None
    ) -> None:
        self.alter = alter
        self.now = NOW
        self.entries: list[Raw] = []
        self.altered: list[int] = []
        self.revoked: list[str] = []
        """Whose keys were revoked, as the log has it."""
        self.targets: dict[str, Governed] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.genesis = founding(rules=rules, validators=validators)
        self._chains: dict[str | None, str] = {}
        for name in ("root", "policies", "validators", "corpus"):
            self.targets[f"governance/{name}"] = Governed(1, getattr(self.genesis, name))
            self.configs[f"governance/{name}"] = targets.reserved(f"governance/{name}").record()
        self.write("genesis", target=None, body={"genesis": self.genesis.document()})

    # --- the log itself ---------------------------------------------------------------------------------------

    def tick(self, seconds: float = 1) -> str:
        self.now += timedelta(seconds=seconds)
        return instants.to_text(self.now)

    def write(
        self,
        kind: str,
        *,
        target: str | None,
        body: dict[str, Any],
        proposal: Written | None = None,
        states: tuple[str | None, str | None] = (None, None),
        at: str | None = None,
    ) -> None:
        chain = None if kind in {"genesis", "log-recovered"} else target
        leaf = {
            "v": 1,
            "id": uuid(f"event {len(self.entries)}"),
            "kind": kind,
            "at": at or self.tick(),
            "tenant": "default",
            "target": target,
            "proposal": None if proposal is None else proposal.id,
            "state_from": states[0],
            "state_to": states[1],
            "epoch": 1 if proposal is None else proposal.epoch,
            "actor": hashlib.sha256(b"actor").hexdigest(),
            "body": None,
            "prev": self._chains.get(chain) if proposal is None else proposal.last_leaf,
        }
        before = digest_of([leaf, body])
        self.alter(kind, leaf, body)
        if digest_of([leaf, body]) != before:
            self.altered.append(len(self.entries))
        body_bytes = canonical.encode_value(body)
        if kind == "key-revoked":
            self.revoked.append(body["validator"])
        if leaf["body"] is None:
            leaf["body"] = canonical.digest(body_bytes)
        leaf_bytes = canonical.encode_value(leaf)
        self.entries.append(Raw(len(self.entries), leaf_bytes, body_bytes))
        if proposal is None:
            self._chains[chain] = canonical.digest(leaf_bytes)
        else:
            proposal.last_leaf = canonical.digest(leaf_bytes)
            proposal.state = states[1]

    def tree(self, size: int | None = None) -> merkle.CompactRange:
        leaves = [merkle.leaf_hash(one.leaf) for one in self.entries[:size]]
        return merkle.CompactRange().extended(leaves)[0]

    def note(self, size: int | None = None) -> bytes:
        tree = self.tree(size)
        said = checkpoint.Checkpoint(ORIGIN, tree.size, tree.root)
        return checkpoint.signed(said, public_key=LOG.public_key, sign=LOG.sign)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        leaves = [merkle.leaf_hash(one.leaf) for one in self.entries[:size]]
        return [
            merkle.CompactRange().extended(leaves[one.begin : one.end])[0].root
            for one in merkle.inclusion_ranges(index, len(leaves))
        ]

    # --- targets ----------------------------------------------------------------------------------------------

    def create(self, name: str = TARGET, document: Any = None, *, minimum_tier: str = "low") -> None:
        made = Governed(1, DOCUMENT if document is None else document)
        config = {
            "_type": "amgf/target",
            "v": 1,
            "name": name,
            "schema": None,
            "minimum_tier": minimum_tier,
            "on_failure": "hold",
            "actuator": None,
        }
        self.targets[name] = made
        self.configs[name] = config
        self.write(
            "target-created",
            target=name,
            body={"config": config, "document": made.document, "digest": made.digest},
        )

    def freeze(self, name: str = TARGET) -> None:
        self.write("frozen", target=name, body={"reason": "odd"}, states=("active", "frozen"))

    def unfreeze(self, name: str = TARGET) -> None:
        self.write("unfrozen", target=name, body={"reason": "fine"}, states=("frozen", "active"))

    def revoke_key(self, validator: str) -> None:
        body = {"validator": validator, "keyid": private_key(validator).keyid, "reason": "lost"}
        self.write("key-revoked", target="governance/validators", body=body)

    # --- a proposal's life ------------------------------------------------------------------------------------

    def propose(
        self,
        operations: list[dict[str, Any]],
        *,
        target: str = TARGET,
        kind: str = "mutation",
        proposer: str = PROPOSER,
        restores: dict[str, Any] | None = None,
    ) -> Written:
        head = self.targets[target]
        accepted_at = self.tick()
        content = {
            "_type": "amgf/proposal",
            "v": 1,
            "target": target,
            "base_version": head.version,
            "base_digest": head.digest,
            "kind": kind,
            "patch": operations,
            "rationale": "The weekly report needs more.",
            "declared_risk": "low",
            "evidence": [],
            "expires_at": None,
            "supersedes": None,
            "restores": restores,
        }
        proposal = Written(
            id=uuid(f"proposal {len(self.entries)}"),
            target=target,
            content=content,
            proposer=proposer,
            accepted_at=accepted_at,
            expires_at=instants.to_text(self.now + timedelta(days=7)),
        )
        body = {
            "id": proposal.id,
            "content": content,
            "proposer": proposer,
            "accepted_at": accepted_at,
            "expires_at": proposal.expires_at,
            "body_digest": digest_of("body"),
        }
        self.write("proposal-created", target=target, proposal=proposal, body=body, states=(None, "pending"))
        return proposal

    def start(self, proposal: Written) -> None:
        body = {"attempt": 1, "lease_token": 1, "replica": "replica-1"}
        self._step("simulation-started", proposal, "simulating", body)

    def give_back(self, proposal: Written) -> None:
        self._step("simulation-returned", proposal, "pending", {"attempt": 1, "reason": "deadline"})

    def fail(self, proposal: Written) -> None:
        self._step("simulation-failed", proposal, "failed", {"reason": "deadline", "simulation": None})

    def simulate(self, proposal: Written, *, tier: str | None = None) -> None:
        self.start(proposal)
        governing = target_is_governance(proposal.target)
        record = self._record(proposal, verdict="allow", tier=tier or ("governance" if governing else "low"))
        rules = self.policies()
        proposal.record = record
        proposal.rule = rules.quorum_rule_record(Tier(record["tier"]))
        self.open(proposal)

    def open(self, proposal: Written) -> None:
        """Write the `simulated` event: record, rule and ballot."""
        record = proposal.record
        proposal.ballot = statement.ballot(
            proposal_digest=digest_of(proposal.content),
            result_digest=record["result_digest"],
            predicate=BallotPredicate(
                proposal=proposal.id,
                target=proposal.target,
                base_version=proposal.content["base_version"],
                base_digest=proposal.content["base_digest"],
                patch_digest=digest_of(proposal.content["patch"]),
                simulation_digest=digest_of(record),
                tier=Tier(record["tier"]),
                quorum_rule_digest=digest_of(proposal.rule),
                policy_set=Pin(**self.targets["governance/policies"].pin),
                validator_set=Pin(**self.targets["governance/validators"].pin),
                epoch=proposal.epoch,
                nonce=hashlib.sha256(f"{proposal.id} {proposal.epoch}".encode()).hexdigest()[:32],
            ),
        )
        body = {
            "simulation": record,
            "simulation_digest": digest_of(record),
            "inputs": self._inputs(),
            "quorum_rule": proposal.rule,
            "ballot": canonical_value(statement.encode(proposal.ballot)),
            "expires_at": proposal.expires_at,
        }
        proposal.votes = []
        self._step("simulated", proposal, "simulated", body)

    def deny(self, proposal: Written) -> None:
        self.start(proposal)
        record = {**self._record(proposal, verdict="deny", tier="low"), "result_digest": None}
        body = {"simulation": record, "simulation_digest": digest_of(record), "inputs": self._inputs()}
        self._step("denied", proposal, "denied", body)

    def vote(
        self, proposal: Written, name: str, decision: Decided = "approve", *, on: Ballot | None = None, **changes: Any
    ) -> VerifiedVote:
        if proposal.ballot is None:
            raise AssertionError("nothing to vote on")
        ballot = on or proposal.ballot
        told = {"issued_at": self.now, "expires_at": self.now + timedelta(hours=20), **changes}
        signed = electorate.signed(name, on=ballot, decision=decision, **told)
        entry = next(one for one in electorate.founding_set().validators if one.id == name)
        vote = VerifiedVote(
            digest=signed.digest(),
            proposal=proposal.id,
            epoch=proposal.epoch,
            validator=name,
            principal=entry.principal,
            keyid=signed.signatures[0].keyid,
            role=entry.role,
            decision=decision,
            recomputed=not entry.is_human and decision == "approve",
            issued_at=told["issued_at"],
            expires_at=told["expires_at"],
        )
        proposal.votes.append(vote)
        proposal.envelopes.append(signed.document())
        self._step("vote-cast", proposal, proposal.state, {"envelope": signed.document()})
        return vote

    def revoke(self, proposal: Written, vote: VerifiedVote, *, counted_on: bool = False) -> None:
        signed = next(one for one in proposal.envelopes if digest_of(one) == vote.digest)
        cast = statement.decode(envelope.from_value(signed).peek(), statement.Vote)
        said = statement.revoke(cast, digest=vote.digest, reason="on reflection", issued_at=self.now)
        sealed = private_key(vote.validator).seal(statement.encode(said), envelope.IN_TOTO)
        if not counted_on:
            proposal.votes[proposal.votes.index(vote)] = replace(vote, is_revoked=True)
        self._step("vote-revoked", proposal, proposal.state, {"envelope": sealed.document()})

    def tally(self, proposal: Written, now: datetime) -> quorum.Tally:
        rule = {name: value for name, value in proposal.rule.items() if name not in {"_type", "v", "tier"}}
        revoked = {private_key(one).keyid for one in self.revoked}
        return quorum.tally(
            msgspec.convert(rule, policy_set.QuorumRule),
            self.electorate(),
            proposal.votes,
            proposal=proposal.id,
            epoch=proposal.epoch,
            proposer=proposal.proposer,
            now=now,
            successor=parse(proposal.result) if proposal.target == "governance/validators" else None,
            revoked_keys=revoked,
        )

    def conclude(self, proposal: Written, kind: str) -> None:
        """Write `approved`, `rejected` or `approval-lost`, whatever the votes say."""
        at = self.tick()
        state = {"approved": "approved", "rejected": "rejected", "approval-lost": "simulated"}[kind]
        self._step(kind, proposal, state, {"tally": self.tally(proposal, self.now).record()}, at=at)

    def apply(self, proposal: Written, *, applier: str | None = "applier-1") -> None:
        if proposal.ballot is None:
            raise AssertionError("nothing was simulated")
        at = self.tick()
        head = self.targets[proposal.target]
        predicate = statement.DecisionPredicate(
            **statement.fields(proposal.ballot.predicate),
            version=head.version + 1,
            result_digest=proposal.record["result_digest"],
            tally=self.tally(proposal, self.now).record(),
            applier=applier,
            decided_at=at,
        )
        decision = statement.Decision(subject=proposal.ballot.subject, predicate=predicate)
        sealed = SERVICE.seal(statement.encode(decision), envelope.IN_TOTO)
        snapshot = {
            "target": proposal.target,
            "version": head.version + 1,
            "digest": proposal.record["result_digest"],
            "parent_digest": head.digest,
            "proposal": proposal.id,
        }
        body = {"decision": sealed.document(), "snapshot": snapshot}
        self._step("applying", proposal, "applying", body, at=at)
        self.targets[proposal.target] = Governed(head.version + 1, proposal.result)

    def settle(self, proposal: Written, observation: dict[str, Any] | None = None) -> None:
        self._step("applied", proposal, "applied", {"observation": observation})

    def fail_to_apply(self, proposal: Written) -> None:
        self._step("apply-failed", proposal, "failed", {"reason": "retries used up"})

    def reopen(self, proposal: Written, cause: str = "policies") -> None:
        proposal.epoch += 1
        self._step("reopened", proposal, "pending", {"cause": cause, "epoch": proposal.epoch})

    def end(self, proposal: Written, kind: str, body: dict[str, Any] | None = None, *, at: str | None = None) -> None:
        """Write `withdrawn`, `expired` or `stale`."""
        self._step(kind, proposal, kind, body or {}, at=at)

    def roll_back(self, proposal: Written, by: Written) -> None:
        body = {"by": by.id, "version": self.targets[proposal.target].version}
        self._step("rolled-back", proposal, "rolled_back", body)

    def carry(self, proposal: Written, *voters: str) -> None:
        """Take a proposal from its creation to applied."""
        self.simulate(proposal)
        for name in voters or ("robot",):
            self.vote(proposal, name)
        self.conclude(proposal, "approved")
        self.apply(proposal)
        self.settle(proposal)

    # --- looking ----------------------------------------------------------------------------------------------

    def policies(self) -> PolicySet:
        return policy_set.parse(self.targets["governance/policies"].document)

    def electorate(self) -> ValidatorSet:
        return parse(self.targets["governance/validators"].document)

    def bodies(self, kind: str) -> list[Any]:
        return [canonical_value(one.body or b"{}") for one in self.entries if canonical_value(one.leaf)["kind"] == kind]

    # --- pieces -----------------------------------------------------------------------------------------------

    def _step(
        self, kind: str, proposal: Written, state: str | None, body: dict[str, Any], *, at: str | None = None
    ) -> None:
        states = (proposal.state, state)
        self.write(kind, target=proposal.target, proposal=proposal, body=body, states=states, at=at)

    def _record(self, proposal: Written, *, verdict: str, tier: str) -> dict[str, Any]:
        base = self.targets[proposal.target].document
        proposal.result = patch.apply(base, patch.parse(proposal.content["patch"])).value
        return {
            "_type": "amgf/simulation",
            "v": 1,
            "inputs_digest": INPUTS_UNKNOWN,
            "engine": ENGINE,
            "verdict": verdict,
            "reasons": [],
            "result_digest": digest_of(proposal.result),
            "tier": tier,
            "tier_sources": [{"source": "declared", "tier": "low"}],
            "risk_points": 0,
            "risk": [],
        }

    def _inputs(self) -> dict[str, Any]:
        return {
            "engine": ENGINE,
            "policy_set": self.targets["governance/policies"].pin,
            "corpus": self.targets["governance/corpus"].pin,
            "validator_set": self.targets["governance/validators"].pin,
            "oracle_readings": [],
            "oracle_missing": False,
        }


def canonical_value(content: bytes) -> Any:
    return msgspec.json.decode(content)


def target_is_governance(name: str) -> bool:
    return targets.is_governance(name)
