"""The limiter (FM06) against a real Valkey: shared, exact, and bounded when Valkey is gone."""

import asyncio
import io
import json
import math
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from app import log
from app.errors import RateLimited
from app.resilience.rate_limit import RateLimiter
from app.resilience.valkey import Valkey, ValkeyGone
from app.settings import RateLimit, RateLimitPolicy, Settings, ValkeyAddress, ValkeyPolicy
from tests.integration.service.buckets import ValkeyServer, running
from tests.integration.service.relay import Mode, Relay, relay
from tests.integration.service.running import Server, eventually, serving, settings_for

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

LIMIT = RateLimit(250, 250)
PATH = "/api/v1/proposals"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with running(tmp_path_factory.mktemp("valkey")) as server:
        yield server


def limiter_at(address: ValkeyAddress, **policy: Any) -> RateLimiter:
    told = RateLimitPolicy(**{"principal": LIMIT, "address": LIMIT, "replicas": 3, **policy})
    return RateLimiter(told, valkey=Valkey(address, ValkeyPolicy()), clock=time.monotonic)


@asynccontextmanager
async def watched(limiter: RateLimiter) -> AsyncIterator[RateLimiter]:
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(limiter.watch())
        try:
            yield limiter
        finally:
            watch.cancel()


async def wait_of(limiter: RateLimiter, principal: str) -> float:
    """Return 0 when a token was taken, else how long to wait."""
    try:
        await limiter.take("principal", principal, request_id="r", client_address="192.0.2.1")
    except RateLimited as refused:
        return refused.wait_seconds or math.inf
    return 0.0


async def admitted(limiter: RateLimiter, principal: str, requests: int) -> int:
    return [await wait_of(limiter, principal) for _ in range(requests)].count(0.0)


async def test_three_replicas_share_one_bucket(valkey: ValkeyServer) -> None:
    limit, name = RateLimit(1, 50), secrets.token_hex(4)
    limiters = [limiter_at(valkey.address, principal=limit) for _ in range(3)]

    counts = await asyncio.gather(*(admitted(one, name, 40) for one in limiters))

    assert sum(counts) == 50


async def test_whoever_waits_as_long_as_told_is_admitted_every_time(valkey: ValkeyServer) -> None:
    limiter, name = limiter_at(valkey.address, principal=RateLimit(60_000, 1)), secrets.token_hex(4)
    refusals = 0
    for _ in range(1000):
        wait = await wait_of(limiter, name)
        if wait:
            refusals += 1
            await asyncio.sleep(wait)
            assert await wait_of(limiter, name) == 0

    assert refusals > 100


async def test_a_flood_asks_valkey_once_a_token_and_not_once_a_request(valkey: ValkeyServer) -> None:
    limiter, name = limiter_at(valkey.address, principal=RateLimit(60, 1)), secrets.token_hex(4)
    with valkey.connect() as client:
        before = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
        await admitted(limiter, name, 500)
        asked = client.info("commandstats")["cmdstat_evalsha"]["calls"] - before

    assert asked <= 4


async def test_a_script_that_valkey_forgot_is_sent_again_and_charges_once(valkey: ValkeyServer) -> None:
    limiter, name = limiter_at(valkey.address, principal=RateLimit(1, 5)), secrets.token_hex(4)
    assert await wait_of(limiter, name) == 0
    with valkey.connect() as client:
        client.script_flush()

    assert await admitted(limiter, name, 10) == 4
    assert not limiter.is_degraded


@pytest.mark.parametrize("mode", [Mode.SILENT, Mode.CLOSING], ids=["silent", "refused"])
async def test_without_valkey_one_call_costs_at_most_its_time_out_and_the_next_none(
    valkey: ValkeyServer, mode: Mode
) -> None:
    async with relay(valkey.part.port) as between:
        limiter, name = limiter_at(valkey.at(between.port)), secrets.token_hex(4)
        await wait_of(limiter, name)
        await between.cut(mode)

        began = time.monotonic()
        await wait_of(limiter, name)
        first = time.monotonic() - began
        began = time.monotonic()
        await admitted(limiter, name, 100)
        rest = time.monotonic() - began

        assert limiter.is_degraded
        assert first < 0.15  # 0.1 s, and what the loop needs
        assert rest < 0.1


async def test_without_valkey_all_replicas_together_admit_one_more_bucket_at_most(valkey: ValkeyServer) -> None:
    async with relay(valkey.part.port) as between:
        name = secrets.token_hex(4)
        limiters = [limiter_at(valkey.at(between.port), principal=RateLimit(1, 50)) for _ in range(3)]
        shared = sum([await admitted(one, name, 20) for one in limiters])
        await between.cut(Mode.SILENT)

        local = sum([await admitted(one, name, 100) for one in limiters])

        assert shared == 50
        assert 0 < local <= 50


async def test_valkey_is_used_again_as_soon_as_it_answers(valkey: ValkeyServer) -> None:
    async with relay(valkey.part.port) as between, watched(limiter_at(valkey.at(between.port))) as limiter:
        await between.cut(Mode.SILENT)
        await eventually(lambda: limiter.is_degraded, within_seconds=5)
        await between.cut(Mode.CLOSING)
        between.mode = Mode.OPEN

        await eventually(lambda: not limiter.is_degraded, within_seconds=5)

        assert await wait_of(limiter, secrets.token_hex(4)) == 0
        assert limiter.status == "shared"


async def test_a_lost_answer_is_not_asked_for_again(valkey: ValkeyServer) -> None:
    async with relay(valkey.part.port, commit=b"EVALSHA") as between:
        limit, name = RateLimit(1, 50), secrets.token_hex(4)
        limiter, other = (
            limiter_at(valkey.at(between.port), principal=limit),
            limiter_at(valkey.address, principal=limit),
        )
        between.mode = Mode.LOSE_COMMIT_REPLY

        assert await wait_of(limiter, name) == 0  # admitted by this replica's own bucket

        assert await admitted(other, name, 60) == 49  # one token was taken, for one request admitted


async def test_the_watch_survives_whatever_becomes_of_the_connections(valkey: ValkeyServer) -> None:
    async with relay(valkey.part.port) as between, watched(limiter_at(valkey.at(between.port))) as limiter:
        for _ in range(2):
            await asyncio.gather(*(wait_of(limiter, secrets.token_hex(4)) for _ in range(20)))
            await between.cut(Mode.SILENT)
            await eventually(lambda: limiter.is_degraded, within_seconds=5)
            await between.cut(Mode.OPEN)
            await eventually(lambda: not limiter.is_degraded, within_seconds=5)


async def test_a_time_out_cancels_the_call_and_never_whoever_made_it(valkey: ValkeyServer) -> None:
    async with relay(valkey.part.port) as between:
        between.mode = Mode.SILENT

        async def request(number: int) -> None:
            store = Valkey(valkey.at(between.port), ValkeyPolicy(timeout_seconds=0.02))
            for _ in range(5):
                with pytest.raises(ValkeyGone):
                    await store.take(f"client-{number}", "1", "1", "", "")
                task = asyncio.current_task()
                assert task is not None
                assert task.cancelling() == 0
                await asyncio.sleep(0)  # where a cancellation that went astray would come out

        await asyncio.gather(*(request(number) for number in range(20)))


async def test_answers_are_never_given_to_another_call_however_many_are_cancelled(valkey: ValkeyServer) -> None:
    store = Valkey(valkey.address, ValkeyPolicy())
    name = secrets.token_hex(4)

    async def call(number: int) -> None:
        burst = number + 1  # each key has a burst of its own, and the level tells which
        answer = await store.take(f"{name}-{number}", "1", str(burst), "", "")
        assert answer[2] == number * 60_000_000

    answered = 0
    for turn in range(40):
        calls = [asyncio.ensure_future(call(turn * 25 + number)) for number in range(25)]
        await asyncio.sleep(0.0005 * (turn % 4))
        for one in calls[::2]:
            one.cancel()
        for result in await asyncio.gather(*calls, return_exceptions=True):
            answered += result is None
            assert result is None or isinstance(result, asyncio.CancelledError | ValkeyGone)
    assert answered > 100


async def test_what_is_remembered_is_bounded(valkey: ValkeyServer) -> None:
    limiter = limiter_at(valkey.address, entries_max=100)

    await asyncio.gather(*(wait_of(limiter, f"client-{number}") for number in range(30)))
    for number in range(300):
        await wait_of(limiter, f"client-{number}")

    assert limiter.remembered == 100


# Over HTTP.


def limited(server: Server, valkey: ValkeyServer, *, relayed: Relay | None = None, **policy: Any) -> Settings:
    address = valkey.at(relayed.port) if relayed else valkey.address
    told = RateLimitPolicy(**{"principal": RateLimit(1, 5), "address": RateLimit(1, 1000), "valkey": address, **policy})
    return replace(settings_for(server.address(), request_deadline_seconds=3), rate_limit=told)


async def test_a_refusal_says_when_to_come_back_who_it_was_and_is_counted(server: Server, valkey: ValkeyServer) -> None:
    output = io.BytesIO()
    log.configure("info", output=output)
    principal = f"greedy-{secrets.token_hex(4)}"
    key = server.key("viewer", principal=principal)
    async with serving(limited(server, valkey)) as client:
        answers = [await client.http.get(PATH, headers={"X-API-Key": key}) for _ in range(8)]

    assert [one.status_code for one in answers] == [200] * 5 + [429] * 3
    refused = answers[-1]
    told = refused.json()
    assert told["code"] == "rate-limited"
    assert 50 < told["wait_seconds"] <= int(refused.headers["retry-after"]) == told["retry_after"] <= 60
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    line = next(line for line in lines if line["event"] == "rate_limited")
    assert (line["principal"], line["client_address"], line["scope"]) == (principal, "127.0.0.1", "principal")
    assert key not in output.getvalue().decode()


async def test_one_who_floods_takes_nothing_from_another(server: Server, valkey: ValkeyServer) -> None:
    greedy, polite = (server.key("viewer", principal=f"{name}-{secrets.token_hex(4)}") for name in ("greedy", "polite"))
    async with serving(limited(server, valkey)) as client:
        for _ in range(50):
            await client.http.get(PATH, headers={"X-API-Key": greedy})

        answers = [await client.http.get(PATH, headers={"X-API-Key": polite}) for _ in range(5)]

    assert {one.status_code for one in answers} == {200}


async def test_a_principal_may_have_a_limit_of_its_own(server: Server, valkey: ValkeyServer) -> None:
    name = f"raised-{secrets.token_hex(4)}"
    key = server.key("viewer", principal=name)
    async with serving(limited(server, valkey, principals={name: RateLimit(100, 100)})) as client:
        answers = [await client.http.get(PATH, headers={"X-API-Key": key}) for _ in range(20)]

    assert {one.status_code for one in answers} == {200}


@pytest.mark.parametrize("key", [None, "amgf_wrong"], ids=["no key", "a wrong key"])
async def test_guesses_from_one_address_are_refused_before_they_are_looked_at(
    server: Server, valkey: ValkeyServer, key: str | None
) -> None:
    headers = {"X-Forwarded-For": f"198.51.100.{secrets.randbelow(200)}", **({"X-API-Key": key} if key else {})}
    async with serving(limited(server, valkey, address=RateLimit(1, 5))) as client:
        answers = [await client.http.get(PATH, headers=headers) for _ in range(8)]

    assert [one.status_code for one in answers] == [401] * 5 + [429] * 3


async def test_a_flood_from_an_address_refuses_no_key_that_is_known(server: Server, valkey: ValkeyServer) -> None:
    address = {"X-Forwarded-For": f"203.0.113.{secrets.randbelow(200)}"}
    key = server.key("viewer", principal=f"known-{secrets.token_hex(4)}")
    async with serving(limited(server, valkey, address=RateLimit(1, 5))) as client:
        first = await client.http.get(PATH, headers={"X-API-Key": key, **address})
        flood = [await client.http.get("/anything", headers=address) for _ in range(20)]
        later = await client.http.get(PATH, headers={"X-API-Key": key, **address})

    assert (first.status_code, flood[-1].status_code, later.status_code) == (200, 429, 200)


async def test_an_address_that_a_client_wrote_itself_is_not_believed(server: Server, valkey: ValkeyServer) -> None:
    own = f"198.51.100.{secrets.randbelow(200)}"
    async with serving(limited(server, valkey, address=RateLimit(1, 5))) as client:
        answers = [
            await client.http.get(PATH, headers={"X-Forwarded-For": f"192.0.2.{number}, {own}"}) for number in range(8)
        ]

    assert [one.status_code for one in answers] == [401] * 5 + [429] * 3


async def test_probes_are_never_refused(server: Server, valkey: ValkeyServer) -> None:
    limit = RateLimit(1, 1)
    async with serving(limited(server, valkey, address=limit)) as client:
        answers = [await client.http.get("/health/live") for _ in range(10)]

    assert {one.status_code for one in answers} == {200}


async def test_without_valkey_the_service_is_degraded_yet_ready(server: Server, valkey: ValkeyServer) -> None:
    async with relay(valkey.part.port) as between, serving(limited(server, valkey, relayed=between)) as client:

        async def is_degraded() -> bool:
            told: str = (await client.http.get("/health")).json()["rate_limit"]
            return told == "local"

        assert not await is_degraded()
        await between.cut(Mode.CLOSING)
        await eventually(is_degraded, within_seconds=5)

        told = (await client.http.get("/health")).json()

        assert (told["status"], told["ready"], told["reasons"]) == ("degraded", True, ["rate_limit_local"])
        assert (await client.http.get("/health/ready")).status_code == 200
