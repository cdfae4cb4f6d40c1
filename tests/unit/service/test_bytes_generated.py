"""Strict decoding, canonical form and patches against other implementations, on documents from a seed.

`./justw fuzz` runs the same for a million documents (or: `--documents N --seed S`).
"""

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

import jsonpatch
import msgspec
import rfc8785

from app.core.documents import canonical, patch, strict_json, values
from app.core.documents import pointer as pointers
from app.core.documents.strict_json import NUMBER_MAX, Document
from app.errors import MalformedBody, PatchFailed
from tests.unit.service.documents import KEYS, Documents


def test_canonical_form_is_that_of_rfc8785(documents: int, seed: int) -> None:
    source = Documents(seed)
    for number in range(documents):
        value = source.document(is_in_range=False)

        ours = canonical.encode(Document(value, is_plain=False))

        assert ours == rfc8785.dumps(value), f"document {number} of seed {seed}: {value!r}"


def test_canonical_bytes_survive_decoding_by_every_way(documents: int, seed: int) -> None:
    source = Documents(seed + 1)
    for number in range(documents):
        value = source.document()
        body = json.dumps(value, ensure_ascii=number % 2 == 0, indent=number % 3 or None).encode()

        once = canonical.encode_value(value)

        where = f"document {number} of seed {seed}: {value!r}"
        document = strict_json.decode(body)
        again = canonical.decode_canonical(once)
        assert values.are_equal(document.value, value), where
        assert {canonical.encode(document), canonical.encode(again), canonical.encode_value(again.value)} == {once}, (
            where
        )


def test_any_bytes_give_a_value_or_a_malformed_body(documents: int, seed: int) -> None:
    source = Documents(seed + 2)
    accepted = 0
    for number in range(documents):
        body = _damaged(source)
        where = f"body {number} of seed {seed}: {body!r}"

        try:
            document = strict_json.decode(body)
        except MalformedBody as error:
            (flaw,) = error.flaws
            msgspec.json.encode(flaw)
            assert flaw.pointer == "" or flaw.pointer.startswith("/"), where
            assert not _is_strict(body), where
        else:
            accepted += 1
            assert _is_strict(body), where
            closely = strict_json._look_closely(body.decode(), strict_json.BODY)
            assert (document.is_plain, repr(document.value)) == (closely.is_plain, repr(closely.value)), where
    assert documents * 0.02 < accepted < documents * 0.9, "the damage is neither too great nor too small"


def test_only_canonical_bytes_pass_as_canonical(documents: int, seed: int) -> None:
    source = Documents(seed + 4)
    quickly = 0
    for number in range(documents):
        body = canonical.encode_value(_plain(source.document()) if number % 2 else source.document())
        body = _damage(source, bytearray(body)) if number % 3 else body
        where = f"body {number} of seed {seed}: {body!r}"
        try:
            expected = strict_json.decode(body)
            is_canonical = canonical.encode(expected) == body
        except MalformedBody:
            is_canonical = False

        quick = canonical.decode_plain(body) if canonical.is_within(body) else None

        assert quick is None or (is_canonical and repr(Document(quick, is_plain=True)) == repr(expected)), where
        try:
            assert repr(canonical.decode_canonical(body)) == repr(expected), where
            assert is_canonical, where
        except MalformedBody:
            assert not is_canonical, where
        quickly += quick is not None
    assert quickly > documents * 0.1, "the quick way is taken"


def _plain(value: Any) -> Any:
    """Return a value without fractions, and with ASCII only."""
    if isinstance(value, dict):
        return {ascii(key): _plain(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return ascii(value) if isinstance(value, str) else int(value) if isinstance(value, float) else value


SNIPPETS = [
    *(b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00", b"\\ud83d\\ude00", b"\\u0041", b"\\\\u0000", b"\x00", b"\xff"),
    *(b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b'"a":1,', b'"\\u0061":1,', b'"":1,', b"NaN", b"-Infinity"),
    *(b"9007199254740991", b"9007199254740992", b"-9007199254740992.0", b"1e999", b"-0", b"0.1e-400", b"01", b"1."),
    *(b"9" * 401, b"[" * 70, b"]" * 70, "e\u0301".encode(), "\u00e9".encode(), "\U0001f600".encode(), b"\xed\xa0\x80"),
    *(b"\xef\xbb\xbf", b"\xc0\x80", b"true", b"null", b"//", b"/**/", b"'", b"\\x41", b"\xe2\x80\xa8", b"\t", b"1,"),
]


def _damaged(source: Documents) -> bytes:
    draw = source.random
    value = source.document()
    return _damage(
        source, bytearray(json.dumps(value, ensure_ascii=draw.random() < 0.5, indent=draw.choice((None, 1))).encode())
    )


def _damage(source: Documents, body: bytearray) -> bytes:
    draw = source.random
    for _ in range(draw.choice((0, 1, 1, 2, 5))):
        start = draw.randint(0, len(body))
        end = min(len(body), start + draw.choice((0, 0, 1, 3, 20)))
        piece = draw.choice((b"", bytes(body[end : end + 9]), draw.choice(SNIPPETS), draw.choice(SNIPPETS)))
        body[start:end] = piece
    return bytes(body)


def _is_strict(body: bytes) -> bool:
    """Say by other means whether a body is acceptable (but for its size)."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_Pairs, parse_int=_numeral, parse_float=_numeral)
    except (ValueError, RecursionError):
        return False
    return not body.startswith(b"\xef\xbb\xbf") and _is_acceptable(value, 1)


class _Pairs(list[tuple[str, Any]]):
    """An object with all its keys, as often as they stand there."""


def _numeral(numeral: str) -> float:
    return float("nan") if len(numeral) > strict_json.DIGITS_MAX else float(numeral)


def _is_acceptable(value: Any, level: int) -> bool:
    if isinstance(value, str):
        return "\0" not in value and value == value.encode("utf-8", "replace").decode()
    if isinstance(value, int | float):
        return abs(value) <= NUMBER_MAX
    if isinstance(value, _Pairs):
        keys = [key for key, _ in value]
        return (
            level <= strict_json.DEPTH_MAX
            and len(set(keys)) == len(keys)
            and all(unicodedata.normalize("NFC", key) == key and _is_acceptable(key, level) for key in keys)
            and all(_is_acceptable(member, level + 1) for _, member in value)
        )
    if isinstance(value, list):
        return level <= strict_json.DEPTH_MAX and all(_is_acceptable(member, level + 1) for member in value)
    return True


def test_patches_do_what_those_of_jsonpatch_do(documents: int, seed: int) -> None:
    source = Documents(seed + 3)
    applied = 0
    for number in range(documents):
        document = source.document()
        changes = [_operation(source, document) for _ in range(source.random.randint(1, 4))]
        where = f"document {number} of seed {seed}: {document!r} {changes!r}"
        given = canonical.encode_value([document, changes])

        ours = _ours(document, changes)

        assert canonical.encode_value([document, changes]) == given, where
        theirs = _theirs(document, changes)
        if ours is None or theirs is None:
            assert (ours is None) == (theirs is None), where
            continue
        applied += 1
        assert canonical.encode_value(ours.value) == canonical.encode_value(theirs[0]), where
        restored = patch.apply(ours.value, patch.parse(ours.inverse)).value
        assert canonical.encode_value(restored) == canonical.encode_value(document), where
        for place in _differences(document, ours.value, ""):
            assert any(pointers.is_at_or_below(place, touched) for touched in ours.touched), where
    assert documents * 0.2 < applied, "enough patches fit their documents"


def _operation(source: Documents, document: Any) -> dict[str, Any]:
    draw = source.random
    op = draw.choice(("add", "remove", "replace", "move", "copy", "test"))
    operation: dict[str, Any] = {"op": op, "path": _pointer(source, document, is_new=op in {"add", "move", "copy"})}
    if op in {"move", "copy"}:
        operation["from"] = _pointer(source, document, is_new=False)
    elif op == "test":
        found = pointers.resolve(document, operation["path"])
        other = source.value(levels=1) if draw.random() < 0.5 else draw.choice((0, 1, 0.0, 1.0, True, False))
        operation["value"] = other if found is pointers.MISSING or draw.random() < 0.2 else found
    elif op != "remove":
        operation["value"] = source.value(levels=2)
    return operation


def _pointer(source: Documents, document: Any, *, is_new: bool) -> str:
    draw = source.random
    places = [steps for steps in _places(document, ()) if steps or draw.random() < 0.1] or [("x",)]
    steps = draw.choice(places)
    if is_new and draw.random() < 0.7:
        last: str | int = draw.choice((source.key(), draw.randrange(3), "-"))
        steps = (*(steps if draw.random() < 0.5 else steps[:-1]), last)
    if draw.random() < 0.03:
        steps = (*steps, draw.choice(("01", "1e0", "-1", "9" * 30, *KEYS)))
    return pointers.join(steps)


def _places(value: Any, steps: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    yield steps
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, member in members:
        yield from _places(member, (*steps, step))


def _ours(document: Any, changes: list[dict[str, Any]]) -> patch.Patched | None:
    try:
        return patch.apply(document, patch.parse(changes))
    except PatchFailed:
        return None


def _theirs(document: Any, changes: list[dict[str, Any]]) -> list[Any] | None:
    try:
        return [jsonpatch.apply_patch(document, changes)]
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException):
        return None


def _differences(old: Any, new: Any, place: str) -> Iterator[str]:
    """Yield where two documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            if key in old and key in new:
                yield from _differences(old[key], new[key], place + pointers.join([key]))
            else:
                yield place + pointers.join([key])
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            if index < min(len(old), len(new)):
                yield from _differences(old[index], new[index], f"{place}/{index}")
            else:
                yield f"{place}/{index}"
    elif not values.are_equal(old, new):
        yield place
