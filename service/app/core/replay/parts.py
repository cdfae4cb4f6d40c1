"""Bodies as replay reads them: each part that is only hashed, or read by rules of its own, stays the bytes it is.

A part of canonical bytes is canonical itself, so its digest is that of its bytes: nothing is written again to be
hashed. Each shape says what the one in `bodies.py` says, which has the words for what is wrong with a body; a test
compares them.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from app.core.log import bodies
from app.core.log.bodies import BODIES
from app.core.log.entry import Entry
from app.core.replay.standing import Unreadable

Part = msgspec.Raw
"""The canonical bytes of an object."""

T = TypeVar("T")

_OBJECT: Final = ord("{")


class ProposalCreated(msgspec.Struct, frozen=True):
    """A proposal as it was taken in."""

    id: str
    content: Part
    proposer: str
    accepted_at: str
    expires_at: str


class Simulated(msgspec.Struct, frozen=True):
    """A plan, and the ballot opened for it."""

    simulation: Part
    simulation_digest: str
    inputs: bodies.Inputs
    quorum_rule: Part
    ballot: Part
    expires_at: str


class Denied(msgspec.Struct, frozen=True):
    """A plan that the rules refuse."""

    simulation: Part
    simulation_digest: str
    inputs: bodies.Inputs


class Signed(msgspec.Struct, frozen=True):
    """A vote or a revocation."""

    envelope: Part


class Tallied(msgspec.Struct, frozen=True):
    """A count, with its reasons."""

    tally: Part


class Applying(msgspec.Struct, frozen=True):
    """The decision and the version it makes."""

    decision: Part
    snapshot: bodies.Snapshot


SHAPES: Final[Mapping[str, type[msgspec.Struct]]] = {
    **BODIES,
    "proposal-created": ProposalCreated,
    "simulated": Simulated,
    "denied": Denied,
    "vote-cast": Signed,
    "vote-revoked": Signed,
    "approved": Tallied,
    "rejected": Tallied,
    "approval-lost": Tallied,
    "applying": Applying,
}
"""One for each kind of event."""
_DECODERS: Final = {kind: msgspec.json.Decoder(shape) for kind, shape in SHAPES.items()}
_PARTS: Final = {
    kind: tuple(field.name for field in msgspec.structs.fields(shape) if field.type is Part)
    for kind, shape in SHAPES.items()
}
_value: Final = msgspec.json.Decoder()


def body(entry: Entry) -> Any:
    """Return what a body says.

    Raises:
        Unreadable: it has not the shape of its kind.
    """
    kind = entry.leaf.kind
    try:
        read = _DECODERS[kind].decode(entry.content)
    except msgspec.ValidationError:
        return convert(entry.body, BODIES[kind], "body-shape")
    for name in _PARTS[kind]:
        if memoryview(getattr(read, name))[0] != _OBJECT:
            return convert(entry.body, BODIES[kind], "body-shape")
    return read


def value(part: Part) -> dict[str, Any]:
    """Return a part as plain JSON values of one's own."""
    said: dict[str, Any] = _value.decode(part)
    return said


def typed(part: Part, decoder: msgspec.json.Decoder[T], code: str) -> T:
    """Return what a part says, read from its bytes.

    Raises:
        Unreadable: it has not that shape.
    """
    try:
        return decoder.decode(part)
    except msgspec.ValidationError:
        # The same flaw in the order of the shape's fields, not of the bytes.
        return convert(_value.decode(part), decoder.type, code)


def digest(part: Part) -> str:
    """Return the digest of a part."""
    return f"sha256:{hashlib.sha256(part).hexdigest()}"


def convert(said: Any, kind: type[T], code: str) -> T:
    """Return what a value says.

    Raises:
        Unreadable: it has not that shape.
    """
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        raise Unreadable(code, f"not of its shape: {error}") from None
