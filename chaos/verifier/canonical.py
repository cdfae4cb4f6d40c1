"""Canonical JSON (RFC 8785) and the digests over it."""

import hashlib
import json
from typing import Any

import rfc8785

_HEXADECIMAL = frozenset("0123456789abcdef")
_DIGEST_PREFIX = "sha256:"
_DIGEST_CHARACTERS = 64


class NotCanonical(ValueError):
    """The bytes are no JSON, or not the canonical spelling of it."""


def encode(value: Any) -> bytes:
    """Return the canonical bytes of a JSON value.

    Raises:
        NotCanonical: it has none (NaN, an integer beyond 2^53-1, something that is no JSON).
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise NotCanonical(str(error)) from error


def decode(content: bytes) -> Any:
    """Return the value that canonical bytes stand for; the only spelling that is accepted.

    Raises:
        NotCanonical: another spelling of the same value, a key twice, or no JSON at all.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NotCanonical("no JSON") from error
    if encode(value) != content:
        raise NotCanonical("not the canonical spelling")
    return value


def digest(content: bytes) -> str:
    """Return ``sha256:`` and 64 hexadecimal digits."""
    return _DIGEST_PREFIX + hashlib.sha256(content).hexdigest()


def digest_of(value: Any) -> str:
    """Return the digest of a value's canonical bytes."""
    return digest(encode(value))


def is_digest(text: object) -> bool:
    """Say whether it is a digest as this project writes them."""
    if not isinstance(text, str) or not text.startswith(_DIGEST_PREFIX):
        return False
    rest = text.removeprefix(_DIGEST_PREFIX)
    return len(rest) == _DIGEST_CHARACTERS and set(rest) <= _HEXADECIMAL
