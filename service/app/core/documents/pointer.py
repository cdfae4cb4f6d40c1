"""JSON pointers, RFC 6901: where something stands in a document.

`""` is the document itself, `/a/0` the first element of what stands at the key `a`; `~1` spells `/`, `~0` spells `~`.
A pointer is kept as text wherever it is stored or answered, and as a tuple of keys while it is followed.
"""

from collections.abc import Iterable
from typing import Any, Final

INDEX_DIGITS_MAX: Final = 9
"""No array we accept is longer."""

MISSING: Final = object()


def join(steps: Iterable[str | int]) -> str:
    """Return the pointer of a path of keys and indices."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def split(pointer: str) -> tuple[str, ...]:
    """Return the keys of a pointer, unescaped.

    Raises:
        ValueError: it does not start with a slash, or has a tilde that is neither `~0` nor `~1`.
    """
    if not pointer:
        return ()
    if pointer[0] != "/":
        raise ValueError("a pointer is empty or starts with a slash")
    if "~" not in pointer:
        return tuple(pointer[1:].split("/"))
    if pointer.count("~") != pointer.count("~0") + pointer.count("~1"):
        raise ValueError("a tilde is written ~0, a slash inside a key ~1")
    return tuple(key.replace("~1", "/").replace("~0", "~") for key in pointer[1:].split("/"))


def index(key: str) -> int | None:
    """Return the array index that a key spells: digits without leading zeros; None if it spells none."""
    if not key.isascii() or not key.isdigit() or len(key) > INDEX_DIGITS_MAX or (key[0] == "0" and key != "0"):
        return None
    return int(key)


def resolve(value: Any, pointer: str) -> Any:
    """Return what stands at a pointer, `MISSING` if there is nothing.

    Raises:
        ValueError: it is not a pointer.
    """
    for key in split(pointer):
        if type(value) is dict:
            if key not in value:
                return MISSING
            value = value[key]
        elif type(value) is list:
            place = index(key)
            if place is None or place >= len(value):
                return MISSING
            value = value[place]
        else:
            return MISSING
    return value


def is_at_or_below(pointer: str, place: str) -> bool:
    """Whether `pointer` stands at `place` or inside it: `/a/b` is below `/a`, `/ab` is not."""
    return pointer == place or pointer.startswith(place + "/")


def overlap(one: str, other: str) -> bool:
    """Whether a change at one may change what stands at the other: one of them is at or below the other."""
    return is_at_or_below(one, other) or is_at_or_below(other, one)
