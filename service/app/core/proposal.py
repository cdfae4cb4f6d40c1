"""What a proposal is: an RFC 6902 patch to a governed document, with the version it starts from and a reason."""

import hashlib
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from app.core import canonical, pointer
from app.core.identifiers import Principal, ProposalId
from app.core.patch import OPERATIONS_MAX, Operation
from app.core.strict_json import NUMBER_MAX, Document
from app.errors import Flaw, InvalidProposal

SLUG_PATTERN: Final = "^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?:/[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)*(?!\\n)$"
"""`$` alone also matches before a final line break."""
TARGET_CHARACTERS_MAX: Final = 128
RATIONALE_CHARACTERS_MAX: Final = 8_192
PENDING: Final = "pending"
MESSAGE_CHARACTERS_MAX: Final = 200
"""A message may quote a field name of the client's."""

Target = Annotated[
    str,
    msgspec.Meta(pattern=SLUG_PATTERN, min_length=1, max_length=TARGET_CHARACTERS_MAX, description="An ASCII slug."),
]


class ProposalContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the proposer sends; immutable from then on."""

    target: Target
    base_version: Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
    patch: Annotated[
        list[Operation],
        msgspec.Meta(min_length=1, max_length=OPERATIONS_MAX, description="RFC 6902 operations."),
    ]
    rationale: Annotated[str, msgspec.Meta(min_length=1, max_length=RATIONALE_CHARACTERS_MAX)]


class Proposal(msgspec.Struct, frozen=True):
    """A proposal as the service answers it: what was sent, and what became of it."""

    id: ProposalId
    state: str
    created_at: datetime
    principal: Principal
    proposal_digest: str
    body_digest: str
    target: str
    base_version: int
    patch: list[Any]
    rationale: str


class Intake(msgspec.Struct, frozen=True):
    """A body that was accepted, with everything that is derived from it."""

    content: ProposalContent
    body: bytes
    body_digest: str
    """SHA-256 of the body's bytes as received, in hex."""
    fingerprint: str
    """SHA-256 of the body's canonical bytes: two spellings of one content are one request."""
    record: bytes
    """The typed canonical content."""
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
        raise InvalidProposal([_flaw(str(error))]) from None
    typed = Document(
        value={"_type": "amgf/proposal", "v": 1, **document.value},
        is_plain=document.is_plain,
    )
    record = canonical.encode(typed)
    return Intake(
        content=content,
        body=body,
        body_digest=hashlib.sha256(body).hexdigest(),
        fingerprint=canonical.digest(canonical.encode(document)),
        record=record,
        proposal_digest=canonical.digest(record),
    )


def _flaw(message: str) -> Flaw:
    """Turn msgspec's "Expected ... - at `$.patch[0].op`" into a pointer and a sentence."""
    sentence, _, path = message.partition(" - at `")
    steps = path.removeprefix("key in ").strip("`$.").replace("[", ".").replace("]", "").split(".")
    place = pointer.join(step for step in steps if step)
    return Flaw(pointer=place, code="invalid-value", message=sentence[:MESSAGE_CHARACTERS_MAX])
