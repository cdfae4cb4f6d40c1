"""Documents from a seed, quickly: what RFC 8785, RFC 6902 and JSON itself make easy to get wrong, often."""

import random
import struct
from collections.abc import Callable
from typing import Any, Final

NUMBER_MAX: Final = 2**53 - 1

APPENDIX_B: Final = [
    # RFC 8785 appendix B, as IEEE 754 bits.
    *(0x0000000000000000, 0x8000000000000000, 0x0000000000000001, 0x8000000000000001, 0x7FEFFFFFFFFFFFFF),
    *(0xFFEFFFFFFFFFFFFF, 0x4340000000000000, 0xC340000000000000, 0x4430000000000000, 0x44B52D02C7E14AF5),
    *(0x44B52D02C7E14AF6, 0x44B52D02C7E14AF7, 0x444B1AE4D6E2EF4E, 0x444B1AE4D6E2EF4F, 0x444B1AE4D6E2EF50),
    *(0x3EB0C6F7A0B5ED8C, 0x3EB0C6F7A0B5ED8D, 0x41B3DE4355555553, 0x41B3DE4355555554, 0x41B3DE4355555555),
    *(0x41B3DE4355555556, 0x41B3DE4355555557, 0xBECBF647612F3696, 0x43143FF3C1CB0959),
]
CHARACTERS: Final = (
    "abyz019 _-/~\\\"'\b\f\n\r\t\x01\x1f\x7f\x80\xe9\u0101\u20ac\u2028"
    "\ud7ff\ue000\ufb33\uffee\uffff\U00010000\U0001f600\U0010ffff"
)
KEYS: Final[list[str]] = [
    *"abcdef",
    *("", "0", "1", "-", "a/b", "m~n", "\xe9", "\u20ac", "\ufb00", "\uffee", "\U0001f600", "\r", '"'),
]


class Documents:
    """A source of documents; one seed, one sequence."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a test's sequence

    def document(self, *, is_in_range: bool = True) -> Any:
        """Return an object or an array, four levels deep at most."""
        draw = self.random
        members = [self.value(levels=3, is_in_range=is_in_range) for _ in range(draw.randrange(7))]
        return members if draw.random() < 0.3 else {self.key(): member for member in members}

    def number(self) -> int | float:
        """Return a number of any size, never a NaN or an infinity."""
        draw = self.random
        sign = draw.choice((-1, 1))
        kinds: list[Callable[[], int | float]] = [
            lambda: sign * draw.randint(0, NUMBER_MAX),
            lambda: sign * draw.randint(0, 20),
            lambda: _from_bits(draw.choice(APPENDIX_B) + draw.choice((0, 0, 1, 2))),
            lambda: _from_bits(draw.getrandbits(64)),
            lambda: sign * _from_bits(draw.getrandbits(52)),  # subnormal
            lambda: sign * float(f"{draw.randint(1, 10 ** draw.randint(1, 17))}e{draw.randint(-30, 30)}"),
            lambda: sign * draw.randint(0, NUMBER_MAX) / 10 ** draw.randrange(9),
            lambda: sign * 10.0 ** draw.randint(-9, 23),
        ]
        return draw.choice(kinds)()

    def number_in_range(self) -> int | float:
        """Return a number that strict JSON accepts."""
        while not -NUMBER_MAX <= (number := self.number()) <= NUMBER_MAX:
            pass
        return number

    def text(self) -> str:
        """Return a short text, often with what needs an escape."""
        return "".join(self.random.choices(CHARACTERS, k=self.random.randrange(6)))

    def key(self) -> str:
        """Return a key, of few, so that they meet."""
        key: str = self.random.choice(KEYS)
        return key

    def value(self, *, levels: int = 3, is_in_range: bool = True) -> Any:
        """Return a value at most so deep."""
        draw = self.random
        kind = draw.randrange(10 if levels else 6)
        if kind < 3:
            return self.number_in_range() if is_in_range else self.number()
        if kind == 3:
            return draw.choice((None, True, False))
        if kind < 6:
            return self.text()
        below = levels - 1
        if kind < 8:
            return [self.value(levels=below, is_in_range=is_in_range) for _ in range(draw.randrange(5))]
        return {self.key(): self.value(levels=below, is_in_range=is_in_range) for _ in range(draw.randrange(5))}


def _from_bits(bits: int) -> float:
    number: float = struct.unpack(">d", (bits & 2**64 - 1).to_bytes(8, "big"))[0]
    return number if abs(number) < float("inf") else 0.5
