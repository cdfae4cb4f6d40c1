"""PostgreSQL as the stack runs it: never as root, checksummed, recovering, with passwords that no log holds."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from compose import places, postgres_template, programs
from compose.postgres import ROLES, Postgres, running
from compose.processes import PartFailed

pytestmark = [pytest.mark.integration, pytest.mark.anyio, pytest.mark.timeout(60)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[Postgres]:
    async with running(tmp_path, port=free_port()) as server:
        yield server


async def ask(server: Postgres, role: str, statement: bytes) -> str:
    async with await psycopg.AsyncConnection.connect(server.dsn(role)) as connection:
        row = await (await connection.execute(statement)).fetchone()
    assert row is not None
    return str(row[0])


async def test_each_role_logs_in_with_its_own_password_and_no_log_holds_one(postgres: Postgres) -> None:
    seen = {role: await ask(postgres, role, b"SELECT current_user") for role in ROLES}

    assert seen == {role: role for role in ROLES}
    log = postgres.log.read_text()
    for role in ROLES:
        assert postgres.password_file(role).read_text() not in log
        assert postgres.password_file(role).stat().st_mode & 0o777 == 0o600
        assert postgres.password_file(role).read_text() not in postgres.dsn(role)


async def test_the_application_may_not_define_tables_and_the_monitor_reads_them(postgres: Postgres) -> None:
    async with await psycopg.AsyncConnection.connect(postgres.dsn("firewall_owner")) as owner:
        await owner.execute("CREATE TABLE seen (n int)")
        await owner.execute("INSERT INTO seen VALUES (7)")

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await ask(postgres, "firewall_app", b"CREATE TABLE unwanted (n int)")

    assert await ask(postgres, "firewall_monitor", b"SELECT n FROM seen") == "7"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data_checksums", "on"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_sync_retry", "off"),
        ("statement_timeout", "30s"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("listen_addresses", "127.0.0.1"),
    ],
)
async def test_the_server_runs_with_what_the_design_promises(postgres: Postgres, setting: str, value: str) -> None:
    assert await ask(postgres, "firewall_app", f"SHOW {setting}".encode()) == value


async def test_what_was_committed_survives_an_immediate_stop(postgres: Postgres) -> None:
    async with await psycopg.AsyncConnection.connect(postgres.dsn("firewall_owner")) as owner:
        await owner.execute("CREATE TABLE kept AS SELECT 42 AS n")

    await postgres.stop("immediate")
    accepting_while_stopped = await postgres.is_accepting()
    await postgres.start()

    assert not accepting_while_stopped
    assert await ask(postgres, "firewall_owner", b"SELECT n FROM kept") == "42"
    assert "was not properly shut down" in postgres.log.read_text()


async def test_a_stopped_postmaster_counts_as_not_accepting(postgres: Postgres) -> None:
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGSTOP)
    try:
        accepting = await postgres.is_accepting()
    finally:
        os.kill(postgres.pid, signal.SIGCONT)

    assert not accepting
    assert await postgres.is_accepting()


async def test_a_taken_port_is_told_with_the_end_of_the_log(postgres: Postgres, tmp_path: Path) -> None:
    with pytest.raises(PartFailed) as raised:
        async with running(tmp_path / "second", port=postgres.port):
            pass

    assert "PostgreSQL ended with exit code 1" in str(raised.value)
    assert "Address already in use" in str(raised.value)


async def test_two_makers_of_the_template_at_once_leave_one(tmp_path: Path, postgres: Postgres) -> None:
    async def copy(name: str) -> None:
        await postgres_template.copy_to(
            tmp_path / name, binaries=postgres.binaries, major=18, keep_in=tmp_path / "kept", identity=postgres.identity
        )

    await asyncio.gather(copy("one"), copy("two"))

    kept = list((tmp_path / "kept").iterdir())
    assert len(kept) == 1
    assert (kept[0] / "PG_VERSION").read_text().strip() == "18"
    assert all((tmp_path / name / "PG_VERSION").exists() for name in ("one", "two"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
async def test_programs_that_nobody_may_reach_are_put_where_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    places.link_tree(programs.find("postgres").parent.parent, closed / "installed")
    closed.chmod(0o700)
    monkeypatch.setenv("STACK_POSTGRES", str(closed / "installed" / "bin"))

    async with running(tmp_path, port=free_port()) as server:
        assert await ask(server, "firewall_app", b"SELECT 1") == "1"
        assert not server.binaries.is_relative_to(closed)
    assert not server.binaries.exists()
