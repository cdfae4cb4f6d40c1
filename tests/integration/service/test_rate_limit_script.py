"""The token bucket in Valkey, against the exact one: no token too many, none too few, the wait to the microsecond."""

import random
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.settings import RateLimit
from tests.integration.service.buckets import SECOND, START, Driven, Exact, ValkeyServer, running

pytestmark = pytest.mark.integration

HOUR = 3600 * SECOND
RATES = (1, 7, 50, 250, 6000)
BURSTS = (1, 5, 50, 250)
names = count()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with running(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module")
def connected(valkey: ValkeyServer) -> Iterator[Any]:
    with valkey.connect() as client:
        yield client


def driven(connected: Any, limit: RateLimit) -> Driven:
    return Driven(connected, limit, key=f"bucket-{next(names)}")


limits = st.builds(RateLimit, st.sampled_from(RATES), st.sampled_from(BURSTS))
steps = st.lists(
    st.tuples(st.one_of(st.integers(0, 1000), st.integers(0, 2 * SECOND), st.integers(0, HOUR)), st.integers(0, 2)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(limit=limits, steps=steps)
def test_it_equals_the_exact_bucket_whoever_asks(
    connected: Any, limit: RateLimit, steps: list[tuple[int, int]]
) -> None:
    bucket, exact, now = driven(connected, limit), Exact(limit), START

    for pause, replica in steps:
        now += pause
        assert bucket.take(now, replica=replica) == exact.take(now)


@settings(max_examples=60, deadline=None)
@given(
    limit=limits,
    steps=steps,
    clock=st.lists(st.one_of(st.just(0), st.integers(-HOUR, HOUR)), min_size=60, max_size=60),
)
def test_a_server_clock_set_at_will_changes_nothing_for_replicas_that_remember(
    connected: Any, limit: RateLimit, steps: list[tuple[int, int]], clock: list[int]
) -> None:
    bucket, exact, now = driven(connected, limit), Exact(limit), START
    for replica in range(3):  # each has seen the bucket before anybody sets the clock
        assert bucket.take(now, replica=replica) == exact.take(now)

    for (pause, replica), step in zip(steps, clock, strict=False):
        now += pause
        # Less than a quarter of a second is not told from latency, so it counts: leave it out of exactness.
        bucket.wrong_by += step if abs(step) > SECOND else 0
        assert bucket.take(now, replica=replica) == exact.take(now)


@pytest.mark.parametrize("limit", [RateLimit(1, 1), RateLimit(250, 250), RateLimit(6000, 5)], ids=str)
def test_a_stranger_to_the_bucket_is_not_locked_out_by_a_clock_set_back(connected: Any, limit: RateLimit) -> None:
    bucket = driven(connected, limit)
    while not bucket.take(START):
        pass
    bucket.wrong_by = -HOUR

    wait = bucket.take(START, replica=1)  # it has never seen the bucket, and cannot know that the clock is wrong

    assert wait <= 60 * SECOND / limit.per_minute + 1
    assert bucket.take(START + wait, replica=1) == 0


@pytest.mark.parametrize("limit", [RateLimit(rate, burst) for rate in RATES for burst in BURSTS], ids=str)
def test_whoever_waits_as_long_as_told_is_admitted(connected: Any, limit: RateLimit) -> None:
    bucket, now = driven(connected, limit), START
    while not bucket.take(now):
        pass

    for turn in range(50):
        wait = bucket.take(now, replica=turn % 3)
        assert wait > 0
        assert bucket.take(now + wait - 1, replica=turn % 3) == 1
        now += wait
        assert bucket.take(now, replica=turn % 3) == 0


def test_a_bucket_that_the_server_lost_goes_on_where_a_replica_remembers_it(connected: Any) -> None:
    bucket = driven(connected, RateLimit(250, 250))
    while not bucket.take(START):
        pass

    bucket.lose()

    assert bucket.take(START + 1000) > 0


def test_a_bucket_that_nobody_remembers_begins_full(connected: Any) -> None:
    bucket = driven(connected, RateLimit(250, 250))
    while not bucket.take(START):
        pass

    bucket.lose()

    assert bucket.take(START + 1000, replica=1) == 0


@pytest.mark.parametrize("limit", [RateLimit(1, 250), RateLimit(6000, 1)], ids=str)
def test_a_bucket_is_kept_until_it_is_full_and_no_longer_than_an_hour_more(connected: Any, limit: RateLimit) -> None:
    bucket = driven(connected, limit)
    while not bucket.take(START):
        pass

    until_full = 60 * limit.burst / limit.per_minute

    assert until_full + 3600 < bucket.ttl_seconds() < until_full + 3605


@pytest.mark.parametrize("limit", [RateLimit(rate, burst) for rate in RATES for burst in (1, 250)], ids=str)
def test_a_saturated_limit_is_kept_to_half_a_percent_while_the_clock_is_set(
    connected: Any, limit: RateLimit, limit_minutes: int, seed: int
) -> None:
    bucket, chance = driven(connected, limit), random.Random(seed)  # noqa: S311 - a test's own
    now, end, admitted, next_step = START, START + limit_minutes * 60 * SECOND, 0, START + 7 * SECOND
    for replica in range(3):
        admitted += bucket.take(now, replica=replica) == 0
    while now < end:
        if now >= next_step:
            bucket.wrong_by = chance.randint(-HOUR, HOUR)
            next_step = now + 7 * SECOND
        wait = bucket.take(now, replica=chance.randrange(3))
        admitted += wait == 0
        now += wait

    due = limit.burst + limit.per_minute * limit_minutes
    # A token that is due at the very end counts or does not.
    assert abs(admitted - due) <= 1 + 0.005 * due
