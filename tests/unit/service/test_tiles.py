"""Addresses of tiles as C2SP tlog-tiles spells them, and no other spelling."""

import re

import pytest

from app.core.log import tiles
from app.core.log.tiles import Tile


@pytest.mark.parametrize(
    ("text", "tile"),
    [
        ("000", Tile(0, 256)),
        ("067", Tile(67, 256)),
        ("999.p/1", Tile(999, 1)),
        ("x001/000", Tile(1000, 256)),
        ("x001/x234/067", Tile(1_234_067, 256)),
        ("x001/x234/067.p/255", Tile(1_234_067, 255)),
    ],
)
def test_an_address_is_one_tile(text: str, tile: Tile) -> None:
    assert tiles.parse(text) == tile
    assert tiles.address(tile) == text
    assert re.fullmatch(tiles.PATTERN, text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "1000", "x000/001", "001/000", "x001", "x001/", "000/", "x001/x001/x001/x001/x001/000"),
        *("000.p/0", "000.p/256", "000.p/01", "000.p/", "000.p/1\n", "-01", "../000", "\u0660" * 3),
    ],
)
def test_another_spelling_is_none(text: str) -> None:
    assert tiles.parse(text) is None


def test_every_number_has_its_own_address() -> None:
    numbers = [*range(2_000), *(10**power + step for power in range(4, 15) for step in (-1, 0, 1))]
    addresses = {tiles.address(Tile(number, width)) for number in numbers for width in (1, 256)}

    assert len(addresses) == 2 * len(set(numbers))
    for number in numbers:
        assert tiles.parse(tiles.address(Tile(number, 7))) == Tile(number, 7)


def test_a_bundle_is_leaves_behind_their_lengths() -> None:
    assert tiles.bundle([b"ab", b"", b"x" * 258]) == b"\0\2ab" + b"\0\0" + b"\1\2" + b"x" * 258
