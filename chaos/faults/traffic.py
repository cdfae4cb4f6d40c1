"""The traffic is the fault (FM04, FM05, FM06, FM12): nothing in the world changes, and the receipt counts at the front.

What is sent is the injection's ``load``; the engine switches to it after ``inject`` and back before ``undo``. HAProxy
counts answers by class, on its own: whether enough of them were refusals does not rest on what the service says.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import httpx

from chaos.faults.base import FaultFailed, InvalidFault, Recorded, look
from chaos.probes.metrics import FRONT_SERIES, sample_name, selected
from chaos.scenario import Observation

if TYPE_CHECKING:
    from compose.stack import Stack

LOOK_DEADLINE_SECONDS = 8.0
LOOK_SECONDS = 2.0
CLASSES = ("2xx", "4xx", "5xx")
_FRONTEND = "firewall"


@dataclass(frozen=True, slots=True)
class OnlyTraffic(Recorded):
    """Requests that get answers of one class: at the front at least ``per_second_min`` are counted while it bites."""

    kind: ClassVar[str] = "only_traffic"
    needs: ClassVar[frozenset[str]] = frozenset()

    per_second_min: float = 1.0
    answers: str = "4xx"

    def __post_init__(self) -> None:
        if self.answers not in CLASSES:
            raise InvalidFault(f"answers must be one of {', '.join(CLASSES)}, not {self.answers!r}")
        if not self.per_second_min > 0:
            raise InvalidFault("per_second_min must be more than 0")

    async def inject(self, stack: "Stack") -> None:
        """Change nothing."""

    async def bites(self, stack: "Stack") -> Observation:
        """As many answers of the class as were asked for are counted in two seconds."""
        return await look("only_traffic: bites", LOOK_DEADLINE_SECONDS, lambda: self._observe(stack, is_there=True))

    async def undo(self, stack: "Stack") -> None:
        """Take nothing back."""

    async def is_gone(self, stack: "Stack") -> Observation:
        """Fewer are counted in two seconds."""
        return await look("only_traffic: is_gone", LOOK_DEADLINE_SECONDS, lambda: self._observe(stack, is_there=False))

    async def _observe(self, stack: "Stack", *, is_there: bool) -> Observation:
        before = await self._counted(stack.haproxy.metrics_address)
        await asyncio.sleep(LOOK_SECONDS)
        rate = (await self._counted(stack.haproxy.metrics_address) - before) / LOOK_SECONDS
        told = f"the front counts {rate:g} answers {self.answers} a second, the traffic makes {self.per_second_min:g}"
        return Observation(ok=(rate >= self.per_second_min) is is_there, text=told)

    async def _counted(self, address: str) -> float:
        series = sample_name("haproxy_frontend_http_responses_total", code=self.answers, proxy=_FRONTEND)
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=LOOK_SECONDS) as client:
                answer = await client.get(address)
        except httpx.HTTPError as error:
            raise FaultFailed(f"the front's counters cannot be read: {type(error).__name__}") from error
        found = selected(answer.text, FRONT_SERIES).get(series)
        if found is None:
            raise FaultFailed(f"the front does not count {series}")
        return found
