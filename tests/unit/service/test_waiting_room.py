import asyncio

import pytest

from app.resilience.waiting_room import WaitingRefused, WaitingRoom, WaitingRoomFull, WaitingTimeout
from tests.unit.service.virtual_time import run


def test_a_waiter_is_let_in_when_the_door_opens() -> None:
    async def main() -> float:
        room = WaitingRoom(waiters_max=1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        loop.call_later(1.5, room.admit_all)
        await room.wait(2)
        return loop.time() - began

    assert run(main) == pytest.approx(1.5)


def test_nobody_waits_longer_than_given() -> None:
    async def main() -> float:
        room = WaitingRoom(waiters_max=1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(WaitingTimeout):
            await room.wait(2)
        assert room.waiters == 0
        return loop.time() - began

    assert run(main) == pytest.approx(2)


def test_one_more_than_the_room_holds_is_refused_without_waiting() -> None:
    async def main() -> float:
        room = WaitingRoom(waiters_max=64)
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(64):
                tasks.create_task(room.wait(10))
            await asyncio.sleep(0)
            began = loop.time()
            with pytest.raises(WaitingRoomFull):
                await room.wait(10)
            waited = loop.time() - began
            room.admit_all()
        return waited

    assert run(main) == 0


def test_everybody_is_sent_away_at_once_when_waiting_is_pointless() -> None:
    async def main() -> list[BaseException | None]:
        room = WaitingRoom(waiters_max=8)
        async with asyncio.TaskGroup() as tasks:
            results = tasks.create_task(_gather(room, 8))
            await asyncio.sleep(0.1)
            room.refuse_all()
        return results.result()

    assert {type(result) for result in run(main)} == {WaitingRefused}


def test_a_waiter_that_leaves_makes_room() -> None:
    async def main() -> int:
        room = WaitingRoom(waiters_max=1)
        async with asyncio.TaskGroup() as tasks:
            left = tasks.create_task(room.wait(10))
            await asyncio.sleep(0)
            left.cancel()
            await asyncio.sleep(0)
            stays = tasks.create_task(room.wait(10))
            await asyncio.sleep(0)
            inside = room.waiters
            room.admit_all()
            await stays
        return inside

    assert run(main) == 1


async def _gather(room: WaitingRoom, count: int) -> list[BaseException | None]:
    return await asyncio.gather(*(room.wait(10) for _ in range(count)), return_exceptions=True)
