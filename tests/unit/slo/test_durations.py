"""Durations are read and written as Prometheus does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo import durations
from slo.files import InvalidSpecificationError


@pytest.mark.parametrize(
    ("text", "length"),
    [("15s", 15_000), ("6m30s", 390_000), ("1d", 86_400_000), ("500ms", 500), ("1h1ms", 3_600_001), ("0s", 0)],
)
def test_a_duration_is_read(text: str, length: int) -> None:
    assert durations.milliseconds(text) == length


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "1.5h", "30s1m", "5m5m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecificationError):
        durations.milliseconds(text)


@given(st.integers(min_value=0, max_value=10**10))
def test_writing_and_reading_give_the_same_length(length: int) -> None:
    assert durations.milliseconds(durations.text(length)) == length


def test_named_places_are_filled() -> None:
    assert durations.fill("rate(x[${window}])", {"window": "5m"}) == "rate(x[5m])"


@pytest.mark.parametrize("template", ["${windw}", "x${}"])
def test_an_unknown_name_is_an_error(template: str) -> None:
    with pytest.raises(InvalidSpecificationError, match="unknown duration"):
        durations.fill(template, {"window": "5m"})


@pytest.mark.parametrize(
    ("expression", "length"),
    [("0", 0), ("${a}", 1000), ("${a} + ${b}", 3000), ("${b} - ${a}", 1000), ("3 ${a} + 2 ${b}", 7000)],
)
def test_sums_of_named_durations(expression: str, length: int) -> None:
    assert durations.length(expression, {"a": "1s", "b": "2s"}) == length


@pytest.mark.parametrize("expression", ["30s", "${a} + 5s", "${c}", "${a} ${b} x"])
def test_a_sum_with_a_literal_length_would_not_follow_the_profile(expression: str) -> None:
    with pytest.raises(InvalidSpecificationError):
        durations.length(expression, {"a": "1s", "b": "2s"})
