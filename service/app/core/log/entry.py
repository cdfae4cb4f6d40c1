"""A log entry as it is read back: the leaf's bytes, and the body's beside it.

Reading is as strict as writing: a leaf or a body that is not byte for byte the canonical form of what it says is
refused, so that no two readers see two things. A body may be missing (erased): the log stays whole, but what the body
said cannot be replayed.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from app.core.documents import canonical
from app.core.documents.instants import PATTERN
from app.core.documents.strict_json import Document
from app.core.log import merkle
from app.core.log.events import KINDS, LEAF_BYTES_MAX, TENANT, VERSION

BODY_BYTES_MAX: Final = 16 * 1_048_576
"""The genesis bundle holds four documents of at most 1 MiB, a simulation two; each may be escaped twice."""


class Leaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a leaf says; see docs/formats.md."""

    v: int
    id: str
    kind: str
    at: str
    tenant: str
    target: str | None
    proposal: str | None
    state_from: str | None
    state_to: str | None
    epoch: int
    actor: str
    body: str
    prev: str | None


class EntryFlaw(Exception):
    """The bytes are no entry; `code` is stable."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Raw:
    """An entry as it is transported. `body` is None when it was erased."""

    index: int
    leaf: bytes
    body: bytes | None


class Entry(msgspec.Struct, frozen=True, array_like=True, tag="entry"):
    """An entry whose bytes are in order: leaf canonical and typed, body canonical and of the digest in the leaf.

    It can be read in one process and followed in another.

    `is_plain`: the quick encoder writes everything in the body canonically.
    """

    index: int
    leaf: Leaf
    leaf_digest: str
    leaf_hash: bytes
    """In the Merkle tree."""
    content: bytes
    """The body, as it is in the log."""
    is_plain: bool

    @property
    def body(self) -> dict[str, Any]:
        """What the body says, as plain JSON values of one's own."""
        body: dict[str, Any] = _value.decode(self.content)
        return body

    def digest(self, part: Any) -> str:
        """Return the digest of a part of the body."""
        return canonical.digest(canonical.encode(Document(part, is_plain=self.is_plain)))


class Flawed(msgspec.Struct, frozen=True, array_like=True, tag="flawed"):
    """An entry whose bytes are not in order, for whoever reads ahead of the replay: `EntryFlaw` as a value."""

    index: int
    code: str
    message: str


_leaf: Final = msgspec.json.Decoder(Leaf)
_value: Final = msgspec.json.Decoder()
_sorted: Final = msgspec.json.Encoder(order="sorted")
_SPELLING: Final = re.compile(PATTERN, re.ASCII)


def read(raw: Raw) -> Entry:
    """Return the entry.

    Raises:
        EntryFlaw: its bytes are not in order.
    """
    leaf = read_leaf(raw.leaf)
    if raw.body is None:
        raise EntryFlaw("body-missing", "the body was erased: what it said cannot be replayed")
    if canonical.digest(raw.body) != leaf.body:
        raise EntryFlaw("body-digest", "the body is not the one that the leaf names")
    is_plain = _require_canonical(raw.body)
    return Entry(raw.index, leaf, canonical.digest(raw.leaf), merkle.leaf_hash(raw.leaf), raw.body, is_plain)


def read_leaf(content: bytes) -> Leaf:
    """Return what a leaf says.

    Raises:
        EntryFlaw: it is no leaf.
    """
    if len(content) > LEAF_BYTES_MAX:
        raise EntryFlaw("leaf-malformed", f"a leaf has at most {LEAF_BYTES_MAX} bytes")
    try:
        leaf = _leaf.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EntryFlaw("leaf-malformed", "the leaf is not one") from None
    if _sorted.encode(leaf) != content:
        raise EntryFlaw("leaf-not-canonical", "the leaf is not in canonical form")
    if leaf.v != VERSION or leaf.kind not in KINDS or leaf.tenant != TENANT or not _is_time(leaf.at):
        raise EntryFlaw("leaf-malformed", "the leaf's version, kind, tenant or time is unknown")
    return leaf


def _require_canonical(content: bytes) -> bool:
    """Raise unless the bytes are an object in canonical form; return whether it is plain."""
    if len(content) > BODY_BYTES_MAX:
        raise EntryFlaw("body-malformed", f"a body has at most {BODY_BYTES_MAX} bytes")
    if content.startswith(b"{") and canonical.decode_plain(content) is not None:
        return True
    try:
        body = _value.decode(content)
        is_canonical = canonical.encode_value(body) == content
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, TypeError):
        raise EntryFlaw("body-malformed", "the body is not JSON") from None
    if not is_canonical:
        raise EntryFlaw("body-not-canonical", "the body is not in canonical form")
    if not isinstance(body, dict):
        raise EntryFlaw("body-malformed", "the body is not an object")
    return False


def _is_time(text: str) -> bool:
    return _SPELLING.fullmatch(text) is not None
