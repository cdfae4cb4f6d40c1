"""JSON Patch, RFC 6902, applied to a governed document: within a budget, without changing it, and with a way back.

What is not touched is shared between the old value and the new: nothing is copied but the objects and arrays on the
way to a change, each once. What an operation puts in, or copies, is counted in full before it is put in, so a kilobyte
of `copy` cannot become a gigabyte. Beyond the RFC refused: unknown members of an operation, removing the whole
document, keys that are not NFC, documents deeper than the strict decoder reads.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from app.core.documents import pointer as pointers
from app.core.documents import values
from app.core.documents.strict_json import DEPTH_MAX
from app.errors import PatchFailed

POINTER_PATTERN: Final = "^(?:/(?:[^~/]|~[01])*)*(?!\\n)$"
"""`$` alone also matches before a final line break."""
POINTER_CHARACTERS_MAX: Final = 2_048
OPERATIONS_MAX: Final = 1_000
NODES_MAX: Final = 200_000
BYTES_MAX: Final = 2 * 1024 * 1024

_write: Final = msgspec.json.Encoder().encode

Pointer = Annotated[str, msgspec.Meta(pattern=POINTER_PATTERN, max_length=POINTER_CHARACTERS_MAX)]


class _Operation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op"):
    path: Pointer


class Add(_Operation, frozen=True, tag="add"):
    """Put `value` at `path`."""

    value: Any


class Remove(_Operation, frozen=True, tag="remove"):
    """Take away what stands at `path`."""


class Replace(_Operation, frozen=True, tag="replace"):
    """Put `value` in the place of what stands at `path`."""

    value: Any


class Move(_Operation, frozen=True, tag="move", rename={"source": "from"}):
    """Take away what stands at `from` and put it at `path`."""

    source: Pointer


class Copy(_Operation, frozen=True, tag="copy", rename={"source": "from"}):
    """Put what stands at `from` also at `path`."""

    source: Pointer


class Test(_Operation, frozen=True, tag="test"):
    """Go on only if `value` stands at `path`."""

    value: Any


Operation = Add | Remove | Replace | Move | Copy | Test


class _Operations(msgspec.Struct, frozen=True):
    """A patch: msgspec keeps what it learns of a class, not of a list of unions."""

    operations: list[Operation]


@dataclass(frozen=True, slots=True)
class Budget:
    """What a patch may cost. Nodes and bytes are those it adds or copies; what it later removes is not given back."""

    operations: int = OPERATIONS_MAX
    nodes: int = NODES_MAX
    bytes: int = BYTES_MAX
    """As compact JSON."""


DEFAULT_BUDGET: Final = Budget()


@dataclass(frozen=True, slots=True)
class Patched:
    """What became of a document."""

    value: Any
    """Shares with the old document and with the patch what they have in common: never change any of them."""
    touched: tuple[str, ...]
    """Pointers, sorted, each once; `-` is written as the index it stood for. Each stands for all that is below it:
    compare with `pointer.overlap`. An array stands here itself when elements behind a change moved up or down."""
    inverse: list[dict[str, Any]]
    """The JSON Patch that restores the old document. Its values are no larger than the old document and what the
    patch added taken together."""


def parse(patch: Any) -> list[Operation]:
    """Return the operations of a decoded JSON Patch.

    Raises:
        PatchFailed: it is not an array of operations (`invalid-operation`).
    """
    if type(patch) is not list:
        raise PatchFailed(0, "invalid-operation", "", "a patch is an array of operations")
    try:
        return msgspec.convert({"operations": patch}, _Operations).operations
    except msgspec.ValidationError as error:
        # msgspec says where: `$.operations[3].path` at the end.
        _, _, place = str(error).rpartition("$.operations[")
        index, _, _ = place.partition("]")
        raise PatchFailed(int(index or 0), "invalid-operation", "", "not an operation of RFC 6902") from None


def apply(value: Any, operations: Sequence[Operation], budget: Budget = DEFAULT_BUDGET) -> Patched:
    """Return what a document becomes. Takes at most `budget` and one shallow copy of each container on the way.

    Raises:
        PatchFailed: with the operation at fault; the document is as it was.
    """
    if len(operations) > budget.operations:
        raise PatchFailed(budget.operations, "too-many-operations", "", f"more than {budget.operations} operations")
    application = _Application(value, budget)
    for index, operation in enumerate(operations):
        try:
            application.perform(operation)
        except _Refusal as refusal:
            raise PatchFailed(index, refusal.code, refusal.pointer, refusal.message) from None
    return application.result()


class _Refusal(Exception):
    def __init__(self, code: str, pointer: str, message: str) -> None:
        super().__init__(code)
        self.code = code
        self.pointer = pointer
        self.message = message


@dataclass(slots=True)
class _Size:
    value: Any
    nodes: int
    levels: int
    bytes: int | None = None


class _Application:
    """A patch half applied."""

    def __init__(self, value: Any, budget: Budget) -> None:
        self._value = value
        self._nodes_left = budget.nodes
        self._bytes_left = budget.bytes
        self._own: dict[int, Any] = {}
        """Containers made here and reachable by one way only, by id: only these are changed in place. Whatever leads
        to one of them is one itself."""
        self._sizes: dict[int, _Size] = {}
        """Of containers that are not ours to change, by id: each is measured once."""
        self._touched: set[str] = set()
        self._undo: list[list[dict[str, Any]]] = []

    def result(self) -> Patched:
        """Return what became of it."""
        inverse = [step for steps in reversed(self._undo) for step in steps]
        return Patched(value=self._value, touched=tuple(sorted(self._touched)), inverse=inverse)

    def perform(self, operation: Operation) -> None:
        """Apply one operation, or refuse it."""
        kind = type(operation)
        path = operation.path
        if kind is Add:
            self._count(operation.value, path)  # type: ignore[union-attr]
            self._undo.append([self._add(path, operation.value)])  # type: ignore[union-attr]
        elif kind is Replace:
            self._count(operation.value, path)  # type: ignore[union-attr]
            self._undo.append([self._replace(path, operation.value)])  # type: ignore[union-attr]
        elif kind is Remove:
            _, undo = self._remove(path)
            self._undo.append([undo])
        elif kind is Test:
            if not values.are_equal(operation.value, self._get(path)):  # type: ignore[union-attr]
                raise _Refusal("test-failed", path, "another value stands here")
        elif kind is Copy:
            self._copy(operation.source, path)  # type: ignore[union-attr]
        else:
            self._move(operation.source, path)  # type: ignore[union-attr]

    def _copy(self, source: str, path: str) -> None:
        value = self._get(source)
        self._share(value)
        self._count(value, path)
        self._touched.add(source)
        self._undo.append([self._add(path, value)])

    def _move(self, source: str, path: str) -> None:
        value = self._get(source)
        if source == path:
            self._touched.add(path)
            return
        if pointers.is_at_or_below(path, source):
            raise _Refusal("moved-into-itself", path, "nothing can be moved into itself")
        if path.count("/") > source.count("/"):
            self._count_nodes(value, path)
        _, put_back = self._remove(source)
        take_away = self._add(path, value)
        there, back = take_away["path"], put_back["path"]
        if take_away["op"] == "remove" and not pointers.is_at_or_below(back, there):
            self._undo.append([{"op": "move", "from": there, "path": back}])
        else:
            # A move would lose what stood there, or (an element before its own array) look like one into itself.
            # The value stands in the document and in the inverse: shared, and counted.
            self._share(value)
            self._count(value, path)
            self._undo.append([take_away, put_back])

    def _count(self, value: Any, path: str) -> None:
        size = self._count_nodes(value, path)
        if size.bytes is None:
            size.bytes = len(_write(value))
        self._bytes_left -= size.bytes
        if self._bytes_left < 0:
            raise _Refusal("too-many-bytes", path, "the patch adds or copies more bytes than its budget")

    def _count_nodes(self, value: Any, path: str) -> _Size:
        size = self._sizes.get(id(value))
        if size is None:
            size = _Size(value, *values.measure(value, nodes_max=self._nodes_left))
            if size.levels and id(value) not in self._own:
                self._sizes[id(value)] = size
        self._nodes_left -= size.nodes
        if self._nodes_left < 0:
            raise _Refusal("too-many-nodes", path, "the patch adds or copies more values than its budget")
        if size.levels and size.levels + path.count("/") > DEPTH_MAX:
            raise _Refusal("too-deep", path, f"more than {DEPTH_MAX} levels")
        return size

    def _share(self, value: Any) -> None:
        """Give up changing in place whatever is reachable from a value."""
        own = self._own
        pending = [value] if id(value) in own else []
        while pending:
            container = own.pop(id(pending.pop()), None)
            if container:
                children = container.values() if type(container) is dict else container
                pending += [child for child in children if id(child) in own]

    def _get(self, path: str) -> Any:
        value = pointers.resolve(self._value, path)
        if value is pointers.MISSING:
            raise _Refusal("missing", path, "nothing stands here")
        return value

    def _parent(self, path: str) -> tuple[Any, str]:
        """Return the container of a path, ours to change, and the last key."""
        *way, last = pointers.split(path)
        value = self._value = self._owned(self._value, path)
        for key in way:
            place: Any = key if type(value) is dict else pointers.index(key)
            if place is None or (place not in value if type(value) is dict else place >= len(value)):
                raise _Refusal("missing", path, "nothing stands on the way here")
            child = self._owned(value[place], path)
            value[place] = child
            value = child
        return value, last

    def _owned(self, container: Any, path: str) -> Any:
        if id(container) in self._own:
            return container
        if type(container) is not dict and type(container) is not list:
            raise _Refusal("not-a-container", path, "neither an object nor an array stands on the way here")
        mine = container.copy()
        self._own[id(mine)] = mine
        return mine

    def _add(self, path: str, value: Any) -> dict[str, Any]:
        """Put a value at a path; return the operation that undoes it."""
        if not path:
            return self._replace(path, value)
        parent, key = self._parent(path)
        if type(parent) is dict:
            self._touched.add(path)
            if key in parent:
                old, parent[key] = parent[key], value
                return {"op": "replace", "path": path, "value": old}
            if not key.isascii() and not unicodedata.is_normalized("NFC", key):
                raise _Refusal("key-not-nfc", path, "keys are in Unicode normal form C")
            parent[key] = value
            return {"op": "remove", "path": path}
        count = len(parent)
        place = count if key == "-" else pointers.index(key)
        if place is None or place > count:
            raise _Refusal("missing", path, "no such place in the array")
        path = self._touch_element(path, place, is_last=place == count)
        parent.insert(place, value)
        return {"op": "remove", "path": path}

    def _replace(self, path: str, value: Any) -> dict[str, Any]:
        if not path:
            old, self._value = self._value, value
        else:
            parent, key = self._parent(path)
            place: Any = key if type(parent) is dict else pointers.index(key)
            if place is None or (place not in parent if type(parent) is dict else place >= len(parent)):
                raise _Refusal("missing", path, "nothing stands here")
            old, parent[place] = parent[place], value
        self._touched.add(path)
        return {"op": "replace", "path": path, "value": old}

    def _remove(self, path: str) -> tuple[Any, dict[str, Any]]:
        """Take away what stands at a path; return it and the operation that undoes it."""
        if not path:
            raise _Refusal("root-removed", path, "the document itself cannot be taken away")
        parent, key = self._parent(path)
        if type(parent) is dict:
            if key not in parent:
                raise _Refusal("missing", path, "nothing stands here")
            self._touched.add(path)
            old = parent.pop(key)
        else:
            place = pointers.index(key)
            if place is None or place >= len(parent):
                raise _Refusal("missing", path, "no such place in the array")
            path = self._touch_element(path, place, is_last=place == len(parent) - 1)
            old = parent.pop(place)
        return old, {"op": "add", "path": path, "value": old}

    def _touch_element(self, path: str, place: int, *, is_last: bool) -> str:
        array, _, _ = path.rpartition("/")
        if not is_last:
            self._touched.add(array)
        path = f"{array}/{place}"
        self._touched.add(path)
        return path
