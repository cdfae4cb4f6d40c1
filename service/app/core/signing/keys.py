"""What an Ed25519 public key must be before anybody trusts it, as arithmetic on its 32 bytes.

Refused: y not below 2^255 - 19 (a second spelling of a point), and the fourteen encodings of the eight points of small
order. With such a key a signature can be forged for any message: `cryptography` accepts all fourteen (firewall.md,
section 12). The encodings are RFC 8032's: y little-endian, the sign of x in the topmost bit.
"""

import binascii
import functools
import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from app.errors import WeakKey

Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, message, signature) -> is it a good signature? `app.ed25519.verify` is the one we use."""

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
FIELD_PRIME: Final = 2**255 - 19
KEYS_REMEMBERED: Final = 1_024
GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_base64: Final = msgspec.json.Decoder(bytes)
_SIGN: Final = 1 << 255
_ORDER_EIGHT: Final = int.from_bytes(
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
)
SMALL_ORDER_Y: Final = frozenset({0, 1, FIELD_PRIME - 1, _ORDER_EIGHT, FIELD_PRIME - _ORDER_EIGHT})
"""The y coordinates of the points of order 1, 2, 4 and 8 (each with one or two x)."""


def weakness(public_key: bytes) -> str | None:
    """Return why a key is refused, `not-32-bytes`, `small-order` or `non-canonical`; None if it is not."""
    if len(public_key) != KEY_BYTES:
        return "not-32-bytes"
    y = int.from_bytes(public_key, "little") % _SIGN
    if y % FIELD_PRIME in SMALL_ORDER_Y:
        return "small-order"
    return "non-canonical" if y >= FIELD_PRIME else None


def require_strong(public_key: bytes) -> None:
    """Raise `WeakKey` if the key is refused."""
    reason = weakness(public_key)
    if reason is not None:
        raise WeakKey(reason)


def is_canonical_signature(signature: bytes) -> bool:
    """Say whether S < L (RFC 8032, 5.1.7): otherwise S + L would be a second signature of the same message."""
    return len(signature) == SIGNATURE_BYTES and int.from_bytes(signature[32:], "little") < GROUP_ORDER


@functools.lru_cache(maxsize=KEYS_REMEMBERED)
def keyid(public_key: bytes) -> str:
    """Return the identity of a key: `sha256:` and the hex SHA-256 of its 32 bytes."""
    return f"sha256:{hashlib.sha256(public_key).hexdigest()}"


def to_base64(raw: bytes) -> str:
    """Return standard base64, with padding."""
    return binascii.b2a_base64(raw, newline=False).decode()


def from_base64(text: str) -> bytes:
    """Return the bytes of standard base64: one sequence of bytes, one spelling.

    Raises:
        ValueError: for line breaks, missing padding, the URL alphabet, or bits set behind the last byte.
    """
    try:
        # As a JSON text: msgspec reads base64 three times as fast as binascii. An escape does not come back the same.
        raw = _base64.decode(f'"{text}"')
    except (msgspec.DecodeError, ValueError):
        raise ValueError("not standard base64") from None
    if to_base64(raw) != text:
        raise ValueError("not the canonical base64 of these bytes")
    return raw
