"""What the routes of the API share: how they stand in the reference, and how a request becomes an attempt.

Bodies are decoded by ourselves, strictly, so Litestar cannot know them; `with_body` puts them into the schema. A body
that stands there is also named in `BODIES` of its module, so that its components come with it.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from litestar import Request, Response
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Operation
from litestar.params import HeaderParameter

from app.api import dependencies, facts
from app.api.problems import MEDIA_TYPE, Problem
from app.errors import InvalidRequest
from app.workflow.attempts import Attempt, Outcome

JSON: Final = "application/json"
SMALL_BODY_BYTES_MAX: Final = 65_536
"""Of bodies that hold no document."""
LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 100
IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_KEY_SCHEMA: Final[dict[str, Any]] = {"pattern": "^[!-~]{1,255}$"}
_KEY_WORDS: Final = "Your name for this attempt: sent twice with one body, done once"
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(name="Idempotency-Key", required=True, description=f"{_KEY_WORDS}.", schema_extra=_KEY_SCHEMA),
]
IdempotencyKeyUnlessDry = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        required=False,
        description=f"{_KEY_WORDS}. Needed unless `dry_run`.",
        schema_extra=_KEY_SCHEMA,
    ),
]
WRITE_PROBLEMS: Final = {
    "s408": "The body did not arrive in time.",
    "s413": "The body is too large.",
    "s415": "The body is not application/json.",
}


def with_body(component: str, example: Any) -> type[Operation]:
    """Return the operation whose body is that component of the schema."""

    class WithBody(Operation):
        def to_schema(self) -> dict[str, Any]:
            schema = super().to_schema()
            content = {"schema": {"$ref": f"#/components/schemas/{component}"}, "example": example}
            schema["requestBody"] = {"required": True, "content": {JSON: content}}
            return schema

    return WithBody


def problems(**sentences: str) -> Mapping[int, ResponseSpec]:
    """Return the refusals of a route: those that every one has, and its own (`s409="..."`)."""
    common = {
        "s400": "The request is not acceptable.",
        "s401": "No valid API key.",
        "s403": "The key's roles do not allow this.",
        "s429": "Too many requests; Retry-After says when there is room again.",
        "s500": "A mistake of ours.",
        "s503": "Something it needs is gone; the code says what, and whether anything may have been done.",
        "s504": "The database did not answer in time; the code says whether anything may have been done.",
    }
    return {
        int(status[1:]): ResponseSpec(Problem, description=text, media_type=MEDIA_TYPE, generate_examples=False)
        for status, text in sorted({**common, **sentences}.items())
    }


def require_key(given: str | None) -> str:
    """Return the request's Idempotency-Key.

    Raises:
        InvalidRequest: there is none, or it is not acceptable.
    """
    if given is None or not IDEMPOTENCY_KEY.fullmatch(given):
        raise InvalidRequest(
            "The header Idempotency-Key is required: 1 to 255 visible ASCII characters.",
            code="idempotency-key-missing",
        )
    return given


def attempt_of(request: Request[Any, Any, Any], *, key: str | None, fingerprint: str) -> Attempt:
    """Return who asks for what, under which key.

    Raises:
        InvalidRequest: there is no acceptable Idempotency-Key.
    """
    return Attempt(
        principal=dependencies.identity_of(request).principal,
        route=request.scope["path"].rstrip("/"),
        key=require_key(key),
        fingerprint=fingerprint,
        request=facts.of(request.scope).request_id,
    )


def answer(outcome: Outcome, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """Return the response to an attempt."""
    sent = dict(headers or {})
    if outcome.answer.location is not None:
        sent["location"] = outcome.answer.location
    if outcome.is_replay:
        sent["idempotency-replayed"] = "true"
    return Response(outcome.answer.response, status_code=outcome.answer.status, headers=sent, media_type=JSON)


def tagged(request: Request[Any, Any, Any], body: bytes, tag: str) -> Response[bytes]:
    """Return an answer with its ETag, or 304 if the client has it."""
    etag = f'"{tag}"'
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or etag in {one.strip().removeprefix("W/") for one in known.split(",")}:
        return Response(b"", status_code=304, headers={"etag": etag}, media_type=JSON)
    return Response(body, headers={"etag": etag}, media_type=JSON)
