"""Every bad body through the whole HTTP application: 400 with its place, never 500."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.core.documents.strict_json import BYTES_MAX
from tests.bad_bodies import REFUSED
from tests.integration.service.running import Client, Server, serving, settings_for

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with serving(settings_for(server.address(), request_deadline_seconds=10)) as made:
        yield made


async def test_every_bad_body_is_a_problem_with_its_place(client: Client, editor_key: str) -> None:
    answers: dict[object, Any] = {}
    expected: dict[object, Any] = {}
    for row in REFUSED:
        body, code, pointer = row.values
        assert isinstance(body, bytes)
        headers = {
            "X-API-Key": editor_key,
            "Idempotency-Key": secrets.token_hex(8),
            "Content-Type": "application/json",
        }

        answer = await client.http.post("/api/v1/proposals", content=body, headers=headers)

        problem = answer.json()
        answers[row.id] = (answer.status_code, problem["code"], problem.get("errors"))
        expected[row.id] = (400, "malformed-body", [{"pointer": pointer, "code": code}])
        if len(body) > BYTES_MAX:
            expected[row.id] = (413, "body-too-large", None)

    for _, _, flaws in answers.values():
        for flaw in flaws or ():
            assert flaw.pop("message")
    assert answers == expected
