"""RFC 6902: the cases of its appendix A and of the public json-patch-tests, in our words; refusals; the way back."""

import json
from typing import Any

import pytest

from app.core.documents import canonical, patch
from app.core.documents.patch import Budget
from app.errors import PatchFailed

Patch = list[dict[str, Any]]


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def replace(path: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


def remove(path: str) -> dict[str, Any]:
    return {"op": "remove", "path": path}


def expect(path: str, value: Any) -> dict[str, Any]:
    return {"op": "test", "path": path, "value": value}


def move(source: str, path: str) -> dict[str, Any]:
    return {"op": "move", "from": source, "path": path}


def copy(source: str, path: str) -> dict[str, Any]:
    return {"op": "copy", "from": source, "path": path}


def case(name: str, *case: Any) -> Any:
    return pytest.param(*case, id=name)


ACCEPTED = [
    case("add a member", {"foo": "bar"}, [add("/baz", "qux")], {"foo": "bar", "baz": "qux"}, ["/baz"]),
    case("add an element", [1, 3], [add("/1", 2)], [1, 2, 3], ["", "/1"]),
    case("add behind the last", [1], [add("/1", 2)], [1, 2], ["/1"]),
    case("add at the end", [1], [add("/-", [2])], [1, [2]], ["/1"]),
    case("add over a member", {"a": 1}, [add("/a", 2)], {"a": 2}, ["/a"]),
    case("add null", {}, [add("/a", None)], {"a": None}, ["/a"]),
    case("add the empty key", {}, [add("/", 1)], {"": 1}, ["/"]),
    case("add over the document", {"a": 1}, [add("", [])], [], [""]),
    case("add a member named -", {}, [add("/-", 1)], {"-": 1}, ["/-"]),
    case("add a member named like an index", {"a": {}}, [add("/a/01", 1)], {"a": {"01": 1}}, ["/a/01"]),
    case("add into what was added", {}, [add("/a", {}), add("/a/b", 1)], {"a": {"b": 1}}, ["/a", "/a/b"]),
    case("remove a member", {"a": 1, "b": 2}, [remove("/b")], {"a": 1}, ["/b"]),
    case("remove an element", [1, 2, 3], [remove("/1")], [1, 3], ["", "/1"]),
    case("remove the last element", [1, 2], [remove("/1")], [1], ["/1"]),
    case("replace a member", {"a": 1}, [replace("/a", [])], {"a": []}, ["/a"]),
    case("replace an element", [1, 2], [replace("/0", "x")], ["x", 2], ["/0"]),
    case("replace the document", {"a": 1}, [replace("", "x")], "x", [""]),
    case("replace a scalar document", 1, [replace("", 2)], 2, [""]),
    case("move a member", {"a": {"x": 1}, "b": {}}, [move("/a/x", "/b/y")], {"a": {}, "b": {"y": 1}}, ["/a/x", "/b/y"]),
    case("move an element back", [1, 2, 3], [move("/2", "/0")], [3, 1, 2], ["", "/0", "/2"]),
    case("move an element on", [1, 2, 3], [move("/0", "/2")], [2, 3, 1], ["", "/0", "/2"]),
    case("move over a member", {"a": 1, "b": 2}, [move("/a", "/b")], {"b": 1}, ["/a", "/b"]),
    case("move over its own parent", {"a": {"b": {"c": 1}}}, [move("/a/b", "/a")], {"a": {"c": 1}}, ["/a", "/a/b"]),
    case("move over the document", {"a": {"b": 1}}, [move("/a", "")], {"b": 1}, ["", "/a"]),
    case("move to where it is", {"a": 1}, [move("/a", "/a")], {"a": 1}, ["/a"]),
    case("copy a member", {"a": [1]}, [copy("/a", "/b")], {"a": [1], "b": [1]}, ["/a", "/b"]),
    case("copy into itself", {"a": {"b": 1}}, [copy("/a", "/a/c")], {"a": {"b": 1, "c": {"b": 1}}}, ["/a", "/a/c"]),
    case("copy the document", {"a": 1}, [copy("", "/b")], {"a": 1, "b": {"a": 1}}, ["", "/b"]),
    case("a copy is its own", {"a": [1]}, [copy("/a", "/b"), add("/b/-", 2)], {"a": [1], "b": [1, 2]}, None),
    case("the original is its own", {"a": [1]}, [copy("/a", "/b"), add("/a/-", 2)], {"a": [1, 2], "b": [1]}, None),
    case(
        "a changed one is its own once copied",
        {"a": [[]]},
        [add("/a/0/-", 1), copy("/a", "/b"), add("/a/0/-", 2)],
        {"a": [[1, 2]], "b": [[1]]},
        None,
    ),
    case(
        "a moved one is its own once it stands in the inverse",
        {"a": {"b": [1]}},
        [add("/a/b/-", 2), move("/a/b", "/a"), add("/a/-", 3)],
        {"a": [1, 2, 3]},
        None,
    ),
    case("test a number", {"a": 1}, [expect("/a", 1.0)], {"a": 1}, []),
    case(
        "test an object in another order",
        {"a": {"x": 1, "y": [2]}},
        [expect("/a", {"y": [2], "x": 1})],
        {"a": {"y": [2], "x": 1}},
        [],
    ),
    case("test the document", [None], [expect("", [None])], [None], []),
    case("test null", {"a": None}, [expect("/a", None)], {"a": None}, []),
    case("escapes", {"a/b": 1, "m~n": 2, "~1": 3}, [remove("/a~1b"), remove("/m~0n"), remove("/~01")], {}, None),
    case("keys that look special", {"e^f": 1, "\\": 2, " ": 3}, [remove("/e^f"), remove("/ ")], {"\\": 2}, None),
    case("nothing to do", {"a": 1}, [], {"a": 1}, []),
]

REFUSED = [
    case("no parent", {}, [add("/a/b", 1)], 0, "missing", "/a/b"),
    case("parent is a text", {"a": "x"}, [add("/a/b", 1)], 0, "not-a-container", "/a/b"),
    case("parent is the scalar document", 1, [add("/a", 1)], 0, "not-a-container", "/a"),
    case("beyond the end", [1], [add("/2", 1)], 0, "missing", "/2"),
    case("an index with a leading zero", [1, 2], [add("/01", 1)], 0, "missing", "/01"),
    case("an index with a sign", [1, 2], [add("/+1", 1)], 0, "missing", "/+1"),
    case("a negative index", [1, 2], [remove("/-1")], 0, "missing", "/-1"),
    case("an index in other digits", [1, 2], [replace("/\u0661", 1)], 0, "missing", "/\u0661"),
    case("an index in superscript", [1, 2], [replace("/\u00b9", 1)], 0, "missing", "/\u00b9"),
    case("an index with an exponent", [1] * 20, [replace("/1e0", 1)], 0, "missing", "/1e0"),
    case("an endless index", [1], [replace("/" + "9" * 2000, 1)], 0, "missing", "/" + "9" * 2000),
    case("a word as an index", [1], [add("/one", 1)], 0, "missing", "/one"),
    case("a word on the way", [[1]], [add("/x/0", 1)], 0, "missing", "/x/0"),
    case("remove what is not there", {"a": 1}, [remove("/b")], 0, "missing", "/b"),
    case("remove behind the last", [1], [remove("/-")], 0, "missing", "/-"),
    case("remove the document", {"a": 1}, [remove("")], 0, "root-removed", ""),
    case("replace what is not there", {"a": 1}, [replace("/b", 1)], 0, "missing", "/b"),
    case("replace behind the last", [1], [replace("/1", 1)], 0, "missing", "/1"),
    case("move what is not there", {}, [move("/a", "/b")], 0, "missing", "/a"),
    case("move what is not there to where it is", {}, [move("/a", "/a")], 0, "missing", "/a"),
    case("move into its own child", {"a": {"b": 1}}, [move("/a", "/a/b/c")], 0, "moved-into-itself", "/a/b/c"),
    case("move the document into itself", {"a": 1}, [move("", "/a")], 0, "moved-into-itself", "/a"),
    case("copy what is not there", {}, [copy("/a", "/b")], 0, "missing", "/a"),
    case("the second fails", {"a": 1}, [remove("/a"), remove("/a")], 1, "missing", "/a"),
    case("test what is not there", {}, [expect("/a", None)], 0, "missing", "/a"),
    case("true is not 1", {"a": 1}, [expect("/a", True)], 0, "test-failed", "/a"),
    case("1 is not true", {"a": [True]}, [expect("/a", [1])], 0, "test-failed", "/a"),
    case("0 is not false", {"a": False}, [expect("/a", 0)], 0, "test-failed", "/a"),
    case("0 is not null", {"a": None}, [expect("/a", 0)], 0, "test-failed", "/a"),
    case("a text is not a number", {"a": "1"}, [expect("/a", 1)], 0, "test-failed", "/a"),
    case("an empty array is not an empty object", {"a": []}, [expect("/a", {})], 0, "test-failed", "/a"),
    case("arrays have an order", [1, 2], [expect("", [2, 1])], 0, "test-failed", ""),
    case("a longer array", [1], [expect("", [1, 2])], 0, "test-failed", ""),
    case("another key", {"a": 1}, [expect("", {"b": 1})], 0, "test-failed", ""),
    case("a key that is not NFC", {}, [add("/e\u0301", 1)], 0, "key-not-nfc", "/e\u0301"),
    case("65 levels", {}, [add("/a", json.loads("[" * 64 + "]" * 64))], 0, "too-deep", "/a"),
    case(
        "65 levels by a move",
        {"a": json.loads("[" * 63 + "]" * 63), "b": {}},
        [move("/a", "/b/a")],
        0,
        "too-deep",
        "/b/a",
    ),
    case(
        "65 levels by a copy",
        {"a": json.loads("[" * 63 + "]" * 63), "b": {}},
        [copy("/a", "/b/a")],
        0,
        "too-deep",
        "/b/a",
    ),
    case("an index on a moved place", {"a": [1, {}]}, [move("/a/0", "/a/0/x")], 0, "moved-into-itself", "/a/0/x"),
    case("not an operation", {}, [remove("/a"), {"op": "frob", "path": "/a"}], 1, "invalid-operation", ""),
    case("no path", {}, [{"op": "remove"}], 0, "invalid-operation", ""),
    case("no value", {}, [{"op": "add", "path": "/a"}], 0, "invalid-operation", ""),
    case("no from", {}, [{"op": "copy", "path": "/a"}], 0, "invalid-operation", ""),
    case("another member", {}, [{**add("/a", 1), "x": 1}], 0, "invalid-operation", ""),
    case("a path without a slash", {}, [remove("a")], 0, "invalid-operation", ""),
    case("a bad escape", {}, [remove("/~2")], 0, "invalid-operation", ""),
    case("a tilde at the end", {}, [remove("/a~")], 0, "invalid-operation", ""),
    case("an operation that is no object", {}, ["remove"], 0, "invalid-operation", ""),
    case("a patch that is no array", {}, {"op": "remove", "path": "/a"}, 0, "invalid-operation", ""),
]


def canon(value: Any) -> bytes:
    return canonical.encode_value(value)


@pytest.mark.parametrize(("document", "changes", "expected", "touched"), ACCEPTED)
def test_accepted_without_changing_what_was_given(
    document: Any, changes: Patch, expected: Any, touched: list[str] | None
) -> None:
    given = canon([document, changes])

    patched = patch.apply(document, patch.parse(changes))

    assert canon(patched.value) == canon(expected)
    assert touched is None or list(patched.touched) == touched
    assert canon([document, changes]) == given


@pytest.mark.parametrize(("document", "changes", "expected", "touched"), ACCEPTED)
def test_the_inverse_restores_the_document(
    document: Any, changes: Patch, expected: Any, touched: list[str] | None
) -> None:
    del expected, touched
    patched = patch.apply(document, patch.parse(changes))

    restored = patch.apply(patched.value, patch.parse(patched.inverse))

    assert canon(restored.value) == canon(document)


@pytest.mark.parametrize(("document", "changes", "index", "cause", "pointer"), REFUSED)
def test_refused_with_its_place(document: Any, changes: Patch, index: int, cause: str, pointer: str) -> None:
    given = canon([document, changes])

    with pytest.raises(PatchFailed) as caught:
        patch.apply(document, patch.parse(changes))

    assert (caught.value.index, caught.value.cause, caught.value.pointer) == (index, cause, pointer)
    assert [flaw.pointer for flaw in caught.value.flaws] == [f"/patch/{index}"]
    assert canon([document, changes]) == given


def test_what_is_not_touched_is_shared() -> None:
    document: Any = {"large": [{"deep": []}], "small": {"a": 1, "b": [1]}}

    patched = patch.apply(document, patch.parse([replace("/small/a", 2)]))

    assert patched.value["large"] is document["large"]
    assert patched.value["small"]["b"] is document["small"]["b"]


@pytest.mark.parametrize(
    ("budget", "cause"),
    [
        (Budget(operations=2), "too-many-operations"),
        (Budget(nodes=8), "too-many-nodes"),
        (Budget(bytes=17), "too-many-bytes"),
    ],
)
def test_a_budget_is_spent_to_the_last_and_no_further(budget: Budget, cause: str) -> None:
    first, second, third = add("/a", [1, 2, 3]), copy("/a", "/b"), add("/c", "xx")

    patch.apply({}, patch.parse([first, second]), budget)
    with pytest.raises(PatchFailed) as caught:
        patch.apply({}, patch.parse([first, second, third]), budget)

    assert (caught.value.index, caught.value.cause) == (2, cause)
