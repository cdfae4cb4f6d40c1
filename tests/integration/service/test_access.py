"""Who may call what: every cell of service/access.csv against the running service, and every route is in the table."""

import csv
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.security.roles import ROLES
from tests.integration.service.running import SERVICE, Client, Server, serving, settings_for
from tests.unit.service.signed_tokens import Issuer

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

TABLE = SERVICE / "access.csv"
FORBIDDEN = (403, "forbidden")
PARTS = {
    "proposal_id": "00000000-0000-7000-8000-000000000000",
    "vote_id": "00000000-0000-7000-8000-000000000000",
    "target": "agents%2Frouter",
    "version": "1",
    "validator": "ann",
    "keyid": "sha256:" + "0" * 64,
    "key_id": "0" * 12,
    "level": "0",
    "place": "000",
    "path": "openapi.json",
}


def rows() -> list[dict[str, str]]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


ROWS = rows()


CELLS = {(role, row["method"], row["path"]) for row in ROWS for role in ROLES if row[role] == "yes"}
"""Who may call what."""


def key_of(row: Mapping[str, str]) -> tuple[str, str]:
    return row["method"], row["path"]


async def call(client: Client, row: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, str]:
    content = {"content-type": "application/json"} if row["method"] in {"POST", "PUT", "DELETE"} else {}
    answer = await client.http.request(
        row["method"],
        row["path"].format(**PARTS),
        content=b"{}" if content else None,
        headers={"Idempotency-Key": secrets.token_hex(8), **content, **headers},
    )
    return answer.status_code, code_of(answer)


def code_of(answer: httpx.Response) -> str:
    is_problem = answer.headers.get("content-type") == "application/problem+json"
    return str(answer.json()["code"]) if is_problem else ""


async def test_every_route_of_the_service_is_in_the_table_and_only_those(server: Server) -> None:
    async with serving(settings_for(server.address())) as client:
        routes = {
            (str(method), route.path_format)
            for route in client.service.litestar.routes
            for method in route.methods
            if method != "OPTIONS"
        }

    assert routes == {key_of(row) for row in ROWS}
    assert len(ROWS) == len(routes)


def test_the_table_has_a_column_for_every_role_and_nothing_but_yes_and_no() -> None:
    assert tuple(ROWS[0])[3:] == ROLES
    assert {value for row in ROWS for value in list(row.values())[2:]} == {"yes", "no"}
    assert all(row[role] == "yes" for row in ROWS if row["nobody"] == "yes" for role in ROLES)


async def test_a_role_may_do_what_the_table_says_and_nothing_else(server: Server) -> None:
    orders = "".join(f"only-{role.replace('_', '-')} {role}\n" for role in ROLES)
    keys = server.command("app.security.api_keys", "create-many", stdin=orders).stdout.split()
    async with serving(settings_for(server.address())) as client:
        answers = {
            (role, *key_of(row)): await call(client, row, {"X-API-Key": key})
            for role, key in zip(ROLES, keys, strict=True)
            for row in ROWS
        }

    assert {cell for cell, answer in answers.items() if answer != FORBIDDEN} == CELLS
    assert not {cell: answer for cell, answer in answers.items() if answer[0] in {401, 405}}


async def test_a_token_may_do_what_a_key_of_its_role_may(server: Server, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path, roles=ROLES)
    settings = replace(settings_for(server.address()), tokens=issuer.policy())
    async with serving(settings) as client:
        answers = {
            (role, *key_of(row)): await call(client, row, {"Authorization": f"Bearer {issuer.token(roles=[role])}"})
            for role in ROLES
            for row in ROWS
        }

    assert {cell for cell, answer in answers.items() if answer != FORBIDDEN} == CELLS


@pytest.mark.parametrize("credential", ["none", "bad", "expired"])
async def test_without_a_good_credential_only_public_routes_answer(
    server: Server, tmp_path: Path, credential: str
) -> None:
    issuer = Issuer(tmp_path, roles=ROLES)
    given, code = {
        "none": ({}, "unauthenticated"),
        "bad": ({"X-API-Key": "amgf_" + "0" * 62}, "unauthenticated"),
        "expired": ({"Authorization": f"Bearer {issuer.token(expired_seconds_ago=60)}"}, "token-expired"),
    }[credential]
    settings = replace(settings_for(server.address()), tokens=issuer.policy())
    async with serving(settings) as client:
        answers = {key_of(row): await call(client, row, given) for row in ROWS}

    refused = {cell for cell, answer in answers.items() if answer == (401, code)}
    assert refused == {key_of(row) for row in ROWS if row["nobody"] == "no"}
