"""Facts of a change."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.documents import canonical, diff, patch, strict_json

SCALARS = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, 1.5, -0.25]) | st.text("ab", max_size=3)
)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("xyz", max_size=2), inner, max_size=4)
)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (100, 150, ("100", "150", "up", 5_000)),
        (150, 100, ("150", "100", "down", 3_333)),
        (-1, 1, ("-1", "1", "up", 20_000)),
        (0, 1, ("0", "1", "up", None)),
        (0.1, 0.2, ("0.1", "0.2", "up", 10_000)),
        (0.25, 0.375, ("0.25", "0.375", "up", 5_000)),
        (5e-324, 9e15, ("5e-324", "9000000000000000", "up", diff.CHANGE_BASIS_POINTS_MAX)),
    ],
)
def test_numbers(before: Any, after: Any, expected: tuple[Any, ...]) -> None:
    facts = diff.compare({"n": before}, {"n": after})

    assert [tuple(fact.values())[1:] for fact in facts.numbers] == [expected]
    assert facts.numbers[0]["pointer"] == "/n"


def test_what_came_and_went_is_told_with_what_is_inside() -> None:
    facts = diff.compare({"a": {"n": 1, "t": "abc"}}, {"b": [1, "x"]})

    assert facts.members == [
        {"pointer": "", "added": ["b"], "removed": ["a"]},
        {"pointer": "/a", "added": [], "removed": ["n", "t"]},
    ]
    assert facts.lists == [{"pointer": "/b", "added": 2, "removed": 0, "reordered": False}]
    assert [(fact["pointer"], fact["after"], fact["direction"]) for fact in facts.numbers] == [("/a/n", None, "any")]
    assert facts.texts == [{"pointer": "/a/t", "characters_before": 3, "characters_after": 0}]


def test_lists_are_bags() -> None:
    def one(before: list[Any], after: list[Any]) -> tuple[int, int, bool]:
        fact = diff.compare({"l": before}, {"l": after}).lists[0]
        return fact["added"], fact["removed"], fact["reordered"]

    assert one([1, 2], [2, 1]) == (0, 0, True)
    assert one([1, 1], [1]) == (0, 1, False)
    assert one([], [{"a": 1}, {"a": 1}]) == (2, 0, False)
    assert one([True], [1]) == (1, 1, False)
    assert one([{"a": 1, "b": 2}], [{"b": 2, "a": 1}, 3]) == (1, 0, False)


def test_a_change_inside_an_item_is_told_at_its_place() -> None:
    facts = diff.compare({"l": [{"limit": 5}, 0]}, {"l": [{"limit": 50}, 0]})

    assert facts.numbers[0]["pointer"] == "/l/0/limit"
    assert facts.lists[0]["added"] == facts.lists[0]["removed"] == 1


def test_another_kind_is_both_gone_and_new() -> None:
    facts = diff.compare({"a": 1}, {"a": "one"})

    assert facts.others == [{"pointer": "/a", "before": "number", "after": "text"}]
    assert facts.numbers[0]["after"] is None
    assert facts.texts[0]["characters_after"] == 3
    assert diff.compare({"a": True}, {"a": False}).others == [{"pointer": "/a", "before": "true", "after": "false"}]


def test_grants() -> None:
    before = {"tool_grants": ["search", {"tool": "shell", "agents": ["ops"]}]}
    after = {"tool_grants": [{"tool": "search", "agents": ["a", "b"]}, {"tool": "shell"}, 7, {"tool": 1}]}

    facts = diff.compare(before, after)

    assert facts.grants_added == ["search@a", "search@b", "shell@*"]
    assert facts.grants_removed == ["search@*", "shell@ops"]


def test_a_record_shows_a_part_and_counts_all() -> None:
    facts = diff.compare({}, {f"n{number:03}": number for number in range(300)})

    record = facts.record()

    assert len(record["numbers"]) == diff.SHOWN_MAX
    assert record["counts"]["numbers"] == 300
    assert len(record["members"][0]["added"]) == diff.NAMES_SHOWN_MAX
    assert len(facts.variable()["members"][0]["added"]) == 300


def test_deep_lists_are_looked_at_once() -> None:
    deep: Any = 1
    other: Any = 2
    for _ in range(60):
        deep, other = [deep, "x" * 10_000], [other, "x" * 10_000]

    facts = diff.compare({"d": deep}, {"d": other})

    assert facts.numbers[0]["change_basis_points"] == 10_000
    assert len(facts.lists) == 60


@given(DOCUMENTS, DOCUMENTS)
def test_there_are_facts_exactly_when_there_is_a_difference(before: Any, after: Any) -> None:
    before, after = _canonical({"d": before}), _canonical({"d": after})
    facts = diff.compare(before, after)

    differ = canonical.encode_value(before) != canonical.encode_value(after)
    assert any(facts.variable().values()) is differ
    # No fraction is left in what a record shows.
    assert strict_json.decode(canonical.encode_value(facts.record())).is_plain
    assert patch.apply(before, patch.parse([{"op": "replace", "path": "/d", "value": after["d"]}])).value == after


def _canonical(value: Any) -> Any:
    return strict_json.decode(canonical.encode_value(value)).value
