"""Applying what was decided, and going back (firewall.md section 4)."""

import re
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter

from app.api import dependencies, facts
from app.api.operations import (
    JSON,
    SMALL_BODY_BYTES_MAX,
    WRITE_PROBLEMS,
    IdempotencyKey,
    answer,
    attempt_of,
    problems,
    require_key,
    with_body,
)
from app.api.paths import TARGETS, TargetPath, target_in
from app.api.proposals import Nothing
from app.core.documents.identifiers import ProposalId
from app.core.documents.strict_json import NUMBER_MAX
from app.core.governed.lifecycle import Kind
from app.core.governed.proposal import Digest, Proposal
from app.errors import InvalidRequest, PreconditionRequired
from app.workflow import bodies
from app.workflow.apply import ACCEPTED, ApplicationShown, Applier
from app.workflow.intake import CREATED, ROUTE
from app.workflow.observation import Observations, Sighting
from app.workflow.rollback import RollbackBody, Rollbacks
from app.workflow.target_views import TargetShown

ETAG: Final = re.compile(r'"(\d{1,15})"')
ANY: Final = "*"
IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        required=True,
        description="The ETag of the proposal as it was read; `*` is any.",
        schema_extra={"pattern": r'^(\*|"[0-9]{1,15}")$'},
    ),
]
ROLLBACK_EXAMPLE: Final = {"to_version": 1, "reason": "It answered better before."}

_encode: Final = msgspec.json.Encoder().encode


class ObservationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What runs: a version, and the SHA-256 of its canonical bytes."""

    version: Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
    digest: Digest


BODIES: Final = (RollbackBody, ObservationBody)
OBSERVATION_EXAMPLE: Final = {
    "version": 1,
    "digest": "sha256:04bda51a47de9a463619d921d1e332446b29d25a444a5e3913ea5927f9dfdb1a",
}


class ApplicationsController(Controller):
    """Applications: an approved proposal becomes the current version."""

    path = ROUTE
    tags = ("applications",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @post(
        "/{proposal_id:uuid}/application",
        summary="Apply an approved proposal",
        operation_class=with_body("Nothing", {}),
        status_code=ACCEPTED,
        responses={
            ACCEPTED: ResponseSpec(ApplicationShown, description="Current, and on its way.", generate_examples=False),
            **problems(
                **WRITE_PROBLEMS,
                s404="There is no such proposal.",
                s409="Not approved, its base is not current, its target is frozen, its rules are not in force any "
                "more, its time-lock has not passed (Retry-After), or it is being applied already.",
                s412="The proposal has another revision by now.",
                s422="The body is not an empty object, or the Idempotency-Key was used with another body.",
                s428="There is no If-Match.",
            ),
        },
        roles={"applier", "break_glass"},
    )
    async def apply(
        self,
        request: Request[Any, Any, Any],
        *,
        applier: NamedDependency[Applier],
        proposal_id: FromPath[UUID],
        idempotency_key: IdempotencyKey = None,
        if_match: IfMatch = None,
    ) -> Response[bytes]:
        """Answer 202 once the simulated content is the current version; delivery to the actuator follows."""
        key = require_key(idempotency_key)
        revision = _revision(if_match)
        body = await dependencies.body_of(request, bytes_max=SMALL_BODY_BYTES_MAX)
        bodies.body_as(Nothing, body)
        outcome = await applier.apply(
            ProposalId(proposal_id),
            attempt_of(request, key=key, fingerprint=bodies.fingerprint(body)),
            revision=revision,
            is_applier="applier" in dependencies.identity_of(request).roles,
            deadline=facts.of(request.scope).deadline,
        )
        return answer(outcome)

    @get(
        "/{proposal_id:uuid}/application",
        summary="Read an application",
        responses={
            200: ResponseSpec(ApplicationShown, description="As it stands now.", generate_examples=False),
            **problems(s404="There is no such proposal, or it was not applied."),
        },
        roles={"viewer"},
    )
    async def show(
        self, request: Request[Any, Any, Any], applier: NamedDependency[Applier], proposal_id: FromPath[UUID]
    ) -> Response[bytes]:
        """Answer how far its delivery came, and the decision, signed by the service's key."""
        found = await applier.get(ProposalId(proposal_id), deadline=facts.of(request.scope).deadline)
        return Response(_encode(found), media_type=JSON)


class RollbacksController(Controller):
    """What is about a target's versions: going back, and what runs."""

    path = TARGETS
    tags = ("targets",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @post(
        "/{target:str}/rollbacks",
        summary="Propose to restore an older version",
        operation_class=with_body("RollbackBody", ROLLBACK_EXAMPLE),
        responses={
            CREATED: ResponseSpec(Proposal, description="Open, like any proposal.", generate_examples=False),
            **problems(
                **WRITE_PROBLEMS,
                s404="There is no such target.",
                s409="That version was never applied (unknown-version), its content is the current one "
                "(already-current), or an equal rollback is open (duplicate-open).",
                s422="The body is not acceptable, or the version is too far back.",
            ),
        },
        roles={"editor", "break_glass"},
    )
    async def roll_back(
        self,
        request: Request[Any, Any, Any],
        rollbacks: NamedDependency[Rollbacks],
        target: TargetPath,
        idempotency_key: IdempotencyKey = None,
    ) -> Response[bytes]:
        """Answer 201 with a proposal whose result is that version's content: simulated, voted and applied as usual."""
        key = require_key(idempotency_key)
        body = await dependencies.body_of(request, bytes_max=SMALL_BODY_BYTES_MAX)
        told = bodies.body_as(RollbackBody, body)
        is_editor = "editor" in dependencies.identity_of(request).roles
        outcome = await rollbacks.propose(
            target_in(target),
            body,
            told,
            attempt_of(request, key=key, fingerprint=bodies.fingerprint(body)),
            kind=Kind.ROLLBACK if is_editor else Kind.BREAK_GLASS,
            deadline=facts.of(request.scope).deadline,
        )
        return answer(outcome)

    @post(
        "/{target:str}/observations",
        summary="Report what runs",
        operation_class=with_body("ObservationBody", OBSERVATION_EXAMPLE),
        status_code=200,
        responses={
            200: ResponseSpec(TargetShown, description="Noted.", generate_examples=False),
            **problems(
                **WRITE_PROBLEMS,
                s404="There is no such target.",
                s409="The target has no such version (unknown-version).",
                s422="The body is not an observation.",
            ),
        },
        roles={"actuator"},
    )
    async def observe(
        self, request: Request[Any, Any, Any], observations: NamedDependency[Observations], target: TargetPath
    ) -> Response[bytes]:
        """Answer the target: an application whose digest is the decided one is done, another has failed."""
        body = await dependencies.body_of(request, bytes_max=SMALL_BODY_BYTES_MAX)
        told = bodies.body_as(ObservationBody, body)
        known = facts.of(request.scope)
        sighting = Sighting(told.version, told.digest, dependencies.identity_of(request).principal, known.request_id)
        found = await observations.observe(target_in(target), sighting, deadline=known.deadline)
        return Response(_encode(found), media_type=JSON)


def _revision(if_match: str | None) -> int | None:
    """Return the revision in an If-Match, None for any.

    Raises:
        PreconditionRequired, InvalidRequest: there is none, or it is not one of our ETags.
    """
    if if_match is None:
        raise PreconditionRequired
    if if_match.strip() == ANY:
        return None
    match = ETAG.fullmatch(if_match.strip())
    if match is None:
        raise InvalidRequest("If-Match takes the ETag of a proposal, or *.")
    return int(match[1])
