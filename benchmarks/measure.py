"""Paired, interleaved measurement: ratios that hold on a noisy machine.

The two sides of a pair take turns, a few milliseconds each, in an order that changes every round. What disturbs the
machine disturbs both, so the ratio of each round means something where a time alone does not. CPU time of this process
is counted, not the clock's, unless a pair says that its work is done elsewhere.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

CALLS_MAX: Final = 1_000_000
ROUNDS: Final = 15
SLICE_SECONDS: Final = 0.02

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Side:
    """One way to do the work."""

    name: str
    work: Work
    units: int = 1
    """How many entries, votes, documents ... one call deals with."""

    def ready(self, calls: int) -> Work:
        """Return what makes so many calls."""

        def run() -> None:
            work = self.work
            for _ in range(calls):
                work()

        return run


@dataclass(frozen=True, slots=True)
class Prepared(Side):
    """A way whose every call uses something up: `prepare` makes it, and its time is not counted."""

    prepare: Callable[[int], Work] = field(kw_only=True)

    def ready(self, calls: int) -> Work:
        """Prepare so many calls; return what makes them."""
        return self.prepare(calls)


@dataclass(frozen=True, slots=True)
class Goal:
    """What we aim for (shared performance goals P5, P7): at most so long a unit, or so many units a second."""

    microseconds_max: float | None = None
    ratio_min: float | None = None

    def says(self) -> str:
        """Return the goal in words."""
        parts = []
        if self.microseconds_max is not None:
            parts.append(f"at most {self.microseconds_max:g} us")
        if self.ratio_min is not None:
            parts.append(f"at least {self.ratio_min:g}x")
        return ", ".join(parts)

    def is_met(self, result: "Result") -> bool:
        """Whether the medians reach it."""
        return (self.microseconds_max is None or result.ours <= self.microseconds_max) and (
            self.ratio_min is None or (result.ratio is not None and result.ratio[1] >= self.ratio_min)
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """Our way beside the ordinary one, on the same work; the ordinary one may be missing."""

    name: str
    ours: Side
    theirs: Side | None = None
    goal: Goal | None = None
    agree: Callable[[], bool] | None = None
    """Whether both do the same: looked at once, before anything is timed."""
    is_elsewhere: bool = False
    """The work is done in another process: the clock counts, not this process's CPU."""


@dataclass(frozen=True, slots=True)
class Result:
    """Microseconds a unit, median over the rounds; the ratio theirs / ours as lower quartile, median, upper one."""

    pair: Pair
    ours: float
    spread: tuple[float, float]
    """Quartiles of ours."""
    theirs: float | None
    ratio: tuple[float, float, float] | None


class Disagreement(Exception):
    """The two sides of a pair do not do the same work."""


def compare(pair: Pair, *, rounds: int = ROUNDS, slice_seconds: float = SLICE_SECONDS) -> Result:
    """Time one pair.

    Raises:
        Disagreement: the two sides differ in what they return.
    """
    if pair.agree is not None and not pair.agree():
        raise Disagreement(pair.name)
    clock = time.perf_counter if pair.is_elsewhere else time.process_time
    sides = [pair.ours] + ([pair.theirs] if pair.theirs else [])
    calls = [_calls(side, slice_seconds) for side in sides]
    seen: list[list[float]] = [[] for _ in sides]
    for turn in range(rounds):
        gc.collect()
        order = range(len(sides)) if turn % 2 else reversed(range(len(sides)))
        for which in order:
            seen[which].append(_once(sides[which], calls[which], clock))
    ours = seen[0]
    lower, _, upper = statistics.quantiles(ours, n=4)
    return Result(
        pair=pair,
        ours=statistics.median(ours),
        spread=(lower, upper),
        theirs=statistics.median(seen[1]) if pair.theirs else None,
        ratio=_quartiles([other / mine for mine, other in zip(ours, seen[1], strict=True)]) if pair.theirs else None,
    )


def _calls(side: Side, slice_seconds: float) -> int:
    """Return how many calls fill a slice; warms up on the way."""
    calls = 1
    while True:
        run = side.ready(calls)
        started = time.perf_counter()
        run()
        took = time.perf_counter() - started
        if took >= slice_seconds / 2 or calls >= CALLS_MAX:
            return max(1, min(CALLS_MAX, round(calls * slice_seconds / max(took, 1e-9))))
        calls *= 4


def _once(side: Side, calls: int, clock: Callable[[], float]) -> float:
    run = side.ready(calls)
    started = clock()
    run()
    return (clock() - started) / calls / side.units * 1e6


def _quartiles(numbers: list[float]) -> tuple[float, float, float]:
    lower, middle, upper = statistics.quantiles(numbers, n=4)
    return lower, middle, upper
