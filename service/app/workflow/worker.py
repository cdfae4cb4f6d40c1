"""What each replica does beside answering: simulate, apply what needs nobody, deliver, tidy up.

Each loop takes one small step after another and rests when there was nothing to do; whoever makes work for it wakes it.
While there is no database the loops do not even ask for it: the waiting room and the pool are for requests. A step that
fails is counted, and the loop goes on: every step begins from what is stored, so nothing is lost by it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from app import log, metrics
from app.errors import DatabaseUnavailable, FirewallError, OutcomeUnknown, QueryTimeout
from app.resilience.deadline import Clock, Deadline
from app.settings import WorkerPolicy

UNAVAILABLE_PAUSE_SECONDS: Final = 1.0
FAILED_PAUSE_SECONDS: Final = 5.0
"""After what nobody foresaw, so that it does not fill the log."""

Work = Callable[[Deadline], Awaitable[bool]]
"""One step; True if there may be more to do at once."""


class Presence(Protocol):
    """Whether there is a database."""

    @property
    def is_up(self) -> bool:
        """Whether asking it makes sense."""


@dataclass(slots=True)
class Loop:
    """One kind of work, and the bell that wakes it."""

    name: str
    work: Work
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    refused_by: str = ""
    """The code of the last refusal, told once."""

    def wake(self) -> None:
        """Say that there is something to do."""
        self.bell.set()


class Worker:
    """Runs the loops until it is cancelled."""

    def __init__(self, database: Presence, policy: WorkerPolicy, loops: tuple[Loop, ...], *, clock: Clock) -> None:
        self._database = database
        self._policy = policy
        self._loops = loops
        self._clock = clock
        for loop in loops:
            for outcome in metrics.WORKER_OUTCOMES:
                metrics.WORKER_STEPS.labels(loop.name, outcome)

    async def run(self) -> None:
        """Work; ends only by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            for loop in self._loops:
                tasks.create_task(self._run(loop), name=f"worker-{loop.name}")

    async def _run(self, loop: Loop) -> None:
        while True:
            loop.bell.clear()  # also without a database: a bell that stays rung would let no rest ever wait
            pause = await self.step(loop) if self._database.is_up else UNAVAILABLE_PAUSE_SECONDS
            await self._rest(loop, pause)

    async def step(self, loop: Loop) -> float:
        """Take one step of a loop; return how long to rest after it, in seconds."""
        try:
            did = await loop.work(Deadline.after(self._policy.deadline_seconds, self._clock))
        except (DatabaseUnavailable, QueryTimeout, OutcomeUnknown):
            return self._told(loop, "unavailable", UNAVAILABLE_PAUSE_SECONDS)
        except FirewallError as error:
            if loop.refused_by != error.code:
                loop.refused_by = error.code
                log.get().warning("worker_refused", loop=loop.name, code=error.code)
            return self._told(loop, "refused", self._policy.pause_seconds)
        except Exception as error:  # noqa: BLE001 - one bad row must not stop the loop for all others
            log.failure("worker_failed", error, loop=loop.name)
            return self._told(loop, "failed", FAILED_PAUSE_SECONDS)
        loop.refused_by = ""
        return self._told(loop, "done" if did else "idle", 0.0 if did else self._policy.pause_seconds)

    def _told(self, loop: Loop, outcome: str, pause: float) -> float:
        metrics.WORKER_STEPS.labels(loop.name, outcome).inc()
        return pause

    async def _rest(self, loop: Loop, seconds: float) -> None:
        if not seconds:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await loop.bell.wait()
        except TimeoutError:
            pass
