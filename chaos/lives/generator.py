"""When lives begin: Poisson, seeded, never waiting for those that have begun; and how many there may be at once."""

import asyncio
import contextlib
import time
from typing import Final

from chaos.arrivals import stream
from chaos.exchange import Exchange
from chaos.lives.life import Common, Ended, Life
from chaos.lives.plot import draw
from compose.gate import Gate

LIVES_MAX: Final = 150


class Lives:
    """Begins lives until closed; each ends by itself within its own bounds."""

    def __init__(self, exchange: Exchange, gate: Gate) -> None:
        self._exchange = exchange
        self._gate = gate
        self._common = Common()
        self._number = 0
        self._under_way = 0

    @property
    def under_way(self) -> int:
        """How many have begun and not ended."""
        return self._under_way

    def close(self) -> None:
        """Begin no more, and let each life end after the step it is at."""
        self._common.closing = True

    async def arrive(self, per_second: float, seed: int, tasks: asyncio.TaskGroup) -> None:
        """Begin lives at this rate until cancelled; those that have begun go on."""
        chance = stream(seed, "lives")
        due = time.monotonic()
        while True:
            due += chance.expovariate(per_second)
            await asyncio.sleep(due - time.monotonic())
            self._number += 1
            plot = draw(self._number, chance, targets=len(self._gate.moving_targets), people=len(self._gate.humans))
            if self._under_way >= LIVES_MAX:
                continue  # an outage: more that wait for its end would show nothing new
            self._under_way += 1
            tasks.create_task(self._live(Life(plot, self._exchange, self._gate, self._common)), name="life")

    async def _live(self, life: Life) -> None:
        try:
            with contextlib.suppress(Ended):  # how far it came stands in the history
                await life.run()
        finally:
            self._under_way -= 1
