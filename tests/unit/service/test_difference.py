import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.documents import patch as patches
from app.core.documents import values
from app.core.documents.difference import between

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0]) | st.text("ab/~-0", max_size=3)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text("ab/~-0", max_size=2), inner, max_size=4),
    max_leaves=20,
)


@given(old=documents, new=documents)
def test_the_patch_leads_from_the_old_document_to_the_new_and_changes_neither(old: Any, new: Any) -> None:
    kept = copy.deepcopy((old, new))

    patch = between(old, new)

    assert values.are_equal(patches.apply(old, patches.parse(patch)).value, new)
    assert values.are_equal([old, new], list(kept))


@given(document=documents)
def test_equal_documents_need_no_patch(document: Any) -> None:
    assert between(document, copy.deepcopy(document)) == []


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, [{"op": "replace", "path": "/b", "value": 3}]),
        ({"a": 1}, {"a": True}, [{"op": "replace", "path": "/a", "value": True}]),
        ({"a": [1, 2, 3]}, {"a": [1, 3]}, [{"op": "remove", "path": "/a/1"}]),
        ({"a": [1, 3]}, {"a": [1, 2, 3]}, [{"op": "add", "path": "/a/1", "value": 2}]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [{"op": "replace", "path": "/a/0/b", "value": 2}]),
        ({"a/b": 1}, {}, [{"op": "remove", "path": "/a~1b"}]),
        ([], {}, [{"op": "replace", "path": "", "value": {}}]),
    ],
)
def test_a_small_change_is_a_small_patch(old: Any, new: Any, patch: list[dict[str, Any]]) -> None:
    assert between(old, new) == patch
