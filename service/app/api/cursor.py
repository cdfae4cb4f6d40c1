"""Cursors of keyset pagination: base64url(position, digest of the filter, HMAC).

An altered cursor, or one of another query, is refused; without the HMAC a client could read the table in any order it
liked and we could never change the format.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final
from uuid import UUID

from app.errors import InvalidCursor

UUID_BYTES: Final = 16
POSITION_BYTES_MAX: Final = 128
FILTER_BYTES: Final = 8
TAG_BYTES: Final = 16
CHARACTERS_MAX: Final = (POSITION_BYTES_MAX + FILTER_BYTES + TAG_BYTES + 2) // 3 * 4
_DOMAIN: Final = b"amgf/cursor/v1\0"


def encode(position: UUID, *, query: bytes, key: bytes) -> str:
    """Return the cursor after `position` of the query whose filter is spelled `query`."""
    return encode_bytes(position.bytes, query=query, key=key)


def decode(cursor: str, *, query: bytes, key: bytes) -> UUID:
    """Return the position.

    Raises:
        InvalidCursor: if it was altered or belongs to another query.
    """
    position = decode_bytes(cursor, query=query, key=key)
    if len(position) != UUID_BYTES:
        raise InvalidCursor
    return UUID(bytes=position)


def encode_bytes(position: bytes, *, query: bytes, key: bytes) -> str:
    """Return the cursor after a position that is no id: at most `POSITION_BYTES_MAX` bytes."""
    content = position + _digest(query)
    return base64.urlsafe_b64encode(content + _tag(content, key)).decode()


def decode_bytes(cursor: str, *, query: bytes, key: bytes) -> bytes:
    """Return the position.

    Raises:
        InvalidCursor: if it was altered or belongs to another query.
    """
    if len(cursor) > CHARACTERS_MAX or not cursor.isascii():
        raise InvalidCursor
    try:
        decoded = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except binascii.Error:
        raise InvalidCursor from None
    if base64.urlsafe_b64encode(decoded).decode() != cursor:
        raise InvalidCursor  # The last character carries bits that decoding ignores.
    content, tag = decoded[:-TAG_BYTES], decoded[-TAG_BYTES:]
    position, of_query = content[:-FILTER_BYTES], content[-FILTER_BYTES:]
    if not hmac.compare_digest(tag, _tag(content, key)) or not hmac.compare_digest(of_query, _digest(query)):
        raise InvalidCursor
    return position


def _digest(query: bytes) -> bytes:
    return hashlib.sha256(query).digest()[:FILTER_BYTES]


def _tag(content: bytes, key: bytes) -> bytes:
    return hmac.digest(key, _DOMAIN + content, "sha256")[:TAG_BYTES]
