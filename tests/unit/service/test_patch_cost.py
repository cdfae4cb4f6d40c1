"""What the worst kilobyte can cost: no document of a mebibyte makes it grow beyond the budget (CVE-2019-1002100)."""

import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest

from app.core.documents import canonical, patch
from app.core.documents.strict_json import BYTES_MAX, DEPTH_MAX, NODES_MAX, decode
from app.errors import PatchFailed

PATCH_BYTES: int = 1_000
MEMORY_BYTES_MAX = 16 * 1024 * 1024
STEPS_MAX = 3 * (NODES_MAX + patch.NODES_MAX)
"""Lines run, each turn of a loop counted: a few for each value that was there or may be added."""

DOCUMENTS: dict[str, Any] = {
    "numbers": {"a": [1] * 99_000, "b": {}},
    "objects": {"a": [{"k": 1.5} for _ in range(49_000)], "b": {}},
    "keys": {"a": {f"key{number}": number for number in range(60_000)}, "b": {}},
    "a text": {"a": "x" * 1_000_000, "b": {}},
    "levels": {"a": json.loads("[" * 60 + ",".join(["[]"] * 90_000) + "]" * 60), "b": {}},
}
OPERATIONS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "copy the document into itself": lambda turn: [{"op": "copy", "from": "", "path": f"/{turn}"}],
    "copy a part": lambda turn: [{"op": "copy", "from": "/a", "path": f"/{turn}"}],
    "change, then copy": lambda turn: [
        {"op": "add", "path": "/a/0", "value": turn},
        {"op": "copy", "from": "/a", "path": "/c"},
    ],
    "insert first": lambda turn: [{"op": "add", "path": "/a/0", "value": turn}],
    "remove first": lambda _: [{"op": "remove", "path": "/a/0"}],
    "change and copy elsewhere": lambda turn: [
        {"op": "add", "path": "/a/0", "value": turn},
        {"op": "copy", "from": "/b", "path": "/c"},
    ],
    "move down and up": lambda _: [
        {"op": "move", "from": "/a", "path": "/b/a"},
        {"op": "move", "from": "/b/a", "path": "/a"},
    ],
    "move over something": lambda _: [
        {"op": "add", "path": "/x", "value": 1},
        {"op": "move", "from": "/a", "path": "/x"},
        {"op": "move", "from": "/x", "path": "/a"},
    ],
    "move into its own child": lambda turn: [
        {"op": "add", "path": f"/b/{turn}", "value": {}},
        {"op": "move", "from": "/b", "path": f"/b/{turn}/b"},
    ],
    "nest": lambda turn: [{"op": "add", "path": "/b" + "/x" * turn, "value": {}}],
    "test deep values": lambda _: [{"op": "test", "path": "/b", "value": json.loads("[" * 60 + "]" * 60)}],
}


def worst(make: Callable[[int], list[dict[str, Any]]]) -> list[patch.Operation]:
    """Return as many turns as a kilobyte holds."""
    changes: list[dict[str, Any]] = []
    turn = 0
    while len(json.dumps(changes + make(turn), separators=(",", ":"))) <= PATCH_BYTES:
        changes += make(turn)
        turn += 1
    assert len(changes) > 3
    return patch.parse(changes)


def attempt(document: Any, operations: list[patch.Operation]) -> None:
    with suppress(PatchFailed):
        patch.apply(document, operations)


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    steps = [0]

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        del frame, argument
        steps[0] += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield steps
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("document", [pytest.param(value, id=name) for name, value in DOCUMENTS.items()])
def test_a_kilobyte_of_patch_costs_little_memory_and_few_steps(document: Any) -> None:
    body = json.dumps(document, separators=(",", ":")).encode()
    assert BYTES_MAX / 6 < len(body) <= BYTES_MAX
    document = decode(body).value

    costs = {}
    for name, make in OPERATIONS.items():
        operations = worst(make)
        tracemalloc.start()
        try:
            attempt(document, operations)
            _, memory = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        with counted_steps() as steps:
            attempt(document, operations)
        costs[name] = (memory, steps[0])

    assert {name: cost for name, cost in costs.items() if cost[0] > MEMORY_BYTES_MAX or cost[1] > STEPS_MAX} == {}


def test_the_count_of_steps_sees_a_patch_without_a_budget() -> None:
    document = decode(json.dumps(DOCUMENTS["objects"]).encode()).value
    unbounded = patch.Budget(nodes=10**9, bytes=10**9)
    operations = worst(OPERATIONS["copy a part"])[:9] + patch.parse([{"op": "copy", "from": "", "path": "/z"}])

    with counted_steps() as steps:
        patch.apply(document, operations, unbounded)

    assert steps[0] > STEPS_MAX


def test_no_patch_makes_a_document_deeper_than_the_decoder_reads() -> None:
    half = DEPTH_MAX // 2
    into_itself = patch.parse([{"op": "copy", "from": "", "path": "/a" * half}])
    document = json.loads('{"a":' * (half - 1) + "{}" + "}" * (half - 1))

    deepest = patch.apply(document, into_itself).value
    decode(canonical.encode_value(deepest))
    with pytest.raises(PatchFailed) as caught:
        patch.apply(deepest, into_itself)

    assert caught.value.cause == "too-deep"
