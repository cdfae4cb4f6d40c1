"""Requests for what is not there (FM12): somebody tries addresses, as scanners do. No two are alike."""

from typing import Final

from chaos.exchange import Request
from chaos.history import Kind
from chaos.streams.base import Occasion

SCANNER: Final = "scanner"
# Below what the proxy lets through: other addresses never reach a replica.
_BEGINNINGS: Final = ("/api/v1/x", "/api/v2/proposals/", "/api/v1/admin/", "/api/.git/", "/api/v1/proposals/x")


def unknown_path(occasion: Occasion) -> Request:
    """Read an address that was never used before; ``as_client``: with the key of that principal (none)."""
    path = f"{occasion.turn('beginnings', _BEGINNINGS)}{occasion.chance.getrandbits(96):024x}"
    principal = str(occasion.parameter("as_client", SCANNER))
    key = occasion.means.api_keys.get(principal)
    return occasion.reading(
        Kind.GET, path, {"X-API-Key": key} if key else {}, principal=principal, why="unknown_path", expected=404
    )
