"""The harness's own look at a dependency: a TCP connection and one question, from its own sockets.

This is the vantage point of receipts: it shares no code, no pool and no connection with the service. Where the
kernel allows it, it also has an address of its own, so that in the logs of the parts (Toxiproxy's tells each
replica's attempts to connect) our looks are not taken for the service's.
"""

import asyncio
import contextlib
import struct
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from chaos.faults.base import InvalidFault

HOST = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"  # where our own connections come from

# PostgreSQL protocol, "SSLRequest": answered with one byte, S or N, before any authentication.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent, and the first byte of every possible honest answer."""

    asks: bytes
    answers: frozenset[bytes]


QUESTIONS: Mapping[str, Question] = {
    "database": Question(asks=_SSL_REQUEST, answers=frozenset({b"S", b"N"})),
    "valkey": Question(asks=b"PING\r\n", answers=frozenset({b"+", b"-"})),  # "-NOAUTH" is a live server, too
}


def require_dependency(dependency: str) -> None:
    """Raise ``InvalidFault`` unless we know how to question ``dependency``."""
    if dependency not in QUESTIONS:
        raise InvalidFault(f"dependency must be one of {', '.join(sorted(QUESTIONS))}, not {dependency!r}")


class Reached(StrEnum):
    """How far a question got."""

    REFUSED = "refused"  # the kernel answered: nobody listens
    UNREACHABLE = "no answer to the connection"  # not even a TCP handshake in time
    SILENT = "connected, then silence"
    CLOSED = "connected, then closed"
    STRANGE = "connected, then a strange answer"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one question; ``seconds`` from the first packet to the answer or to giving up."""

    reached: Reached
    seconds: float

    def __str__(self) -> str:
        return f"{self.reached} after {self.seconds * 1000:.0f} ms"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A TCP address as ``host:port``."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``127.0.0.1:5432``, ``[::1]:5432`` or an http address of either.

        Raises:
            InvalidFault: there is no port in it.
        """
        host, separator, port = text.removeprefix("http://").rstrip("/").rpartition(":")
        if not separator or not port.isdigit():
            raise InvalidFault(f"not an address: {text!r}")
        return cls(host=host.strip("[]"), port=int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


async def ask(dependency: str, address: Address, *, wait_seconds: float = 1.0) -> Reply:
    """Connect to ``address`` and ask ``dependency``'s question; wait that long for each of the two."""
    question = QUESTIONS[dependency]
    started = time.monotonic()
    reached = await _reach(question, address, wait_seconds)
    return Reply(reached=reached, seconds=time.monotonic() - started)


async def ask_all(dependency: str, addresses: Iterable[Address], *, wait_seconds: float = 1.0) -> dict[Address, Reply]:
    """Ask at several addresses at once."""
    async with asyncio.TaskGroup() as group:
        asked = {
            address: group.create_task(ask(dependency, address, wait_seconds=wait_seconds))
            for address in dict.fromkeys(addresses)
        }
    return {address: task.result() for address, task in asked.items()}


async def _reach(question: Question, address: Address, wait_seconds: float) -> Reached:
    source = (HOST, 0) if address.host.startswith("127.") else None
    try:
        async with asyncio.timeout(wait_seconds):
            reader, writer = await asyncio.open_connection(address.host, address.port, local_addr=source)
    except TimeoutError:
        return Reached.UNREACHABLE
    except OSError as error:
        return Reached.REFUSED if isinstance(error, ConnectionRefusedError) else Reached.UNREACHABLE
    try:
        async with asyncio.timeout(wait_seconds):
            writer.write(question.asks)
            await writer.drain()
            first = await reader.read(1)
    except TimeoutError:
        return Reached.SILENT
    except OSError:
        return Reached.CLOSED
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await writer.wait_closed()
    if not first:
        return Reached.CLOSED
    return Reached.ANSWERED if first in question.answers else Reached.STRANGE
