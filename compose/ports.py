"""The ports of a stack, all on 127.0.0.1: fixed where the network is the stack's own, free ones elsewhere.

Free ports come from blocks below 32768, where no client socket ever lands. A block is leased by a name in the
kernel's abstract socket space, so two stacks never choose the same one and a killed stack leaves no lease behind.
"""

import contextlib
import random
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Final

from compose import marks

SLOTS: Final = 4
"""Replicas that may exist at once: two that serve, two spare ones (rollouts, new nodes)."""
STAGING_SLOT: Final = SLOTS + 1
"""That of a staging environment's replica: the proxy in front of the others does not know it."""

_BLOCK_FIRST: Final = 12_000
_BLOCK_LAST: Final = 32_000
_BLOCK_PORTS: Final = 40
_ATTEMPTS: Final = 50


@dataclass(frozen=True, slots=True)
class Ports:
    """One port for each listener; tuples hold that of slot 1 first."""

    front: int = 8080
    front_metrics: int = 8405
    replicas: tuple[int, ...] = tuple(8000 + slot for slot in range(1, STAGING_SLOT + 1))
    replicas_metrics: tuple[int, ...] = tuple(9000 + slot for slot in range(1, STAGING_SLOT + 1))
    supervisor: int = 9100
    database: int = 5432
    database_proxies: tuple[int, ...] = tuple(15430 + slot for slot in range(1, STAGING_SLOT + 1))
    valkey: int = 6379
    valkey_proxies: tuple[int, ...] = tuple(16370 + slot for slot in range(1, STAGING_SLOT + 1))
    toxiproxy: int = 8474
    prometheus: int = 9090
    alertmanager: int = 9093
    actuator: int = 9096
    """What the gate delivers to."""
    receiver: int = 9095
    """Where the harness receives Alertmanager's notifications; the stack itself does not listen there."""

    def listeners(self) -> dict[str, int]:
        """Return every port by what listens there, such as `front` or `database_proxies-2`."""
        named = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, tuple):
                named.update({f"{one.name}-{slot}": port for slot, port in enumerate(value, start=1)})
            else:
                named[one.name] = value
        return named

    def busy(self) -> dict[str, int]:
        """Return the ports that somebody listens on now, by what the stack wanted there."""
        return {name: port for name, port in self.listeners().items() if not is_free(port)}

    def without_busy(self) -> "Ports":
        """Return these ports, with free ones in the place of those that are taken."""
        spare = iter(_free_block().listeners().values()) if self.busy() else iter(())

        def instead(port: int) -> int:
            return port if is_free(port) else next(spare)

        changed: dict[str, int | tuple[int, ...]] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            changed[one.name] = tuple(map(instead, value)) if isinstance(value, tuple) else instead(value)
        return replace(self, **changed)  # type: ignore[arg-type]

    @classmethod
    def here(cls) -> "Ports":
        """Return the fixed ports where the network is the world's own, else free ones."""
        mark = marks.here()
        return cls() if mark and mark.has_network else cls.free()

    @classmethod
    def free(cls) -> "Ports":
        """Return ports that nobody listens on and that no other stack on this host will choose."""
        return _free_block()


_leases: Final[list[socket.socket]] = []


def is_free(port: int) -> bool:
    """Say whether a server could listen on 127.0.0.1 there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_block() -> Ports:
    blocks = range(_BLOCK_FIRST, _BLOCK_LAST, _BLOCK_PORTS)
    for first in random.sample(blocks, _ATTEMPTS):
        numbers = list(range(first, first + _BLOCK_PORTS))
        if _lease(first) and all(map(is_free, numbers)):
            return _assign(iter(numbers))
    raise OSError(f"no free block of {_BLOCK_PORTS} ports between {_BLOCK_FIRST} and {_BLOCK_LAST}")


def _lease(first: int) -> bool:
    if sys.platform != "linux":
        return True  # no abstract sockets: the look at each port has to do
    lease = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with contextlib.suppress(OSError):
        lease.bind(f"\0amgf-ports-{first}")
        _leases.append(lease)
        return True
    lease.close()
    return False


def _assign(numbers: Iterator[int]) -> Ports:
    default = Ports()
    assigned: dict[str, int | tuple[int, ...]] = {}
    for one in fields(Ports):
        value = getattr(default, one.name)
        assigned[one.name] = tuple(next(numbers) for _ in value) if isinstance(value, tuple) else next(numbers)
    return Ports(**assigned)  # type: ignore[arg-type]
