"""What stands between the parts: Toxiproxy before the dependencies, HAProxy before the replicas."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

from compose import part, processes, programs
from compose.ports import SLOTS, Ports
from compose.processes import PartFailed

RUNTIME_SECONDS: Final = 2.0
HEADERS_BYTES_MAX: Final = 16_384
"""Of a request, all together."""


class Toxiproxy(part.Part):
    """One Toxiproxy with one proxy for each dependency of each replica slot, so that one replica can be cut off alone.

    Undo of last resort is `restart`: its control interface can hang for good (Shopify/toxiproxy#558). Its log at
    level `info` keeps a line for each accepted client, hence each replica's connection attempts.
    """

    name = "Toxiproxy"

    def __init__(self, *, ports: Ports, log: Path) -> None:
        """Take the ports of the control interface, of the dependencies and of their proxies."""
        super().__init__(log=log)
        self.address = f"http://127.0.0.1:{ports.toxiproxy}"
        self._port = ports.toxiproxy
        self._proxies = {
            f"{dependency}-{slot}": (listen, upstream)
            for dependency, upstream, listens in (
                ("database", ports.database, ports.database_proxies),
                ("valkey", ports.valkey, ports.valkey_proxies),
            )
            for slot, listen in enumerate(listens, start=1)
        }

    def proxies(self) -> tuple[str, ...]:
        """Return the proxies' names: `database-1`, ... `valkey-5`."""
        return tuple(self._proxies)

    def ports(self) -> Mapping[str, int]:
        """Return the port that each proxy listens on."""
        return {name: listen for name, (listen, _) in self._proxies.items()}

    async def answers(self) -> bool:
        """Say whether the control interface answers."""
        return await part.answers_ok(f"{self.address}/version")

    def _command(self) -> Sequence[str | Path]:
        return [programs.find("toxiproxy-server"), "-host", "127.0.0.1", "-port", str(self._port)]

    def _environment(self) -> Mapping[str, str]:
        return processes.plain_environment(LOG_LEVEL="info")

    async def _set_up(self) -> None:
        try:
            async with part.client(self.address) as http:
                for name, (listen, upstream) in self._proxies.items():
                    answer = await http.post(
                        "/proxies",
                        json={"name": name, "listen": f"127.0.0.1:{listen}", "upstream": f"127.0.0.1:{upstream}"},
                    )
                    if answer.status_code != httpx.codes.CREATED:
                        raise PartFailed(self.name, f"refused the proxy {name}: {answer.text.strip()}", log=self.log)
        except httpx.HTTPError as problem:
            raise PartFailed(
                self.name, f"did not take its proxies: {type(problem).__name__}", log=self.log
            ) from problem


class HAProxy(part.Part):
    """The front: checks each replica's readiness, sends requests to those that are ready, counts what clients saw."""

    name = "HAProxy"

    def __init__(self, folder: Path, *, ports: Ports, log: Path, request_deadline_seconds: float) -> None:
        """Nest its timeouts around the service's request deadline."""
        super().__init__(log=log)
        self.address = f"http://127.0.0.1:{ports.front}"
        self.metrics_address = f"http://127.0.0.1:{ports.front_metrics}/metrics"
        self._folder = folder
        self._ports = ports
        self._request_deadline_seconds = request_deadline_seconds

    @property
    def runtime_socket(self) -> Path:
        """Where its runtime interface listens (`show stat`, `set server ...`)."""
        return self._folder / "runtime"

    async def answers(self) -> bool:
        """Say whether its exporter answers."""
        return await part.answers_ok(self.metrics_address)

    async def command(self, line: str) -> str:
        """Say one line to the runtime interface and return its answer.

        Raises:
            PartFailed: it did not answer in time.
        """
        try:
            async with asyncio.timeout(RUNTIME_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self.runtime_socket)
                try:
                    writer.write(f"{line}\n".encode())
                    await writer.drain()
                    return (await reader.read()).decode().strip()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as problem:
            raise PartFailed(
                self.name, f"did not answer {line!r}", deadline_seconds=RUNTIME_SECONDS, log=self.log
            ) from problem

    async def serving(self) -> frozenset[str]:
        """Return the replicas that requests are sent to now."""
        rows = [row.split(",") for row in (await self.command("show stat -1 4 -1")).splitlines()]
        columns = {name: number for number, name in enumerate(rows[0])}
        return frozenset(
            row[columns["svname"]]
            for row in rows[1:]
            if len(row) > columns["status"] and row[columns["status"]].startswith("UP")
        )

    def _command(self) -> Sequence[str | Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        configuration = self._folder / "haproxy.cfg"
        configuration.write_text(
            part.render(
                "haproxy.cfg.j2",
                ports=self._ports,
                slots=range(1, SLOTS + 1),
                headers_bytes_max=HEADERS_BYTES_MAX,
                runtime_socket=self.runtime_socket,
                server_milliseconds=round((self._request_deadline_seconds + 1) * 1000),
                client_milliseconds=round((self._request_deadline_seconds + 2) * 1000),
            )
        )
        return [programs.find("haproxy"), "-db", "-f", configuration]
