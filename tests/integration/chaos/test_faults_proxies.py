"""Faults made by a real Toxiproxy before a real PostgreSQL."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from chaos.faults import (
    FaultFailed,
    FaultTimedOut,
    InvalidFault,
    ProxyDown,
    ProxyLatency,
    SilentProxy,
    from_record,
    vantage,
)
from chaos.faults.base import noting, until
from chaos.faults.proxies import _Cut
from chaos.faults.toxics import Toxic
from chaos.faults.toxiproxy import NoSuchProxy, ToxiproxyApi, ToxiproxyUnwell
from chaos.faults.vantage import Reached, ask
from chaos.scenario import Fault
from compose.ports import Ports
from tests.integration.chaos import fault_stack
from tests.integration.chaos.fault_stack import Parts

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with fault_stack.running(tmp_path) as running:
        yield running


CUTS = [
    pytest.param(ProxyDown(), id="all proxies down"),
    pytest.param(ProxyDown(replicas=("replica-2",)), id="one proxy down"),
    pytest.param(SilentProxy(), id="all proxies silent"),
    pytest.param(SilentProxy(replicas=("replica-1",)), id="one proxy silent"),
    pytest.param(ProxyLatency(latency_ms=300), id="answers late"),
]


@pytest.mark.parametrize("fault", CUTS)
async def test_a_fault_bites_only_between_inject_and_undo(fault: Fault, parts: Parts) -> None:
    stack, process = parts.stack, parts.toxiproxy.pid
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
    assert parts.toxiproxy.pid == process


async def test_one_replica_is_cut_off_alone(parts: Parts) -> None:
    await ProxyDown(replicas=("replica-2",)).inject(parts.stack)

    assert (await ask("database", parts.listener("database-1"))).reached is Reached.ANSWERED
    assert (await ask("database", parts.listener("database-2"))).reached is Reached.REFUSED


async def test_a_silent_proxy_silences_open_connections_and_its_undo_closes_them(parts: Parts) -> None:
    fault = SilentProxy()
    reader, writer = await _open_conversation(parts)

    await fault.inject(parts.stack)
    writer.write(b"Q")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await reader.read(1)
    await fault.undo(parts.stack)

    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127/8 on its loopback")
async def test_our_own_looks_are_told_from_a_replicas_attempts_in_the_log(parts: Parts, tmp_path: Path) -> None:
    _, writer = await _open_conversation(parts)
    writer.close()

    await ask("database", parts.listener("database-1"))

    accepted = [
        json.loads(line)["client"].partition(":")[0]
        for line in (tmp_path / "toxiproxy.log").read_text().splitlines()
        if "Accepted client" in line
    ]
    assert accepted == ["127.0.0.1", vantage.HOST]


async def test_undo_after_half_an_inject_leaves_nothing(parts: Parts) -> None:
    fault = SilentProxy()
    api = ToxiproxyApi(parts.toxiproxy.address)
    await api.put_toxic("database-2", fault.toxics()[1])

    await fault.undo(parts.stack)

    assert all(not proxy.toxics for proxy in (await api.proxies()).values())
    assert (await fault.is_gone(parts.stack)).ok


async def test_a_hanging_control_api_is_undone_by_a_restart_that_is_noted(parts: Parts) -> None:
    fault = SilentProxy()
    await fault.inject(parts.stack)
    process = parts.toxiproxy.pid
    assert process is not None
    os.kill(process, signal.SIGSTOP)

    with noting() as notes:
        await fault.undo(parts.stack)

    assert parts.toxiproxy.pid != process
    assert len(notes) == 1
    assert "last resort" in notes[0]
    assert (await fault.is_gone(parts.stack)).ok


async def test_a_dead_control_api_is_undone_by_a_restart(parts: Parts) -> None:
    fault = ProxyDown()
    await fault.inject(parts.stack)
    await parts.toxiproxy.stop()

    await fault.undo(parts.stack)

    assert (await fault.is_gone(parts.stack)).ok


async def test_a_latency_in_front_of_a_client_that_does_not_read_is_undone(parts: Parts) -> None:
    """Toxiproxy 2.12.0 deadlocks here (Shopify/toxiproxy#558); the undo must not."""
    fault = ProxyLatency(latency_ms=100)
    await fault.inject(parts.stack)
    dsn = f"{parts.postgres.dsn('firewall_monitor')} port={_port(parts)}"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        connection.pgconn.send_query(b"SELECT repeat('x', 1000) FROM generate_series(1, 200000)")  # never read
        await _until_a_session_waits_for_its_client(parts)

        with noting() as notes:
            async with asyncio.timeout(30):
                await fault.undo(parts.stack)
        connection.pgconn.finish()

    assert len(notes) == 1
    assert (await fault.is_gone(parts.stack)).ok


async def test_a_dependency_without_a_proxy_is_a_failure_not_a_bite(parts: Parts) -> None:
    absent = ProxyDown(replicas=("replica-1", "replica-9"))

    with pytest.raises(FaultFailed, match="no proxy database-9"):
        await absent.inject(parts.stack)

    assert not (await absent.bites(parts.stack)).ok
    assert not (await absent.is_gone(parts.stack)).ok


async def test_a_taken_port_makes_the_undo_fail_loudly(parts: Parts) -> None:
    fault = ProxyDown(replicas=("replica-1",))
    await fault.inject(parts.stack)
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", _port(parts))

    async with taken:
        with pytest.raises(FaultFailed, match="Toxiproxy"):
            await fault.undo(parts.stack)
        assert not (await fault.is_gone(parts.stack)).ok


async def test_the_api_adds_updates_removes_and_resets_what_it_reads_back(parts: Parts) -> None:
    api = ToxiproxyApi(parts.toxiproxy.address)
    slow = Toxic(name="slow", type="latency", attributes={"latency": 5})
    slower = Toxic(name="slow", type="latency", attributes={"latency": 10, "jitter": 2})

    assert (await api.put_toxic("database-1", slow)).toxic("slow") is not None
    seen = (await api.put_toxic("database-1", slower)).toxic("slow")
    assert seen is not None
    assert seen.agrees_with(slower)
    with pytest.raises(FaultFailed, match="another toxic"):
        await api.put_toxic("database-1", Toxic(name="slow", type="bandwidth", attributes={"rate": 1}))
    await api.set_enabled("database-2", enabled=False)
    assert all(proxy.enabled and not proxy.toxics for proxy in (await api.reset()).values())
    assert not (await api.remove_toxic("database-1", "slow")).toxics
    with pytest.raises(NoSuchProxy):
        await api.proxy("database-9")


async def test_two_servers_in_one_process_are_not_mixed_up(parts: Parts) -> None:
    here = ToxiproxyApi(parts.toxiproxy.address)
    nowhere = ToxiproxyApi(f"127.0.0.1:{Ports.free().toxiproxy}")

    with pytest.raises((ToxiproxyUnwell, FaultTimedOut)):
        await nowhere.proxies()

    assert set(await here.proxies()) == set(parts.toxiproxy.proxies())


def test_a_cut_of_nobody_is_refused() -> None:
    with pytest.raises(InvalidFault):
        _Cut(replicas=())


async def _until_a_session_waits_for_its_client(parts: Parts) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'"

    looks = 0

    async def seen() -> bool:
        nonlocal looks
        row = await (await monitor.execute(waiting)).fetchone()
        looks = looks + 1 if row is not None and row[0] == 1 else 0
        return looks == 20  # for good: everything between it and its client is full

    monitor = await psycopg.AsyncConnection.connect(parts.postgres.dsn("firewall_monitor"), autocommit=True)
    async with monitor, asyncio.timeout(20):
        await until(seen)


def _port(parts: Parts) -> int:
    return parts.listener("database-1").port


async def _open_conversation(parts: Parts) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection through the first slot that PostgreSQL has answered once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", _port(parts))
    writer.write(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
    async with asyncio.timeout(5):
        assert await reader.read(1) in {b"S", b"N"}
    return reader, writer
