"""Keys that are derived from the pepper, one for each use: equal in every replica, worth nothing for another use."""

import hmac

from app.settings import Secret


def actor_key(pepper: Secret) -> bytes:
    """Return the key that stands between a principal and its hash in the log's leaves."""
    return _derived(pepper, b"amgf/actor-key/v1")


def cursor_key(pepper: Secret) -> bytes:
    """Return the key of the cursors of keyset pagination."""
    return _derived(pepper, b"amgf/cursor-key/v1")


def challenge_key(pepper: Secret) -> bytes:
    """Return the key of the challenges that a validator's new key answers."""
    return _derived(pepper, b"amgf/key-challenge-key/v1")


def _derived(pepper: Secret, use: bytes) -> bytes:
    return hmac.digest(pepper.reveal(), use, "sha256")
