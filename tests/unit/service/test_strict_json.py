import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import canonical
from app.core.strict_json import DEPTH_MAX, NODES_MAX, NUMBER_MAX, Document, decode
from app.errors import MalformedBody

REFUSED = [
    pytest.param(b"", "syntax", "", id="nothing"),
    pytest.param(b"\xef\xbb\xbf{}", "byte-order-mark", "", id="byte order mark"),
    pytest.param(b'{"a": "\xff"}', "invalid-utf-8", "", id="invalid UTF-8"),
    pytest.param(b"\xff\xfe{\x00}\x00", "invalid-utf-8", "", id="UTF-16"),
    pytest.param(b'{"a": 1, "b": {"c": 1, "c": 2}}', "duplicate-key", "/b/c", id="duplicate key, nested"),
    pytest.param(b'{"a": 1, "\\u0061": 2}', "duplicate-key", "/a", id="duplicate key, once escaped"),
    pytest.param(b'["x", "a\\u0000b"]', "null-character", "/1", id="NUL in a text"),
    pytest.param(b'{"a\\u0000": 1}', "null-character", "/a\x00", id="NUL in a key"),
    pytest.param(b'"a\x00b"', "syntax", "", id="raw NUL"),
    pytest.param(b'{"t": "\\ud800"}', "lone-surrogate", "/t", id="high surrogate alone"),
    pytest.param(b'{"t": "\\udc00\\ud800"}', "lone-surrogate", "/t", id="surrogates in the wrong order"),
    pytest.param(b"[NaN]", "number-out-of-range", "/0", id="NaN"),
    pytest.param(b"[-Infinity]", "number-out-of-range", "/0", id="infinity"),
    pytest.param(b"[1e999]", "number-out-of-range", "/0", id="overflow to infinity"),
    pytest.param(b"[9007199254740992]", "number-out-of-range", "/0", id="2^53"),
    pytest.param(b"[-9007199254740992]", "number-out-of-range", "/0", id="-2^53"),
    pytest.param(b"[" + b"9" * 100_000 + b"]", "number-out-of-range", "/0", id="a hundred thousand digits"),
    pytest.param(b"[" * 65 + b"]" * 65, "too-deep", "/0" * 64, id="65 levels"),
    pytest.param(b"[" * 500_000, "too-deep", "", id="half a million brackets"),
    pytest.param(b'{"a":' * 200_000, "too-deep", "", id="two hundred thousand objects"),
    pytest.param(b"[" + b"1," * NODES_MAX + b"1]", "too-many-nodes", "", id="too many nodes"),
    pytest.param(b'{"e\xcc\x81": 1}', "key-not-nfc", "/e\u0301", id="key not NFC"),
    pytest.param(b'{"a/b": {"~": "\\u0000"}}', "null-character", "/a~1b/~0", id="pointer is escaped"),
    pytest.param(b"[1] [2]", "syntax", "", id="two values"),
    pytest.param(b"[1,]", "syntax", "", id="trailing comma"),
    pytest.param(b"{'a': 1}", "syntax", "", id="single quotes"),
    pytest.param(b"[01]", "syntax", "", id="leading zero"),
    pytest.param(b'["\t"]', "syntax", "", id="control character"),
    pytest.param(b" " * 1_048_577, "too-large", "", id="a byte too many"),
]


@pytest.mark.parametrize(("body", "code", "pointer"), REFUSED)
def test_refused_with_its_place(body: bytes, code: str, pointer: str) -> None:
    with pytest.raises(MalformedBody) as caught:
        decode(body)

    assert [(flaw.code, flaw.pointer) for flaw in caught.value.flaws] == [(code, pointer)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, id="64 levels"),
        pytest.param(str(NUMBER_MAX).encode(), id="2^53 - 1"),
        pytest.param(b'"\\ud83d\\ude00"', id="surrogate pair"),
        pytest.param(b'{"": 1}', id="empty key"),
        pytest.param('{"é": "e\u0301"}'.encode(), id="NFC key, any text"),
        pytest.param(b"-0.0", id="negative zero"),
    ],
)
def test_accepted_like_the_standard_library(body: bytes) -> None:
    assert decode(body).value == json.loads(body)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_malformed_body(body: bytes) -> None:
    try:
        decode(body)
    except MalformedBody as error:
        (flaw,) = error.flaws
        msgspec.json.encode(flaw.pointer)


def _plain_texts() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-NUMBER_MAX, NUMBER_MAX)
    | st.floats(-NUMBER_MAX, NUMBER_MAX, allow_nan=False)
    | _plain_texts(),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.text("abcé\U0001f600\uffee", max_size=3), children, max_size=4)
    ),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert decode(json.dumps(value).encode()).value == value


@given(DOCUMENTS)
def test_canonical_bytes_are_their_own_canonical_form(value: Any) -> None:
    document = decode(json.dumps(value).encode())

    once = canonical.encode(document)

    assert canonical.encode(decode(once)) == once


@given(DOCUMENTS)
def test_the_quick_canonicaliser_gives_the_bytes_of_the_slow_one(value: Any) -> None:
    document = decode(json.dumps(value).encode())

    assert canonical.encode(document) == canonical.encode(Document(document.value, is_plain=False))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        # RFC 8785 appendix B.
        (5e-324, "5e-324"),
        (-5e-324, "-5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (-9007199254740992.0, "-9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e23, "1e+23"),
        (1.0000000000000001e23, "1.0000000000000001e+23"),
        (999999999999999700000.0, "999999999999999700000"),
        (999999999999999900000.0, "999999999999999900000"),
        (1e21, "1e+21"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (0.000001, "0.000001"),
        (333333333.3333332, "333333333.3333332"),
        (333333333.33333325, "333333333.33333325"),
        (333333333.3333334, "333333333.3333334"),
        (333333333.3333343, "333333333.3333343"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (1424953923781206.2, "1424953923781206.2"),
        (-0.0, "0"),
        (1.0, "1"),
    ],
)
def test_numbers_are_written_as_ecmascript_writes_them(number: float, text: str) -> None:
    assert canonical.number(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_canonical_number_reads_back_as_itself(number: float) -> None:
    assert math.isclose(float(canonical.number(number)), number, rel_tol=0, abs_tol=0)


def test_keys_sort_by_utf_16_code_units() -> None:
    document = decode('{"\ufb00": 1, "\U0001f600": 2, "\u20ac": 3, "\\r": 4, "1": 5}'.encode())

    assert canonical.encode(document).decode() == '{"\\r":4,"1":5,"\u20ac":3,"\U0001f600":2,"\ufb00":1}'
