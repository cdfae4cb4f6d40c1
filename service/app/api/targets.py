"""Targets: created, read, frozen; their snapshots (firewall.md section 4).

A target's name may hold slashes: in an address it is one segment, percent-encoded: /api/v1/targets/agents%2Frouter.
"""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, post, put
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
    tagged,
    with_body,
)
from app.api.paths import TARGETS, TargetPath, address, target_in
from app.api.proposals import HttpLimits
from app.core.documents.identifiers import ProposalId
from app.core.documents.strict_json import NUMBER_MAX
from app.storage.targets import Snapshot
from app.workflow import bodies
from app.workflow.freezing import Freezing
from app.workflow.target_views import SnapshotShown, TargetBody, TargetShown, TargetSummary
from app.workflow.targets import Targets

EXAMPLE: Final = {
    "name": "agents/router",
    "schema": {"type": "object", "required": ["budgets"]},
    "minimum_tier": "low",
    "document": {"budgets": {"tokens_per_day": 100000}},
    "on_failure": "hold",
    "actuator": None,
}
SNAPSHOT: Final = ResponseSpec(SnapshotShown, description="With its document.", generate_examples=False)
NOT_MODIFIED: Final = ResponseSpec(None, description="It is what If-None-Match says.", generate_examples=False)
NO_TARGET: Final = problems(s404="There is no such target.")

_encode: Final = msgspec.json.Encoder().encode


class TargetPage(msgspec.Struct, frozen=True):
    """Some targets in the order of their names, and the cursor of those that follow."""

    items: list[TargetSummary]
    next_cursor: str | None


class SnapshotPage(msgspec.Struct, frozen=True):
    """Some versions, newest first, and the cursor of those that follow."""

    items: list[Snapshot]
    next_cursor: str | None


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


BODIES: Final = (TargetBody, Reason)

VersionPath = Annotated[int, PathParameter(ge=1, le=NUMBER_MAX, description="The version's number, from 1.")]
Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]
Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="How many at most.")]
ALL_TARGETS: Final = b"targets;by-name"
VERSION_BYTES: Final = 8


class TargetsController(Controller):
    """Targets: the governed documents."""

    path = TARGETS
    tags = ("targets",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @post(
        "/",
        summary="Create a target",
        operation_class=with_body("TargetBody", EXAMPLE),
        responses={
            201: ResponseSpec(TargetShown, description="Created, with its first version.", generate_examples=False),
            **problems(
                **WRITE_PROBLEMS,
                s409="There is a target of that name already (target-exists).",
                s422="The body is no target, its schema no schema, or its document does not satisfy it.",
            ),
        },
        roles={"admin"},
    )
    async def create(
        self, request: Request[Any, Any, Any], governed: NamedDependency[Targets], limits: NamedDependency[HttpLimits]
    ) -> Response[bytes]:
        """Answer 201 with the target; its configuration never changes, its document only by proposals."""
        body = await dependencies.body_of(request, bytes_max=limits.body_bytes_max)
        known = facts.of(request.scope)
        made = await governed.create(
            body,
            principal=dependencies.identity_of(request).principal,
            request=known.request_id,
            deadline=known.deadline,
        )
        headers = {"location": address(made.name), "etag": f'"{made.digest}"'}
        return Response(_encode(made), status_code=201, headers=headers, media_type=JSON)

    @get(
        "/",
        summary="List targets",
        responses={
            200: ResponseSpec(TargetPage, description="In the order of names.", generate_examples=False),
            **problems(),
        },
        roles={"viewer"},
    )
    async def index(
        self,
        request: Request[Any, Any, Any],
        *,
        governed: NamedDependency[Targets],
        limits: NamedDependency[HttpLimits],
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response[bytes]:
        """Answer a page; `next_cursor` is null on the last one."""
        key = limits.cursor_key
        after = "" if cursor is None else cursors.decode_bytes(cursor, query=ALL_TARGETS, key=key).decode()
        found = list(await governed.listed(after=after, limit=limit + 1, deadline=facts.of(request.scope).deadline))
        items = found[:limit]
        following = None
        if len(found) > limit:
            following = cursors.encode_bytes(items[-1].name.encode(), query=ALL_TARGETS, key=key)
        return Response(_encode(TargetPage(items=items, next_cursor=following)), media_type=JSON)

    @get(
        "/{target:str}",
        summary="Read a target",
        responses={
            200: ResponseSpec(TargetShown, description="As it stands now.", generate_examples=False),
            **NO_TARGET,
        },
        roles={"viewer"},
    )
    async def show(
        self, request: Request[Any, Any, Any], governed: NamedDependency[Targets], target: TargetPath
    ) -> Response[bytes]:
        """Answer its configuration, its state, the current version, and what its actuator says that runs."""
        found = await governed.get(target_in(target), deadline=facts.of(request.scope).deadline)
        return Response(_encode(found), media_type=JSON)

    @get(
        "/{target:str}/current",
        summary="Read the current version",
        responses={200: SNAPSHOT, 304: NOT_MODIFIED, **NO_TARGET},
        roles={"viewer"},
    )
    async def current(
        self, request: Request[Any, Any, Any], governed: NamedDependency[Targets], target: TargetPath
    ) -> Response[bytes]:
        """Answer the current version; the ETag is its digest."""
        found = await governed.current(target_in(target), deadline=facts.of(request.scope).deadline)
        return tagged(request, _encode(found), found.digest)

    @get(
        "/{target:str}/snapshots",
        summary="List versions",
        responses={
            200: ResponseSpec(SnapshotPage, description="Newest first.", generate_examples=False),
            **NO_TARGET,
        },
        roles={"viewer"},
    )
    async def snapshots(
        self,
        request: Request[Any, Any, Any],
        *,
        governed: NamedDependency[Targets],
        limits: NamedDependency[HttpLimits],
        target: TargetPath,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response[bytes]:
        """Answer a page of versions without their documents; `next_cursor` is null on the last one."""
        name = target_in(target)
        query = b"snapshots;" + name.encode()
        before = NUMBER_MAX
        if cursor is not None:
            before = int.from_bytes(cursors.decode_bytes(cursor, query=query, key=limits.cursor_key), "big")
        deadline = facts.of(request.scope).deadline
        found = list(await governed.snapshots(name, before=before, limit=limit + 1, deadline=deadline))
        items = found[:limit]
        following = None
        if len(found) > limit:
            position = items[-1].version.to_bytes(VERSION_BYTES, "big")
            following = cursors.encode_bytes(position, query=query, key=limits.cursor_key)
        return Response(_encode(SnapshotPage(items=items, next_cursor=following)), media_type=JSON)

    @get(
        "/{target:str}/snapshots/{version:int}",
        summary="Read one version",
        responses={200: SNAPSHOT, 304: NOT_MODIFIED, **problems(s404="There is no such target or version.")},
        roles={"viewer"},
    )
    async def snapshot(
        self,
        request: Request[Any, Any, Any],
        governed: NamedDependency[Targets],
        target: TargetPath,
        version: VersionPath,
    ) -> Response[bytes]:
        """Answer one version; the ETag is its digest."""
        found = await governed.snapshot(target_in(target), version, deadline=facts.of(request.scope).deadline)
        return tagged(request, _encode(found), found.digest)

    @put(
        "/{target:str}/freeze",
        summary="Freeze a target",
        operation_class=with_body("Reason", {"reason": "It answers with somebody else's data."}),
        responses={
            200: ResponseSpec(TargetShown, description="Frozen.", generate_examples=False),
            **problems(**WRITE_PROBLEMS, s404="There is no such target.", s422="The body is not a reason."),
        },
        roles={"break_glass", "admin"},
    )
    async def freeze(
        self, request: Request[Any, Any, Any], freezing: NamedDependency[Freezing], target: TargetPath
    ) -> Response[bytes]:
        """Let nothing be applied to it any more, at once; one that is frozen stays as it is."""
        told = bodies.body_as(Reason, await dependencies.body_of(request, bytes_max=SMALL_BODY_BYTES_MAX))
        known = facts.of(request.scope)
        found = await freezing.freeze(
            target_in(target),
            reason=told.reason,
            principal=dependencies.identity_of(request).principal,
            request=known.request_id,
            deadline=known.deadline,
        )
        return Response(_encode(found), media_type=JSON)

    @delete(
        "/{target:str}/freeze",
        summary="Unfreeze a target",
        status_code=200,
        responses={
            200: ResponseSpec(TargetShown, description="Proposals are applied again.", generate_examples=False),
            **problems(
                s404="There is no such target.",
                s409="It is not frozen, or that proposal has no quorum of tier high for it now.",
            ),
        },
        roles={"break_glass", "admin"},
    )
    async def unfreeze(
        self,
        request: Request[Any, Any, Any],
        freezing: NamedDependency[Freezing],
        target: TargetPath,
        proposal: Annotated[
            UUID, QueryParameter(description="An approved proposal for this target, of tier high or above.")
        ],
    ) -> Response[bytes]:
        """Let proposals be applied again, on the word of a quorum: that of an approved proposal for this target."""
        known = facts.of(request.scope)
        found = await freezing.unfreeze(
            target_in(target),
            by=ProposalId(proposal),
            principal=dependencies.identity_of(request).principal,
            request=known.request_id,
            deadline=known.deadline,
        )
        return Response(_encode(found), media_type=JSON)
