"""Authentication, the principal's rate, then its role, before a handler runs; and the body, with its bounds.

A route of the API names its roles in `opt`; one that does not is refused to everybody (default deny).
"""

import asyncio
import contextlib
from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from app import log
from app.api import facts
from app.errors import (
    BodyTooLarge,
    ClientLeft,
    Forbidden,
    RequestTimeout,
    Unauthenticated,
    UnsupportedMediaType,
)
from app.resilience.deadline import Deadline
from app.resilience.rate_limit import RateLimiter
from app.security.authentication import Authenticator, credentials
from app.security.roles import Identity

ROLES: Final = "roles"
"""The route's option: any one of these is enough."""
DISCARDED_BYTES_MAX: Final = 16 * 1_048_576
DISCARDING_SECONDS: Final = 1.0
"""How much of a body that is not wanted is let in before its connection is closed, and for how long."""
MEDIA_TYPES: Final = frozenset({"application/json", "application/json;charset=utf-8"})


def authentication(authenticator: Authenticator, limiter: RateLimiter) -> Guard:
    """Return the guard that finds out who is asking, whether not too often, and whether that one may."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        known = facts.of(connection.scope)
        try:
            known.identity = await authenticator.authenticate(
                credentials(connection.scope["headers"]), deadline=known.deadline
            )
        except Unauthenticated as error:
            # FM04: the client's address for the security analysis; nothing of the credential.
            log.get().warning(
                "authentication_failed",
                code=error.code,
                client_address=known.client_address,
                request_id=known.request_id,
            )
            raise
        await limiter.take(
            "principal",
            known.identity.principal,
            request_id=known.request_id,
            client_address=known.client_address,
        )
        if not known.identity.roles & set(handler.opt.get(ROLES, ())):
            log.get().warning("authorisation_failed", principal=known.identity.principal, request_id=known.request_id)
            raise Forbidden

    return guard


def identity_of(request: Request[Any, Any, Any]) -> Identity:
    """Return who is asking; the guard has seen to it that somebody is."""
    identity = facts.of(request.scope).identity
    if identity is None:
        raise Unauthenticated
    return identity


async def body_of(request: Request[Any, Any, Any], *, bytes_max: int) -> bytes:
    """Return the body.

    Raises:
        UnsupportedMediaType, BodyTooLarge: it is not wanted, and none of it was kept.
        RequestTimeout: it did not arrive by the request's deadline.
        ClientLeft: it will never arrive.
    """
    content_type = (facts.header(request.scope, b"content-type") or b"").decode("latin-1")
    if content_type.replace(" ", "").lower() not in MEDIA_TYPES or "content-encoding" in request.headers:
        raise UnsupportedMediaType
    announced = facts.header(request.scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced[:20]) > bytes_max:
        await _discard(request)
        raise BodyTooLarge
    return await _receive(request, facts.of(request.scope).deadline, bytes_max)


async def _receive(request: Request[Any, Any, Any], deadline: Deadline, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(deadline.remaining_seconds()):
            while True:
                event = await request.receive()
                if event["type"] == "http.disconnect":
                    raise ClientLeft
                part = event["body"]  # type: ignore[typeddict-item]
                size += len(part)
                if size > bytes_max:
                    if event.get("more_body", False):
                        await _discard(request)
                    raise BodyTooLarge
                parts.append(part)
                if not event.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise RequestTimeout from None


async def _discard(request: Request[Any, Any, Any]) -> None:
    """Let the rest of a body come in, within bounds.

    A connection that is closed on bytes nobody read is reset, and with it goes the answer that was on its way.
    """
    if "expect" in request.headers:
        return  # it waits to be told to send
    left = DISCARDED_BYTES_MAX
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARDING_SECONDS):
            while left > 0:
                event = await request.receive()
                if event["type"] == "http.disconnect":
                    raise ClientLeft
                left -= len(event["body"])  # type: ignore[typeddict-item]
                if not event.get("more_body", False):
                    return
