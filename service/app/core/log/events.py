"""What happened, as the log keeps it: an event, its leaf, and the chain of leaves of one proposal or target.

A leaf holds digests and identifiers, no free text and no person: the actor is a keyed hash, the body a digest. The body
lies beside it and can be erased without breaking the log.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from app.core.documents import canonical, instants
from app.core.documents.identifiers import EventId, Principal, ProposalId
from app.core.documents.strict_json import Document

LEAF_BYTES_MAX: Final = 4096
TENANT: Final = "default"
VERSION: Final = 1
KINDS: Final = frozenset(
    {
        "genesis",
        "target-created",
        "proposal-created",
        "simulation-started",
        "simulation-returned",
        "simulated",
        "denied",
        "simulation-failed",
        "vote-cast",
        "vote-revoked",
        "approved",
        "rejected",
        "approval-lost",
        "reopened",
        "stale",
        "withdrawn",
        "expired",
        "applying",
        "applied",
        "apply-failed",
        "rolled-back",
        "frozen",
        "unfrozen",
        "key-revoked",
        "log-recovered",
    }
)
_ACTOR_DOMAIN: Final = b"amgf/actor/v1\0"


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An event before it has a time, an identity and a place in its chain."""

    kind: str
    principal: Principal
    """Who did it; `SERVICE` for what no person asked for."""
    body: dict[str, Any]
    """Everything replay needs to know. What is canonical already comes as `msgspec.Raw` and is kept as it is."""
    target: str | None
    proposal_id: ProposalId | None = None
    state_from: str | None = None
    state_to: str | None = None
    epoch: int = 1
    at: datetime | None = None
    """Only where the instant was needed before: read under the same lock, and no earlier than the event before."""
    request: str | None = None
    """The id of the request that asked for it; stands in the table, not in the leaf."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it is stored."""

    id: EventId
    at: datetime
    draft: Draft
    leaf: bytes
    leaf_digest: str
    body: bytes
    prev: str | None


SERVICE: Final = Principal("service")
"""The actor of steps that follow from time or rules: expiry, stale, automatic application."""


def actor_of(principal: Principal, *, key: bytes) -> str:
    """Return the keyed hash that stands for a principal in leaves, in hex."""
    return hmac.digest(key, _ACTOR_DOMAIN + principal.encode(), "sha256").hex()


def seal(draft: Draft, *, event_id: EventId, at: datetime, prev: str | None, actor_key: bytes) -> Event:
    """Return the event with its leaf's bytes.

    Raises:
        ValueError: the kind is unknown, or the leaf too long.
    """
    if draft.kind not in KINDS:
        raise ValueError(f"there is no event of the kind {draft.kind}")
    body = encode_body(draft.body)
    leaf = _canonical(
        {
            "v": VERSION,
            "id": str(event_id),
            "kind": draft.kind,
            "at": instants.to_text(at),
            "tenant": TENANT,
            "target": draft.target,
            "proposal": None if draft.proposal_id is None else str(draft.proposal_id),
            "state_from": draft.state_from,
            "state_to": draft.state_to,
            "epoch": draft.epoch,
            "actor": actor_of(draft.principal, key=actor_key),
            "body": canonical.digest(body),
            "prev": prev,
        }
    )
    if len(leaf) > LEAF_BYTES_MAX:
        raise ValueError("a leaf holds at most 4096 bytes")
    return Event(id=event_id, at=at, draft=draft, leaf=leaf, leaf_digest=canonical.digest(leaf), body=body, prev=prev)


def encode_body(body: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a body, what is canonical already in its place."""
    members = [
        _canonical(name) + b":" + (bytes(value) if isinstance(value, msgspec.Raw) else _canonical(value))
        for name, value in sorted(body.items())
    ]
    return b"{" + b",".join(members) + b"}"


def _canonical(value: Any) -> bytes:
    return canonical.encode(Document(value=value, is_plain=False))
