"""Traffic as a fault is believed when the front counts it, and no sooner."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from chaos.faults import OnlyTraffic, traffic

if TYPE_CHECKING:
    from compose.stack import Stack

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

ABSENT = "haproxy_process_uptime_seconds 7"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "LOOK_SECONDS", 0.1)


@asynccontextmanager
async def counting(step: float | None) -> AsyncIterator["Stack"]:
    """Serve an exposition in which refusals grow by ``step`` from look to look; ``None``: they are not counted."""
    counts = itertools.count(100, step or 0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        line = f'haproxy_frontend_http_responses_total{{proxy="firewall",code="4xx"}} {next(counts)}'
        text = ABSENT if step is None else line
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        haproxy = SimpleNamespace(metrics_address=f"http://127.0.0.1:{port}/metrics")
        yield cast("Stack", SimpleNamespace(haproxy=haproxy))


@pytest.mark.parametrize(("step", "bites"), [(0, False), (0.9, False), (1, True), (50, True)])
async def test_it_bites_from_its_own_rate_on_and_is_gone_below_it(step: float, *, bites: bool) -> None:
    fault = OnlyTraffic(per_second_min=10.0)
    async with counting(step) as stack:
        assert (await fault.bites(stack)).ok is bites
        assert (await fault.is_gone(stack)).ok is not bites


async def test_a_front_that_does_not_count_proves_neither() -> None:
    async with counting(None) as stack:
        seen = [await OnlyTraffic().bites(stack), await OnlyTraffic().is_gone(stack)]

    assert [one.ok for one in seen] == [False, False]
    assert all("does not count" in one.text for one in seen)
