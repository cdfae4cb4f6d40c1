"""GET of bundles, and POST of one to be judged."""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, QueryParameter

from app.api import dependencies, facts
from app.api.operations import JSON, WRITE_PROBLEMS, problems, with_body
from app.api.proposals import HttpLimits
from app.core.documents.identifiers import ProposalId
from app.core.log.merkle import SIZE_MAX
from app.core.verification.bundle import MEDIA_TYPE, Bundle
from app.core.verification.judging import Finding, Report
from app.workflow.bundles import Bundles

BODIES: Final = (Bundle,)
EXAMPLE: Final = {
    "_type": "amgf/bundle",
    "v": 1,
    "proposal": "01a209f4-aea4-72f8-833c-264e68b380f1",
    "events": [{"index": 1, "leaf": {}, "body": {}, "proof": []}],
    "context": [{"index": 0, "leaf": {}, "body": {}, "proof": []}],
    "base": {},
    "result": None,
    "checkpoint": "firewall.example/log\n2\nAAAA\n",
    "consistency": None,
    "attestation": None,
    "observation": None,
}
"""Of the right shape, and judged: it fails most of its checks."""

_encode: Final = msgspec.json.Encoder().encode


class Judgement(msgspec.Struct, frozen=True):
    """What the fourteen checks say. `exit_code` is the one that `amgf verify bundle` would end with."""

    proposal: str | None
    state: str | None
    verdict: str
    exit_code: int
    checks: list[Finding]


class BundlesController(Controller):
    """Bundles: everything a stranger needs to judge one proposal."""

    path = "/api/v1"
    tags = ("bundles",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @get(
        "/proposals/{proposal_id:uuid}/bundle",
        summary="The bundle of a proposal",
        media_type=MEDIA_TYPE,
        responses={
            200: ResponseSpec(Bundle, description="Canonical.", media_type=MEDIA_TYPE, generate_examples=False),
            **problems(
                s404="There is no such proposal.",
                s409="Not all of its entries are under a checkpoint yet (not-published-yet).",
                s410="Something that it would say was erased (body-erased).",
                s422="It would have more entries than a verifier reads (bundle-too-large).",
            ),
        },
        roles={"viewer"},
    )
    async def bundle(
        self,
        request: Request[Any, Any, Any],
        bundles: NamedDependency[Bundles],
        proposal_id: FromPath[UUID],
        since: Annotated[
            int | None,
            QueryParameter(
                name="from", ge=1, le=SIZE_MAX, description="A size of the log that you saw: proves growth."
            ),
        ] = None,
    ) -> Response[bytes]:
        """Answer the bundle; judge it offline: `amgf verify bundle FILE --trust genesis.json`."""
        deadline = facts.of(request.scope).deadline
        content = await bundles.of(ProposalId(proposal_id), since=since, deadline=deadline)
        return Response(content, media_type=MEDIA_TYPE)

    @post(
        "/verifications",
        summary="Judge a bundle",
        operation_class=with_body("Bundle", EXAMPLE),
        status_code=200,
        responses={
            200: ResponseSpec(Judgement, description="All fourteen checks.", generate_examples=False),
            **problems(**WRITE_PROBLEMS, s422="The body is not a bundle."),
        },
        roles={"viewer"},
    )
    async def judge(
        self, request: Request[Any, Any, Any], bundles: NamedDependency[Bundles], limits: NamedDependency[HttpLimits]
    ) -> Response[bytes]:
        """Answer what the fourteen checks say, trusting this service's genesis. Nothing is stored.

        For convenience: who does not trust this service judges offline.
        """
        body = await dependencies.body_of(request, bytes_max=limits.body_bytes_max)
        return Response(
            _encode(_shown(await bundles.judge(body, deadline=facts.of(request.scope).deadline))), media_type=JSON
        )


def _shown(report: Report) -> Judgement:
    return Judgement(report.proposal, report.state, report.verdict, report.exit_code, list(report.findings))
