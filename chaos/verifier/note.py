"""Checkpoints: C2SP signed notes that name a log's origin, its size and its root."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from chaos.verifier.envelope import KEY_BYTES, SIGNATURE_BYTES

_ED25519 = b"\x01"
_HINT_BYTES = 4
_ROOT_BYTES = 32
_BODY_LINES = 3
_SIGNED_BY = "\u2014 "


class BadNote(ValueError):
    """The text is no checkpoint, or not signed by the log; the message says in what."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log promised."""

    origin: str
    size: int
    root: bytes


def read(note: str, *, origin: str, log_key: bytes) -> Checkpoint:
    """Return the checkpoint in a note that this log signed.

    Raises:
        BadNote: malformed, of another log, or without a good signature under this key.
    """
    body, separator, signatures = note.partition("\n\n")
    lines = body.split("\n")
    if not separator or len(lines) != _BODY_LINES:
        raise BadNote("not three lines, an empty one and signatures")
    if lines[0] != origin:
        raise BadNote("of another origin")
    if not lines[1].isascii() or not lines[1].isdigit() or (lines[1] != "0" and lines[1].startswith("0")):
        raise BadNote("the size is no number")
    root = _decoded(lines[2])
    if len(root) != _ROOT_BYTES:
        raise BadNote("the root is no hash")
    if not any(_is_signed(f"{body}\n".encode(), line, origin, log_key) for line in signatures.split("\n")):
        raise BadNote("no signature of the log")
    return Checkpoint(origin=lines[0], size=int(lines[1]), root=root)


def hint(name: str, key: bytes) -> bytes:
    """Return the four bytes by which a signature line names its key."""
    if len(key) != KEY_BYTES:
        raise BadNote("the key is no Ed25519 key")
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key).digest()[:_HINT_BYTES]


def _is_signed(body: bytes, line: str, name: str, key: bytes) -> bool:
    if not line.startswith(f"{_SIGNED_BY}{name} "):
        return False
    try:
        content = _decoded(line.removeprefix(f"{_SIGNED_BY}{name} "))
    except BadNote:
        return False
    if len(content) != _HINT_BYTES + SIGNATURE_BYTES or content[:_HINT_BYTES] != hint(name, key):
        return False
    try:
        VerifyKey(key).verify(body, content[_HINT_BYTES:])
    except BadSignatureError:
        return False
    return True


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BadNote("no Base64") from error
