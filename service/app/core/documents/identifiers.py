"""Identifiers: proposals and events carry UUIDv7 (RFC 9562), so that they sort by the time they were made."""

from typing import Final, NewType
from uuid import UUID

ProposalId = NewType("ProposalId", UUID)
EventId = NewType("EventId", UUID)
Principal = NewType("Principal", str)

RANDOM_BYTES: Final = 10
"""What `uuid7` needs: 80 bits, of which 74 are used."""


def uuid7(unix_milliseconds: int, random: bytes) -> UUID:
    """Return the UUIDv7 of an instant and `RANDOM_BYTES` random bytes."""
    if not 0 <= unix_milliseconds < 1 << 48 or len(random) != RANDOM_BYTES:
        raise ValueError("a UUIDv7 takes 48 bits of time and 10 random bytes")
    value = unix_milliseconds << 80 | int.from_bytes(random, "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return UUID(int=value)
