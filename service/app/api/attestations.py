"""GET of attestations: what a runtime asks for, also while the database is gone."""

from typing import Any

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from app.api import facts
from app.api.operations import JSON, problems
from app.api.paths import TARGETS, TargetPath, target_in
from app.core.signing.envelope import Envelope
from app.workflow.attestation import Attestations

_encode = msgspec.json.Encoder(order="sorted").encode


class AttestationsController(Controller):
    """Attestations: the service's signed word on what is current."""

    path = TARGETS
    tags = ("targets",)
    security = [{"api_key": []}, {"token": []}]  # noqa: RUF012 - Litestar wants a list

    @get(
        "/{target:str}/attestation",
        summary="What is current, signed",
        responses={
            200: ResponseSpec(Envelope, description="A DSSE envelope; good for a day.", generate_examples=False),
            **problems(s404="There is no such target."),
        },
        roles={"viewer"},
    )
    async def attestation(
        self, request: Request[Any, Any, Any], attestations: NamedDependency[Attestations], target: TargetPath
    ) -> Response[bytes]:
        """Answer an attestation of the current version, made at most an hour ago.

        While the database is gone: the last one, with `Age`, until it expires. Verify it offline, as docs/formats.md
        says; the ETag is the digest that it attests.
        """
        found = await attestations.of(target_in(target), deadline=facts.of(request.scope).deadline)
        headers = {"etag": f'"{found.digest}"'}
        if found.age_seconds is not None:
            headers |= {"age": str(int(found.age_seconds))}
        return Response(_encode(found.envelope), headers=headers, media_type=JSON)
