"""Canonical JSON, RFC 8785: one value, one sequence of bytes, on every machine.

Takes what `strict_json` accepts, so numbers are within ±(2^53 - 1) and texts are valid Unicode. The quick path is
msgspec's sorted encoder, which gives the same bytes when there are no fractions and keys sort alike by code point
and by UTF-16; everything else takes the slow path.
"""

import hashlib
import json
from typing import Any, Final

import msgspec

from app.core.strict_json import LAST_PLAIN_CHARACTER, NUMBER_MAX, Document

EXPONENT_FROM: Final = 21
"""ECMAScript writes 1e21 and more, and less than 1e-6, with an exponent."""
EXPONENT_BELOW: Final = -6

_QUICK_KINDS: Final = frozenset((str, bool, type(None)))

_quick: Final = msgspec.json.Encoder(order="deterministic")


def encode(document: Document) -> bytes:
    """Return the canonical bytes of a decoded document."""
    return _quick.encode(document.value) if document.is_plain else _encode(document.value).encode()


def encode_value(value: Any) -> bytes:
    """Return the canonical bytes of a value that we made: decides by itself whether the quick path is safe.

    Tuples count as arrays, members of a `StrEnum` as texts.

    Raises:
        TypeError: it holds something that JSON has not.
        ValueError: it holds a number beyond ±(2^53 - 1), or half of a surrogate pair.
    """
    return _quick.encode(value) if _is_plain(value) else _encode(value).encode()


def digest(canonical: bytes) -> str:
    """Return `sha256:` and the lower-case hex digest of canonical bytes."""
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


def _is_plain(root: Any) -> bool:
    """Whether the quick path is safe for a value; raises what `encode_value` raises, but for texts."""
    is_plain = True
    containers: list[Any] = [[root]]
    for container in containers:
        if type(container) is dict:
            if not "".join(container).isascii() and max(map(max, filter(None, container))) > LAST_PLAIN_CHARACTER:
                is_plain = False
            members: Any = container.values()
        else:
            members = container
        for kind in set(map(type, members)) - _QUICK_KINDS:
            if kind is int or kind is float:
                if any(type(number) is kind and not abs(number) <= NUMBER_MAX for number in members):
                    raise ValueError("a number beyond ±(2^53 - 1)")
                is_plain = is_plain and kind is int
            elif kind is dict or kind is list or kind is tuple:
                containers += [member for member in members if type(member) is kind]
            elif not issubclass(kind, str):
                raise TypeError(f"{kind.__name__} is not a kind of JSON value")
    return is_plain


def _encode(value: Any) -> str:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(f"{_text(key)}:{_encode(value[key])}" for key in keys) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_encode, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return number(value)
    return json.dumps(value)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def number(value: float) -> str:
    """Return ECMAScript's `Number::toString` (ECMA-262 section 6.1.6.1.20) of a finite number."""
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The value is 0.digits * 10^point.
    point = int(exponent or 0) + len(whole) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if EXPONENT_BELOW < point <= EXPONENT_FROM:
        if count <= point:
            return sign + digits + "0" * (point - count)
        if point > 0:
            return f"{sign}{digits[:point]}.{digits[point:]}"
        return f"{sign}0.{'0' * -point}{digits}"
    power = f"e{point - 1:+d}"
    return f"{sign}{digits[0]}{'.' if count > 1 else ''}{digits[1:]}{power}"
