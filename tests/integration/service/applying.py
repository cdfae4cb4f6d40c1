"""The whole life in tests: a founded firewall whose service simulates, applies and delivers by itself."""

import asyncio
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from app.core.documents import canonical
from app.core.governance.policy_set import DEFAULT
from app.settings import DatabasePolicy, DeliveryPolicy, Secret, Settings, WorkerPolicy
from tests.integration.service.gate import DOCUMENT, PROPOSER, Founded, Party, found
from tests.integration.service.running import EVENTS, _running, eventually, serving, settings_for

ACTUATOR_KEY = b"of-the-actuators-in-the-integration-tests"
QUORUM = DEFAULT.document()["quorum"]
UNLOCKED = {tier: {**QUORUM[tier], "time_lock_seconds": 0} for tier in ("high", "critical")}
"""The documented quorums without their time-locks."""
PEOPLE = ("olga", "sam", "zoe")
WITHIN_SECONDS = 20.0


@pytest.fixture(scope="module")
def unlocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Founded]:
    folder = tmp_path_factory.mktemp("unlocked")
    with _running(folder) as server:
        assert server.command("app.migrations.apply").returncode == 0
        yield found(server, folder, quorum={**QUORUM, **UNLOCKED})


def settings(gate: Founded, **delivery: Any) -> Settings:
    patient = DatabasePolicy(statement_timeout_seconds=9, lock_timeout_seconds=8, pool_wait_seconds=8)
    return replace(
        settings_for(gate.server.address(), patient, request_deadline_seconds=10),
        service_seed=Secret(hashlib.sha256(b"service").digest()),
        worker=WorkerPolicy(pause_seconds=0.05),
        delivery=DeliveryPolicy(
            **{"key": Secret(ACTUATOR_KEY), "hosts": ("127.0.0.1",), "lease_seconds": 5, **delivery}
        ),
    )


@dataclass(frozen=True)
class Life(Party):
    """A party whose service does by itself what follows."""

    async def simulate(self, proposal: str) -> None:
        await self.until(proposal, "simulated", "denied", "failed")

    async def until(self, proposal: str, *states: str) -> str:
        async def is_there() -> bool:
            return (await self.stored(proposal)).state in states

        try:
            await eventually(is_there, within_seconds=WITHIN_SECONDS)
        except AssertionError:
            raise AssertionError((await self.stored(proposal)).state, self.founded.last(proposal)) from None
        return (await self.stored(proposal)).state

    async def approved(self, target: str, *, minimum_tier: str = "medium", **change: Any) -> str:
        """Return the id of a proposal that has its quorum."""
        proposal = await self.simulated(target, **await self.base(target), **change)
        for name in ("robot", "olga") if minimum_tier == "medium" else ("robot", *PEOPLE):
            answer = await self.vote(proposal, name)
            assert answer.status_code in {201, 409}, answer.text
        return proposal

    async def applied(self, target: str, **change: Any) -> str:
        proposal = await self.approved(target, **change)
        await self.until(proposal, "applied")
        return proposal

    async def base(self, target: str) -> dict[str, Any]:
        current = await self.current(target)
        return {"base_version": current["version"], "base_digest": current["digest"]}

    async def current(self, target: str) -> Any:
        return (await self.get(target, "/current")).json()

    async def target(self, target: str) -> Any:
        return (await self.get(target)).json()

    async def get(self, target: str, rest: str = "", principal: str = "reader") -> httpx.Response:
        return await self.client.http.get(address(target) + rest, headers=self.headers(principal))

    async def roll_back(self, target: str, version: int, principal: str = PROPOSER) -> httpx.Response:
        return await self.client.http.post(
            f"{address(target)}/rollbacks",
            json={"to_version": version, "reason": "it was better"},
            headers=self.headers(principal),
        )

    async def apply(self, proposal: str, principal: str = "applier", **headers: str) -> httpx.Response:
        return await self.client.http.post(
            f"/api/v1/proposals/{proposal}/application",
            json={},
            headers={**self.headers(principal), "If-Match": "*", **headers},
        )

    async def freeze(self, target: str, principal: str = "breaker") -> httpx.Response:
        return await self.client.http.put(
            f"{address(target)}/freeze", json={"reason": "a"}, headers=self.headers(principal)
        )

    async def observe(self, target: str, version: int, digest: str) -> httpx.Response:
        return await self.client.http.post(
            f"{address(target)}/observations",
            json={"version": version, "digest": digest},
            headers=self.headers("actuator"),
        )


def address(target: str) -> str:
    return "/api/v1/targets/" + target.replace("/", "%2F")


@asynccontextmanager
async def living(gate: Founded, **delivery: Any) -> AsyncIterator[Life]:
    async with serving(settings(gate, **delivery), works=True) as client:
        unused: Any = None
        yield Life(gate, client, unused, unused)


@dataclass
class Actuator:
    """A real HTTP server that takes deliveries; it answers `status` and keeps what it got."""

    status: int = 200
    location: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/take"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Actuator"]:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append((headers, body))
        extra = f"Location: {self.location}\r\n" if self.location else ""
        writer.write(f"HTTP/1.1 {self.status} X\r\n{extra}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    def verified(self) -> list[dict[str, Any]]:
        """Return the deliveries, each with a good signature of its target's own key."""
        found = []
        for headers, body in self.requests:
            told = json.loads(body)
            key = hmac.digest(ACTUATOR_KEY, b"amgf/actuator/v1\0" + told["target"].encode(), "sha256")
            assert headers["x-amgf-signature"] == "sha256=" + hmac.digest(key, body, "sha256").hex()
            assert canonical.digest(canonical.encode_value(told["document"])) == told["digest"]
            found.append(told)
        return found


def governed(gate: Founded, *, minimum_tier: str = "medium", **config: Any) -> str:
    name = f"agents/{secrets.token_hex(6)}"
    gate.server.add_target(name, DOCUMENT, minimum_tier=minimum_tier, **config)
    return name


__all__ = ["EVENTS", "Actuator", "Life", "address", "governed", "living", "unlocked"]
