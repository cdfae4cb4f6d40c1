"""Instants in canonical documents: RFC 3339, UTC, always six digits of a second, `2026-11-23T22:17:24.123456Z`.

One instant, one spelling: anything else is refused, also what means the same.
"""

import re
from datetime import UTC, datetime
from typing import Final

PATTERN: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
_SHAPE: Final = re.compile(PATTERN)


def to_text(instant: datetime) -> str:
    """Return the text of an instant that knows its time zone.

    Raises:
        ValueError: it does not know it.
    """
    if instant.tzinfo is None:
        raise ValueError("an instant without a time zone")
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def from_text(text: str) -> datetime:
    """Return the instant.

    Raises:
        ValueError: it is spelled otherwise, or no such day or hour exists.
    """
    if not _SHAPE.fullmatch(text):
        raise ValueError("not an instant of the form 2026-11-23T22:17:24.123456Z")
    return datetime.fromisoformat(text)
