"""Requests that are good, and perhaps too many (FM06): one principal, or one address without credentials."""

from typing import Final

from chaos.exchange import Request
from chaos.history import Kind
from chaos.streams.base import Occasion

TARGET: Final = "quiet-00"
STRANGER: Final = "nobody"
_CURRENT: Final = f"/api/v1/targets/{TARGET}/current"


def reading_as(occasion: Occasion) -> Request:
    """Read the head of a document. Parameters: ``principal``, whose key is shown; without one, no key at all."""
    principal = occasion.parameter("principal")
    headers = {} if principal is None else {"X-API-Key": occasion.means.api_keys[principal]}
    return occasion.reading(Kind.CURRENT, _CURRENT, headers, principal=principal or STRANGER, target=TARGET)
