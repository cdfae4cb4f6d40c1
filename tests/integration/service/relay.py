"""A network that can be cut in several ways, between the service and a server; it keeps every attempt's instant."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum


class Mode(Enum):
    OPEN = "open"
    SILENT = "silent"  # TCP is acknowledged, nothing is forwarded
    CLOSING = "closing"  # accepted, then closed: a proxy whose upstream refuses
    LOSE_COMMIT_REPLY = "lose commit reply"  # COMMIT goes through, then silence
    CUT_BEFORE_COMMIT = "cut before commit"  # COMMIT never arrives, the connection is closed


class Relay:
    def __init__(self, upstream_port: int, *, commit: bytes = b"COMMIT") -> None:
        self._upstream_port = upstream_port
        self._commit = commit  # what the modes about COMMIT look for
        self.mode = Mode.OPEN
        self.attempts: list[float] = []
        self.connections = 0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def cut(self, mode: Mode) -> None:
        """Change the mode; all but silence also ends what is open."""
        self.mode = mode
        if mode is Mode.CLOSING:
            for writer in list(self._writers):
                writer.transport.abort()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts.append(time.monotonic())
        if self.mode is Mode.CLOSING:
            writer.close()
            return
        self.connections += 1
        try:
            if self.mode is Mode.SILENT:
                await reader.read()  # until the client gives up
                return
            with contextlib.suppress(OSError):
                await self._forward(reader, writer)
        finally:
            self.connections -= 1
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        self._writers |= {writer, up_writer}
        try:
            async with asyncio.TaskGroup() as tasks:
                down = tasks.create_task(self._pump(up_reader, writer))
                await self._pump(reader, up_writer)
                up_writer.close()
                down.cancel()
        finally:
            self._writers -= {writer, up_writer}
            up_writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while part := await source.read(65536):
                if self.mode is Mode.CUT_BEFORE_COMMIT and self._commit in part:
                    sink.transport.abort()
                    return
                if self.mode is Mode.LOSE_COMMIT_REPLY and self._commit in part:
                    sink.write(part)
                    self.mode = Mode.SILENT
                elif self.mode is not Mode.SILENT:
                    sink.write(part)


@asynccontextmanager
async def relay(upstream_port: int, *, commit: bytes = b"COMMIT") -> AsyncIterator[Relay]:
    made = Relay(upstream_port, commit=commit)
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in list(made._writers):
            writer.transport.abort()
