"""Checkpoints: the log's size and root as a signed note (C2SP tlog-checkpoint and signed-note, 2024 texts).

    firewall.example/log
    1234
    <standard base64 of the 32-byte root>

    — firewall.example/log <standard base64 of key id (4 bytes) and Ed25519 signature (64 bytes)>

What is signed are the three lines with their line feeds. Ours carry no extension lines and are read strictly: one
content, one spelling. A note may carry signatures of others (witnesses); those are kept unread. Signing and verifying
are functions that the caller passes, for the core knows no keys (mode 15).
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from app.core.log.merkle import HASH_BYTES, SIZE_MAX

ED25519: Final = 0x01
"""The signature type of a note signed with Ed25519 (C2SP signed-note)."""
KEY_ID_BYTES: Final = 4
SIGNATURE_BYTES: Final = 64
NOTE_BYTES_MAX: Final = 16_384
SIGNATURES_MAX: Final = 100
SIGNATURE_MARK: Final = "— "
LINES: Final = 3

Sign = Callable[[bytes], bytes]
"""message -> 64-byte Ed25519 signature."""
Verify = Callable[[bytes, bytes, bytes], bool]
"""(32-byte public key, message, signature) -> whether it is right."""

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_NAME: Final = re.compile(r"[^\s+\x00-\x20\x7f]{1,255}")


class CheckpointFlaw(Exception):
    """A note is not a checkpoint of that log signed by that key; the message says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log commits to: that its first `size` leaves have this root."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not is_name(self.origin) or not 0 <= self.size <= SIZE_MAX or len(self.root) != HASH_BYTES:
            raise CheckpointFlaw("origin, size or root is not acceptable")

    @property
    def text(self) -> bytes:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n".encode()


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: who says to have signed, with which key, and the bytes."""

    name: str
    key_id: bytes
    signature: bytes


def is_name(name: str) -> bool:
    """Whether a log or a witness may be called that: no white space, no plus sign, no control characters."""
    return _NAME.fullmatch(name) is not None


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the four bytes that point at a key: of SHA-256(name || LF || type || public key) (C2SP signed-note)."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([ED25519]) + public_key).digest()[:KEY_ID_BYTES]


def verifier_key(name: str, public_key: bytes) -> str:
    """Return the key as witnesses and monitors take it: name+id+base64."""
    return f"{name}+{key_id(name, public_key).hex()}+{_base64(bytes([ED25519]) + public_key)}"


def signed(checkpoint: Checkpoint, *, public_key: bytes, sign: Sign) -> bytes:
    """Return the note: the checkpoint, signed by its log's key."""
    signature = sign(checkpoint.text)
    if len(signature) != SIGNATURE_BYTES:
        raise CheckpointFlaw("an Ed25519 signature has 64 bytes")
    packed = _base64(key_id(checkpoint.origin, public_key) + signature)
    return checkpoint.text + f"\n{SIGNATURE_MARK}{checkpoint.origin} {packed}\n".encode()


def opened(note: bytes, *, origin: str, public_key: bytes, verify: Verify) -> Checkpoint:
    """Return the checkpoint in `note` after verifying the log's own signature on it.

    Raises:
        CheckpointFlaw: if it is no checkpoint, of another log, or not signed by this key.
    """
    checkpoint, signatures = parsed(note)
    if checkpoint.origin != origin:
        raise CheckpointFlaw("the checkpoint is another log's")
    wanted = key_id(origin, public_key)
    ours = [one for one in signatures if one.name == origin and one.key_id == wanted]
    if not ours:
        raise CheckpointFlaw("the log's key has not signed it")
    for one in ours:
        if len(one.signature) != SIGNATURE_BYTES or not verify(public_key, checkpoint.text, one.signature):
            raise CheckpointFlaw("the log's signature is wrong")
    return checkpoint


def parsed(note: bytes) -> tuple[Checkpoint, Sequence[NoteSignature]]:
    """Return the checkpoint in `note` and its signatures, none of them verified.

    Raises:
        CheckpointFlaw: if it is not spelled as a checkpoint without extension lines is.
    """
    if len(note) > NOTE_BYTES_MAX:
        raise CheckpointFlaw(f"a note has at most {NOTE_BYTES_MAX} bytes")
    try:
        text = note.decode("utf-8")
    except UnicodeDecodeError:
        raise CheckpointFlaw("a note is UTF-8") from None
    body, separator, tail = text.partition("\n\n")
    lines = body.split("\n")
    if not separator or len(lines) != LINES:
        raise CheckpointFlaw("a checkpoint has three lines, an empty one and signatures")
    origin, size, root = lines
    if not _SIZE.fullmatch(size):
        raise CheckpointFlaw("the size is not a decimal number")
    checkpoint = Checkpoint(origin, int(size), _unbase64(root))
    return checkpoint, _signatures(tail)


def _signatures(tail: str) -> list[NoteSignature]:
    *lines, last = tail.split("\n")
    if last or not 0 < len(lines) <= SIGNATURES_MAX:
        raise CheckpointFlaw(f"a note carries 1 to {SIGNATURES_MAX} signature lines, each with its line feed")
    signatures = []
    for line in lines:
        if not line.startswith(SIGNATURE_MARK):
            raise CheckpointFlaw("a signature line begins with an em dash and a space")
        name, space, packed = line.removeprefix(SIGNATURE_MARK).partition(" ")
        if not space or not is_name(name):
            raise CheckpointFlaw("a signature line names its key")
        content = _unbase64(packed)
        if len(content) <= KEY_ID_BYTES:
            raise CheckpointFlaw("a signature line holds a key id and a signature")
        signatures.append(NoteSignature(name, content[:KEY_ID_BYTES], content[KEY_ID_BYTES:]))
    return signatures


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _unbase64(text: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CheckpointFlaw("not standard base64") from None
    if _base64(content) != text:
        raise CheckpointFlaw("not the one spelling of standard base64")
    return content
