"""The two parts of a stack that faults act on, real ones: PostgreSQL, and the Toxiproxy before it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from chaos.faults.vantage import Address
from compose import postgres
from compose.ports import Ports
from compose.postgres import Postgres
from compose.proxies import Toxiproxy

if TYPE_CHECKING:
    from compose.stack import Stack


@dataclass
class Parts:
    """As much of ``compose.stack.Stack`` as the faults use."""

    postgres: Postgres
    toxiproxy: Toxiproxy

    def listener(self, name: str) -> Address:
        """Where one proxy listens."""
        return Address(host="127.0.0.1", port=self.toxiproxy.ports()[name])

    @property
    def database_ports(self) -> tuple[int, ...]:
        """Those of the database's proxies, slot 1 first."""
        return tuple(port for name, port in self.toxiproxy.ports().items() if name.startswith("database-"))

    @property
    def stack(self) -> "Stack":
        return cast("Stack", self)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Parts]:
    """Run both parts."""
    ports = Ports.free()
    async with postgres.running(folder, port=ports.database) as database:
        toxiproxy = Toxiproxy(ports=ports, log=folder / "toxiproxy.log")
        try:
            await toxiproxy.start()
            yield Parts(postgres=database, toxiproxy=toxiproxy)
        finally:
            await toxiproxy.stop(deadline_seconds=0.1)
