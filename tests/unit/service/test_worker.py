"""The worker's loops: they rest when there is nothing to do, and while there is no database, whoever rings the bell."""

import asyncio

from app.resilience.deadline import Deadline
from app.settings import WorkerPolicy
from app.workflow.worker import UNAVAILABLE_PAUSE_SECONDS, Loop, Worker
from tests.unit.service import virtual_time

SECONDS = 10.0


class Presence:
    def __init__(self, *, is_up: bool) -> None:
        self.looks = 0
        self._is_up = is_up

    @property
    def is_up(self) -> bool:
        self.looks += 1
        assert self.looks < 1_000, "it does not rest"
        return self._is_up


async def _work_for(seconds: float, presence: Presence, loop: Loop) -> None:
    worker = Worker(presence, WorkerPolicy(), (loop,), clock=asyncio.get_running_loop().time)
    running = asyncio.ensure_future(worker.run())
    await asyncio.sleep(0.01)  # it rests
    loop.wake()
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.wait([running])
    if not running.cancelled():
        running.result()


def test_bell_rung_while_there_is_no_database_does_not_keep_it_from_resting() -> None:
    presence = Presence(is_up=False)

    virtual_time.run(lambda: _work_for(SECONDS, presence, Loop("simulate", _never)))

    assert presence.looks <= SECONDS / UNAVAILABLE_PAUSE_SECONDS + 2


def test_bell_ends_the_rest_before_its_time() -> None:
    presence, begun = Presence(is_up=True), list[float]()

    async def idle(deadline: Deadline) -> bool:
        del deadline
        begun.append(asyncio.get_running_loop().time())
        return False

    virtual_time.run(lambda: _work_for(WorkerPolicy().pause_seconds / 2, presence, Loop("simulate", idle)))

    assert len(begun) == 2


async def _never(deadline: Deadline) -> bool:
    raise AssertionError(f"asked for the database with {deadline}")
