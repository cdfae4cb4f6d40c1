import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.documents import canonical
from app.core.documents.strict_json import DEPTH_MAX, NUMBER_MAX, Document, decode
from app.errors import MalformedBody
from tests.bad_bodies import REFUSED


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
