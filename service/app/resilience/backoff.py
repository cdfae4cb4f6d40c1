"""The documented backoff: 1, 2, 4, 8, 16, 30, 30 ... seconds between attempts (FM01.M1, docs/adr/0004).

Pure: the caller draws the random number and does the waiting.
"""

from dataclasses import dataclass
from typing import Final

FACTOR: Final = 2
JITTER_SHARE: Final = 0.1
"""At most this share either way; the sequence is documented, so jitter stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait after the n-th failure in a row; lengths in seconds."""

    initial_seconds: float = 1.0
    max_seconds: float = 30.0

    def step_seconds(self, failures: int) -> float:
        """Return the documented delay after `failures` >= 1 failures in a row."""
        if failures < 1:
            raise ValueError("there is no delay before the first failure")
        # Beyond 2**64 the cap has long been reached; a float would overflow after a month of outage.
        return min(self.initial_seconds * float(FACTOR ** min(failures - 1, 64)), self.max_seconds)

    def delay_seconds(self, failures: int, *, random: float) -> float:
        """Return the delay with jitter: `random` in [0, 1) spreads it by +-10 %, never above the cap."""
        step = self.step_seconds(failures)
        return min(step * (1 + JITTER_SHARE * (2 * random - 1)), self.max_seconds)
