"""What bounds clients while Valkey is gone: a share of the limit, exact, and bounded in number."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.resilience.rate_limit import network_of
from app.resilience.token_bucket import TokenBuckets
from app.settings import RateLimit

SECOND = 1_000_000


@given(
    limit=st.builds(RateLimit, st.integers(1, 6000), st.integers(1, 300)),
    replicas=st.integers(1, 5),
    pauses=st.lists(st.integers(0, 90 * SECOND), min_size=1, max_size=80),
)
def test_it_equals_the_exact_bucket_of_a_share_of_the_limit(limit: RateLimit, replicas: int, pauses: list[int]) -> None:
    buckets = TokenBuckets(replicas=replicas, entries_max=10)
    capacity = max(Fraction(limit.burst, replicas), Fraction(1))
    tokens, now = capacity, 0
    for pause in pauses:
        now += pause
        tokens = min(capacity, tokens + Fraction(pause * limit.per_minute, 60 * SECOND * replicas))

        taking = buckets.take("client", limit, now_us=now)

        assert taking.taken == (tokens >= 1)
        if taking.taken:
            tokens -= 1
        else:
            assert taking.wait_us == -((tokens - 1) * 60 * SECOND * replicas // limit.per_minute)


def test_a_full_house_forgets_who_was_away_longest() -> None:
    buckets = TokenBuckets(replicas=1, entries_max=3)
    for name in ("a", "b", "c", "a", "d"):
        buckets.take(name, RateLimit(1, 1), now_us=0)

    assert len(buckets) == 3
    assert not buckets.take("a", RateLimit(1, 1), now_us=0).taken
    assert buckets.take("b", RateLimit(1, 1), now_us=0).taken


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unknown", "unknown"),
    ],
)
def test_a_client_is_counted_by_its_network(address: str, counted: str) -> None:
    assert network_of(address) == counted
