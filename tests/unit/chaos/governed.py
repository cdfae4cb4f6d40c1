"""Builds the recorded history of a gate that did its work, row by row as the service writes them, and ways to spoil it.

Real signatures, real digests, a real log: what the checks of the gate accept here they would accept of a service.
"""

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from chaos.probes.canaries import CANARIES
from chaos.probes.checkpoints import CHECKPOINTS
from chaos.probes.replay import REPLAY
from chaos.record import DATABASE, POLICIES, VALIDATORS
from chaos.scenario import Case, Window
from chaos.verifier import canonical, envelope, merkle, note
from tests.unit.chaos.recording import Recording
from tests.unit.chaos.test_verifier import HIGH, KEYS, LOW, MEDIUM, PEOPLE, entry, text

ORIGIN = "log.example"
LOG_KEY = SigningKey(b"\x07" * 32)
SERVICE_KEY = SigningKey(b"\x08" * 32)
BEGINNING = datetime(2026, 11, 23, 12, tzinfo=UTC)
RULES: Mapping[str, dict[str, Any]] = {"low": LOW, "medium": MEDIUM, "high": HIGH | {"time_lock_seconds": 2}}
NOT_STORED = "not stored"

Rows = dict[str, list[dict[str, Any]]]


@dataclass
class Governed:
    """The database and the history of a gate, kept as rows until ``written``: until then anything may be spoiled."""

    rows: Rows = field(default_factory=dict)
    operations: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[tuple[float, str, str]] = field(default_factory=list)  # t, replica, note
    now: float = 1.0
    transaction: int = 700
    heads: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    last_leaf: dict[str, str | None] = field(default_factory=dict)
    replays: list[dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        tables = "proposals events snapshots simulations ballots votes decisions targets key_revocations log_entries"
        for table in (*tables.split(), "log_checkpoints", "idempotency_records"):
            self.rows[table] = []
        policies = {"v": 1, "id": "test", "quorum": {tier: dict(rule) for tier, rule in RULES.items()}}
        electorate = {"v": 1, "minimum": 3, "validators": [entry(name, not_before=text(BEGINNING)) for name in PEOPLE]}
        self.event("genesis", None, None, {"genesis": {}})
        self.create(POLICIES, policies)
        self.create(VALIDATORS, electorate)

    # --- what a service does -----------------------------------------------------------------------------------

    def create(self, target: str, document: Any) -> None:
        """A target and its first version."""
        content = canonical.encode(document)
        self.heads[target] = (1, canonical.digest(content), content)
        self._insert("snapshots", **self._snapshot(target, 1, content, None, None))
        self._insert("targets", name=target, state="active", version=1, digest=canonical.digest(content))
        self.event("target-created", None, target, {"target": target})

    def live(self, target: str, *, tier: str = "medium", voters: tuple[str, ...] = ("ann", "machine")) -> str:
        """A whole life: proposed, simulated, voted on, applied and read; returns the proposal."""
        identity = self.propose(target)
        self.simulate(identity, tier)
        for voter in voters:
            self.vote(identity, voter)
        self.apply(identity)
        self.read(target)
        return identity

    def propose(self, target: str, *, proposer: str = "eve", result: Any = None, **more: Any) -> str:
        """A proposal, and the request for it."""
        identity = str(uuid.UUID(int=len(self.rows["proposals"]) + 1))
        version, digest, _ = self.heads[target]
        content = {
            "_type": "amgf/proposal",
            "v": 1,
            "target": target,
            "base_version": version,
            "base_digest": digest,
            "kind": "mutation",
            "patch": [{"op": "add", "path": "/n", "value": version}],
        }
        self._insert(
            "proposals",
            id=identity,
            principal=proposer,
            kind=more.get("kind", "mutation"),
            target=target,
            body_digest=f"body of {identity}",
            content=_hex(canonical.encode(content)),
            state="pending",
            epoch=1,
            after=canonical.encode({"n": version} if result is None else result).decode(),
        )
        self.event("proposal-created", identity, target, {"id": identity}, to="pending")
        facts = {"key": f"key of {identity}", "body_sha256": f"body of {identity}", **more.get("asked", {})}
        self.operation(more.get("asked_as", "propose"), proposer, answer={"proposal": identity}, **facts)
        return identity

    def simulate(self, identity: str, tier: str) -> None:
        """Its simulation, and the ballot that opens."""
        proposal = self.proposal(identity)
        after = proposal["after"].encode()
        record = {
            "_type": "amgf/simulation",
            "v": 1,
            "verdict": "allow",
            "tier": tier,
            "result_digest": canonical.digest(after),
        }
        self.event("simulation-started", identity, proposal["target"], {}, to="simulating")
        self.transaction += 1
        self._insert("simulations", proposal_id=identity, epoch=1, record=_hex(canonical.encode(record)))
        self._insert("ballots", proposal_id=identity, epoch=1, nonce=f"nonce of {identity}")
        self.event("simulated", identity, proposal["target"], {}, to="simulated")
        proposal["tier"] = tier

    def vote(self, identity: str, voter: str, decision: str = "approve", **change: Any) -> str:
        """A vote that is accepted."""
        cast = self.signed(identity, voter, decision, **change)
        digest = envelope.digest(cast)
        self.transaction += 1
        self._insert(
            "votes",
            proposal_id=identity,
            epoch=1,
            principal=voter,
            validator=voter,
            keyid=cast["signatures"][0]["keyid"],
            decision=decision,
            envelope=_hex(canonical.encode(cast)),
            digest=digest,
            at=text(self.at()),
            superseded_at=None,
            revoked_at=None,
        )
        self.event("vote-cast", identity, self.proposal(identity)["target"], {"envelope": cast})
        self.operation("vote", voter, proposal=identity, vote=digest, answer={})
        return digest

    def signed(
        self, identity: str, voter: str, decision: str = "approve", *, key: SigningKey | None = None, **change: Any
    ) -> dict[str, Any]:
        """The envelope of a vote on a proposal's ballot."""
        proposal = self.proposal(identity)
        content = canonical.decode(bytes.fromhex(proposal["content"][2:]))
        (simulation,) = [row for row in self.rows["simulations"] if row["proposal_id"] == identity]
        tier = proposal["tier"]
        policies, validators = self.heads[POLICIES], self.heads[VALIDATORS]
        rule = {"_type": "amgf/quorum-rule", "v": 1, "tier": tier, **RULES[tier]}
        predicate = {
            "proposal": identity,
            "target": proposal["target"],
            "base_version": content["base_version"],
            "base_digest": content["base_digest"],
            "patch_digest": canonical.digest_of(content["patch"]),
            "simulation_digest": canonical.digest(bytes.fromhex(simulation["record"][2:])),
            "tier": tier,
            "quorum_rule_digest": canonical.digest_of(rule),
            "policy_set": {"version": policies[0], "digest": policies[1]},
            "validator_set": {"version": validators[0], "digest": validators[1]},
            "epoch": 1,
            "nonce": f"nonce of {identity}",
            "validator": voter,
            "role": PEOPLE[voter][1],
            "decision": decision,
            "recomputed": voter == "machine",
            "reason": "",
            "issued_at": text(self.at()),
            "expires_at": text(self.at() + timedelta(hours=1)),
        } | change
        subject = [
            {"name": "proposal", "digest": {"sha256": canonical.digest_of(content)[7:]}},
            {"name": "snapshot", "digest": {"sha256": canonical.digest(proposal["after"].encode())[7:]}},
        ]
        statement = {
            "_type": envelope.STATEMENT,
            "subject": subject,
            "predicateType": envelope.VOTE,
            "predicate": predicate,
        }
        return envelope.seal(canonical.encode(statement), key or KEYS[voter])

    def apply(self, identity: str, *, waits: float = 3.0) -> None:
        """Its approval, and the transaction that makes the next version."""
        proposal = self.proposal(identity)
        target = proposal["target"]
        version, parent, _ = self.heads[target]
        content = proposal["after"].encode()
        self.event("approved", identity, target, {}, to="approved")
        self.now += waits
        self.transaction += 1
        self.heads[target] = (version + 1, canonical.digest(content), content)
        self._insert("snapshots", **self._snapshot(target, version + 1, content, parent, identity))
        (head,) = [row for row in self.rows["targets"] if row["name"] == target]
        head |= {"version": version + 1, "digest": canonical.digest(content)}
        self._insert("decisions", proposal_id=identity, envelope=_hex(canonical.encode(self._decision(identity))))
        self.event("applying", identity, target, {}, to="applying")
        self.transaction += 1
        self.event("applied", identity, target, {}, to="applied")

    def read(self, target: str, *, version: int | None = None, **more: Any) -> None:
        """A read of the head."""
        now, digest, _ = self.heads[target]
        answer = {"target": target, "version": version or now, "snapshot": more.pop("snapshot", digest), **more}
        self.operation("current", "client-1", target=target, answer=answer)

    def event(self, kind: str, proposal: str | None, target: str | None, body: Any, *, to: str | None = None) -> None:
        """An event at the end of its chain, and its place in the log."""
        self.now += 0.01
        state = self.proposal(proposal)["state"] if proposal else None
        before = None if kind == "proposal-created" else state
        chain = proposal or f"target {target}"
        content = canonical.encode(body)
        event = {
            "id": str(uuid.UUID(int=len(self.rows["events"]) + 1)),
            "kind": kind,
            "proposal_id": proposal,
            "target": target,
            "state_from": before,
            "state_to": to or before,
            "epoch": 1 if proposal else 0,
            "at": text(self.at()),
        }
        leaf = {
            **{name: event[name] for name in ("id", "kind", "target", "state_from", "state_to", "epoch", "at")},
            "proposal": proposal,
            "v": 1,
            "body": canonical.digest(content),
            "prev": self.last_leaf.get(chain),
        }
        leaf_bytes = canonical.encode(leaf)
        self.last_leaf[chain] = canonical.digest(leaf_bytes)
        self._insert("events", **event, leaf=_hex(leaf_bytes), body=_hex(content))
        hashed = merkle.leaf_hash(leaf_bytes)
        index = len(self.rows["log_entries"])
        self._insert("log_entries", index=index, event_id=event["id"], leaf_hash=_hex(hashed))
        if proposal and to:
            self.proposal(proposal)["state"] = to

    def checkpoint(self, *, witnessed_by: str = "replica-1") -> None:
        """A checkpoint of the log as it is, signed, and shown to the witness."""
        hashes = [bytes.fromhex(row["leaf_hash"][2:]) for row in self.rows["log_entries"]]
        signed = self.note(len(hashes), list(merkle.roots(hashes))[-1])
        self._insert("log_checkpoints", size=len(hashes), note=_hex(signed.encode()))
        self.checkpoints.append((self.now, witnessed_by, signed))

    def note(self, size: int, root: bytes, *, key: SigningKey = LOG_KEY) -> str:
        """A signed checkpoint."""
        said = f"{ORIGIN}\n{size}\n{base64.b64encode(root).decode()}\n"
        line = note.hint(ORIGIN, bytes(key.verify_key)) + key.sign(said.encode()).signature
        return f"{said}\n\u2014 {ORIGIN} {base64.b64encode(line).decode()}\n"

    def operation(self, kind: str, principal: str, *, answer: dict[str, Any] | None = None, **facts: Any) -> None:
        """A request of a client; ``answer`` None is a refusal."""
        self.now += 0.01
        self.operations.append({"t": self.now, "kind": kind, "principal": principal, "facts": facts, "answer": answer})

    # --- how it is looked at -----------------------------------------------------------------------------------

    def at(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.now)

    def proposal(self, identity: str) -> dict[str, Any]:
        (found,) = [row for row in self.rows["proposals"] if row["id"] == identity]
        return found

    def last(self, table: str, **like: Any) -> dict[str, Any]:
        """The last row of a table with these columns, to be spoiled."""
        return [row for row in self.rows[table] if all(row[name] == value for name, value in like.items())][-1]

    def case(self, folder: Path, *windows: Window) -> Case:
        """Write it down and read it as a check does."""
        recording = Recording(folder)
        wall = int(BEGINNING.timestamp() * 1e9)
        environment = {
            "origin_monotonic_ns": 0,
            "origin_wall_ns": wall,
            "gate": {"origin": ORIGIN, "log_key": base64.b64encode(bytes(LOG_KEY.verify_key)).decode()},
        }
        (folder / "environment.json").write_text(json.dumps(environment))
        for one in self.operations:
            told: dict[str, Any] = {"answer": "fail", "status": 403, "code": "no"}
            if one["answer"] is not None:
                told = {"answer": "ok", **one["answer"]}
            recording.operation(
                one["t"], kind=one["kind"], principal=one["principal"], invocation=one["facts"], ms=5, **told
            )
        for table, rows in self.rows.items():
            for row in rows:
                kept = {name: value for name, value in row.items() if name not in {"xmin", "after"}}
                recording.row(DATABASE, self.now, table=table, xmin=row["xmin"], row=kept)
            recording.row(DATABASE, self.now, table=table, rows=len(rows))
        for t, replica, shown in self.checkpoints:
            recording.row(CHECKPOINTS, t, replica=replica, note=shown)
        for replay in self.replays if self.replays is not None else [self.replayed("1"), self.replayed("4242")]:
            recording.row(REPLAY, self.now, **replay)
        return recording.case(*windows)

    def replayed(self, hash_seed: str, **change: Any) -> dict[str, Any]:
        heads = {name: {"version": version, "digest": digest} for name, (version, digest, _) in self.heads.items()}
        answer = {"entries": len(self.rows["log_entries"]), "heads": heads, "failure": None} | change
        return {"hash_seed": hash_seed, "exit_code": 0, "seconds": 0.1, "answer": answer}

    def _insert(self, table: str, **columns: Any) -> None:
        self.rows[table].append({"xmin": str(self.transaction), **columns})

    def _snapshot(
        self, target: str, version: int, content: bytes, parent: str | None, proposal: str | None
    ) -> dict[str, Any]:
        return {
            "target": target,
            "version": version,
            "digest": canonical.digest(content),
            "parent_digest": parent,
            "proposal_id": proposal,
            "content": _hex(content),
        }

    def _decision(self, identity: str) -> dict[str, Any]:
        (simulation,) = [row for row in self.rows["simulations"] if row["proposal_id"] == identity]
        target = self.proposal(identity)["target"]
        policies, validators = self.heads[POLICIES], self.heads[VALIDATORS]
        predicate = {
            "policy_set": {"version": policies[0], "digest": policies[1]},
            "validator_set": {"version": validators[0], "digest": validators[1]},
            "simulation_digest": canonical.digest(bytes.fromhex(simulation["record"][2:])),
            "result_digest": self.heads[target][1],
            "version": self.heads[target][0],
        }
        statement = {
            "_type": envelope.STATEMENT,
            "subject": [],
            "predicateType": envelope.DECISION,
            "predicate": predicate,
        }
        return envelope.seal(canonical.encode(statement), SERVICE_KEY)


Spoil = Callable[[Governed], Any]


def honest() -> Governed:
    """Six lives on two targets, a roll-back, refused votes, a rejected proposal; enough for every check."""
    gate = Governed()
    gate.create("a", {"n": 0})
    gate.create("b", {"n": 0})
    for number in range(3):
        gate.checkpoint()
        gate.live("a")
        gate.live(
            "b", tier=("low", "high", "medium")[number], voters=(("machine",), HIGH_VOTERS, MEDIUM_VOTERS)[number]
        )
        gate.operation("forbidden_vote", "eve", why="the proposer votes", proposal=gate.rows["proposals"][-1]["id"])
    said_no = gate.propose("a")
    gate.simulate(said_no, "medium")
    gate.vote(said_no, "cleo", "reject")
    gate.event("rejected", said_no, "a", {}, to="rejected")
    back = gate.propose(
        "a",
        kind="rollback",
        result={"n": 0},
        asked_as="rollback",
        asked={"target": "a", "to_version": 1},
    )
    gate.simulate(back, "medium")
    for voter in MEDIUM_VOTERS:
        gate.vote(back, voter)
    gate.apply(back)
    gate.read("a")
    gate.checkpoint(witnessed_by="replica-2")
    return gate


MEDIUM_VOTERS = ("ann", "machine")
HIGH_VOTERS = ("ann", "dan", "machine")


def clean(recording: Recording, **found: list[dict[str, Any]]) -> None:
    """Write a search for secrets that looked everywhere and found nothing, or what ``found`` says by place."""
    recording.row(CANARIES, 1, place="control", bytes=100, canaries=9, seen=9)
    for place in ("command lines", "metrics of replica-1", "logs/replica-1.log", "errors.jsonl", "database.jsonl"):
        recording.row(CANARIES, 2, place=place, bytes=1000, found=found.get(place.split("/")[-1].split(".")[0], []))


def _hex(content: bytes) -> str:
    return "\\x" + content.hex()
