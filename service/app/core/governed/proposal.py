"""What a proposal is: an RFC 6902 patch to a governed document, with the version it starts from and a reason."""

import hashlib
import uuid
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from app.core.documents import canonical, instants
from app.core.documents.identifiers import Principal, ProposalId
from app.core.documents.misfit import flaw_of
from app.core.documents.patch import OPERATIONS_MAX, Operation
from app.core.documents.strict_json import NUMBER_MAX, Document
from app.errors import Flaw, InvalidProposal

SLUG_PATTERN: Final = "^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?:/[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)*(?!\\n)$"
"""`$` alone also matches before a final line break."""
TARGET_CHARACTERS_MAX: Final = 128
RATIONALE_CHARACTERS_MAX: Final = 8_192
EVIDENCE_MAX: Final = 32

Target = Annotated[
    str,
    msgspec.Meta(pattern=SLUG_PATTERN, min_length=1, max_length=TARGET_CHARACTERS_MAX, description="An ASCII slug."),
]


Digest = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$(?!\\n)")]
Instant = Annotated[
    str, msgspec.Meta(pattern=f"^{instants.PATTERN}$(?!\\n)", description="Such as 2026-11-23T22:17:24.123456Z.")
]
TierName = Literal["low", "medium", "high", "critical", "governance"]


class ProposalContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the proposer sends; immutable from then on."""

    target: Target
    base_version: Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
    base_digest: Digest
    patch: Annotated[
        list[Operation],
        msgspec.Meta(min_length=1, max_length=OPERATIONS_MAX, description="RFC 6902 operations."),
    ]
    rationale: Annotated[str, msgspec.Meta(min_length=1, max_length=RATIONALE_CHARACTERS_MAX)]
    kind: Annotated[
        Literal["mutation", "governance"],
        msgspec.Meta(description="`governance` for targets under governance/, `mutation` for all others."),
    ] = "mutation"
    declared_risk: Annotated[
        TierName, msgspec.Meta(description="The least tier that the proposer wants; may only raise it.")
    ] = "low"
    evidence: Annotated[
        list[Digest], msgspec.Meta(max_length=EVIDENCE_MAX, description="Digests of what speaks for the change.")
    ] = []
    expires_at: Annotated[
        Instant | None, msgspec.Meta(description="No later than the tier allows; null for as late as it allows.")
    ] = None
    supersedes: Annotated[uuid.UUID | None, msgspec.Meta(description="An earlier proposal for the same target.")] = None


class Restores(msgspec.Struct, frozen=True):
    """The snapshot that a rollback puts back."""

    version: int
    digest: str


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal as the service answers it: what was sent, and what became of it."""

    id: ProposalId
    state: str
    revision: int
    """Grows by one with each step; the ETag."""
    epoch: int
    """Grows when the rules change under an open proposal: votes of an earlier epoch are void."""
    tier: TierName | None
    """Known once it was simulated."""
    created_at: datetime
    expires_at: datetime
    principal: Principal
    proposal_digest: str
    body_digest: str
    kind: str
    target: str
    base_version: int
    base_digest: str
    patch: list[Any]
    rationale: str
    declared_risk: str
    evidence: list[str]
    supersedes: uuid.UUID | None
    restores: Restores | None


class Intake(msgspec.Struct, frozen=True):
    """A body that was accepted, with everything that is derived from it."""

    content: ProposalContent
    expires_at: datetime | None
    body: bytes
    body_digest: str
    """SHA-256 of the body's bytes as received, in hex."""
    fingerprint: str
    """SHA-256 of the body's canonical bytes: two spellings of one content are one request."""
    record: bytes
    """The typed canonical content, every default filled in."""
    proposal_digest: str
    """SHA-256 of the typed canonical content; no other kind of object has the same bytes."""


def accept(body: bytes, document: Document) -> Intake:
    """Return the intake of a decoded body.

    Raises:
        InvalidProposal: with the JSON pointer of the first flaw.
    """
    try:
        content = msgspec.convert(document.value, ProposalContent)
    except msgspec.ValidationError as error:
        raise InvalidProposal([flaw_of(error)]) from None
    expires_at = None
    if content.expires_at is not None:
        try:
            expires_at = instants.from_text(content.expires_at)
        except ValueError:
            raise InvalidProposal([Flaw("/expires_at", "invalid-value", "There is no such instant")]) from None
    record = record_of(content, patch=document.value["patch"], is_plain=document.is_plain)
    return Intake(
        content=content,
        expires_at=expires_at,
        body=body,
        body_digest=hashlib.sha256(body).hexdigest(),
        fingerprint=canonical.digest(canonical.encode(document)),
        record=record,
        proposal_digest=canonical.digest(record),
    )


def record_of(
    content: ProposalContent,
    *,
    patch: list[Any],
    is_plain: bool,
    kind: str | None = None,
    restores: Restores | None = None,
) -> bytes:
    """Return the canonical content record; its digest is the proposal_digest.

    Args:
        content: what was proposed.
        patch: its operations as plain JSON values.
        is_plain: whether the patch has no fractions and no keys beyond U+D7FF.
        kind: rollback and break_glass, which nobody can send.
        restores: what a rollback puts back.
    """
    value = {
        "_type": "amgf/proposal",
        "v": 1,
        "target": content.target,
        "base_version": content.base_version,
        "base_digest": content.base_digest,
        "kind": kind or content.kind,
        "patch": patch,
        "rationale": content.rationale,
        "declared_risk": content.declared_risk,
        "evidence": content.evidence,
        "expires_at": content.expires_at,
        "supersedes": None if content.supersedes is None else str(content.supersedes),
        "restores": None if restores is None else {"version": restores.version, "digest": restores.digest},
    }
    return canonical.encode(Document(value=value, is_plain=is_plain))
