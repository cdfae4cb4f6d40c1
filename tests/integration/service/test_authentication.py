"""Credentials against the real key store: made, shown once, ended; believed for so long; refused alike (FM04, FM05)."""

import io
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from app import log
from app.settings import Settings
from tests.integration.service.relay import Mode, relay
from tests.integration.service.running import Client, Server, eventually, serving, settings_for, with_policy
from tests.integration.service.wrong_credentials import wrong_credentials
from tests.unit.service.signed_tokens import Issuer

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

KEYS = "/api/v1/api-keys"
PROPOSALS = "/api/v1/proposals"


@pytest.fixture(scope="module")
def admin_key(server: Server) -> str:
    return server.key("admin", principal="root")


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


@pytest.fixture
async def client(server: Server, issuer: Issuer) -> AsyncIterator[Client]:
    async with serving(replace(settings_for(server.address()), tokens=issuer.policy())) as running:
        yield running


async def status(client: Client, key: str) -> int:
    return (await client.http.get(PROPOSALS, headers={"X-API-Key": key})).status_code


async def make(client: Client, admin_key: str, **asked: Any) -> httpx.Response:
    body = {"principal": "bot", "roles": ["editor"], **asked}
    return await client.http.post(KEYS, json=body, headers={"X-API-Key": admin_key})


async def test_a_key_made_over_the_api_is_shown_once_works_and_ends_at_once_when_it_is_revoked(
    client: Client, admin_key: str, server: Server
) -> None:
    made = await make(client, admin_key, days=1)
    key, key_id = made.json()["key"], made.json()["id"]

    assert made.status_code == 201
    assert made.headers["location"] == f"{KEYS}/{key_id}"
    assert await status(client, key) == 200

    listed = await _all(client, admin_key)
    assert listed[key_id]["roles"] == ["editor"]
    assert listed[key_id]["created_by"] == "root"
    assert listed[key_id]["last_used_at"] is not None
    with server.connect() as connection:
        stored = connection.execute("SELECT * FROM api_keys WHERE id = %s", [key_id]).fetchone()
    secret = key[18:-6]
    assert secret not in repr(stored)
    assert secret not in json.dumps(listed)

    for _ in range(2):
        ended = await client.http.delete(f"{KEYS}/{key_id}", headers={"X-API-Key": admin_key})
        assert (ended.status_code, ended.content) == (204, b"")
    assert await status(client, key) == 401
    assert (await _all(client, admin_key))[key_id]["revoked_by"] == "root"


async def _all(client: Client, admin_key: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    cursor: dict[str, str] = {}
    while True:
        page = await client.http.get(KEYS, params={"limit": "3", **cursor}, headers={"X-API-Key": admin_key})
        found.update({item["id"]: item for item in page.json()["items"]})
        if page.json()["next_cursor"] is None:
            return found
        cursor = {"cursor": page.json()["next_cursor"]}


@pytest.mark.parametrize(
    "asked",
    [
        {"principal": "Ann"},
        {"principal": "ann\n"},
        {"principal": ""},
        {"roles": []},
        {"roles": ["emperor"]},
        {"days": 0},
        {"days": 4000},
        {"expires_at": "2030-01-01T00:00:00Z"},
    ],
    ids=repr,
)
async def test_a_key_that_nobody_should_have_is_not_made(
    client: Client, admin_key: str, server: Server, asked: dict[str, Any]
) -> None:
    with server.connect() as connection:
        before = connection.execute("SELECT count(*) FROM api_keys").fetchone()
        answer = await make(client, admin_key, **asked)
        after = connection.execute("SELECT count(*) FROM api_keys").fetchone()

    assert answer.status_code == 422
    assert before == after


async def test_an_unknown_key_cannot_be_revoked(client: Client, admin_key: str) -> None:
    for key_id in ("0" * 12, "x", "0" * 13):
        answer = await client.http.delete(f"{KEYS}/{key_id}", headers={"X-API-Key": admin_key})
        assert answer.status_code == 404


def test_the_commands_list_and_revoke(server: Server) -> None:
    key = server.key("viewer", principal="by-command")

    revoked = server.command("app.security.api_keys", "revoke", key[5:17])
    listed = server.command("app.security.api_keys", "list")
    unknown = server.command("app.security.api_keys", "revoke", "0" * 12)

    assert (revoked.returncode, revoked.stdout) == (0, f"{key[5:17]} revoked\n")
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith(key[5:17])]
    assert line.startswith(f"{key[5:17]} by-command viewer revoked 2")
    assert key[18:] not in listed.stdout
    assert unknown.returncode == 1


async def test_a_revoked_key_is_refused_elsewhere_after_it_was_fresh_and_not_before(
    server: Server, admin_key: str
) -> None:
    clock = Moved()
    settings = settings_for(server.address())
    async with serving(settings) as first, serving_at(settings, clock) as second:
        made = (await make(first, admin_key)).json()
        assert await status(second, made["key"]) == 200
        await first.http.delete(f"{KEYS}/{made['id']}", headers={"X-API-Key": admin_key})

        assert await status(second, made["key"]) == 200  # the revocation rule: believed for `fresh_seconds`
        clock.ahead = settings.keys.fresh_seconds + 1
        assert await status(second, made["key"]) == 401


async def test_without_the_key_store_a_remembered_key_works_for_a_bounded_time_and_never_past_its_own_end(
    server: Server, admin_key: str
) -> None:
    clock = Moved()
    async with relay(server.postgres.port) as network:
        settings = settings_for(server.address(port=network.port), with_policy(breaker_failures=2))
        async with serving_at(settings, clock) as client:
            lasting, ending = [(await make(client, admin_key, days=days)).json() for days in (None, 1)]
            with server.connect() as connection:
                connection.execute(
                    "UPDATE api_keys SET expires_at = now() + interval '40 s' WHERE id = %s", [ending["id"]]
                )
            assert [await writes(client, one["key"]) for one in (lasting, ending)] == [422, 422]
            await network.cut(Mode.CLOSING)
            await eventually(lambda: not client.service.database.is_up, within_seconds=1)

            clock.ahead = settings.keys.fresh_seconds + 5
            assert [await writes(client, one["key"]) for one in (lasting, ending)] == [422, 422]
            clock.ahead = 60
            assert [await writes(client, one["key"]) for one in (lasting, ending)] == [422, 503]
            clock.ahead = settings.keys.stale_seconds_max + 60
            assert await writes(client, lasting["key"]) == 503


async def writes(client: Client, key: str) -> int:
    """Ask for what is refused with 422 before the database is needed, and for nothing but the key with 401 or 503."""
    headers = {"X-API-Key": key, "Idempotency-Key": secrets.token_hex(8), "Content-Type": "application/json"}
    return (await client.http.post(PROPOSALS, content=b"{}", headers=headers)).status_code


async def test_every_way_to_be_wrong_gives_the_same_answer(client: Client, server: Server, issuer: Issuer) -> None:
    answers = {}
    for name, cause in wrong_credentials(server, issuer).causes.items():
        headers = [(b"X-Request-Id", b"same-for-all"), *cause.presented[0]]
        answers[name] = await client.http.get(PROPOSALS, headers=headers)

    assert len(answers) >= 12
    assert {name: answer.status_code for name, answer in answers.items() if answer.status_code != 401} == {}
    assert len({answer.content for answer in answers.values()}) == 1
    assert len({tuple(sorted(answer.headers.items())) for answer in answers.values()}) == 1
    (content,) = {answer.content for answer in answers.values()}
    assert json.loads(content)["code"] == "unauthenticated"
    assert answers["no credential"].headers["www-authenticate"].startswith("ApiKey realm=")


async def test_an_expired_token_says_so_and_is_counted_as_expired(client: Client, issuer: Issuer) -> None:
    before = counted()

    answer = await client.http.get(
        PROPOSALS, headers={"Authorization": f"Bearer {issuer.token(expired_seconds_ago=60)}"}
    )

    assert (answer.status_code, answer.json()["code"]) == (401, "token-expired")
    assert "token expired" in answer.json()["detail"]
    assert 'error_description="token expired"' in answer.headers["www-authenticate"]
    assert counted() == {**before, "expired": before["expired"] + 1}


async def test_what_came_of_a_credential_is_counted_once(client: Client, issuer: Issuer, editor_key: str) -> None:
    before = counted()

    await client.http.get(PROPOSALS, headers={"X-API-Key": editor_key})
    await client.http.get(PROPOSALS, headers={"Authorization": f"bearer {issuer.token()}"})
    await client.http.get(PROPOSALS, headers=[(b"X-API-Key", b"\xe9")])
    await client.http.get(PROPOSALS)

    after = counted()
    assert {name: after[name] - before[name] for name in after} == {"valid": 2, "invalid": 2, "expired": 0}


def counted() -> dict[str, float]:
    return {
        name: REGISTRY.get_sample_value("firewall_auth_attempts_total", {"status": name}) or 0.0
        for name in ("valid", "invalid", "expired")
    }


async def test_who_was_refused_stands_in_one_line_of_the_log_whatever_was_sent(client: Client) -> None:
    hostile = [b"203.0.113.9\r\n{}", b"1.1.1.1, \x1b[31mroot", b'"}\\u000a{"event":"x', b"x" * 60_000, b"\xed\xa0\x80"]
    with logged() as output:
        for value in hostile:
            for name in (b"X-Forwarded-For", b"X-API-Key", b"Authorization", b"X-Request-Id", b"User-Agent"):
                await client.http.get(PROPOSALS, headers=[(name, value)])
        await client.http.get(PROPOSALS, headers={"X-Forwarded-For": "192.0.2.1, 203.0.113.9"})

    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    refused = [line for line in lines if line["event"] == "authentication_failed"]
    assert len(refused) == len(hostile) * 5 + 1
    assert {line["level"] for line in refused} == {"warning"}
    assert {line["client_address"] for line in refused} == {"127.0.0.1", "203.0.113.9"}
    assert refused[-1]["client_address"] == "203.0.113.9"
    assert set().union(*refused) == {"timestamp", "level", "event", "code", "client_address", "request_id"}


@contextmanager
def logged() -> Iterator[io.BytesIO]:
    output = io.BytesIO()
    log.configure("debug", output=output)
    try:
        yield output
    finally:
        log.configure("warning")


@pytest.mark.parametrize(("offset", "ready"), [(0, True), (9, True), (-9, True), (11, False), (-11, False)])
async def test_a_clock_more_than_ten_seconds_off_the_databases_makes_the_replica_unready_until_it_is_right(
    server: Server, offset: float, *, ready: bool
) -> None:
    clock = Moved()
    clock.wall_ahead = offset
    async with serving_at(settings_for(server.address()), clock) as client:
        answer = await client.http.get("/health/ready")
        assert answer.status_code == (200 if ready else 503)
        assert answer.json()["reasons"] == ([] if ready else ["clock_skewed"])
        assert REGISTRY.get_sample_value("firewall_clock_offset_seconds") == pytest.approx(offset, abs=0.5)

        clock.wall_ahead = 0

        async def is_ready() -> bool:
            return bool((await client.http.get("/health/ready")).status_code == 200)

        await eventually(is_ready, within_seconds=3)


class Moved:
    """The clocks of a service: right, but for what a test puts them ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.wall_ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead

    def wall(self) -> float:
        return time.time() + self.wall_ahead


def serving_at(settings: Settings, clock: Moved) -> AbstractAsyncContextManager[Client]:
    return serving(settings, clock=clock, wall=clock.wall)
