"""FM01's runbook against a real PostgreSQL: its checks point at what is really wrong, its act is idempotent."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chaos import runbook
from chaos.runbook import Stage, StepResult
from compose import postgres
from compose.postgres import Postgres

pytestmark = [pytest.mark.integration, pytest.mark.anyio]
FM01 = runbook.load("fm01_database_connection_failure")
HOST = "127.0.0.1"


def free_port() -> int:
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
        return port


@asynccontextmanager
async def forwarder(target: int) -> AsyncIterator[int]:
    """Stand where Toxiproxy stands: accept, and hang up when nobody answers behind."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind_reader, behind_writer = await asyncio.open_connection(HOST, target)
            behind_writer.write(await reader.read(8))
            writer.write(await behind_reader.read(1))
            await writer.drain()
            behind_writer.close()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def silence() -> AsyncIterator[int]:
    """Accept and say nothing, as a proxy that forwards nothing."""
    with socket.create_server((HOST, 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Postgres]:
    async with postgres.running(tmp_path, port=free_port()) as running:
        yield running


def environment(server: Postgres, *proxies: int, start: str = "false") -> dict[str, str]:
    return {
        "AMGF_PYTHON": sys.executable,
        "AMGF_DATABASE_HOST": HOST,
        "AMGF_DATABASE_PORT": str(server.port),
        "AMGF_DATABASE_NAME": "firewall",
        "AMGF_DATABASE_PROXY_PORTS": " ".join(map(str, proxies)),
        "AMGF_DATABASE_START": start,
        "AMGF_SECRETS": str(server.secrets_folder),
        "AMGF_POSTGRES_BIN": str(server.binaries),
    }


async def diagnose(given: dict[str, str]) -> tuple[str | None, list[StepResult]]:
    results = [
        await runbook.run_step(step, stage=Stage.DURING, environment=given)
        for step in FM01.at(Stage.DURING, frozenset({2, 3, 4}))
    ]
    return FM01.localise({result.step.number: result.outcome for result in results}), results


async def test_nothing_wrong_with_database_way_and_credentials_points_at_the_service(server: Postgres) -> None:
    async with forwarder(server.port) as proxy:
        concluded, results = await diagnose(environment(server, server.port, proxy))

    assert concluded == "the service itself. Step 5 restarts it."
    assert all(result.ok for result in results)


async def test_a_closed_way_is_told_from_a_silent_one(server: Postgres) -> None:
    closed, _ = await diagnose(environment(server, server.port, free_port()))
    async with silence() as proxy:
        silent, _ = await diagnose(environment(server, server.port, proxy))

    assert closed is not None
    assert "nothing listens there" in closed
    assert silent is not None
    assert "forwards nothing" in silent


async def test_wrong_credentials_are_seen_and_never_printed(server: Postgres) -> None:
    file = server.password_file("firewall_app")
    file.write_text("not-the-password-at-all")

    concluded, results = await diagnose(environment(server, server.port))

    assert concluded == "the credentials. Step 4 says which."
    assert not any("not-the-password-at-all" in result.output for result in results)


async def test_a_secret_that_others_can_read_is_refused(server: Postgres) -> None:
    server.password_file("firewall_app").chmod(0o644)

    concluded, _ = await diagnose(environment(server, server.port))

    assert concluded == "the credentials. Step 4 says which."


async def test_a_stopped_database_is_found_and_started_and_only_once(server: Postgres) -> None:
    await server.stop("immediate")
    async with forwarder(server.port) as proxy:
        given = environment(server, proxy)
        concluded, results = await diagnose(given)
        act = FM01.at(Stage.REPAIR)[0]

        async with asyncio.timeout(40), asyncio.TaskGroup() as both:
            repairing = both.create_task(
                runbook.run_step(act, stage=Stage.REPAIR, environment=given | {"AMGF_DATABASE_START": "true"})
            )
            both.create_task(server.start())
        again = await runbook.run_step(act, stage=Stage.REPAIR, environment=given)
        after = [
            await runbook.run_step(step, stage=Stage.AFTER, environment=given)
            for step in FM01.at(Stage.AFTER, frozenset({2, 3, 4}))
            if step.number
        ]

    assert concluded == "the database server: it does not run. Step 2 starts it."
    assert all(result.ok for result in results)
    assert repairing.result().ok, repairing.result().output
    assert again.output == "database: was running, nothing done\n"
    assert all(result.ok for result in after), [result.output for result in after]


async def test_a_database_that_cannot_be_started_fails_the_act(server: Postgres) -> None:
    await server.stop("fast")

    result = await runbook.run_step(
        FM01.at(Stage.REPAIR)[0], stage=Stage.REPAIR, environment=environment(server, server.port, start="exit 7")
    )

    assert not result.ok
    assert result.exit_code == 7
