"""Canonical JSON, RFC 8785: one value, one sequence of bytes, on every machine.

Takes what `strict_json` accepts, so numbers are within ±(2^53 - 1) and texts are valid Unicode. The quick path is
msgspec's sorted encoder, which gives the same bytes when there are no fractions and keys sort alike by code point
and by UTF-16; everything else takes the slow path.
"""

import hashlib
import json
from typing import Any, Final

import msgspec

from app.core.strict_json import Document

EXPONENT_FROM: Final = 21
"""ECMAScript writes 1e21 and more, and less than 1e-6, with an exponent."""
EXPONENT_BELOW: Final = -6

_quick: Final = msgspec.json.Encoder(order="deterministic")


def encode(document: Document) -> bytes:
    """Return the canonical bytes of a decoded document."""
    return _quick.encode(document.value) if document.is_plain else _encode(document.value).encode()


def encode_value(value: Any) -> bytes:
    """Return the canonical bytes of a value that was built here rather than decoded."""
    return _encode(value).encode()


def digest(canonical: bytes) -> str:
    """Return `sha256:` and the lower-case hex digest of canonical bytes."""
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


def _encode(value: Any) -> str:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(f"{_text(key)}:{_encode(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
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
