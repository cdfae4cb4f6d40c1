"""API keys, for administrators (firewall.md section 4): made, listed, revoked."""

from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from app.api import cursor as cursors
from app.api import dependencies, facts
from app.api.operations import (
    JSON,
    LIMIT_DEFAULT,
    LIMIT_MAX,
    SMALL_BODY_BYTES_MAX,
    WRITE_PROBLEMS,
    problems,
    with_body,
)
from app.api.proposals import HttpLimits
from app.storage.api_keys import KeyRow
from app.workflow.key_ring import ApiKeyMade, KeyRing, NewApiKey

PATH: Final = "/api/v1/api-keys"
EXAMPLE: Final = {"principal": "deploy-bot", "roles": ["editor"], "days": 90}
ALL_KEYS: Final = b"api-keys;by-id"
BODIES: Final = (NewApiKey,)
Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]
Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="How many at most.")]
KeyIdPath = Annotated[str, PathParameter(description="The 12 characters after amgf_.", max_length=64)]

_encode: Final = msgspec.json.Encoder().encode


class ApiKeyPage(msgspec.Struct, frozen=True):
    """Some keys in the order of their ids, and the cursor of those that follow."""

    items: list[KeyRow]
    next_cursor: str | None


class ApiKeysController(Controller):
    """Who may come in."""

    path = PATH
    tags = ("api keys",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @post(
        "/",
        summary="Make an API key",
        operation_class=with_body("NewApiKey", EXAMPLE),
        responses={
            201: ResponseSpec(ApiKeyMade, description="The key, shown this once.", generate_examples=False),
            **problems(**WRITE_PROBLEMS, s422="The body does not ask for a key."),
        },
        roles={"admin"},
    )
    async def create(self, request: Request[Any, Any, Any], key_ring: NamedDependency[KeyRing]) -> Response[bytes]:
        """Answer 201 with the key. It is stored hashed: nobody can show it again."""
        body = await dependencies.body_of(request, bytes_max=SMALL_BODY_BYTES_MAX)
        known = facts.of(request.scope)
        made = await key_ring.create(
            body,
            by=dependencies.identity_of(request).principal,
            request=known.request_id,
            deadline=known.deadline,
        )
        return Response(_encode(made), status_code=201, headers={"location": f"{PATH}/{made.id}"}, media_type=JSON)

    @get(
        "/",
        summary="List API keys",
        responses={
            200: ResponseSpec(ApiKeyPage, description="In the order of ids.", generate_examples=False),
            **problems(),
        },
        roles={"admin"},
    )
    async def index(
        self,
        request: Request[Any, Any, Any],
        *,
        key_ring: NamedDependency[KeyRing],
        limits: NamedDependency[HttpLimits],
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response[bytes]:
        """Answer a page, never with a key; `next_cursor` is null on the last one."""
        secret = limits.cursor_key
        after = "" if cursor is None else cursors.decode_bytes(cursor, query=ALL_KEYS, key=secret).decode()
        found = list(await key_ring.listed(after=after, limit=limit + 1, deadline=facts.of(request.scope).deadline))
        items = found[:limit]
        following = None
        if len(found) > limit:
            following = cursors.encode_bytes(items[-1].id.encode(), query=ALL_KEYS, key=secret)
        return Response(_encode(ApiKeyPage(items=items, next_cursor=following)), media_type=JSON)

    @delete(
        "/{key_id:str}",
        summary="Revoke an API key",
        status_code=204,
        responses={
            204: ResponseSpec(None, description="It is revoked.", generate_examples=False),
            **problems(s404="There is no such key."),
        },
        roles={"admin"},
    )
    async def revoke(
        self, request: Request[Any, Any, Any], key_ring: NamedDependency[KeyRing], key_id: KeyIdPath
    ) -> None:
        """Answer 204, also when it was revoked before. Other replicas believe it for at most 30 seconds more."""
        known = facts.of(request.scope)
        await key_ring.revoke(
            key_id,
            by=dependencies.identity_of(request).principal,
            request=known.request_id,
            deadline=known.deadline,
        )
