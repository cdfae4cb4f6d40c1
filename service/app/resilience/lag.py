"""How late the event loop is: the one thing liveness looks at (FM08, FM09)."""

import asyncio
from typing import Final

from app import metrics
from app.resilience.deadline import Clock

INTERVAL_SECONDS: Final = 1.0


class LoopLag:
    """Measures each second how much later than asked the loop woke us."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self.seconds = 0.0

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            due = self._clock() + INTERVAL_SECONDS
            await asyncio.sleep(INTERVAL_SECONDS)
            self.seconds = max(0.0, self._clock() - due)
            metrics.EVENT_LOOP_LAG.set(self.seconds)
