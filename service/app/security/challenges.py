"""Challenges for proofs of possession, without a table: the answer itself carries until when and for what it holds.

A challenge is base64url(expiry, HMAC of expiry, validator, principal and key). Signed by the key together with the
log's origin it shows that whoever asked holds the key now; for another validator, another principal, another key or
another service it is worth nothing. Sent twice within its time it proves the same thing twice, which does no harm.
"""

import base64
import binascii
import hmac
from datetime import UTC, datetime, timedelta
from typing import Final

from app.errors import ProofFailed

LIFETIME: Final = timedelta(minutes=10)
EXPIRY_BYTES: Final = 8
TAG_BYTES: Final = 32
CHARACTERS: Final = 56
"""40 bytes in base64url, with padding."""
_DOMAIN: Final = b"amgf/key-challenge/v1\0"


class Challenges:
    """Issues and checks challenges under one key, the same in every replica."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, *, validator: str, principal: str, public_key: bytes, now: datetime) -> tuple[str, datetime]:
        """Return a challenge and the instant at which it ends."""
        seconds = int((now + LIFETIME).timestamp())
        return self._text(seconds, validator, principal, public_key), datetime.fromtimestamp(seconds, UTC)

    def require(self, challenge: str, *, validator: str, principal: str, public_key: bytes, now: datetime) -> None:
        """Refuse a challenge that is not ours for exactly this, or whose time is over.

        Raises:
            ProofFailed: `challenge`, or `challenge-expired`.
        """
        try:
            raw = base64.b64decode(challenge, altchars=b"-_", validate=True) if challenge.isascii() else b""
        except binascii.Error:
            raise ProofFailed("challenge") from None
        seconds = int.from_bytes(raw[:EXPIRY_BYTES], "big")
        if len(raw) != EXPIRY_BYTES + TAG_BYTES or not hmac.compare_digest(
            challenge, self._text(seconds, validator, principal, public_key)
        ):
            raise ProofFailed("challenge")
        if now.timestamp() >= seconds:
            raise ProofFailed("challenge-expired")

    def _text(self, seconds: int, validator: str, principal: str, public_key: bytes) -> str:
        expiry = seconds.to_bytes(EXPIRY_BYTES, "big")
        # Slugs hold no NUL, and the key has a fixed length: no two sets of fields have the same bytes.
        content = b"\0".join((expiry, validator.encode(), principal.encode(), public_key))
        tag = hmac.digest(self._key, _DOMAIN + content, "sha256")
        return base64.urlsafe_b64encode(expiry + tag).decode()
