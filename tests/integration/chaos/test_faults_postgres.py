"""Faults of a real PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import psycopg
import pytest

from chaos.faults import FaultFailed, PostgresPaused, PostgresStopped, SessionsEnded, from_record
from chaos.scenario import Fault
from compose import postgres
from compose.ports import Ports

if TYPE_CHECKING:
    from compose.stack import Stack

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator["Stack"]:
    async with postgres.running(tmp_path, port=Ports.free().database) as database:
        yield cast("Stack", SimpleNamespace(postgres=database))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(PostgresStopped(), id="stopped at once"),
        pytest.param(PostgresStopped(mode="fast"), id="stopped in order"),
        pytest.param(PostgresPaused(), id="paused"),
    ],
)
async def test_a_fault_bites_only_between_inject_and_undo(fault: Fault, stack: "Stack") -> None:
    assert not (await fault.bites(stack)).ok
    assert (await fault.is_gone(stack)).ok

    await fault.inject(stack)
    await fault.inject(stack)
    bitten = await fault.bites(stack)
    assert bitten.ok, bitten.text
    assert not (await fault.is_gone(stack)).ok

    again = from_record(fault.kind, fault.parameters())
    await again.undo(stack)
    await again.undo(stack)
    gone = await fault.is_gone(stack)
    assert gone.ok, gone.text
    assert not (await fault.bites(stack)).ok


async def test_an_undo_finds_nothing_to_do_when_the_runbook_started_the_server(stack: "Stack") -> None:
    fault = PostgresStopped()
    await fault.inject(stack)
    await stack.postgres.start()
    started = stack.postgres.pid

    await fault.undo(stack)

    assert stack.postgres.pid == started
    assert (await fault.is_gone(stack)).ok


async def test_a_stop_at_once_makes_the_next_start_recover(stack: "Stack", tmp_path: Path) -> None:
    fault = PostgresStopped()

    await fault.inject(stack)
    await fault.undo(stack)

    assert "database system was not properly shut down" in (tmp_path / "postgres.log").read_text()


async def test_a_stopped_server_cannot_be_paused_and_needs_no_thaw(stack: "Stack") -> None:
    await PostgresStopped().inject(stack)

    with pytest.raises(FaultFailed, match="does not run"):
        await PostgresPaused().inject(stack)
    await PostgresPaused().undo(stack)

    assert not (await PostgresPaused().is_gone(stack)).ok


async def test_sessions_are_ended_at_once_and_new_ones_are_welcome(stack: "Stack") -> None:
    fault = from_record("sessions_ended", SessionsEnded().parameters())
    async with await psycopg.AsyncConnection.connect(stack.postgres.dsn(), autocommit=True) as before:
        await fault.inject(stack)
        await fault.inject(stack)

        with pytest.raises(psycopg.OperationalError):
            await before.execute("SELECT 1")
    bitten = await fault.bites(stack)
    assert bitten.ok, bitten.text
    assert (await fault.is_gone(stack)).ok
    await fault.undo(stack)
    async with await psycopg.AsyncConnection.connect(stack.postgres.dsn()) as after:
        await after.execute("SELECT 1")


async def test_an_old_session_is_no_bite(stack: "Stack", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.faults.postgres._FRESH_SECONDS", 0.0)
    async with await psycopg.AsyncConnection.connect(stack.postgres.dsn()):
        assert not (await SessionsEnded().bites(stack)).ok
