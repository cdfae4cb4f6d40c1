"""Validators with real keys for tests: made from seeds, so that a run is like the last one."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from app.core.documents import instants
from app.core.governance import validators
from app.core.governance.validators import ValidatorSet
from app.core.governed.shapes import Pin
from app.core.governed.target import Tier
from app.core.quorum.votes import VerifiedVote
from app.core.signing import envelope, possession, statement
from app.core.signing.envelope import Envelope
from app.core.signing.keys import to_base64
from app.core.signing.statement import Ballot, BallotPredicate, Decided
from app.security.signatures import PrivateKey

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
ORIGIN = "firewall.example/log"
PROPOSER = "agent-1"
PROPOSAL = "01a209f4-aea4-72f8-833c-264e68b380f1"


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def private_key(name: str) -> PrivateKey:
    return PrivateKey(hashlib.sha256(name.encode()).digest())


def key(validator: str, principal: str, name: str, **window: str | None) -> dict[str, Any]:
    """The document's entry of the key made from `name`, with its proof."""
    pair = private_key(name)
    proof = possession.Possession(
        validator=validator,
        principal=principal,
        public_key=to_base64(pair.public_key),
        origin=ORIGIN,
        challenge="genesis",
    )
    return {
        "public_key": to_base64(pair.public_key),
        "not_before": instants.to_text(NOW - timedelta(days=30)),
        "not_after": None,
        "possession": pair.seal(proof.encode(), envelope.KEY_POSSESSION).document(),
        **window,
    }


def validator(name: str, role: str, *, org: str = "acme", weight: int = 1) -> dict[str, Any]:
    """The document's entry of a validator whose one key is made from their id."""
    return {
        "id": name,
        "principal": f"{name}-person",
        "kind": "machine" if role == "machine" else "human",
        "role": role,
        "org": org,
        "weight": weight,
        "keys": [key(name, f"{name}-person", name)],
    }


def document(*entries: dict[str, Any], minimum: int = 3) -> dict[str, Any]:
    return {"v": 1, "validators": sorted(entries, key=lambda one: str(one["id"])), "minimum": minimum}


def founding() -> dict[str, Any]:
    """Three people of two organisations, and two machines: enough for every tier."""
    return document(
        validator("olga", "owner", org="acme"),
        validator("sam", "safety", org="watch"),
        validator("zoe", "security", org="acme"),
        validator("robot", "machine", org="acme"),
        validator("replica", "machine", org="watch"),
    )


def founding_set() -> ValidatorSet:
    return validators.parse(founding())


def ballot(**changes: Any) -> Ballot:
    fields: dict[str, Any] = {
        "proposal": PROPOSAL,
        "target": "assistant/prompts",
        "base_version": 3,
        "base_digest": digest("base"),
        "patch_digest": digest("patch"),
        "simulation_digest": digest("simulation"),
        "tier": Tier.HIGH,
        "quorum_rule_digest": digest("rule"),
        "policy_set": Pin(version=1, digest=digest("policies")),
        "validator_set": Pin(version=1, digest=digest("validators")),
        "epoch": 1,
        "nonce": "0123456789abcdef0123456789abcdef",
    }
    return statement.ballot(
        proposal_digest=changes.pop("proposal_digest", digest("proposal")),
        result_digest=changes.pop("result_digest", digest("result")),
        predicate=BallotPredicate(**{**fields, **changes}),
    )


def signed(
    name: str,
    *,
    on: Ballot | None = None,
    decision: Decided = "approve",
    by: PrivateKey | None = None,
    **changes: Any,
) -> Envelope:
    """The envelope of a vote by a validator of `founding`; `changes` are what a dishonest client says instead."""
    entry = next(one for one in founding_set().validators if one.id == name)
    said: dict[str, Any] = {
        "validator": name,
        "role": entry.role,
        "recomputed": not entry.is_human and decision == "approve",
        "reason": "as discussed",
        "issued_at": NOW,
        "expires_at": NOW + timedelta(hours=20),
    }
    vote = statement.cast(on or ballot(), decision=decision, **{**said, **changes})
    return (by or private_key(name)).seal(statement.encode(vote), envelope.IN_TOTO)


def counted(
    name: str, decision: Decided = "approve", *, of: ValidatorSet | None = None, **changes: Any
) -> VerifiedVote:
    """A vote as it is after its checks, for the tally."""
    entry = next(one for one in (of or founding_set()).validators if one.id == name)
    fields: dict[str, Any] = {
        "digest": digest(f"{name} {decision} {sorted(changes.items(), key=str)}"),
        "proposal": PROPOSAL,
        "epoch": 1,
        "validator": entry.id,
        "principal": entry.principal,
        "keyid": entry.keys[0].keyid,
        "role": entry.role,
        "decision": decision,
        "recomputed": not entry.is_human and decision == "approve",
        "issued_at": NOW - timedelta(minutes=1),
        "expires_at": NOW + timedelta(hours=20),
    }
    return VerifiedVote(**{**fields, **changes})
