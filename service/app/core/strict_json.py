"""The only way a body becomes values (firewall.md section 5, "I-JSON plus").

Refused, each with the JSON pointer where it stands: a byte order mark, invalid UTF-8, duplicate keys, U+0000, lone
surrogates, NaN and infinities, |number| > 2^53 - 1, more than 64 levels, more than 100,000 nodes, keys that are not
NFC. Every other parser we measured accepts some of these: two readers of one signed body could then disagree.
"""

import json
import unicodedata
from dataclasses import dataclass
from typing import Any, Final

from app.core.pointer import join
from app.errors import Flaw, MalformedBody

BYTES_MAX: Final = 1_048_576
NUMBER_MAX: Final = 2**53 - 1
DEPTH_MAX: Final = 64
NODES_MAX: Final = 100_000
DIGITS_MAX: Final = 400
"""Longer numerals are not even converted."""
LAST_PLAIN_CHARACTER: Final = "\ud7ff"


@dataclass(frozen=True, slots=True)
class Document:
    """A decoded body. `is_plain`: no fractions, no keys beyond U+D7FF, so that sorting is the same everywhere."""

    value: Any
    is_plain: bool


class _Twice(dict[str, Any]):
    """An object in which `key` stood twice."""

    key: str = ""


class _Unrepresentable:
    """A numeral outside the accepted range."""


_OUT_OF_RANGE: Final = _Unrepresentable()


def decode(body: bytes) -> Document:
    """Return the body's value.

    Raises:
        MalformedBody: with the first flaw found.
    """
    if len(body) > BYTES_MAX:
        raise _malformed("", "too-large", f"more than {BYTES_MAX} bytes")
    if body.startswith(b"\xef\xbb\xbf"):
        raise _malformed("", "byte-order-mark", "the body starts with a byte order mark")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed("", "invalid-utf-8", f"invalid UTF-8 at byte {error.start}") from None
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise _malformed("", "syntax", f"syntax error at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _malformed("", "too-deep", f"more than {DEPTH_MAX} levels") from None
    return Document(value=value, is_plain=_inspect(value))


def _malformed(pointer: str, code: str, message: str) -> MalformedBody:
    return MalformedBody([Flaw(pointer=_printable(pointer), code=code, message=message)])


def _printable(pointer: str) -> str:
    return pointer[:1024].encode("utf-8", "replace").decode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    seen: set[str] = set()
    twice = _Twice()
    twice.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return twice


def _integer(numeral: str) -> int | _Unrepresentable:
    if len(numeral) > DIGITS_MAX or abs(number := int(numeral)) > NUMBER_MAX:
        return _OUT_OF_RANGE
    return number


def _fraction(numeral: str) -> float | _Unrepresentable:
    if len(numeral) > DIGITS_MAX or not abs(number := float(numeral)) <= NUMBER_MAX:
        return _OUT_OF_RANGE
    return number


def _constant(_name: str) -> _Unrepresentable:
    return _OUT_OF_RANGE


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)


def _inspect(root: Any) -> bool:
    """Walk every node; raise at the first flaw, else say whether the document is plain.

    Iterative, so that depth costs no stack. A path is a chain (parent, step): joined only for a flaw's pointer.
    """
    is_plain = True
    nodes = 0
    pending: list[tuple[Any, tuple[Any, str | int] | None, int]] = [(root, None, 1)]
    while pending:
        value, path, depth = pending.pop()
        nodes += 1
        if nodes > NODES_MAX:
            raise _malformed("", "too-many-nodes", f"more than {NODES_MAX} values")
        kind = type(value)
        if kind is str:
            _inspect_text(value, path)
        elif kind is float:
            is_plain = False
        elif kind is dict:
            _require_depth(depth, path)
            for key, child in value.items():
                is_plain = _inspect_key(key, path) and is_plain
                pending.append((child, (path, key), depth + 1))
        elif kind is list:
            _require_depth(depth, path)
            pending.extend((child, (path, index), depth + 1) for index, child in enumerate(value))
        elif kind is _Twice:
            raise _malformed(_join((path, value.key)), "duplicate-key", "the key stands twice in its object")
        elif value is _OUT_OF_RANGE:
            raise _malformed(_join(path), "number-out-of-range", "numbers lie within ±(2^53 - 1), NaN is none")
    return is_plain


def _require_depth(depth: int, path: Any) -> None:
    if depth > DEPTH_MAX:
        raise _malformed(_join(path), "too-deep", f"more than {DEPTH_MAX} levels")


def _inspect_key(key: str, path: Any) -> bool:
    """Check one key; True if it sorts alike by code point and by UTF-16."""
    if key.isascii():
        if "\0" in key:
            raise _malformed(_join((path, key)), "null-character", "U+0000 is not accepted")
        return True
    _inspect_text(key, (path, key))
    if not unicodedata.is_normalized("NFC", key):
        raise _malformed(_join((path, key)), "key-not-nfc", "keys are in Unicode normal form C")
    return max(key) <= LAST_PLAIN_CHARACTER


def _inspect_text(text: str, path: Any) -> None:
    if "\0" in text:
        raise _malformed(_join(path), "null-character", "U+0000 is not accepted")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _malformed(_join(path), "lone-surrogate", "half of a surrogate pair is not accepted")


def _join(path: Any) -> str:
    steps: list[str | int] = []
    while path is not None:
        path, step = path
        steps.append(step)
    return join(reversed(steps))
