"""The whole stack as clients meet it: HAProxy, two replicas of the service, and what these need."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

import slo.profiles
from chaos.faults.toxiproxy import ToxiproxyApi
from compose.ports import Ports
from compose.stack import Stack, StackSpec

OPEN_SECONDS = 1.5
CLOSED_SECONDS = 0.5
RATE_LIMITS = ("PER_MINUTE", "BURST", "ADDRESS_PER_MINUTE", "ADDRESS_BURST")
UNHURRIED = 1_000_000
"""Requests a minute: what is asked here is what is answered, not how fast one may ask."""
SETTINGS = {
    **{f"FIREWALL_RATE_LIMIT_{name}": f"{UNHURRIED}" for name in RATE_LIMITS},
    "FIREWALL_DATABASE_BACKOFF_INITIAL_SECONDS": "0.1",
    "FIREWALL_DATABASE_BACKOFF_MAX_SECONDS": "0.2",
    # Else those who ask one after the other would wait out every interruption and see none.
    "FIREWALL_WAITING_ROOM_WAIT_SECONDS": "0.05",
    "FIREWALL_BREAKER_COOLDOWN_SECONDS": "0.1",
}


@dataclass(frozen=True)
class Running:
    """A stack and who may ask it."""

    front: str
    """Its address for clients."""
    description: str
    """Where one of its replicas shows the OpenAPI document."""
    key: str = field(repr=False)
    """Reaches past the roles of every route but the admin's."""
    chief_key: str = field(repr=False)
    """The admin's."""
    portal: BlockingPortal
    toxiproxy: ToxiproxyApi
    database_proxies: tuple[str, ...]

    @contextmanager
    def database_comes_and_goes(self) -> Iterator[None]:
        """Cut every replica's connections to the database and let them through again, until the end."""
        cutting = self.portal.start_task_soon(self._flap)
        try:
            yield
        finally:
            cutting.cancel()
            self.portal.call(self._set, True)

    async def _flap(self) -> None:
        while True:
            await self._set(False)
            await anyio.sleep(CLOSED_SECONDS)
            await self._set(True)
            await anyio.sleep(OPEN_SECONDS)

    async def _set(self, enabled: bool) -> None:  # noqa: FBT001
        for name in self.database_proxies:
            await self.toxiproxy.set_enabled(name, enabled=enabled)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("contract")
    everything_else = ("viewer", "editor", "validator", "applier", "break_glass", "actuator")
    spec = StackSpec(
        folder=folder / "state",
        logs=folder / "logs",
        profile=slo.profiles.load("fast"),
        ports=Ports.free(),
        settings=SETTINGS,
        principals={"contract": everything_else, "chief": ("admin",)},
        rate_limits={"contract": UNHURRIED, "chief": UNHURRIED},
    )

    @asynccontextmanager
    async def started() -> AsyncIterator[Stack]:
        async with Stack.start(spec) as stack:
            yield stack

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(started()) as stack:
        yield Running(
            front=stack.address,
            description=f"{stack.replica_address('replica-1')}/schema/openapi.json",
            key=stack.key_of("contract"),
            chief_key=stack.key_of("chief"),
            portal=portal,
            toxiproxy=ToxiproxyApi(f"127.0.0.1:{spec.ports.toxiproxy}"),
            database_proxies=tuple(f"database-{slot}" for slot in range(1, spec.replicas + 1)),
        )
