from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.api import cursor
from app.core.documents.identifiers import uuid7
from app.errors import InvalidCursor

KEY = b"k" * 32
POSITION = UUID("01a209f4-aea4-72f8-833c-264e68b380f1")


@given(st.uuids(), st.binary(max_size=50))
def test_a_cursor_leads_back_to_its_position(position: UUID, query: bytes) -> None:
    assert cursor.decode(cursor.encode(position, query=query, key=KEY), query=query, key=KEY) == position


@given(st.integers(0, 55), st.characters(codec="ascii"))
@example(53, "B")
def test_any_altered_character_is_noticed(place: int, character: str) -> None:
    good = cursor.encode(POSITION, query=b"q", key=KEY)
    altered = good[:place] + character + good[place + 1 :]
    if altered == good:
        return

    with pytest.raises(InvalidCursor):
        cursor.decode(altered, query=b"q", key=KEY)


def test_a_cursor_of_another_query_or_key_is_refused() -> None:
    good = cursor.encode(POSITION, query=b"q", key=KEY)

    with pytest.raises(InvalidCursor):
        cursor.decode(good, query=b"other", key=KEY)
    with pytest.raises(InvalidCursor):
        cursor.decode(good, query=b"q", key=b"x" * 32)


@given(st.text(max_size=80))
def test_any_text_is_refused_without_another_error(text: str) -> None:
    with pytest.raises(InvalidCursor):
        cursor.decode(text, query=b"q", key=KEY)


def test_uuid7_sorts_by_time_and_names_its_version() -> None:
    early, late = uuid7(1_000, b"\xff" * 10), uuid7(1_001, b"\x00" * 10)

    assert early < late
    assert (early.version, early.variant) == (7, "specified in RFC 4122")
    with pytest.raises(ValueError, match="48 bits"):
        uuid7(-1, b"\0" * 10)
