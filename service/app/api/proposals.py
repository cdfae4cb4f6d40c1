"""Proposals: sent, read, listed, withdrawn (firewall.md section 4)."""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, QueryParameter

from app.api import cursor as cursors
from app.api import dependencies, facts
from app.api.operations import (
    JSON,
    LIMIT_DEFAULT,
    LIMIT_MAX,
    SMALL_BODY_BYTES_MAX,
    WRITE_PROBLEMS,
    IdempotencyKey,
    IdempotencyKeyUnlessDry,
    answer,
    attempt_of,
    problems,
    require_key,
    tagged,
    with_body,
)
from app.core.documents.identifiers import Principal, ProposalId
from app.core.governed.lifecycle import State
from app.core.governed.proposal import Proposal, ProposalContent, Target, TierName
from app.storage.proposals import NEWEST, Filter
from app.workflow import bodies
from app.workflow.intake import CREATED, ROUTE, Proposals
from app.workflow.reading import History, ProposalReader
from app.workflow.simulation import DryRun

EXAMPLE: Final = {
    "target": "agents/router",
    "base_version": 1,
    "base_digest": "sha256:04bda51a47de9a463619d921d1e332446b29d25a444a5e3913ea5927f9dfdb1a",
    "patch": [{"op": "replace", "path": "/budgets/tokens_per_day", "value": 200000}],
    "rationale": "The weekly report needs more than half of today's budget.",
}

_encode: Final = msgspec.json.Encoder().encode


class Page(msgspec.Struct, frozen=True):
    """Some proposals, newest first, and the cursor of those that follow."""

    items: list[Proposal]
    next_cursor: str | None


class HttpLimits(msgspec.Struct, frozen=True):
    """What the handlers need to know beside their stages."""

    body_bytes_max: int
    cursor_key: bytes


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty object: the address says it all."""


BODIES: Final = (ProposalContent, Nothing)

CREATE_RESPONSES: Final = problems(
    **WRITE_PROBLEMS,
    s404="There is no such target.",
    s409="The base is not current (stale-base), an equal proposal is open (duplicate-open), the target is frozen "
    "(target-frozen), or a request with this Idempotency-Key is still running.",
    s422="The body is not a proposal, or the Idempotency-Key was used with another body.",
)
GET_RESPONSES: Final = problems(s404="There is no such proposal.")
STEP_RESPONSES: Final = problems(
    **WRITE_PROBLEMS,
    s404="There is no such proposal.",
    s409="The proposal is decided already (not-open), or a request with this Idempotency-Key is still running.",
    s422="The body is not an empty object, or the Idempotency-Key was used with another body.",
)


class ProposalsController(Controller):
    """Proposals: changes that somebody asks for."""

    path = ROUTE
    tags = ("proposals",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @post(
        "/",
        summary="Propose a change",
        operation_class=with_body("ProposalContent", EXAMPLE),
        responses={
            CREATED: ResponseSpec(Proposal, description="Stored durably.", generate_examples=False),
            200: ResponseSpec(DryRun, description="Simulated, not stored (`dry_run`).", generate_examples=False),
            **CREATE_RESPONSES,
        },
        roles={"editor"},
    )
    async def create(
        self,
        request: Request[Any, Any, Any],
        intake: NamedDependency[Proposals],
        *,
        limits: NamedDependency[HttpLimits],
        idempotency_key: IdempotencyKeyUnlessDry = None,
        dry_run: Annotated[
            bool, QueryParameter(description="Only simulate; nothing is stored, no key is needed.")
        ] = False,
    ) -> Response[bytes]:
        """Answer 201 after the proposal was committed; the same key and body again get the same answer.

        With `dry_run=true` answer 200 with what the simulation says.
        """
        key = "" if dry_run and idempotency_key is None else require_key(idempotency_key)
        body = await dependencies.body_of(request, bytes_max=limits.body_bytes_max)
        known = facts.of(request.scope)
        principal = dependencies.identity_of(request).principal
        if dry_run:
            rehearsed = await intake.dry_run(body, principal=principal, deadline=known.deadline)
            return Response(rehearsed, status_code=200, media_type=JSON)
        outcome = await intake.create(
            body,
            key=key,
            principal=principal,
            request=known.request_id,
            deadline=known.deadline,
        )
        return answer(outcome)

    @get(
        "/",
        summary="List proposals",
        responses={200: ResponseSpec(Page, description="Newest first.", generate_examples=False), **problems()},
        roles={"viewer"},
    )
    async def index(
        self,
        request: Request[Any, Any, Any],
        *,
        reader: NamedDependency[ProposalReader],
        limits: NamedDependency[HttpLimits],
        target: Annotated[Target | None, QueryParameter(description="Only for this target.")] = None,
        proposal_state: Annotated[State | None, QueryParameter(name="state", description="Only in this state.")] = None,
        tier: Annotated[TierName | None, QueryParameter(description="Only of this tier.")] = None,
        proposer: Annotated[
            str | None, QueryParameter(max_length=64, pattern=r"^[a-z0-9._-]+$", description="Only by this principal.")
        ] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="How many at most.")] = LIMIT_DEFAULT,
        cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")] = None,
    ) -> Response[bytes]:
        """Answer a page; `next_cursor` is null on the last one, and good for the same filter only."""
        by = None if proposer is None else Principal(proposer)
        chosen = Filter(target=target, state=proposal_state, tier=tier, proposer=by)
        query = chosen.spelled()
        position = NEWEST if cursor is None else cursors.decode(cursor, query=query, key=limits.cursor_key)
        deadline = facts.of(request.scope).deadline
        # One more than asked for says whether there is a next page.
        found = list(await reader.newest_before(position, chosen=chosen, limit=limit + 1, deadline=deadline))
        items = found[:limit]
        more = len(found) > limit
        following = cursors.encode(items[-1].id, query=query, key=limits.cursor_key) if more else None
        return Response(_encode(Page(items=items, next_cursor=following)), media_type=JSON)

    @get(
        "/{proposal_id:uuid}",
        summary="Read one proposal",
        responses={
            200: ResponseSpec(Proposal, description="As it stands now.", generate_examples=False),
            304: ResponseSpec(None, description="It stands as If-None-Match says.", generate_examples=False),
            **GET_RESPONSES,
        },
        roles={"viewer"},
    )
    async def show(
        self, request: Request[Any, Any, Any], reader: NamedDependency[ProposalReader], proposal_id: FromPath[UUID]
    ) -> Response[bytes]:
        """Answer the proposal and what became of it; its ETag is what an application wants as If-Match."""
        proposal = await reader.get(ProposalId(proposal_id), deadline=facts.of(request.scope).deadline)
        return tagged(request, _encode(proposal), str(proposal.revision))

    @get(
        "/{proposal_id:uuid}/events",
        summary="What happened to a proposal",
        responses={
            200: ResponseSpec(History, description="Oldest first.", generate_examples=False),
            **GET_RESPONSES,
        },
        roles={"viewer"},
    )
    async def events(
        self, request: Request[Any, Any, Any], reader: NamedDependency[ProposalReader], proposal_id: FromPath[UUID]
    ) -> Response[bytes]:
        """Answer its events, each with the leaf that the log holds and the body that the leaf's digest stands for."""
        history = await reader.history(ProposalId(proposal_id), deadline=facts.of(request.scope).deadline)
        return Response(_encode(history), media_type=JSON)

    @post(
        "/{proposal_id:uuid}/withdrawal",
        summary="Withdraw a proposal",
        operation_class=with_body("Nothing", {}),
        status_code=200,
        responses={
            200: ResponseSpec(Proposal, description="Withdrawn.", generate_examples=False),
            **STEP_RESPONSES,
        },
        roles={"editor", "admin"},
    )
    async def withdraw(
        self,
        request: Request[Any, Any, Any],
        intake: NamedDependency[Proposals],
        proposal_id: FromPath[UUID],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        """Answer the withdrawn proposal: by who proposed it, or by an admin, while it is open."""
        key = require_key(idempotency_key)
        body = await dependencies.body_of(request, bytes_max=SMALL_BODY_BYTES_MAX)
        bodies.body_as(Nothing, body)
        outcome = await intake.withdraw(
            ProposalId(proposal_id),
            attempt_of(request, key=key, fingerprint=bodies.fingerprint(body)),
            is_admin="admin" in dependencies.identity_of(request).roles,
            deadline=facts.of(request.scope).deadline,
        )
        return answer(outcome)
