"""A deadline: the instant after which an answer is worthless. Handed down, never restarted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

Clock = Callable[[], float]
"""Monotonic seconds; in production the event loop's own clock."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """An instant on a monotonic clock."""

    at: float
    clock: Clock

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> Self:
        """Return the deadline `seconds` from now."""
        return cls(at=clock() + seconds, clock=clock)

    def remaining_seconds(self) -> float:
        """Return what is left, never less than 0."""
        return max(0.0, self.at - self.clock())

    @property
    def has_passed(self) -> bool:
        """Whether nothing is left."""
        return self.clock() >= self.at
