"""The loop all samplers share: a fixed rate on an absolute schedule, a deadline a call, errors as rows."""

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from typing import Any, Never

import httptools
import httpx
import psycopg

from chaos.evidence import EvidenceWriter

Take = Callable[[], Awaitable[dict[str, Any]]]

# What a look at a broken world raises. Anything else is a defect of the harness and ends the run.
EXPECTED = (TimeoutError, OSError, ValueError, httpx.HTTPError, httptools.HttpParserError, psycopg.Error)


async def every(seconds: float, act: Callable[[], Awaitable[None]]) -> Never:
    """Call ``act`` at a fixed rate; an instant that passed while ``act`` ran is skipped, not made up for."""
    due = time.monotonic()
    while True:
        await act()
        due = max(due + seconds, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


async def sample(writer: EvidenceWriter, name: str, take: Take, *, deadline_seconds: float, **facts: Any) -> None:
    """Take one sample and append it to ``name``: ``{t, **facts, **sample}`` or ``{t, **facts, error}``.

    ``t`` is when the answer was in hand, so that no instant read from it is too early; ``ms`` is how long it took.
    """
    started = time.monotonic()
    try:
        async with asyncio.timeout(deadline_seconds):
            row = await take()
    except EXPECTED as error:
        row = {"error": describe(error)}
    writer.append(name, {**facts, **row, "ms": round((time.monotonic() - started) * 1000, 3)})


def describe(error: BaseException) -> str:
    """Name the class of a failure; never its text, which may hold an address or a secret."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TimeoutError | httpx.TimeoutException):
            return "timeout"
        if isinstance(seen, ConnectionRefusedError) or getattr(seen, "errno", None) == errno.ECONNREFUSED:
            return "refused"
        if isinstance(seen, ConnectionResetError | httpx.RemoteProtocolError | httpx.ReadError):
            return "reset"
        seen = seen.__cause__ or seen.__context__
    return type(error).__name__
