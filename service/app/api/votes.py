"""Plans, ballots and votes of a proposal (firewall.md section 4)."""

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
    answer,
    attempt_of,
    problems,
    require_key,
    tagged,
    with_body,
)
from app.api.proposals import HttpLimits
from app.core.documents.identifiers import ProposalId
from app.core.signing.envelope import Envelope
from app.core.signing.statement import Ballot
from app.workflow import bodies
from app.workflow.plans import Plan, Plans
from app.workflow.votes import CREATED, KNOWN, ROUTE, VoteReceipt, VoteRecord, Votes

FIRST: Final = UUID(int=0)
EXAMPLE: Final = {
    "payload": "eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEifQ==",
    "payloadType": "application/vnd.in-toto+json",
    "signatures": [
        {
            "keyid": "sha256:04bda51a47de9a463619d921d1e332446b29d25a444a5e3913ea5927f9dfdb1a",
            "sig": f"{'A' * 86}==",
        }
    ],
}
BODIES: Final = (Envelope,)
NO_PLAN: Final = problems(
    s404="There is no such proposal.", s409="It has not been simulated yet, or not since the rules changed."
)
REFUSED: Final = {
    "s403": "Not the role, not the holder of that key, or the proposer.",
    "s422": "The envelope is not signed well, or says something else than the ballot.",
}

_encode: Final = msgspec.json.Encoder().encode


class VotePage(msgspec.Struct, frozen=True):
    """Some votes of a proposal, of every epoch, oldest first, and the cursor of those that follow."""

    items: list[VoteRecord]
    next_cursor: str | None


class VotesController(Controller):
    """What is voted on, and the votes."""

    path = f"{ROUTE}/{{proposal_id:uuid}}"
    tags = ("votes",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @get(
        "/simulation",
        summary="Read what a proposal would do",
        responses={200: ResponseSpec(Plan, description="The plan.", generate_examples=False), **NO_PLAN},
        roles={"viewer"},
    )
    async def simulation(
        self,
        request: Request[Any, Any, Any],
        *,
        plans: NamedDependency[Plans],
        proposal_id: FromPath[UUID],
        inputs: Annotated[
            bool, QueryParameter(description="With everything it was made of, to make it again.")
        ] = False,
    ) -> Response[bytes]:
        """Answer the simulation of the present epoch: its record, and the document that would be current after it."""
        deadline = facts.of(request.scope).deadline
        plan = await plans.simulation(ProposalId(proposal_id), with_inputs=inputs, deadline=deadline)
        return Response(_encode(plan), media_type=JSON)

    @get(
        "/ballot",
        summary="Read what to sign",
        responses={
            200: ResponseSpec(Ballot, description="The statement, in canonical form.", generate_examples=False),
            304: ResponseSpec(None, description="It is what If-None-Match says.", generate_examples=False),
            **NO_PLAN,
        },
        roles={"viewer"},
    )
    async def ballot(
        self, request: Request[Any, Any, Any], plans: NamedDependency[Plans], proposal_id: FromPath[UUID]
    ) -> Response[bytes]:
        """Answer the ballot of the present epoch. A vote is the same with seven more fields in its predicate."""
        ballot = await plans.ballot(ProposalId(proposal_id), deadline=facts.of(request.scope).deadline)
        return tagged(request, ballot.statement, ballot.nonce)

    @get(
        "/votes",
        summary="List the votes",
        responses={
            200: ResponseSpec(VotePage, description="Oldest first.", generate_examples=False),
            **problems(s404="There is no such proposal."),
        },
        roles={"viewer"},
    )
    async def index(
        self,
        request: Request[Any, Any, Any],
        *,
        votes: NamedDependency[Votes],
        limits: NamedDependency[HttpLimits],
        proposal_id: FromPath[UUID],
        limit: Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="How many at most.")] = LIMIT_DEFAULT,
        cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")] = None,
    ) -> Response[bytes]:
        """Answer a page of votes, each with its envelope; those that no longer count say since when."""
        query = b"votes;oldest-first;" + proposal_id.bytes
        after = FIRST if cursor is None else cursors.decode(cursor, query=query, key=limits.cursor_key)
        found = list(
            await votes.of_proposal(
                ProposalId(proposal_id), after=after, limit=limit + 1, deadline=facts.of(request.scope).deadline
            )
        )
        items = found[:limit]
        following = None
        if len(found) > limit:
            following = cursors.encode(items[-1].id, query=query, key=limits.cursor_key)
        return Response(_encode(VotePage(items=items, next_cursor=following)), media_type=JSON)

    @post(
        "/votes",
        summary="Vote",
        operation_class=with_body("Envelope", EXAMPLE),
        responses={
            CREATED: ResponseSpec(VoteReceipt, description="Stored, and counted.", generate_examples=False),
            KNOWN: ResponseSpec(VoteReceipt, description="This vote was stored before.", generate_examples=False),
            **problems(
                **WRITE_PROBLEMS,
                **REFUSED,
                s404="There is no such proposal.",
                s409="Not simulated yet, decided or expired (ballot-closed), the rules changed (ballot-superseded), "
                "voted too often, or a request with this Idempotency-Key is still running.",
            ),
        },
        roles={"validator"},
    )
    async def cast(
        self,
        request: Request[Any, Any, Any],
        votes: NamedDependency[Votes],
        proposal_id: FromPath[UUID],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        """Answer what the vote led to. A later vote of the same validator supersedes this one until it is decided."""
        key = require_key(idempotency_key)
        body = await dependencies.body_of(request, bytes_max=SMALL_BODY_BYTES_MAX)
        attempt = attempt_of(request, key=key, fingerprint=bodies.fingerprint(body))
        deadline = facts.of(request.scope).deadline
        return answer(await votes.cast(ProposalId(proposal_id), body, attempt, deadline=deadline))

    @post(
        "/votes/{vote_id:uuid}/revocation",
        summary="Take a vote back",
        operation_class=with_body("Envelope", EXAMPLE),
        responses={
            CREATED: ResponseSpec(VoteReceipt, description="Taken back, and counted.", generate_examples=False),
            KNOWN: ResponseSpec(VoteReceipt, description="This was done before.", generate_examples=False),
            **problems(
                **WRITE_PROBLEMS,
                **REFUSED,
                s404="There is no such vote on this proposal.",
                s409="The change is being applied or was (already-applying), the vote counts no longer anyway, or a "
                "request with this Idempotency-Key is still running.",
            ),
        },
        roles={"validator"},
    )
    async def revoke(
        self,
        request: Request[Any, Any, Any],
        votes: NamedDependency[Votes],
        proposal_id: FromPath[UUID],
        vote_id: FromPath[UUID],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        """Answer what is left of the approval: a proposal that loses its quorum goes back to being voted on."""
        key = require_key(idempotency_key)
        body = await dependencies.body_of(request, bytes_max=SMALL_BODY_BYTES_MAX)
        attempt = attempt_of(request, key=key, fingerprint=bodies.fingerprint(body))
        deadline = facts.of(request.scope).deadline
        return answer(await votes.revoke(ProposalId(proposal_id), vote_id, body, attempt, deadline=deadline))
