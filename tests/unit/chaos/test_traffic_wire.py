import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httptools
import pytest

from chaos.wire import Connections
from tests.eventually import eventually
from tests.unit.chaos.little_servers import refused_address

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Replica: replica-1\r\n\r\nhi"
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(answer: Answering) -> AsyncIterator[str]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def saying(*answers: bytes, close: bool = False) -> Answering:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for one in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(one)
            await writer.drain()
        if close:
            writer.close()
        else:
            await reader.read()

    return answer


async def get(connections: Connections) -> tuple[int, bytes]:
    connection = await connections.take()
    answer = await connection.exchange(connections.request("GET", "/", {}))
    connections.give(connection)
    return answer.status, answer.content


@pytest.mark.anyio
async def test_a_connection_is_used_again_and_its_answers_are_whole() -> None:
    chunked = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsor\r\n2\r\nry\r\n0\r\n\r\n"
    async with listening(saying(OK, chunked)) as address, Connections(address) as connections:
        first = await connections.take()
        answer = await first.exchange(connections.request("GET", "/", {"X-API-Key": "k"}))
        connections.give(first)

        assert (answer.status, answer.content, answer.headers["x-replica"]) == (200, b"hi", "replica-1")
        assert await connections.take() is first
        connections.give(first)
        assert await get(connections) == (503, b"sorry")


@pytest.mark.anyio
async def test_a_connection_the_server_closed_meanwhile_is_not_used_again() -> None:
    async with listening(saying(OK, close=True)) as address, Connections(address) as connections:
        first = await connections.take()
        await first.exchange(connections.request("GET", "/", {}))
        connections.give(first)
        await eventually(lambda: not first.is_open)

        assert await get(connections) == (200, b"hi")


@pytest.mark.anyio
async def test_a_connection_that_was_idle_for_too_long_is_not_used_again() -> None:
    async with listening(saying(OK)) as address, Connections(address, idle_seconds=0) as connections:
        first = await connections.take()
        await first.exchange(connections.request("GET", "/", {}))
        connections.give(first)

        assert await connections.take() is not first
        assert not first.is_open


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"", ConnectionError, id="nothing"),
        pytest.param(OK[:-1], ConnectionError, id="cut off"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", httptools.HttpParserError, id="not HTTP"),
    ],
)
async def test_half_an_answer_is_none(answer: bytes, error: type[Exception]) -> None:
    async with listening(saying(answer, close=True)) as address, Connections(address) as connections:
        with pytest.raises(error):
            await get(connections)


@pytest.mark.anyio
async def test_a_late_answer_belongs_to_nobody() -> None:
    async with listening(saying(b"")) as address, Connections(address) as connections:
        connection = await connections.take()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.exchange(connections.request("GET", "/", {}))
        connections.give(connection)

        assert not connection.is_open
        assert await connections.take() is not connection


@pytest.mark.anyio
async def test_no_way_to_the_server_is_told_before_anything_is_sent() -> None:
    async with Connections(refused_address()) as connections:
        with pytest.raises(ConnectionRefusedError):
            await connections.take()


def test_a_post_without_a_body_says_so() -> None:
    assert Connections("http://127.0.0.1:80").request("POST", "/x?a=1", {"A": "b"}) == (
        b"POST /x?a=1 HTTP/1.1\r\nHost: 127.0.0.1:80\r\nA: b\r\nContent-Length: 0\r\n\r\n"
    )
