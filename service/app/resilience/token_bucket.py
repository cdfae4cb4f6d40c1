"""The token bucket of one process: what bounds clients while Valkey is gone (FM06, docs/adr/0036).

The same whole-number arithmetic as `rate_limit.lua`, on a monotonic clock. A share of `1/replicas` of the limit, so
that all replicas together admit the limit and not a multiple of it.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from app.settings import RateLimit

UNITS: Final = 60_000_000
"""One token, in the units that a rate of 1 per minute adds in a minute's microseconds."""


@dataclass(frozen=True, slots=True)
class Taking:
    """Whether a token was taken, and if not, how many microseconds until there is one."""

    taken: bool
    wait_us: int


class TokenBuckets:
    """Buckets by key; the least recently used goes when there are `entries_max`, and would begin full again."""

    def __init__(self, *, replicas: int, entries_max: int) -> None:
        self._token = UNITS * replicas
        self._entries_max = entries_max
        self._buckets: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, limit: RateLimit, *, now_us: int) -> Taking:
        """Take a token of this replica's share, if there is one at `now_us` of a monotonic clock."""
        capacity = max(limit.burst * UNITS, self._token)  # The smallest share is one token.
        level, at = self._buckets.pop(key, (capacity, now_us))
        level = min(capacity, level + max(0, now_us - at) * limit.per_minute)
        is_taken = level >= self._token
        if is_taken:
            level -= self._token
        self._buckets[key] = (level, now_us)
        while len(self._buckets) > self._entries_max:
            self._buckets.popitem(last=False)
        return Taking(is_taken, 0 if is_taken else -((level - self._token) // limit.per_minute))
