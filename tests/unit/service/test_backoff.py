import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.resilience.backoff import Backoff


def test_the_documented_sequence_is_1_2_4_8_16_30_30() -> None:
    steps = [Backoff().step_seconds(failures) for failures in range(1, 9)]

    assert steps == [1, 2, 4, 8, 16, 30, 30, 30]


def test_the_cap_is_a_setting_and_the_sequence_below_it_is_not() -> None:
    assert [Backoff(max_seconds=8).step_seconds(n) for n in range(1, 7)] == [1, 2, 4, 8, 8, 8]


@given(failures=st.integers(1, 10_000_000), random=st.floats(0, 1, exclude_max=True))
def test_jitter_is_at_most_ten_percent_and_never_above_the_cap(failures: int, random: float) -> None:
    backoff = Backoff()
    step = backoff.step_seconds(failures)

    delay = backoff.delay_seconds(failures, random=random)

    assert 0.9 * step <= delay <= min(1.1 * step, 30)


def test_jitter_spreads_replicas() -> None:
    delays = {Backoff().delay_seconds(3, random=random / 10) for random in range(10)}

    assert len(delays) == 10


def test_neighbouring_steps_stay_apart_whatever_the_jitter() -> None:
    for first, second in itertools.pairwise(range(1, 6)):
        assert Backoff().delay_seconds(first, random=0.999) < Backoff().delay_seconds(second, random=0)


@pytest.mark.parametrize("failures", [0, -1])
def test_there_is_no_delay_before_a_failure(failures: int) -> None:
    with pytest.raises(ValueError, match="before the first failure"):
        Backoff().step_seconds(failures)
