"""The only way a body becomes values (firewall.md section 5, "I-JSON plus").

Refused, each with the JSON pointer where it stands: a byte order mark, invalid UTF-8, duplicate keys, U+0000, lone
surrogates, NaN and infinities, |number| > 2^53 - 1, more than 64 levels, more than 100,000 nodes, keys that are not
NFC. Every other parser we measured accepts some of these: two readers of one signed body could then disagree.

A body without flaws is read once, and what can be known from its text is not looked for in its values. Only one that
may have a flaw is read again, and walked, to say where.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Final

from app.core.documents import values
from app.core.documents.pointer import join
from app.errors import Flaw, MalformedBody

BYTES_MAX: Final = 1_048_576
NUMBER_MAX: Final = 2**53 - 1
DEPTH_MAX: Final = 64
NODES_MAX: Final = 100_000
DIGITS_MAX: Final = 400
"""Longer numerals are not even converted."""
LAST_PLAIN_CHARACTER: Final = "\ud7ff"
POINTER_CHARACTERS_MAX: Final = 1_024

_TEXTS: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""Texts with their quotes. Every quote is part of a match, also in a broken body: one pass."""
_EMPTIES: Final = re.compile(r"[\[{][ \t\r\n]*[\]}]")
_RISKY_ESCAPES: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a document may be: bytes, values, levels of objects and arrays."""

    bytes: int = BYTES_MAX
    nodes: int = NODES_MAX
    depth: int = DEPTH_MAX


BODY: Final = Limits()
"""What a client sends, and every governed document."""
RECORD: Final = Limits(bytes=16 * BYTES_MAX, nodes=10 * NODES_MAX, depth=DEPTH_MAX + 16)
"""What we wrote ourselves: a record holds whole documents."""


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


class _MayBeFlawed(Exception):
    """The quick reading met something that has to be looked at closely."""


def decode(body: bytes, limits: Limits = BODY) -> Document:
    """Return the body's value. Memory and time grow with its bytes, within the limits.

    Raises:
        MalformedBody: with the first flaw found.
    """
    text = _text(body, limits)
    opened = text.count("[") + text.count("{")
    if opened + text.count(",") >= limits.nodes:
        _require_nodes(text, limits)
    try:
        return _read(text, limits, opened=opened)
    except json.JSONDecodeError as error:
        raise _malformed("", "syntax", f"syntax error at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _malformed("", "too-deep", f"more than {limits.depth} levels") from None


def _read(text: str, limits: Limits, *, opened: int) -> Document:
    if "\\u" in text and _RISKY_ESCAPES.search(text):
        return _look_closely(text, limits)
    try:
        document = _Quick().decode(text)
    except _MayBeFlawed:
        return _look_closely(text, limits)
    if opened > limits.depth and values.measure(document.value, nodes_max=limits.nodes)[1] > limits.depth:
        return _look_closely(text, limits)
    return document


def _text(body: bytes, limits: Limits) -> str:
    if len(body) > limits.bytes:
        raise _malformed("", "too-large", f"more than {limits.bytes} bytes")
    if body.startswith(b"\xef\xbb\xbf"):
        raise _malformed("", "byte-order-mark", "the body starts with a byte order mark")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed("", "invalid-utf-8", f"invalid UTF-8 at byte {error.start}") from None


def _require_nodes(text: str, limits: Limits) -> None:
    """Count values before there are any: a megabyte of `[],` would become thirty.

    Each value but the first of a container stands behind a comma, the first behind a bracket.
    """
    bare = _TEXTS.sub("", text)
    nodes = 1 + bare.count(",") + bare.count("[") + bare.count("{") - sum(1 for _ in _EMPTIES.finditer(bare))
    if nodes > limits.nodes:
        raise _malformed("", "too-many-nodes", f"more than {limits.nodes} values")


class _Quick:
    """Reads a body, or says that it may be flawed. Its text has no escape of U+0000 or of a surrogate."""

    def __init__(self) -> None:
        self._is_plain = True

    def decode(self, text: str) -> Document:
        are_keys_ascii = text.isascii() and "\\u" not in text
        decoder = json.JSONDecoder(
            object_pairs_hook=_quick_object if are_keys_ascii else self._object,
            parse_int=_quick_integer,
            parse_float=self._fraction,
            parse_constant=_quick_constant,
        )
        return Document(decoder.decode(text), is_plain=self._is_plain)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = _quick_object(pairs)
        if not "".join(value).isascii():
            for key in value:
                if not unicodedata.is_normalized("NFC", key):
                    raise _MayBeFlawed
                self._is_plain = self._is_plain and _is_plain_key(key)
        return value

    def _fraction(self, numeral: str) -> float:
        self._is_plain = False
        if len(numeral) > DIGITS_MAX or not abs(number := float(numeral)) <= NUMBER_MAX:
            raise _MayBeFlawed
        return number


def _quick_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _MayBeFlawed
    return value


def _quick_integer(numeral: str) -> int:
    if len(numeral) > DIGITS_MAX or not -NUMBER_MAX <= (number := int(numeral)) <= NUMBER_MAX:
        raise _MayBeFlawed
    return number


def _quick_constant(_name: str) -> Any:
    raise _MayBeFlawed


def _is_plain_key(key: str) -> bool:
    """Whether a key sorts alike by code point and by UTF-16."""
    return key.isascii() or max(key) <= LAST_PLAIN_CHARACTER


def _look_closely(text: str, limits: Limits) -> Document:
    value = _closely.decode(text)
    return Document(value=value, is_plain=_inspect(value, limits))


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


_closely: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)


def _inspect(root: Any, limits: Limits) -> bool:
    """Walk every node in the document's order; raise at the first flaw, else say whether the document is plain.

    Iterative, so that depth costs no stack. A path is a chain (parent, step): joined only for a flaw's pointer.
    """
    is_plain = True
    pending: list[tuple[Any, tuple[Any, str | int] | None, int]] = [(root, None, 1)]
    while pending:
        value, path, depth = pending.pop()
        kind = type(value)
        if kind is str:
            _inspect_text(value, path)
        elif kind is float:
            is_plain = False
        elif kind is dict:
            _require_depth(depth, path, limits)
            for key in value:
                _inspect_key(key, path)
                is_plain = is_plain and _is_plain_key(key)
            pending.extend((child, (path, key), depth + 1) for key, child in reversed(value.items()))
        elif kind is list:
            _require_depth(depth, path, limits)
            pending.extend((value[index], (path, index), depth + 1) for index in reversed(range(len(value))))
        elif kind is _Twice:
            raise _malformed(_join((path, value.key)), "duplicate-key", "the key stands twice in its object")
        elif value is _OUT_OF_RANGE:
            raise _malformed(_join(path), "number-out-of-range", "numbers lie within ±(2^53 - 1), NaN is none")
    return is_plain


def _require_depth(depth: int, path: Any, limits: Limits) -> None:
    if depth > limits.depth:
        raise _malformed(_join(path), "too-deep", f"more than {limits.depth} levels")


def _inspect_key(key: str, path: Any) -> None:
    _inspect_text(key, (path, key))
    if not unicodedata.is_normalized("NFC", key):
        raise _malformed(_join((path, key)), "key-not-nfc", "keys are in Unicode normal form C")


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


def _malformed(pointer: str, code: str, message: str) -> MalformedBody:
    return MalformedBody([Flaw(pointer=_printable(pointer), code=code, message=message)])


def _printable(pointer: str) -> str:
    """Return a pointer that can be sent: valid Unicode, and cut at a step when it is very long."""
    if len(pointer) > POINTER_CHARACTERS_MAX:
        pointer = pointer[: pointer.rindex("/", 0, POINTER_CHARACTERS_MAX)]
    return pointer.encode("utf-8", "replace").decode()
