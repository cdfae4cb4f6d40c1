"""Where tiles lie and what is in them (C2SP tlog-tiles): 256 hashes of one level, or 256 entries, to an address.

`x001/x234/067` is tile 1234067; `.p/12` behind it asks for its first 12 hashes while there are no more. A tile of level
L holds hashes of the tree's level 8 L.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

TILE_WIDTH: Final = 256
LEVELS_PER_TILE: Final = 8
LEAF_BYTES_MAX: Final = 65_535
PATTERN: Final = r"^(x\d{3}/){0,4}\d{3}(\.p/[1-9]\d{0,2})?$"
"""An address below `tile/<L>/` or `tile/entries/`, as it stands in the reference."""

_ADDRESS: Final = re.compile(r"((?:x[0-9]{3}/){0,4})([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class Tile(NamedTuple):
    """One tile: its number, and how many of its `TILE_WIDTH` places are asked for."""

    number: int
    width: int

    @property
    def begin(self) -> int:
        """The first place."""
        return self.number * TILE_WIDTH

    @property
    def end(self) -> int:
        """The place after the last one asked for."""
        return self.begin + self.width


def parse(address: str) -> Tile | None:
    """Return what an address asks for; None if it is not the one spelling of anything."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return None
    groups, last, width = match.groups()
    if groups.startswith("x000/"):
        return None
    number = int(groups.replace("x", "").replace("/", "") + last)
    if width is None:
        return Tile(number, TILE_WIDTH)
    return Tile(number, int(width)) if int(width) < TILE_WIDTH else None


def address(tile: Tile) -> str:
    """Return the address of a tile."""
    digits = str(tile.number)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[place : place + 3] for place in range(0, len(digits), 3)]
    path = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return path if tile.width == TILE_WIDTH else f"{path}.p/{tile.width}"


def bundle(leaves: Sequence[bytes]) -> bytes:
    """Return the content of an entries tile: each leaf behind its length, two bytes, big-endian."""
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)
