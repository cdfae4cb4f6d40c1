"""The bundle: everything a stranger needs to judge one proposal, offline (docs/formats.md).

It holds entries of the log, whole: leaf, body, and the proof that the log has them. `events` are all of the proposal's
own, in order. `context` is what they rest on: the genesis, the target's creation, the entry that made the base version,
every change of the governing documents with its own votes, and revoked keys. What the entries say only by digest, the
base and the result, stands beside them. Everything else (policy set, validator set, corpus, tally) is in an entry or
follows from them: nothing is said twice.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from app.core.documents import canonical, strict_json
from app.core.governed.shapes import Key64, Misshapen, Pin, Uuid, convert
from app.core.log.entry import Raw
from app.core.log.merkle import HASH_BYTES, LEVELS, SIZE_MAX
from app.core.signing import keys
from app.errors import Flaw, InvalidBundle, MalformedBody

MEDIA_TYPE: Final = "application/vnd.amgf.bundle+json"
ENTRIES_MAX: Final = 10_000

Index = Annotated[int, msgspec.Meta(ge=0, le=SIZE_MAX)]
Proof = Annotated[tuple[Key64, ...], msgspec.Meta(max_length=LEVELS)]
"""Hashes of 32 bytes in standard base64, lowest first."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every field is required."""


class Proven(_Strict, frozen=True):
    """An entry of the log, and the proof that the tree of the checkpoint's size has it."""

    index: Index
    leaf: dict[str, Any]
    body: dict[str, Any]
    proof: Proof

    def raw(self) -> Raw:
        """Return the entry as the log has it."""
        return Raw(self.index, canonical.encode_value(self.leaf), canonical.encode_value(self.body))

    def hashes(self) -> list[bytes]:
        """Return the proof's hashes."""
        return [keys.from_base64(one) for one in self.proof]


class Consistency(_Strict, frozen=True, kw_only=True):
    """The proof that the checkpoint's tree extends that of an earlier size, which the asker named."""

    from_size: Index = msgspec.field(name="from")
    proof: Annotated[tuple[Key64, ...], msgspec.Meta(max_length=2 * LEVELS)]

    def hashes(self) -> list[bytes]:
        """Return the proof's hashes."""
        return [keys.from_base64(one) for one in self.proof]


class Bundle(_Strict, frozen=True, kw_only=True, rename={"type": "_type"}):
    """The document. `base` and `result` are null where the proposal has none; `observation`: what an actuator saw."""

    type: Literal["amgf/bundle"] = "amgf/bundle"
    v: Literal[1] = 1
    proposal: Uuid
    events: Annotated[tuple[Proven, ...], msgspec.Meta(min_length=1, max_length=ENTRIES_MAX)]
    context: Annotated[tuple[Proven, ...], msgspec.Meta(min_length=1, max_length=ENTRIES_MAX)]
    base: Any
    result: Any
    checkpoint: Annotated[str, msgspec.Meta(max_length=16_384)]
    consistency: Consistency | None
    attestation: dict[str, Any] | None
    observation: Pin | None

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.encode_value(msgspec.to_builtins(self))


def decode(content: bytes) -> Bundle:
    """Return the bundle of a file, in any spelling of whitespace and order.

    Raises:
        InvalidBundle: it is not strict JSON, or no bundle; with the pointer of the first flaw.
    """
    try:
        return from_value(strict_json.decode(content, strict_json.RECORD).value)
    except MalformedBody as error:
        raise InvalidBundle(error.flaws) from None


def from_value(value: Any) -> Bundle:
    """Return the bundle of a decoded value.

    Raises:
        InvalidBundle: it is none.
    """
    try:
        bundle = convert(value, Bundle)
    except Misshapen as error:
        raise InvalidBundle([error.flaw]) from None
    indices = [one.index for one in bundle.context]
    if indices != sorted(set(indices)):
        raise InvalidBundle([Flaw("/context", "not-sorted", "entries stand in the order of the log, each once")])
    indices = [one.index for one in bundle.events]
    if indices != sorted(set(indices)):
        raise InvalidBundle([Flaw("/events", "not-sorted", "entries stand in the order of the log, each once")])
    return bundle


def proven(raw: Raw, proof: Sequence[bytes]) -> Proven:
    """Return an entry with its proof, as it stands in a bundle.

    Raises:
        ValueError: the body was erased.
    """
    if raw.body is None:
        raise ValueError("an entry whose body was erased proves nothing any more")
    if any(len(one) != HASH_BYTES for one in proof):
        raise ValueError("a hash has 32 bytes")
    leaf: Mapping[str, Any] = strict_json.decode(raw.leaf, strict_json.RECORD).value
    body: Mapping[str, Any] = strict_json.decode(raw.body, strict_json.RECORD).value
    return Proven(index=raw.index, leaf=dict(leaf), body=dict(body), proof=tuple(map(keys.to_base64, proof)))
