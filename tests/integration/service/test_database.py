"""FM01 and FM02 where they bite: between the service and PostgreSQL."""

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from app import metrics
from app.resilience.breaker import State
from tests.integration.service.relay import Mode, Relay, relay
from tests.integration.service.running import QUICK, Client, Server, eventually, serving, settings_for, with_policy

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SLACK_SECONDS = 0.25
"""What a busy machine may add; the documented bounds are longer than it."""


@pytest.fixture
async def network(server: Server) -> AsyncIterator[Relay]:
    async with relay(server.postgres.port) as made:
        yield made


def code(response: httpx.Response) -> str:
    return str(response.json()["code"])


def count(server: Server, name: str) -> int:
    with server.connect() as connection:
        row = connection.execute("SELECT count(*) FROM idempotency_records WHERE key = %s", [name]).fetchone()
    assert row is not None
    return int(row[0])


async def lose(client: Client) -> None:
    await eventually(lambda: not client.service.database.is_up, within_seconds=1)


async def come_back(client: Client, within_seconds: float = 3) -> None:
    await eventually(lambda: client.service.database.is_up, within_seconds=within_seconds)


async def test_a_brief_interruption_is_invisible_to_clients(server: Server, network: Relay, editor_key: str) -> None:
    policy = with_policy(wait_seconds=2, breaker_failures=50)
    async with serving(settings_for(server.address(port=network.port), policy, request_deadline_seconds=3)) as client:
        assert (await client.propose(editor_key)).status_code == 201
        await network.cut(Mode.CLOSING)
        await lose(client)

        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(client.propose(editor_key)) for _ in range(10)]
            await eventually(lambda: metrics.WAITING_ROOM_WAITERS._value.get() == 10, within_seconds=1)
            network.mode = Mode.OPEN

        assert {one.result().status_code for one in asked} == {201}


async def test_during_an_outage_only_the_driver_knocks_and_on_the_documented_backoff(
    server: Server, network: Relay, editor_key: str
) -> None:
    async with serving(settings_for(server.address(port=network.port))) as client:
        await client.propose(editor_key)
        await network.cut(Mode.CLOSING)
        await lose(client)
        network.attempts.clear()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(30):
                tasks.create_task(client.propose(editor_key))
            await eventually(lambda: len(network.attempts) >= 6, within_seconds=5)

        gaps = [later - earlier for earlier, later in itertools.pairwise(network.attempts[:6])]
        # Initial 0.1 doubles up to the cap; a flapping start may have taken the first step already.
        steps = [0.1, 0.2, 0.4, 0.4, 0.4, 0.4]
        start = 0 if gaps[0] < 0.15 else 1
        for gap, step in zip(gaps, steps[start:], strict=False):
            assert 0.9 * step <= gap <= 1.1 * step + SLACK_SECONDS


async def test_beyond_the_waiting_room_refusal_is_at_once_and_begins_nothing(
    server: Server, network: Relay, editor_key: str
) -> None:
    policy = with_policy(waiters_max=4, breaker_failures=100)
    async with serving(settings_for(server.address(port=network.port), policy)) as client:
        await client.propose(editor_key)
        await network.cut(Mode.CLOSING)
        await lose(client)
        names = [secrets.token_hex(8) for _ in range(8)]

        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(client.propose(editor_key, name=name)) for name in names]
        took = time.monotonic() - began

        answers = [one.result() for one in asked]
        assert {(answer.status_code, code(answer)) for answer in answers} == {(503, "database-unavailable")}
        assert all(1 <= int(answer.headers["retry-after"]) <= 30 for answer in answers)
        assert took < QUICK.wait_seconds + SLACK_SECONDS
    assert [count(server, name) for name in names] == [0] * 8


async def test_an_open_circuit_answers_without_asking(server: Server, network: Relay, editor_key: str) -> None:
    async with serving(settings_for(server.address(port=network.port))) as client:
        await client.propose(editor_key)
        await network.cut(Mode.CLOSING)
        await eventually(lambda: client.service.database.circuit is State.OPEN, within_seconds=3)
        took = []
        for _ in range(20):
            began = time.monotonic()
            answer = await client.propose(editor_key)
            took.append(time.monotonic() - began)
            assert answer.status_code == 503

        assert sorted(took)[10] < 0.02
        assert (await client.http.get("/health/live")).status_code == 200
        assert (await client.http.get("/health/ready")).json()["reasons"] == ["database_lost"]

        network.mode = Mode.OPEN
        await come_back(client)
        assert client.service.database.circuit is State.CLOSED
        assert (await client.propose(editor_key)).status_code == 201


async def test_a_silent_network_turns_readiness_red_and_costs_nobody_more_than_the_deadline(
    server: Server, network: Relay, editor_key: str
) -> None:
    async with serving(settings_for(server.address(port=network.port))) as client:
        await client.propose(editor_key)
        await network.cut(Mode.SILENT)
        network.attempts.clear()
        began = time.monotonic()
        answers = await asyncio.gather(*(client.propose(editor_key) for _ in range(12)))
        took = time.monotonic() - began

        assert took < 0.8 + SLACK_SECONDS
        assert len(network.attempts) <= 1, "a pool that wants to grow must not knock at a silent door"
        assert {(a.status_code, code(a)) for a in answers} <= {
            (503, "database-unavailable"),
            (504, "query-timeout"),
        }
        assert (await client.http.get("/health/ready")).status_code == 503
        await eventually(lambda: metrics.DB_ZOMBIES._value.get() == 0, within_seconds=1)
        # One attempt of the driver at a time; what it gave up on is closed, not left to the garbage collector.
        await eventually(lambda: len(network.attempts) >= 2, within_seconds=5)
        assert network.connections <= 1

        network.mode = Mode.OPEN
        await come_back(client, within_seconds=5)
        await eventually(lambda: client.service.database.pool_counts()["open"] >= 2, within_seconds=1)
        assert (await client.propose(editor_key)).status_code == 201


async def test_a_lost_answer_to_commit_is_an_unknown_outcome_and_the_retry_finds_it(
    server: Server, network: Relay, editor_key: str
) -> None:
    async with serving(settings_for(server.address(port=network.port))) as client:
        await client.propose(editor_key)
        name = secrets.token_hex(8)
        network.mode = Mode.LOSE_COMMIT_REPLY

        answer = await client.propose(editor_key, name=name)

        assert (answer.status_code, code(answer)) == (504, "outcome-unknown")
        network.mode = Mode.OPEN
        await come_back(client, within_seconds=5)
        again = await client.propose(editor_key, name=name)
        assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert count(server, name) == 1


async def test_what_was_cut_before_commit_was_not_done_and_says_so(
    server: Server, network: Relay, editor_key: str
) -> None:
    async with serving(settings_for(server.address(port=network.port))) as client:
        await client.propose(editor_key)
        name = secrets.token_hex(8)
        network.mode = Mode.CUT_BEFORE_COMMIT

        answer = await client.propose(editor_key, name=name)

        # COMMIT left our hands, so we may not promise anything, although we know better here.
        assert (answer.status_code, code(answer)) == (503, "outcome-unknown")
        network.mode = Mode.OPEN
        await come_back(client)
        assert "idempotency-replayed" not in (await client.propose(editor_key, name=name)).headers
    assert count(server, name) == 1


async def test_a_server_that_takes_no_writes_is_a_lost_database(server: Server, editor_key: str) -> None:
    async with serving(settings_for(server.address())) as client:
        await client.propose(editor_key)
        with server.connect() as connection:
            connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            connection.execute("SELECT pg_reload_conf()")
        try:
            await eventually(lambda: not client.service.readiness.is_ready, within_seconds=2)
            assert (await client.propose(editor_key)).status_code == 503
        finally:
            with server.connect() as connection:
                connection.execute("SET default_transaction_read_only = off")
                connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
                connection.execute("SELECT pg_reload_conf()")
        await come_back(client)
        assert (await client.propose(editor_key)).status_code == 201


async def test_one_terminated_session_renews_all_within_a_blink(server: Server, editor_key: str) -> None:
    async with serving(settings_for(server.address(), replica="replica-terminated")) as client:
        await client.propose(editor_key)
        with server.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'replica-terminated'"
            )
        await lose(client)
        await come_back(client, within_seconds=1.5)

        assert (await client.propose(editor_key)).status_code == 201
        assert client.service.database.pool_counts()["open"] >= 2


async def test_a_locked_table_is_a_504_and_the_connection_goes_back(server: Server, editor_key: str) -> None:
    async with serving(settings_for(server.address())) as client:
        await client.propose(editor_key)
        name = secrets.token_hex(8)
        with server.connect() as connection, connection.transaction():
            connection.execute("LOCK TABLE proposals IN ACCESS EXCLUSIVE MODE")

            answer = await client.propose(editor_key, name=name)

            assert (answer.status_code, code(answer)) == (504, "query-timeout")
            assert client.service.readiness.is_ready
            assert client.service.database.pool_counts()["in_use"] == 0
        assert (await client.propose(editor_key, name=name)).status_code == 201


async def test_when_every_connection_is_busy_waiting_is_bounded_and_the_probe_stays_green(
    server: Server, editor_key: str
) -> None:
    policy = with_policy(connections_min=2, connections_max=2)
    async with serving(settings_for(server.address(), policy)) as client:
        await client.propose(editor_key)
        with server.connect() as connection, connection.transaction():
            connection.execute("LOCK TABLE proposals IN ACCESS EXCLUSIVE MODE")
            answers = await asyncio.gather(*(client.propose(editor_key) for _ in range(6)))

        statuses = sorted(answer.status_code for answer in answers)
        assert set(statuses) == {503, 504}
        assert client.service.readiness.is_ready
        assert (await client.propose(editor_key)).status_code == 201


async def test_the_service_starts_without_a_database_and_serves_when_it_comes(
    server: Server, network: Relay, editor_key: str
) -> None:
    network.mode = Mode.CLOSING
    async with serving(settings_for(server.address(port=network.port))) as client:
        assert (await client.http.get("/health/startup")).status_code == 503
        assert (await client.http.get("/health/live")).status_code == 200
        network.mode = Mode.OPEN
        await come_back(client)

        assert (await client.http.get("/health/startup")).status_code == 200
        assert (await client.propose(editor_key)).status_code == 201
