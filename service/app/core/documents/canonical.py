"""Canonical JSON, RFC 8785: one value, one sequence of bytes, on every machine.

Takes what `strict_json` accepts, so numbers are within ±(2^53 - 1) and texts are valid Unicode. The quick path is
msgspec's sorted encoder, which gives the same bytes when there are no fractions and keys sort alike by code point
and by UTF-16. Everything else is written by hand first, fractions and objects with other keys, and passed through it.
"""

import hashlib
from typing import Any, Final, TypeVar

import msgspec

from app.core.documents.strict_json import BODY, LAST_PLAIN_CHARACTER, NUMBER_MAX, Document, Limits, decode
from app.errors import Flaw, MalformedBody

EXPONENT_FROM: Final = 21
"""ECMAScript writes 1e21 and more, and less than 1e-6, with an exponent."""
EXPONENT_BELOW: Final = -6

Struct = TypeVar("Struct")

_quick: Final = msgspec.json.Encoder(order="deterministic")
_sorted: Final = msgspec.json.Encoder(order="sorted")
"""Sorts the fields of structs too."""
_REWRITTEN: Final = frozenset((float, dict, list, tuple))

SIXTEEN_DIGITS: Final = b"0" * 16
"""2^53 - 1 is the first number out of range that is so long."""
BEFORE_A_NUMBER: Final = b":[,-"
IN_A_DIGEST: Final = b"6:"
"""Before the digits of `sha256:`. A name's colon stands behind its quotation mark."""
_DIGITS_ALIKE: Final = bytes(ord("0") if chr(code).isdigit() else ord(" ") for code in range(128)).ljust(256)


class _Fraction(Exception):
    """A fraction stands in the document."""


def _refuse(_numeral: str) -> float:
    raise _Fraction


_without_fractions: Final = msgspec.json.Decoder(float_hook=_refuse)


def encode(document: Document) -> bytes:
    """Return the canonical bytes of a decoded document."""
    return _quick.encode(document.value if document.is_plain else _rewrite(document.value))


def encode_value(value: Any) -> bytes:
    """Return the canonical bytes of a value that we made: decides by itself whether the quick path is safe.

    Tuples count as arrays, members of a `StrEnum` as texts. No deeper than a few hundred levels.

    Raises:
        TypeError: it holds something that JSON has not.
        ValueError: it holds a number beyond ±(2^53 - 1), or half of a surrogate pair.
    """
    return _quick.encode(value if _is_plain(value) else _rewrite(value))


def decode_canonical(content: bytes, limits: Limits = BODY) -> Document:
    """Return the document whose canonical bytes these are.

    Raises:
        MalformedBody: it is not strict JSON, or has another canonical form (`not-canonical`).
    """
    if is_within(content, limits):
        value = decode_plain(content)
        if value is not None:
            return Document(value, is_plain=True)
    document = decode(content, limits)
    if encode(document) != content:
        raise MalformedBody([Flaw("", "not-canonical", "the bytes are not their own canonical form (RFC 8785)")])
    return document


def decode_plain(content: bytes, decoder: msgspec.json.Decoder[Any] = _without_fractions) -> Any:
    """Return the value if its bytes can be seen to be canonical and plain without looking at its values one by one.

    What msgspec writes again to the letter has no second spelling, so no key twice. None for what has to be looked at
    closely: fractions, what is not ASCII, U+0000, numerals of sixteen digits, `null`, and what is not canonical.
    `decoder`: of `decoder_of`, for a struct that has a field for everything it may hold. Depth and nodes are not
    counted.
    """
    if not is_plain_text(content) or _may_hold_large_number(content):
        return None
    try:
        value = decoder.decode(content)
        return value if _sorted.encode(value) == content else None
    except (_Fraction, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_plain_text(content: bytes) -> bool:
    """Whether there is nothing beyond ASCII and no U+0000, as far as can be seen at once."""
    return content.isascii() and b"\\u0000" not in content


def decoder_of(kind: type[Struct]) -> msgspec.json.Decoder[Struct]:
    """Return a decoder for `decode_plain`."""
    return msgspec.json.Decoder(kind, float_hook=_refuse)


def is_within(content: bytes, limits: Limits = BODY) -> bool:
    """Whether the limits are kept, as far as can be seen at once: False only means that it has to be counted."""
    opened = content.count(b"[") + content.count(b"{")
    return len(content) <= limits.bytes and opened <= limits.depth and opened + content.count(b",") < limits.nodes


def _may_hold_large_number(content: bytes) -> bool:
    """Whether sixteen digits stand where a number may: digests hold as many now and then, inside their quotes.

    A colon is a name's only behind a quotation mark: `sha256:0...` is no number.
    """
    alike = content.translate(_DIGITS_ALIKE)
    place = alike.find(SIXTEEN_DIGITS)
    while place >= 0:
        begins = place == 0 or content[place - 1] in BEFORE_A_NUMBER
        if begins and content[place - 2 : place] != IN_A_DIGEST:
            return True
        place = alike.find(SIXTEEN_DIGITS, alike.find(b" ", place))
    return False


def digest(canonical: bytes) -> str:
    """Return `sha256:` and the lower-case hex digest of canonical bytes."""
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


def number(value: float) -> str:
    """Return ECMAScript's `Number::toString` (ECMA-262 section 6.1.6.1.20) of a finite number."""
    shortest = repr(value)
    if "e" not in shortest:
        # Python's shortest digits are ECMAScript's; without an exponent only the zeros differ.
        whole = shortest.removesuffix(".0")
        return "0" if whole == "-0" else whole
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = shortest.removeprefix("-").partition("e")
    digits = mantissa.replace(".", "")
    count = len(digits)
    # The value is 0.digits * 10^point.
    point = int(exponent) + 1
    if EXPONENT_BELOW < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if 0 < point <= EXPONENT_FROM:
        return f"{sign}{digits}{'0' * (point - count)}"
    return f"{sign}{digits[0]}{'.' if count > 1 else ''}{digits[1:]}e{point - 1:+d}"


def _is_plain(root: Any) -> bool:
    """Whether the quick path is safe for a value; raises what `encode_value` raises, but for texts."""
    is_plain = True
    containers: list[Any] = [(root,)]
    for container in containers:
        members = container
        if type(container) is dict:
            is_plain = is_plain and _sorts_alike(container)
            members = container.values()
        for member in members:
            kind = type(member)
            if kind is str or kind is bool or member is None:
                continue
            if kind is int or kind is float:
                if not -NUMBER_MAX <= member <= NUMBER_MAX:
                    raise ValueError("a number beyond ±(2^53 - 1)")
                is_plain = is_plain and kind is int
            elif kind is dict or kind is list or kind is tuple:
                containers.append(member)
            elif not isinstance(member, str):
                raise TypeError(f"{kind.__name__} is not a kind of JSON value")
    return is_plain


def _sorts_alike(value: dict[str, Any]) -> bool:
    """Whether an object's keys sort alike by code point and by UTF-16."""
    return "".join(value).isascii() or max(map(max, filter(None, value))) <= LAST_PLAIN_CHARACTER


def _rewrite(value: Any) -> Any:
    """Return a value that the quick encoder writes canonically: whatever it would not is there as bytes."""
    kind = type(value)
    if kind is dict:
        if not _sorts_alike(value):
            return _write_sorted(value)
        return {key: _rewrite(member) if type(member) in _REWRITTEN else member for key, member in value.items()}
    if kind is list or kind is tuple:
        return [_rewrite(member) if type(member) in _REWRITTEN else member for member in value]
    return msgspec.Raw(number(value)) if kind is float else value


def _write_sorted(value: dict[str, Any]) -> msgspec.Raw:
    """Write an object sorted by UTF-16 code units (RFC 8785 section 3.2.3)."""
    keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
    return msgspec.Raw(
        b"{%b}" % b",".join(b"%b:%b" % (_quick.encode(key), _quick.encode(_rewrite(value[key]))) for key in keys)
    )
