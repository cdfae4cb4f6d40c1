"""What a checked CEL expression walks: how deep its comprehensions nest, and over what.

Reads the serialized `cel.expr.CheckedExpr` (cel-spec, proto/cel/expr/checked.proto and syntax.proto) by the wire
format of Protocol Buffers: only the fields that lead to sub-expressions, their ids and their types. A comprehension
inside the step, condition or result of another multiplies its cost and counts as one deeper; one in its range comes
before it and does not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_ANY_VALUE: Final = 2
_CHECKED_TYPES, _CHECKED_EXPR = 3, 4
_ENTRY_ID, _ENTRY_TYPE = 1, 2
_LIST_TYPE: Final = 6
_EXPR_ID: Final = 2
_COMPREHENSION: Final = 9
_RANGE, _ACCUMULATOR = 2, 4
_STEPS: Final = frozenset({5, 6, 7})
_CHILDREN: Final = {5: frozenset({1}), 6: frozenset({1, 3}), 7: frozenset({1})}
"""The sub-expressions of a select, a call and a list. A struct's stand in its entries."""
_STRUCT: Final = 8
_STRUCT_ENTRIES: Final = 2
_STRUCT_CHILDREN: Final = frozenset({3, 4})
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BITS: Final = 64
_MORE: Final = 0x80


@dataclass(frozen=True, slots=True)
class Walks:
    """`depth`: of nested comprehensions, 0 without any. `only_lists`: each walks what is known to be a list."""

    depth: int
    only_lists: bool


def walks(serialized: bytes) -> Walks:
    """Return what a serialized expression walks.

    Raises:
        ValueError: the bytes are not a serialized, checked expression.
    """
    checked = list(_fields(_first(_fields(serialized), _ANY_VALUE)))
    lists = {_id(entry, _ENTRY_ID) for number, entry in checked if number == _CHECKED_TYPES and _is_list(entry)}
    depth, only_lists = 0, True
    pending = [(_first(iter(checked), _CHECKED_EXPR), 0)]
    while pending:
        expression, level = pending.pop()
        for number, value in _fields(expression):
            if isinstance(value, int):
                continue
            if number == _COMPREHENSION:
                parts = [(place, part) for place, part in _fields(value) if isinstance(part, bytes)]
                depth = max(depth, level + 1)
                only_lists = only_lists and all(
                    _id(part, _EXPR_ID) in lists for place, part in parts if place == _RANGE
                )
                pending += [(part, level) for place, part in parts if place in {_RANGE, _ACCUMULATOR}]
                pending += [(part, level + 1) for place, part in parts if place in _STEPS]
            elif number == _STRUCT:
                for entry in _inside(value, frozenset({_STRUCT_ENTRIES})):
                    pending += [(part, level) for part in _inside(entry, _STRUCT_CHILDREN)]
            elif number in _CHILDREN:
                pending += [(part, level) for part in _inside(value, _CHILDREN[number])]
    return Walks(depth, only_lists)


def _inside(message: bytes, numbers: frozenset[int]) -> list[bytes]:
    return [value for number, value in _fields(message) if number in numbers and isinstance(value, bytes)]


def _is_list(entry: int | bytes) -> bool:
    if isinstance(entry, int):
        return False
    return any(number == _LIST_TYPE for number, _ in _fields(_first(_fields(entry), _ENTRY_TYPE)))


def _id(message: int | bytes, number: int) -> int | None:
    fields = _fields(message) if isinstance(message, bytes) else ()
    return next((value for place, value in fields if place == number and isinstance(value, int)), None)


def _first(fields: Iterator[tuple[int, int | bytes]], number: int) -> bytes:
    for place, value in fields:
        if place == number and isinstance(value, bytes):
            return value
    raise ValueError("not a checked expression")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, whole number or content) of a message's fields; fixed-width numbers are left out."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == _BYTES:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("cut short")
            yield tag >> 3, message[position : position + length]
            position += length
        elif kind == _VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, value
        elif kind in {_FIXED64, _FIXED32}:
            position += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("an unknown wire type")


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _VARINT_BITS + 6, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & ~_MORE) << shift
        if byte < _MORE:
            return value, position
    raise ValueError("cut short")
