"""The HTTP API (firewall.md section 4), against a real PostgreSQL."""

import asyncio
import hashlib
import io
import json
import re
import secrets
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from app import log
from app.core.documents.identifiers import Principal
from app.storage.idempotency import Scope
from tests.integration.service.relay import Mode, relay
from tests.integration.service.running import PROPOSAL, Client, Server, eventually, serving, settings_for, with_policy

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

PATH = "/api/v1/proposals"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with serving(settings_for(server.address(), request_deadline_seconds=3)) as made:
        yield made


async def test_a_proposal_is_answered_stored_and_read_back_alike(
    client: Client, server: Server, editor_key: str, viewer_key: str
) -> None:
    proposal = {**PROPOSAL, "rationale": "read back"}
    body = json.dumps(proposal, indent=1).encode()
    headers = {"X-API-Key": editor_key, "Idempotency-Key": secrets.token_hex(8), **JSON}

    answer = await client.http.post(PATH, content=body, headers=headers)

    created = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{PATH}/{created['id']}"
    assert created == {**created, **proposal, "state": "pending", "principal": "tester"}
    assert created["body_digest"] == hashlib.sha256(body).hexdigest()
    read = await client.http.get(answer.headers["location"], headers={"X-API-Key": viewer_key})
    assert read.content == answer.content
    with server.connect() as connection:
        row = connection.execute(
            "SELECT body, body_digest, last_leaf FROM proposals WHERE id = %s", [created["id"]]
        ).fetchone()
        events = connection.execute(
            "SELECT kind, state_to, leaf_digest FROM events WHERE proposal_id = %s", [created["id"]]
        ).fetchall()
    assert row is not None
    *stored, last_leaf = row
    assert stored == [body, created["body_digest"]]
    assert events == [("proposal-created", "pending", last_leaf)]


async def test_the_same_key_and_content_get_the_same_bytes(client: Client, editor_key: str) -> None:
    name = secrets.token_hex(8)
    first = await client.propose(editor_key, name=name)
    again = await client.http.post(
        PATH,
        content=json.dumps({**dict(reversed(PROPOSAL.items())), "rationale": f"because of {name}"}, indent=2),
        headers={"X-API-Key": editor_key, "Idempotency-Key": name, **JSON},
    )

    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers


async def test_the_same_key_for_other_content_is_refused(client: Client, editor_key: str) -> None:
    name = secrets.token_hex(8)
    await client.propose(editor_key, name=name)

    answer = await client.propose(editor_key, name=name, rationale="another")

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")


async def test_a_hundred_at_once_with_one_key_are_one_proposal(client: Client, server: Server, editor_key: str) -> None:
    name = secrets.token_hex(8)

    answers = await asyncio.gather(*(client.propose(editor_key, name=name) for _ in range(100)))

    by_status: dict[int, list[httpx.Response]] = {}
    for answer in answers:
        by_status.setdefault(answer.status_code, []).append(answer)
    assert set(by_status) <= {201, 409}
    assert {answer.json()["code"] for answer in by_status.get(409, [])} <= {"idempotency-in-progress"}
    assert len({answer.content for answer in by_status[201]}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in by_status[201]) == 1
    with server.connect() as connection:
        location = by_status[201][0].headers["location"]
        found = connection.execute(
            "SELECT count(*) FROM idempotency_records WHERE key = %s AND location = %s", [name, location]
        ).fetchone()
    assert found == (1,)


async def test_while_the_first_request_with_a_key_runs_the_second_is_told_so(
    client: Client, server: Server, editor_key: str
) -> None:
    name = secrets.token_hex(8)
    scope = Scope(principal=Principal("tester"), method="POST", route=PATH, key=name)
    with server.connect() as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [scope.lock()])

        answer = await client.propose(editor_key, name=name)

    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-in-progress")
    assert answer.headers["retry-after"] == "1"
    assert (await client.propose(editor_key, name=name)).status_code == 201


async def test_pages_show_everything_once_newest_first(client: Client, editor_key: str) -> None:
    made = [(await client.propose(editor_key)).json()["id"] for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while len(seen) < 7:
        parameters = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        page = (await client.http.get(PATH, params=parameters, headers={"X-API-Key": editor_key})).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]

    assert seen[:7] == list(reversed(made))


async def test_an_altered_cursor_is_refused(client: Client, editor_key: str) -> None:
    for _ in range(2):
        await client.propose(editor_key)
    page = await client.http.get(PATH, params={"limit": 1}, headers={"X-API-Key": editor_key})
    cursor = page.json()["next_cursor"]

    altered = ("B" if cursor[0] == "A" else "A") + cursor[1:]
    answer = await client.http.get(PATH, params={"cursor": altered}, headers={"X-API-Key": editor_key})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-cursor")


WRONG: list[Any] = [
    pytest.param("GET", "/nowhere", {}, b"", 404, "not-found", id="no such route"),
    pytest.param("DELETE", PATH, {}, b"", 405, "method-not-allowed", id="no such method"),
    pytest.param("PUT", "/health/live", {}, b"", 405, "method-not-allowed", id="no such method of a probe"),
    pytest.param("GET", "/schema/nowhere", {}, b"", 404, "not-found", id="no such page"),
    pytest.param("GET", PATH, {"host": "evil.test"}, b"", 400, "host-not-allowed", id="another host"),
    pytest.param("GET", PATH, {"X-API-Key": ""}, b"", 401, "unauthenticated", id="empty key"),
    pytest.param("GET", f"{PATH}/zzz", {}, b"", 404, "not-found", id="id that is none"),
    pytest.param("GET", f"{PATH}/{'0' * 8}-0000-7000-8000-{'0' * 12}", {}, b"", 404, "not-found", id="unknown id"),
    pytest.param("GET", f"{PATH}?limit=0", {}, b"", 400, "invalid-parameter", id="limit 0"),
    pytest.param("GET", f"{PATH}?limit=101", {}, b"", 400, "invalid-parameter", id="limit 101"),
    pytest.param("GET", f"{PATH}?limit=ten", {}, b"", 400, "invalid-parameter", id="limit in words"),
    pytest.param("GET", f"{PATH}?cursor=x", {}, b"", 400, "invalid-cursor", id="cursor that is none"),
    pytest.param("POST", PATH, {"Idempotency-Key": ""}, b"{}", 400, "idempotency-key-missing", id="no key"),
    pytest.param("POST", PATH, {"Idempotency-Key": "a b"}, b"{}", 400, "idempotency-key-missing", id="blank in key"),
    pytest.param(
        "POST", f"{PATH}?dry_run=true", {"Idempotency-Key": "a b"}, b"{}", 400, "idempotency-key-missing", id="dry, too"
    ),
    pytest.param("POST", PATH, {"Content-Type": "text/plain"}, b"{}", 415, "unsupported-media-type", id="text/plain"),
    pytest.param("POST", PATH, {"Content-Encoding": "gzip"}, b"{}", 415, "unsupported-media-type", id="gzip"),
    pytest.param("POST", PATH, {}, b"\xff", 400, "malformed-body", id="invalid UTF-8"),
    pytest.param("POST", PATH, {}, b"[" * 200_000, 400, "malformed-body", id="deep nesting"),
    pytest.param("POST", PATH, {}, b'{"a": "\\u0000"}', 400, "malformed-body", id="NUL"),
    pytest.param("POST", PATH, {}, b'{"a": 1, "a": 1}', 400, "malformed-body", id="duplicate key"),
    pytest.param("POST", PATH, {}, b"", 400, "malformed-body", id="no body"),
    pytest.param("POST", PATH, {}, b" " * 1_048_577, 413, "body-too-large", id="a byte too many"),
    pytest.param("POST", PATH, {}, b"{}", 422, "invalid-proposal", id="not a proposal"),
]


@pytest.mark.parametrize(("method", "path", "headers", "body", "status", "code"), WRONG)
async def test_every_refusal_is_a_problem(  # noqa: PLR0917 - a row of the table
    client: Client,
    editor_key: str,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
    code: str,
) -> None:
    given = {"X-API-Key": editor_key, "Idempotency-Key": "some-key", **JSON, **headers}

    answer = await client.http.request(method, path, content=body, headers=given)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-replica"] == "replica-1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("allow" in answer.headers) == (status == httpx.codes.METHOD_NOT_ALLOWED)


def test_many_keys_are_created_in_the_order_asked_for_or_none_of_them(server: Server) -> None:
    def create(lines: str) -> subprocess.CompletedProcess[str]:
        return server.command("app.security.api_keys", "create-many", stdin=lines)

    def roles() -> dict[str, list[str]]:
        with server.connect() as connection:
            rows = connection.execute("SELECT principal, roles FROM api_keys WHERE principal LIKE 'many-%'")
            return dict(rows.fetchall())

    done = create("many-1 validator editor\nmany-2 applier\n")
    refused = create("many-3 viewer\nmany-4 emperor\n")

    assert len(done.stdout.split()) == 2
    assert len({len(key) for key in done.stdout.split()}) == 1
    assert (refused.returncode, refused.stdout) == (2, "")
    assert roles() == {"many-1": ["editor", "validator"], "many-2": ["applier"]}


async def test_all_401_are_equal_byte_for_byte(client: Client, server: Server) -> None:
    good, revoked, expired = server.key("editor"), server.key("editor"), server.key("editor")
    other = server.key("editor")
    with server.connect() as connection:
        connection.execute("UPDATE api_keys SET revoked_at = now() WHERE id = %s", [revoked[5:17]])
        connection.execute("UPDATE api_keys SET expires_at = now() WHERE id = %s", [expired[5:17]])
    from app.security import api_keys  # noqa: PLC0415 - the one test that makes keys by itself

    unknown = api_keys.new_key()
    body = good[:17] + other[17:-6]
    wrong_secret = body + api_keys._checksum(body)
    causes: list[list[tuple[str, str]]] = [
        [],
        [("X-API-Key", "")],
        [("X-API-Key", "x")],
        [("X-API-Key", "amgf_")],
        [("X-API-Key", good[:-1])],
        [("X-API-Key", good + "x")],
        [("X-API-Key", good[:-1] + ("0" if good[-1] != "0" else "1"))],
        [("X-API-Key", unknown)],
        [("X-API-Key", wrong_secret)],
        [("X-API-Key", revoked)],
        [("X-API-Key", expired)],
        [("X-API-Key", good), ("X-API-Key", good)],
        [("Authorization", f"Bearer {good}")],
        [("X-API-Key", "\xe9" * 70)],
        [("X-API-Key", "x" * 10_000)],
    ]
    answers = [
        await client.http.get(PATH, headers=_latin([("X-Request-Id", "same-for-all"), *cause])) for cause in causes
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers.items())) for answer in answers}) == 1
    assert (await client.http.get(PATH, headers={"X-API-Key": good})).status_code == 200


def _latin(pairs: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in pairs]


async def test_a_viewer_reads_and_may_not_write(client: Client, viewer_key: str) -> None:
    answer = await client.propose(viewer_key)

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert (await client.http.get(PATH, headers={"X-API-Key": viewer_key})).status_code == 200


async def test_without_the_key_store_known_keys_are_known_and_unknown_ones_are_not_turned_away(
    server: Server, editor_key: str, viewer_key: str
) -> None:
    async with relay(server.postgres.port) as network:
        settings = settings_for(server.address(port=network.port), with_policy(breaker_failures=2))
        async with serving(settings) as client:
            assert (await client.http.get(PATH, headers={"X-API-Key": editor_key})).status_code == 200
            await network.cut(Mode.CLOSING)
            await eventually(lambda: not client.service.database.is_up, within_seconds=1)

            known = await client.http.post(
                PATH, content=b"{}", headers={"X-API-Key": editor_key, "Idempotency-Key": "k", **JSON}
            )
            unknown = await client.http.get(PATH, headers={"X-API-Key": viewer_key})
            malformed = await client.http.get(PATH, headers={"X-API-Key": "x"})

    assert known.status_code == 422  # authenticated, and refused before the database was needed
    assert (unknown.status_code, unknown.json()["code"]) == (503, "database-unavailable")
    assert malformed.status_code == 401


async def test_the_application_may_not_change_the_schema_nor_the_past(server: Server) -> None:
    from compose.postgres_template import APPLICATION, OWNER  # noqa: PLC0415 - beside what they are needed for

    forbidden = [
        "CREATE TABLE x (a int)",
        "ALTER TABLE proposals ADD COLUMN x int",
        "DROP TABLE events",
        "UPDATE events SET kind = 'x'",
        "DELETE FROM events",
        "TRUNCATE events",
        "DELETE FROM proposals",
        "UPDATE proposals SET principal = 'x'",
        "UPDATE api_keys SET roles = '{admin}'",
        "UPDATE api_keys SET digest = '\\x00'",
        "UPDATE api_keys SET expires_at = NULL",
        "UPDATE api_keys SET revoked_at = NULL WHERE revoked_at IS NOT NULL",
        "DELETE FROM api_keys",
        "UPDATE schema_versions SET checksum = 'x'",
    ]
    revoked = server.key("viewer")
    with server.connect() as connection:
        connection.execute("UPDATE api_keys SET revoked_at = now() WHERE id = %s", [revoked[5:17]])
    with server.connect(APPLICATION) as connection:
        for statement in forbidden:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    with server.connect(OWNER) as connection:
        for statement in ("UPDATE events SET kind = 'x'", "DELETE FROM events", "TRUNCATE events CASCADE"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                connection.execute(statement)


async def test_a_hostile_header_is_one_line_of_the_log_and_no_key_is_in_it(
    client: Client, editor_key: str, viewer_key: str
) -> None:
    output = io.BytesIO()
    log.configure("debug", output=output)
    try:
        hostile = b'a"\x1b[31m\x80' + b"x" * 5_000
        for name in ("X-API-Key", "X-Forwarded-For", "X-Request-Id", "Idempotency-Key"):
            headers = [(b"X-API-Key", viewer_key.encode())] if name != "X-API-Key" else []
            await client.http.get(PATH, headers=[*headers, (name.encode(), hostile)])
        await client.propose(editor_key)
    finally:
        log.configure("warning")

    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    finished = [line for line in lines if line["event"] == "request_finished"]
    assert len(finished) == 5
    assert {"timestamp", "level", "method", "route", "status", "duration_ms", "request_id"} <= finished[-1].keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", lines[0]["timestamp"])
    for secret in (editor_key, viewer_key, editor_key[18:61]):
        assert secret.encode() not in output.getvalue()
    assert b"xxxxx" not in output.getvalue()


async def test_a_refusal_is_logged_with_its_code_place_rule_and_client_and_nothing_of_the_body(
    client: Client, editor_key: str
) -> None:
    output = io.BytesIO()
    flaw = {"patch": [{"op": "add", "path": "/a"}], "rationale": "kept-to-ourselves"}
    foreign = {**PROPOSAL, "kept-to-ourselves": 1}
    headers = {"X-API-Key": editor_key, "User-Agent": "agents/1.4 (kept-to-ourselves)", **JSON}
    log.configure("info", output=output)
    try:
        for number, body in enumerate((PROPOSAL | flaw, foreign, "kept-to-ourselves")):
            await client.http.post(PATH, json=body, headers={**headers, "Idempotency-Key": f"refused-{number}"})
        await client.http.get(PATH, params={"limit": "kept-to-ourselves"}, headers=headers)
        await client.http.get("/kept-to-ourselves", headers=headers)
    finally:
        log.configure("warning")

    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [(line["route"], line["status"], line["code"], line["flaws"]) for line in lines] == [
        (PATH, 422, "invalid-proposal", ["/patch/0/value missing-field"]),
        (PATH, 422, "invalid-proposal", ["/* unknown-field"]),
        (PATH, 422, "invalid-proposal", [" wrong-type"]),
        (PATH, 400, "invalid-parameter", ["/limit invalid-value"]),
        ("unmatched", 404, "not-found", []),
    ]
    assert {line["client"] for line in lines} == {"agents/1.4"}
    assert {line["principal"] for line in lines[:4]} == {"tester"}
    assert b"kept-to-ourselves" not in output.getvalue()


async def test_an_unforeseen_error_is_a_500_that_tells_nothing(client: Client, server: Server, editor_key: str) -> None:
    output = io.BytesIO()
    with server.connect() as connection:
        connection.execute("REVOKE INSERT ON proposals FROM firewall_app")
    log.configure("warning", output=output)
    try:
        answer = await client.propose(editor_key)
    finally:
        log.configure("warning")
        with server.connect() as connection:
            connection.execute("GRANT INSERT ON proposals TO firewall_app")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert "proposals" not in answer.text.lower()
    (line,) = [one for one in map(json.loads, output.getvalue().splitlines()) if one["event"] == "internal_error"]
    assert (line["error"], line["sqlstate"]) == ("InsufficientPrivilege", "42501")
    assert "permission denied" not in output.getvalue().decode()


async def test_a_schema_that_changes_under_a_running_replica_turns_readiness_red(
    client: Client, server: Server
) -> None:
    with server.connect() as connection:
        connection.execute("INSERT INTO schema_versions (id, checksum) VALUES ('9999_future', 'x')")
        try:
            await eventually(lambda: not client.service.readiness.is_ready, within_seconds=2)
            ready = await client.http.get("/health/ready")
            comparison = client.service.schema.comparison
        finally:
            connection.execute("DELETE FROM schema_versions WHERE id = '9999_future'")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["schema_mismatch"])
    assert comparison
    assert comparison.kind == "ahead"
    await eventually(lambda: client.service.readiness.is_ready, within_seconds=2)


async def test_the_reference_needs_nothing_from_the_network(client: Client) -> None:
    page = await client.http.get("/schema")
    schema = (await client.http.get("/schema/openapi.json")).json()

    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page.text)
    assert "<script" not in page.text
    assert "Idempotency-Key" in page.text
    example = schema["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert {"Add", "Move", "ProposalContent", "Problem"} <= schema["components"]["schemas"].keys()
    assert example.keys() == PROPOSAL.keys()


async def test_the_example_of_the_reference_works(client: Client, editor_key: str) -> None:
    schema = (await client.http.get("/schema/openapi.json")).json()
    example = schema["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]["example"]

    answer = await client.propose(editor_key, **{**example, "rationale": "as in the reference"})
    assert (answer.status_code, answer.json()["base_digest"]) == (201, PROPOSAL["base_digest"])
