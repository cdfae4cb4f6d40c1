"""A recorded flood of requests, and the bucket that judged it."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from tests.unit.chaos.recording import Recording


def flood(
    recording: Recording,
    *,
    rate: float = 250,
    burst: int = 250,
    retry_after: str = "1",
    status: int = 429,
    admits: Callable[[int], bool] = lambda _: True,
) -> None:
    """Eighty requests a second for ten seconds, judged by a bucket."""
    recording.health(9, 10)
    recording.metrics(9, 30, {"firewall_rate_limit_local_total": 0.0})
    tokens, before = Fraction(burst), Fraction(10)
    for number in range(800):
        at = Fraction(10) + Fraction(number + 1, 80)
        tokens = min(Fraction(burst), tokens + (at - before) * Fraction(rate) / 60)
        before = at
        is_admitted = tokens >= 1 and admits(number)
        tokens -= is_admitted
        facts: dict[str, Any] = {"status": 200} if is_admitted else {"status": status, "retry_after": retry_after}
        recording.operation(
            float(at),
            kind="current",
            answer="ok" if is_admitted else "fail",
            ms=4.0,
            principal="greedy",
            invocation={"stream": "flood"},
            **facts,
        )
