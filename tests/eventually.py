"""Waiting in tests: on a condition, with a deadline, never for a length of time."""

import asyncio
from collections.abc import Callable


async def eventually(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Return as soon as ``condition()`` holds.

    Raises:
        TimeoutError: it did not hold within ``seconds``.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition may be anything, also another process's doing
            await asyncio.sleep(0.01)
