"""Signing with Ed25519, and the files that private keys live in.

A key file is one line: the standard base64 of the 32-byte seed (RFC 8032). It is a regular file of its reader, with
mode 0600 or less; anything else is refused, so that a key which others could have read is not used by accident. The
seed never appears in messages or `repr`. Verification is `app.ed25519`'s.
"""

import os
import stat
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from app import ed25519
from app.core.signing.envelope import Envelope, Signature, pae
from app.core.signing.keys import from_base64, keyid, require_strong, to_base64
from app.errors import WeakKey

verify = ed25519.verify

SEED_BYTES: Final = 32
FILE_BYTES_MAX: Final = 256
FILE_MODE: Final = 0o600
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class KeyFileUnusable(Exception):
    """The key file cannot be read, could be read by others, or holds no key."""


class PrivateKey:
    """A seed and its public key (32 bytes each)."""

    __slots__ = ("_key", "keyid", "public_key")

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public_key = bytes(self._key.verify_key)
        self.keyid = keyid(self.public_key)

    def __repr__(self) -> str:
        return f"PrivateKey({self.keyid})"

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of a message."""
        return self._key.sign(message).signature

    def seal(self, payload: bytes, payload_type: str) -> Envelope:
        """Return the DSSE envelope of a payload with this key's signature."""
        signature = Signature(keyid=self.keyid, sig=to_base64(self.sign(pae(payload_type, payload))))
        return Envelope(payload=to_base64(payload), payload_type=payload_type, signatures=(signature,))

    def seed_line(self) -> bytes:
        """Return what the key file holds. Whoever has it can sign."""
        return to_base64(bytes(self._key)).encode() + b"\n"


def generate() -> PrivateKey:
    """Return a new key from the system's randomness."""
    return PrivateKey(bytes(SigningKey.generate()))


def check_public_key(public_key: bytes) -> None:
    """Refuse a key that nobody may register.

    Raises:
        WeakKey: the wrong length, one of the fourteen small-order encodings, a second spelling, or no point of the
            main subgroup.
    """
    require_strong(public_key)
    if not ed25519.is_point_of_main_subgroup(public_key):
        raise WeakKey("not-in-main-subgroup")


def write_key(path: Path, key: PrivateKey) -> None:
    """Write a new key file with mode 0600; an existing file is never touched.

    Raises:
        FileExistsError: something is there.
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.seed_line())
        file.flush()
        os.fsync(file.fileno())


def read_key(path: Path) -> PrivateKey:
    """Return the key of a file.

    Raises:
        KeyFileUnusable: says which rule the file breaks, never what it holds.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileUnusable(f"{path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileUnusable(f"{path}: not a regular file")
        if status.st_mode & _OTHERS:
            raise KeyFileUnusable(f"{path}: others may open it; chmod 600 it")
        content = os.read(descriptor, FILE_BYTES_MAX)
    finally:
        os.close(descriptor)
    try:
        seed = from_base64(content.decode("ascii").removesuffix("\n"))
    except ValueError:
        raise KeyFileUnusable(f"{path}: not one line of base64") from None
    if len(seed) != SEED_BYTES:
        raise KeyFileUnusable(f"{path}: a seed has {SEED_BYTES} bytes")
    return PrivateKey(seed)
