"""HTTP/1.1 for the traffic generator and the health probe: one exchange at a time on a kept connection.

A general client costs most when it matters most: httpx's pool looks at every connection and every waiting request
for each request, so that with some hundred requests hanging in a stalled service the generator itself fell seconds
behind. Here the cost of a request does not depend on the others: the newest idle connection is taken, or one is made.
It also tells whether any byte can have left, which decides whether a write without an answer is open or failed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Connection(asyncio.Protocol):
    """One connection. ``exchange`` may be awaited once at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self.idle_since = 0.0
        self.is_open = False

    async def exchange(self, request: bytes) -> Answer:
        """Send a request and return its answer.

        Raises:
            ConnectionError: the connection ended before the answer did.
            httptools.HttpParserError: the answer is not HTTP.
        """
        if self._transport is None or not self.is_open:
            raise ConnectionResetError
        self._waiting = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._content: list[bytes] = []
        self._transport.write(request)
        try:
            return await self._waiting
        except BaseException:  # cancelled at its deadline too: whatever arrives later belongs to nobody
            self.abort()
            raise
        finally:
            self._waiting = None

    def abort(self) -> None:
        """End the connection at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Parse what came; bytes nobody waits for end the connection."""
        if self._waiting is None:
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the exchange under way; an idle connection is just no longer open."""
        self.is_open = False
        self._fail(exc if isinstance(exc, ConnectionError) else ConnectionResetError())

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    # --- httptools ---------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self._content.append(body)

    def on_message_complete(self) -> None:
        """Give the answer to who waits for it."""
        self.is_open = self.is_open and self._parser.should_keep_alive()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Answer(self._parser.get_status_code(), self._headers, b"".join(self._content)))


class Connections:
    """Connections to one address, kept for ``idle_seconds``: less than the server's, so that none is met closing."""

    def __init__(self, address: str, *, idle_seconds: float = 2.0) -> None:
        parts = urlsplit(address)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"not an http address: {address}")
        self._host = parts.hostname
        self._port = parts.port or 80
        self._idle_seconds = idle_seconds
        self._idle: deque[Connection] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def take(self) -> Connection:
        """Return the idle connection used last, or a new one.

        Raises:
            OSError: there is no way to the server; nothing was sent.
        """
        youngest = time.monotonic() - self._idle_seconds
        while self._idle and self._idle[0].idle_since < youngest:
            self._idle.popleft().abort()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        return connection

    def give(self, connection: Connection) -> None:
        """Keep a connection for the next one who asks, if it can be used again."""
        if connection.is_open:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.abort()

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        """Return the bytes of a request to this address."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
