"""PostgreSQL for the tests of the service, and the service inside the test's process, on structs, not variables."""

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.core.documents import canonical
from app.core.documents.identifiers import Principal
from app.core.governed import target
from app.main import Service, create_service
from app.settings import (
    DatabaseAddress,
    DatabasePolicy,
    HttpPolicy,
    KeyPolicy,
    RateLimit,
    RateLimitPolicy,
    Secret,
    ServerPolicy,
    Settings,
)
from app.storage import targets
from app.storage.events import Events, clock
from app.storage.targets import NewTarget
from compose import postgres
from compose.ports import Ports
from compose.postgres_template import APPLICATION, DATABASE, OWNER, SUPERUSER

SERVICE = Path(__file__).resolve().parents[3] / "service"
PEPPER = "of-the-integration-tests-" + "x" * 20

QUICK = DatabasePolicy(
    statement_timeout_seconds=0.6,
    lock_timeout_seconds=0.5,
    pool_wait_seconds=0.3,
    backoff_initial_seconds=0.1,
    backoff_max_seconds=0.4,
    wait_seconds=0.4,
    waiters_max=16,
    probe_interval_seconds=0.2,
    probe_timeout_seconds=0.2,
)
"""The documented policy, with shorter lengths: nothing here measures time of the machine by its own bounds."""


EVENTS = Events(actor_key=b"of-the-integration-tests", random=secrets.token_bytes)


def new_target(name: str, document: Any, **config: Any) -> NewTarget:
    told = {"schema": None, "minimum_tier": "low", "on_failure": "hold", "actuator": None, **config}
    record = canonical.encode_value(target.parse({"name": name, **told}, actuator_hosts=["127.0.0.1"]).record())
    content = canonical.encode_value(document)
    return NewTarget(
        name=name,
        config=record,
        config_digest=canonical.digest(record),
        document=content,
        digest=canonical.digest(content),
    )


@dataclass(frozen=True)
class Server:
    """The running PostgreSQL, migrated, and where commands find their secrets."""

    postgres: postgres.Postgres
    secrets: Path

    def address(self, *, port: int | None = None) -> DatabaseAddress:
        password = self.postgres.password_file(APPLICATION).read_bytes().strip()
        return DatabaseAddress(
            host="127.0.0.1",
            port=port or self.postgres.port,
            name=DATABASE,
            user=APPLICATION,
            password=Secret(password),
        )

    def environ(self, **more: str) -> dict[str, str]:
        given = {
            "DATABASE_HOST": "127.0.0.1",
            "DATABASE_PORT": str(self.postgres.port),
            "DATABASE_PASSWORD_FILE": str(self.postgres.password_file(APPLICATION)),
            "MIGRATOR_PASSWORD_FILE": str(self.postgres.password_file(OWNER)),
            "API_KEY_PEPPER_FILE": str(self.secrets / "pepper"),
            **more,
        }
        return {"PYTHONPATH": str(SERVICE), **{f"FIREWALL_{name}": value for name, value in given.items()}}

    def command(self, module: str, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            input=stdin,
            env=self.environ(**more),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def connect(self, role: str = SUPERUSER) -> psycopg.Connection[Any]:
        return psycopg.connect(self.postgres.dsn(role), autocommit=True)

    def add_target(self, name: str, document: Any, **config: Any) -> NewTarget:
        """Create a target as the service does, beside its HTTP."""
        new = new_target(name, document, **config)

        async def work() -> None:
            async with await psycopg.AsyncConnection.connect(self.postgres.dsn(APPLICATION)) as connection:
                now = await clock(connection)
                await targets.insert(connection, EVENTS, new, principal=Principal("tester"), now=now)

        with ThreadPoolExecutor(1) as beside:  # where no event loop runs
            beside.submit(asyncio.run, work()).result()
        return new

    def key(self, *roles: str, principal: str = "tester") -> str:
        arguments = [part for role in roles for part in ("--role", role)]
        done = self.command("app.security.api_keys", "create", "--principal", principal, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def _running(folder: Path) -> Iterator[Server]:
    with asyncio.Runner() as runner:
        running = postgres.running(folder, port=Ports.free().database)
        made = Server(runner.run(running.__aenter__()), folder)
        try:
            postgres.write_secret(folder / "pepper", PEPPER)
            yield made
        finally:
            runner.run(running.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with _running(tmp_path_factory.mktemp("postgres")) as made:
        done = made.command("app.migrations.apply")
        assert done.returncode == 0, done.stderr
        made.add_target("agents/router", DOCUMENT)
        yield made


@pytest.fixture(scope="session")
def bare_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with _running(tmp_path_factory.mktemp("bare-postgres")) as made:
        yield made


@pytest.fixture
def bare_server(bare_servers: Server) -> Server:
    """A server whose database is empty."""
    with bare_servers.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'firewall_owner'")
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute(f"CREATE SCHEMA public AUTHORIZATION {OWNER}")
        connection.execute(f"GRANT USAGE ON SCHEMA public TO {APPLICATION}")
    return bare_servers


@pytest.fixture(scope="session")
def editor_key(server: Server) -> str:
    return server.key("editor")


@pytest.fixture(scope="session")
def viewer_key(server: Server) -> str:
    return server.key("viewer")


UNLIMITED = RateLimitPolicy(principal=RateLimit(1_000_000, 1_000_000), address=RateLimit(1_000_000, 1_000_000))
"""More than a test ever asks for; those of failure mode 6 say otherwise."""


def settings_for(address: DatabaseAddress, policy: DatabasePolicy = QUICK, **http: Any) -> Settings:
    return Settings(
        environment="development",
        server=ServerPolicy(
            host="127.0.0.1", port=0, metrics_port=0, drain_seconds=0, grace_seconds=1, log_level="warning"
        ),
        http=HttpPolicy(
            **{"replica": "replica-1", "request_deadline_seconds": 0.8, "allowed_hosts": ("firewall.test",), **http}
        ),
        database=address,
        database_policy=policy,
        keys=KeyPolicy(pepper=Secret(PEPPER.encode())),
        rate_limit=UNLIMITED,
    )


@dataclass(frozen=True)
class Client:
    """The service without sockets: requests go straight into the application."""

    service: Service
    http: httpx.AsyncClient

    async def propose(self, key: str, *, name: str | None = None, **change: Any) -> httpx.Response:
        name = name or secrets.token_hex(8)
        return await self.http.post(
            "/api/v1/proposals",
            json={**PROPOSAL, "rationale": f"because of {name}", **change},
            headers={"X-API-Key": key, "Idempotency-Key": name},
        )


DOCUMENT = {"budgets": {"tokens_per_day": 100000}}
"""Of the target that the reference's example is about."""
PROPOSAL: dict[str, Any] = {
    "target": "agents/router",
    "base_version": 1,
    "base_digest": canonical.digest(canonical.encode_value(DOCUMENT)),
    "patch": [{"op": "add", "path": "/a", "value": 1.5}],
    "rationale": "because",
}


@asynccontextmanager
async def serving(
    settings: Settings,
    *,
    simulates: bool = False,
    works: bool = False,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> AsyncIterator[Client]:
    """Run the service until the block ends, with its sandbox (a second or so) and its worker where that is wanted."""
    service = create_service(settings, clock=clock, wall=wall)
    application: Any = service.application
    transport = httpx.ASGITransport(application, client=("127.0.0.1", 50_000))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.database)
        if simulates or works:
            await stack.enter_async_context(service.sandbox)
        await stack.enter_async_context(service.dispatcher)
        http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://firewall.test"))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        await service.database.first_attempt()
        loops = [*service.background, *([service.worker.run] if works else [])]
        beside = [tasks.create_task(run()) for run in loops]
        try:
            yield Client(service, http)
        finally:
            for task in beside:
                task.cancel()


async def eventually(claim: Callable[[], bool | Awaitable[bool]], *, within_seconds: float) -> float:
    """Return how long it took until the claim held."""
    began = time.monotonic()
    while True:
        holds = claim()
        if holds if isinstance(holds, bool) else await holds:
            return time.monotonic() - began
        assert time.monotonic() - began < within_seconds, f"not within {within_seconds} s"
        await asyncio.sleep(0.01)


def with_policy(**changes: Any) -> DatabasePolicy:
    return replace(QUICK, **changes)
