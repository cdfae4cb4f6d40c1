"""POST and GET of proposals (firewall.md section 4)."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Operation
from litestar.params import FromPath, HeaderParameter, QueryParameter

from app.api import dependencies, facts
from app.api.problems import MEDIA_TYPE, Problem
from app.core import cursor as cursors
from app.core.identifiers import ProposalId
from app.core.proposal import Proposal
from app.errors import InvalidRequest
from app.storage.proposals import NEWEST
from app.workflow.intake import CREATED, ROUTE, Proposals

IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 100
LIST_QUERY: Final = b"proposals;newest-first"
"""How the cursor's filter is spelled; grows with the filters."""

_encode: Final = msgspec.json.Encoder().encode


class Page(msgspec.Struct, frozen=True):
    """Some proposals, newest first, and the cursor of those that follow."""

    items: list[Proposal]
    next_cursor: str | None


class HttpLimits(msgspec.Struct, frozen=True):
    """What the handlers need to know beside their stages."""

    body_bytes_max: int
    cursor_key: bytes


class CreateProposal(Operation):
    """The POST as it stands in the reference: its body is decoded by us, so Litestar cannot know it."""

    def to_schema(self) -> dict[str, Any]:
        """Return the operation with its body."""
        schema = super().to_schema()
        content = {
            "schema": {"$ref": "#/components/schemas/ProposalContent"},
            "example": EXAMPLE,
        }
        schema["requestBody"] = {"required": True, "content": {"application/json": content}}
        return schema


EXAMPLE: Final = {
    "target": "agents/router",
    "base_version": 0,
    "patch": [{"op": "replace", "path": "/budgets/tokens_per_day", "value": 200000}],
    "rationale": "The weekly report needs more than half of today's budget.",
}


def _problems(**sentences: str) -> Mapping[int, ResponseSpec]:
    common = {
        "s400": "The request is not acceptable.",
        "s401": "No valid API key.",
        "s403": "The key's roles do not allow this.",
        "s500": "A mistake of ours.",
        "s503": "The database is gone; the code says whether anything may have been done.",
        "s504": "The database did not answer in time; the code says whether anything may have been done.",
    }
    return {
        int(status[1:]): ResponseSpec(Problem, description=text, media_type=MEDIA_TYPE, generate_examples=False)
        for status, text in sorted({**common, **sentences}.items())
    }


CREATE_RESPONSES: Final = _problems(
    s408="The body did not arrive in time.",
    s409="A request with this Idempotency-Key is still running, or an equal proposal is open.",
    s413="The body is too large.",
    s415="The body is not application/json.",
    s422="The body is not a proposal, or the Idempotency-Key was used with another body.",
)
GET_RESPONSES: Final = _problems(s404="There is no such proposal.")
LIST_RESPONSES: Final = _problems()


class ProposalsController(Controller):
    """Proposals: changes that somebody asks for."""

    path = ROUTE
    tags = ("proposals",)
    security = [{"api_key": []}]  # noqa: RUF012 - Litestar wants a list

    @post(
        "/",
        summary="Propose a change",
        operation_class=CreateProposal,
        responses={
            CREATED: ResponseSpec(Proposal, description="Stored durably.", generate_examples=False),
            **CREATE_RESPONSES,
        },
        role="editor",
    )
    async def create(
        self,
        request: Request[Any, Any, Any],
        stage: NamedDependency[Proposals],
        limits: NamedDependency[HttpLimits],
        idempotency_key: Annotated[
            str | None,
            HeaderParameter(
                name="Idempotency-Key",
                required=True,
                description="Your name for this attempt: sent twice with one body, done once.",
            ),
        ] = None,
    ) -> Response[bytes]:
        """Answer 201 after the proposal was committed; the same key and body again get the same answer."""
        if idempotency_key is None or not IDEMPOTENCY_KEY.fullmatch(idempotency_key):
            raise InvalidRequest(
                "The header Idempotency-Key is required: 1 to 255 visible ASCII characters.",
                code="idempotency-key-missing",
            )
        body = await dependencies.body_of(request, bytes_max=limits.body_bytes_max)
        outcome = await stage.create(
            body,
            key=idempotency_key,
            principal=dependencies.identity_of(request).principal,
            deadline=facts.of(request.scope).deadline,
        )
        headers = {"location": outcome.answer.location or ROUTE}
        if outcome.is_replay:
            headers["idempotency-replayed"] = "true"
        return Response(
            outcome.answer.response, status_code=outcome.answer.status, headers=headers, media_type="application/json"
        )

    @get(
        "/",
        summary="List proposals",
        responses={200: ResponseSpec(Page, description="Newest first.", generate_examples=False), **LIST_RESPONSES},
        role="viewer",
    )
    async def index(
        self,
        request: Request[Any, Any, Any],
        stage: NamedDependency[Proposals],
        limits: NamedDependency[HttpLimits],
        limit: Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="How many at most.")] = LIMIT_DEFAULT,
        cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")] = None,
    ) -> Response[bytes]:
        """Answer a page; `next_cursor` is null on the last one."""
        position = NEWEST
        if cursor is not None:
            position = cursors.decode(cursor, query=LIST_QUERY, key=limits.cursor_key)
        deadline = facts.of(request.scope).deadline
        # One more than asked for says whether there is a next page.
        found = list(await stage.newest_before(position, limit=limit + 1, deadline=deadline))
        items = found[:limit]
        more = len(found) > limit
        following = cursors.encode(items[-1].id, query=LIST_QUERY, key=limits.cursor_key) if more else None
        return Response(_encode(Page(items=items, next_cursor=following)), media_type="application/json")

    @get(
        "/{proposal_id:uuid}",
        summary="Read one proposal",
        responses={
            200: ResponseSpec(Proposal, description="As it stands now.", generate_examples=False),
            **GET_RESPONSES,
        },
        role="viewer",
    )
    async def show(
        self, request: Request[Any, Any, Any], stage: NamedDependency[Proposals], proposal_id: FromPath[UUID]
    ) -> Response[bytes]:
        """Answer the proposal with its fields as they were received."""
        deadline = facts.of(request.scope).deadline
        proposal = await stage.get(ProposalId(proposal_id), deadline=deadline)
        return Response(_encode(proposal), media_type="application/json")
