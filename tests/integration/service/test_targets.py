"""Targets and their snapshots over HTTP (firewall.md section 4), against a real PostgreSQL."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import msgspec
import psycopg
import pytest

from app.core.documents import canonical
from app.core.documents.identifiers import Principal, ProposalId
from app.core.governed.lifecycle import State
from app.errors import Overtaken
from app.resilience.deadline import Deadline
from app.storage import proposals, targets
from app.storage.connection import Connection
from app.storage.events import Events
from tests.integration.service.running import Client, Server, serving, settings_for

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

PATH = "/api/v1/targets"


@pytest.fixture
async def whole(server: Server) -> AsyncIterator[Client]:
    async with serving(settings_for(server.address(), request_deadline_seconds=10), simulates=True) as made:
        yield made


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with serving(settings_for(server.address(), request_deadline_seconds=3)) as made:
        yield made


def clock() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def name() -> str:
    return f"agents/{secrets.token_hex(4)}"


def headers(key: str, **more: str) -> dict[str, str]:
    return {"X-API-Key": key, **{name.replace("_", "-"): value for name, value in more.items()}}


async def test_a_name_with_slashes_is_one_segment_of_the_address(
    client: Client, server: Server, viewer_key: str, name: str
) -> None:
    made = server.add_target(name, {"a": 1.5})

    answer = await client.http.get(f"{PATH}/{quote(name, safe='')}", headers=headers(viewer_key))

    assert answer.status_code == 200
    assert answer.json()["name"] == name
    assert answer.json()["digest"] == made.digest
    assert (await client.http.get(f"{PATH}/{name}", headers=headers(viewer_key))).status_code == 404


@pytest.mark.parametrize("segment", ["no-such", "a%252Fb", "A", "..", "a%2F..%2Fb", "a%00", "%F0%9F", "a" * 300])
async def test_an_unknown_or_impossible_name_is_not_found(client: Client, viewer_key: str, segment: str) -> None:
    for rest in ("", "/current", "/snapshots"):
        answer = await client.http.get(f"{PATH}/{segment}{rest}", headers=headers(viewer_key))
        assert answer.status_code == 404


async def test_the_current_version_is_its_document_byte_for_byte_and_its_digest_the_etag(
    client: Client, server: Server, viewer_key: str, name: str
) -> None:
    made = server.add_target(name, {"b": [0.5, "é"], "a": None})
    address = f"{PATH}/{quote(name, safe='')}"

    answer = await client.http.get(f"{address}/current", headers=headers(viewer_key))

    shown = msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw])
    assert canonical.digest(bytes(shown["document"])) == made.digest == answer.json()["digest"]
    assert answer.headers["etag"] == f'"{made.digest}"'
    for path in ("current", "snapshots/1"):
        again = await client.http.get(
            f"{address}/{path}", headers=headers(viewer_key, If_None_Match=f'"x", {answer.headers["etag"]}')
        )
        assert (again.status_code, again.content) == (304, b"")
    other = await client.http.get(f"{address}/current", headers=headers(viewer_key, If_None_Match='"x"'))
    assert other.content == answer.content


async def test_a_version_that_is_not_there_is_not_found(
    client: Client, server: Server, viewer_key: str, name: str
) -> None:
    server.add_target(name, {})

    answer = await client.http.get(f"{PATH}/{quote(name, safe='')}/snapshots/2", headers=headers(viewer_key))

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-version")


async def test_pages_show_every_target_once_in_the_order_of_names(
    client: Client, server: Server, viewer_key: str
) -> None:
    prefix = secrets.token_hex(4)
    made = [f"page-{prefix}/{number}" for number in range(5)]
    for one in made:
        server.add_target(one, {})
    seen: list[str] = []
    parameters: dict[str, Any] = {"limit": 2}
    while True:
        page = (await client.http.get(PATH, params=parameters, headers=headers(viewer_key))).json()
        seen += [item["name"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]

    assert [one for one in seen if one.startswith(f"page-{prefix}")] == made
    assert sorted(set(seen)) == seen


async def test_a_frozen_target_says_so_and_tells_it_once(
    client: Client, server: Server, viewer_key: str, name: str
) -> None:
    server.add_target(name, {})
    admin = server.key("admin")
    address = f"{PATH}/{quote(name, safe='')}/freeze"
    refused = await client.http.put(address, json={"reason": "a"}, headers=headers(viewer_key))

    for reason in ("first", "second"):
        answer = await client.http.put(address, json={"reason": reason}, headers=headers(admin))
        assert (answer.status_code, answer.json()["state"]) == (200, "frozen")
        assert answer.json()["frozen_reason"] == "first"

    assert refused.status_code == 403
    with server.connect() as connection:
        told = connection.execute(
            "SELECT kind, state_from, state_to FROM events WHERE target = %s ORDER BY ordinal", [name]
        ).fetchall()
    assert told == [("target-created", None, None), ("frozen", "active", "frozen")]


async def test_each_event_of_a_target_names_the_one_before(client: Client, server: Server, name: str) -> None:
    server.add_target(name, {})
    admin = server.key("admin")
    await client.http.put(
        f"{PATH}/{quote(name, safe='')}/freeze", json={"reason": "a"}, headers=headers(admin, X_Request_Id="request-1")
    )

    with server.connect() as connection:
        rows = connection.execute(
            "SELECT prev, leaf_digest, leaf, request FROM events WHERE target = %s ORDER BY ordinal", [name]
        ).fetchall()
        last = connection.execute("SELECT last_leaf FROM targets WHERE name = %s", [name]).fetchone()
    assert [row[0] for row in rows] == [None, rows[0][1]]
    assert last == (rows[1][1],)
    assert msgspec.json.decode(rows[1][2])["prev"] == rows[0][1]
    assert rows[1][3] == "request-1"


async def test_a_name_is_taken_once(server: Server, name: str) -> None:
    server.add_target(name, {})

    with pytest.raises(psycopg.errors.UniqueViolation):
        server.add_target(name, {})


async def test_two_who_take_one_step_at_once_take_it_once(client: Client, editor_key: str) -> None:
    proposed = await client.propose(editor_key)
    address = f"{proposed.headers['location']}/withdrawal"

    answers = await asyncio.gather(
        *(
            client.http.post(address, json={}, headers=headers(editor_key, Idempotency_Key=secrets.token_hex(8)))
            for _ in range(8)
        )
    )

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"not-open"}
    found = (await client.http.get(proposed.headers["location"], headers=headers(editor_key))).json()
    assert (found["state"], found["revision"]) == ("withdrawn", 2)
    told = (await client.http.get(f"{proposed.headers['location']}/events", headers=headers(editor_key))).json()
    assert [item["kind"] for item in told["items"]] == ["proposal-created", "withdrawn"]
    assert told["items"][0]["body"]["content"]["rationale"] == found["rationale"]


async def test_a_step_of_a_proposal_does_not_wait_for_who_holds_its_target(client: Client, editor_key: str) -> None:
    """An apply holds the target and wants its open proposals: if they wanted the target, both would wait for ever."""
    proposed = await client.propose(editor_key)
    sent = headers(editor_key, Idempotency_Key=secrets.token_hex(8))

    async def withdraw(connection: Connection) -> Any:
        assert await targets.lock(connection, "agents/router") is not None
        return await client.http.post(f"{proposed.headers['location']}/withdrawal", json={}, headers=sent)

    answer = await client.service.database.transact("test", withdraw, deadline=Deadline.after(3, clock))

    assert (answer.status_code, answer.json()["state"]) == (200, "withdrawn")


async def test_only_the_proposer_or_an_admin_withdraws(client: Client, server: Server, editor_key: str) -> None:
    proposed = await client.propose(editor_key)
    address = f"{proposed.headers['location']}/withdrawal"
    for key, status in ((server.key("editor", principal="other"), 403), (server.key("admin", principal="chief"), 200)):
        answer = await client.http.post(address, json={}, headers=headers(key, Idempotency_Key=secrets.token_hex(8)))
        assert answer.status_code == status


async def test_a_repeated_withdrawal_is_answered_alike(client: Client, editor_key: str) -> None:
    proposed = await client.propose(editor_key)
    sent = headers(editor_key, Idempotency_Key=secrets.token_hex(8))

    first, again = [
        await client.http.post(f"{proposed.headers['location']}/withdrawal", json={}, headers=sent) for _ in range(2)
    ]

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_cursor_is_good_for_its_filter_only(client: Client, editor_key: str) -> None:
    for _ in range(2):
        await client.propose(editor_key)
    first = await client.http.get(
        "/api/v1/proposals", params={"limit": 1, "state": "pending"}, headers=headers(editor_key)
    )
    cursor = first.json()["next_cursor"]

    for parameters, status in (({"state": "pending"}, 200), ({"state": "applied"}, 400), ({}, 400)):
        answer = await client.http.get(
            "/api/v1/proposals", params={"cursor": cursor, **parameters}, headers=headers(editor_key)
        )
        assert answer.status_code == status


async def test_a_filter_chooses(client: Client, server: Server, editor_key: str) -> None:
    made = server.add_target("agents/filtered", {})
    own = await client.propose(
        server.key("editor", principal="filtered"), target="agents/filtered", base_digest=made.digest
    )
    await client.propose(editor_key)
    for parameters in ({"target": "agents/filtered"}, {"proposer": "filtered"}):
        answer = await client.http.get("/api/v1/proposals", params=parameters, headers=headers(editor_key))
        assert [item["id"] for item in answer.json()["items"]] == [own.json()["id"]]
    none = await client.http.get(
        "/api/v1/proposals", params={"target": "agents/filtered", "tier": "high"}, headers=headers(editor_key)
    )
    assert none.json() == {"items": [], "next_cursor": None}


async def test_a_step_that_begins_elsewhere_is_not_taken(client: Client, editor_key: str) -> None:
    proposed = ProposalId((await client.propose(editor_key)).json()["id"])
    events = Events(actor_key=b"k", random=secrets.token_bytes)

    async def work(connection: Connection) -> None:
        step = proposals.Step(
            proposal_id=proposed,
            state_from=State.APPROVED,
            state_to=State.APPLYING,
            principal=Principal("tester"),
            body={},
        )
        with pytest.raises(Overtaken):
            await proposals.move(connection, events, step)

    await client.service.database.transact("proposal_create", work, deadline=Deadline.after(3, clock))


BODY: dict[str, Any] = {
    "schema": {"type": "object", "required": ["a"]},
    "minimum_tier": "medium",
    "document": {"a": 0.5},
    "on_failure": "rollback",
    "actuator": None,
}

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a document that does not satisfy the schema": ({"document": {}}, "invalid-target", "/document"),
    "a schema that is none": ({"schema": {"type": 1}}, "invalid-target", "/schema/type"),
    "a schema from elsewhere": ({"schema": {"$ref": "http://x/y"}}, "invalid-target", "/schema/$ref"),
    "a reserved name": ({"name": "governance/x"}, "invalid-target", "/name"),
    "a host that is not allowed": ({"actuator": {"url": "http://x/"}}, "invalid-target", "/actuator/url"),
    "a document that is no object": ({"document": []}, "invalid-target", "/document"),
    "a field too many": ({"more": 1}, "invalid-target", "/more"),
    "an unknown tier": ({"minimum_tier": "none"}, "invalid-target", "/minimum_tier"),
}


async def test_an_admin_creates_a_target_whose_first_version_is_its_document(
    whole: Client, server: Server, editor_key: str, name: str
) -> None:
    admin = server.key("admin")
    refused = await whole.http.post(PATH, json={"name": name, **BODY}, headers=headers(editor_key))

    answer = await whole.http.post(PATH, json={"name": name, **BODY}, headers=headers(admin))

    assert refused.status_code == 403
    assert answer.status_code == 201, answer.text
    shown = (await whole.http.get(answer.headers["location"], headers=headers(admin))).json()
    assert shown == answer.json() == {**answer.json(), "name": name, "version": 1, "minimum_tier": "medium"}
    assert shown["digest"] == canonical.digest(b'{"a":0.5}')
    again = await whole.http.post(PATH, json={"name": name, **BODY}, headers=headers(admin))
    assert (again.status_code, again.json()["code"]) == (409, "target-exists")


async def test_what_is_no_target_is_refused_with_its_pointer(whole: Client, server: Server, name: str) -> None:
    admin = server.key("admin")
    for case, (change, code, pointer) in REFUSED.items():
        answer = await whole.http.post(PATH, json={"name": name, **BODY, **change}, headers=headers(admin))
        told = answer.json()
        assert (case, answer.status_code, told["code"]) == (case, 422, code)
        assert told["errors"][0]["pointer"] == pointer, case
    missing = await whole.http.get(f"{PATH}/{quote(name, safe='')}", headers=headers(admin))
    assert missing.status_code == 404


FAR_AWAY = "2125-01-01T00:00:00.000000Z"
REFUSED_BASES: dict[str, tuple[dict[str, Any], int, str]] = {
    "no such target": ({"target": "agents/none"}, 404, "unknown-target"),
    "a version that is not current": ({"base_version": 2}, 409, "stale-base"),
    "another content": ({"base_digest": "sha256:" + "0" * 64}, 409, "stale-base"),
    "the kind of other targets": ({"kind": "governance"}, 422, "invalid-proposal"),
    "an expiry in the past": ({"expires_at": "2020-01-01T00:00:00.000000Z"}, 422, "invalid-proposal"),
    "an expiry beyond any tier's": ({"expires_at": FAR_AWAY}, 422, "invalid-proposal"),
    "a predecessor that is none": ({"supersedes": "01a209f4-aea4-72f8-833c-264e68b380f1"}, 422, "invalid-proposal"),
}


@pytest.mark.parametrize("case", REFUSED_BASES)
async def test_a_proposal_that_does_not_fit_its_target_is_refused(client: Client, editor_key: str, case: str) -> None:
    change, status, code = REFUSED_BASES[case]

    answer = await client.propose(editor_key, **change)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_what_is_open_is_not_proposed_again_until_it_is_closed(client: Client, editor_key: str) -> None:
    first = await client.propose(editor_key, rationale="once")
    second = await client.propose(editor_key, rationale="once")
    await client.http.post(
        f"{first.headers['location']}/withdrawal", json={}, headers=headers(editor_key, Idempotency_Key="x" * 9)
    )
    third = await client.propose(editor_key, rationale="once", supersedes=None)

    assert (first.status_code, third.status_code) == (201, 201)
    assert (second.status_code, second.json()["code"]) == (409, "duplicate-open")
    assert first.json()["proposal_digest"] == third.json()["proposal_digest"]


async def test_a_frozen_target_takes_only_what_could_unfreeze_it(
    client: Client, server: Server, editor_key: str, name: str
) -> None:
    made = server.add_target(name, {})
    address = f"{PATH}/{quote(name, safe='')}/freeze"
    await client.http.put(address, json={"reason": "a"}, headers=headers(server.key("break_glass")))

    for risk, status in (("low", 409), ("medium", 409), ("high", 201)):
        answer = await client.propose(editor_key, target=name, base_digest=made.digest, declared_risk=risk)
        assert answer.status_code == status


async def test_the_etag_is_the_revision(client: Client, editor_key: str) -> None:
    proposed = await client.propose(editor_key)
    first = await client.http.get(proposed.headers["location"], headers=headers(editor_key))
    same = await client.http.get(proposed.headers["location"], headers=headers(editor_key, If_None_Match='"1"'))
    await client.http.post(
        f"{proposed.headers['location']}/withdrawal", json={}, headers=headers(editor_key, Idempotency_Key="y" * 9)
    )
    moved = await client.http.get(proposed.headers["location"], headers=headers(editor_key, If_None_Match='"1"'))

    assert (first.headers["etag"], same.status_code) == ('"1"', 304)
    assert (moved.headers["etag"], moved.status_code) == ('"2"', 200)
