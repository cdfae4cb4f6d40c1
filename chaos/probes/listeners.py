"""What listens on TCP inside the world, as the kernel says it: nothing may that is not known (compose/listeners.yaml).

Writes ``samples/listeners.jsonl``: ``{t, isolated, listening: ["127.0.0.1:8080", ...], known: {address: name}}``.
On a host without a network namespace others listen too, which says nothing about us: ``isolated`` is false there.
"""

import asyncio
import ipaddress
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from compose import marks
from compose.listeners import known

if TYPE_CHECKING:
    from compose.stack import Stack

LISTENERS: Final = "samples/listeners.jsonl"
_TABLES: Final = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_LISTEN: Final = "0A"
_WORD: Final = 8  # hexadecimal digits


async def look_at_listeners(stack: "Stack") -> dict[str, Any]:
    """List them."""
    here = marks.here()
    listening = await asyncio.to_thread(listening_here)
    return {
        "isolated": bool(here and here.has_network),
        "listening": listening,
        "known": {f"{address}:{port}": name for name, (address, port) in known(stack.ports).items()},
    }


def listening_here() -> list[str]:
    """Return the addresses that the kernel accepts connections on, in this network namespace."""
    return sorted({address for table in _TABLES if table.exists() for address in _listening(table.read_text())})


def _listening(table: str) -> Iterator[str]:
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == _LISTEN:
            address, port = fields[1].split(":")
            # The kernel prints 32-bit words in its own byte order.
            words = [int(address[at : at + _WORD], 16) for at in range(0, len(address), _WORD)]
            packed = struct.pack(f"={len(words)}I", *words)
            yield f"{ipaddress.ip_address(packed)}:{int(port, 16)}"
