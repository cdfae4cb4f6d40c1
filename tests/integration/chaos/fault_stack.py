"""The two parts of a stack that faults act on, real ones: PostgreSQL, and a Toxiproxy with two slots before it."""

import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from chaos.faults.toxiproxy import ToxiproxyApi
from chaos.faults.vantage import Address
from compose import postgres, processes, programs
from compose.postgres import Postgres
from compose.processes import Process

if TYPE_CHECKING:
    from compose.stack import Stack


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class RealToxiproxy:
    """A Toxiproxy process; ``restarts`` counts the last resorts taken."""

    port: int
    folder: Path
    listeners: dict[str, int]  # proxy name -> port
    upstream: int
    process: Process | None = None
    restarts: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listener(self, name: str) -> Address:
        return Address(host="127.0.0.1", port=self.listeners[name])

    async def start(self) -> None:
        described = [
            {"name": name, "listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{self.upstream}", "enabled": True}
            for name, port in self.listeners.items()
        ]
        config = self.folder / "toxiproxy.json"
        config.write_text(json.dumps(described))
        program = programs.find("toxiproxy-server")
        argv: list[str | Path] = [program, "-port", str(self.port), "-host", "127.0.0.1", "-config", config]
        self.process = processes.launch("Toxiproxy", argv, log=self.folder / "toxiproxy.log")
        await processes.ready(self.process, self._answers, deadline_seconds=3)

    async def stop(self) -> None:
        if self.process is not None:
            await self.process.stop(signal.SIGKILL)

    async def restart(self) -> None:
        self.restarts += 1
        await self.stop()
        await self.start()

    async def _answers(self) -> bool:
        try:
            return len(await ToxiproxyApi(self.address).proxies()) == len(self.listeners)
        except Exception:  # noqa: BLE001 - not yet
            return False


@dataclass
class Parts:
    """As much of ``compose.stack.Stack`` as the faults use."""

    postgres: Postgres
    toxiproxy: RealToxiproxy

    @property
    def stack(self) -> "Stack":
        return cast("Stack", self)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Parts]:
    """Run both parts."""
    server, api, first, second = free_ports(4)
    async with postgres.running(folder, port=server) as database:
        toxiproxy = RealToxiproxy(
            port=api, folder=folder, listeners={"database-1": first, "database-2": second}, upstream=server
        )
        try:
            await toxiproxy.start()
            yield Parts(postgres=database, toxiproxy=toxiproxy)
        finally:
            await toxiproxy.stop()


def thaw(pid: int) -> None:
    """Let a process that a test froze go on, so that it can be ended."""
    os.kill(pid, signal.SIGCONT)
