"""The only place where errors become HTTP: `application/problem+json`, RFC 9457, for every one of them.

`type` is a URN per code, `code` is stable and documented, `request_id` finds the log line. Never: SQL, DETAIL, paths,
versions, stack traces. All 401 are equal byte for byte but for the request id: nobody learns which part was wrong. The
one exception is a token that is good in every other way: its holder learns that it expired.
"""

import dataclasses
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from app import log
from app.api import facts
from app.errors import FirewallError, Flaw, TokenExpired

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:amgf:problem:"
FRAMEWORK_CODES: Final[Mapping[int, str]] = {
    400: "invalid-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
}
SENTENCES: Final[Mapping[str, str]] = {
    "invalid-request": "The request is not acceptable.",
    "invalid-parameter": "A parameter is not acceptable.",
    "not-found": "There is nothing at this address.",
    "method-not-allowed": "This address does not know that method.",
}
MESSAGE_CHARACTERS_MAX: Final = 200
CHALLENGE: Final = 'ApiKey realm="firewall", Bearer realm="firewall", error="invalid_token"'
CHALLENGE_EXPIRED: Final = 'Bearer realm="firewall", error="invalid_token", error_description="token expired"'


class FlawDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing wrong with a body: where, as a JSON pointer, and what; of a rule's expression also line and column."""

    pointer: str
    code: str
    message: str
    rule: str | None = None
    line: int | None = None
    column: int | None = None


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[FlawDocument] = []
    retry_after: int | None = None
    """Whole seconds, as in the header."""
    wait_seconds: float | None = None
    """Of a 429: exactly."""


def render(error: FirewallError, request_id: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body for one of our errors."""
    problem = Problem(
        type=TYPE_PREFIX + error.code,
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.sentence,
        instance=f"urn:amgf:request:{request_id}",
        code=error.code,
        request_id=request_id,
        errors=[FlawDocument(**dataclasses.asdict(flaw)) for flaw in error.flaws],
        retry_after=error.retry_after_seconds,
        wait_seconds=None if error.wait_seconds is None else math.ceil(error.wait_seconds * 1e6) / 1e6,
    )
    headers = {"content-type": MEDIA_TYPE}
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(error.retry_after_seconds)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = CHALLENGE_EXPIRED if isinstance(error, TokenExpired) else CHALLENGE
    if error.status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}:
        headers["connection"] = "close"  # The rest of the body is not wanted.
    return error.status, headers, msgspec.json.encode(problem)


class _FrameworkError(FirewallError):
    """What Litestar raises, in our terms."""

    def __init__(self, error: HTTPException) -> None:
        super().__init__()
        self.status = error.status_code
        is_parameter = isinstance(error, ValidationException)
        self.code = "invalid-parameter" if is_parameter else FRAMEWORK_CODES.get(self.status, "internal-error")
        self.sentence = SENTENCES.get(self.code, FirewallError.sentence)
        if is_parameter and isinstance(error.extra, list):
            self.flaws = [
                Flaw(
                    pointer=f"/{item.get('key', '')}",
                    code="invalid-value",
                    message=str(item.get("message", ""))[:MESSAGE_CHARACTERS_MAX],
                )
                for item in error.extra
                if isinstance(item, dict)
            ]


def _respond(request: Request[Any, Any, Any], error: FirewallError) -> Response[bytes]:
    known = facts.of(request.scope)
    known.refusal = facts.Refusal.of(error)
    status, headers, body = render(error, known.request_id)
    return Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def _ours(request: Request[Any, Any, Any], error: FirewallError) -> Response[bytes]:
    return _respond(request, error)


def _framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unexpected(request, error)
    response = _respond(request, _FrameworkError(error))
    if error.headers and "allow" in error.headers:  # spelled so by Litestar
        response.headers["allow"] = error.headers["allow"]
    return response


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    report(error, request_id=facts.of(request.scope).request_id)
    return _respond(request, FirewallError())


def report(error: BaseException, *, request_id: str) -> None:
    """Log an error nobody foresaw."""
    log.failure("internal_error", error, request_id=request_id)


HANDLERS: Final[ExceptionHandlersMap] = {
    FirewallError: _ours,
    HTTPException: _framework,
    Exception: _unexpected,
}
