"""What every request passes, outermost first: id -> metrics and log line -> Host -> rate by address -> the application.

It wraps the application from outside, because Litestar's own middleware does not see requests that meet no route, and
those must be counted too. Answers carry X-Request-Id and X-Replica, whatever produced them.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from app import log, metrics
from app.api import facts, paths, problems
from app.api.facts import Facts, Refusal
from app.core.documents import pointer
from app.errors import FirewallError, Flaw, InvalidRequest
from app.resilience.deadline import Clock, Deadline
from app.resilience.rate_limit import RateLimiter
from app.security.authentication import Authenticator, credentials
from app.settings import HttpPolicy

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_-]{8,64}")
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
CLIENT_ERRORS: Final = range(400, 500)
ERROR_FROM: Final = 500
FLAWS_LOGGED_MAX: Final = 5
STEPS_LOGGED_MAX: Final = 8
PRODUCT: Final = re.compile(rb"[A-Za-z0-9._-]{1,32}(?:/[A-Za-z0-9._-]{1,32})?")
"""What begins a User-Agent: the client's program and version."""
NOT_OURS: Final = "*"
"""Stands in the log for a field that the API does not have: its name is the client's."""
HEALTH: Final = "/health"


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Who lets requests of strangers in: whoever shows a key verified not long ago is no stranger (docs/adr/0037)."""

    limiter: RateLimiter
    authenticator: Authenticator

    async def admit(self, scope: HTTPScope, known: Facts) -> None:
        """Take a token of the client's address, unless its key is known; that one is counted by principal.

        Raises:
            RateLimited: there is none.
        """
        if self.authenticator.remembers(credentials(scope["headers"])):
            return
        await self.limiter.take(
            "address", known.client_address, request_id=known.request_id, client_address=known.client_address
        )


class Observed:
    """The ASGI application that is served."""

    def __init__(
        self,
        application: ASGIApp,
        policy: HttpPolicy,
        doorkeeper: Doorkeeper,
        *,
        fields: Collection[str],
        clock: Clock,
        new_request_id: Callable[[], str],
    ) -> None:
        """Wrap the application; `fields` are the names that the API itself gives to fields and parameters."""
        self._application = application
        self._doorkeeper = doorkeeper
        self._fields = frozenset(fields)
        self._policy = policy
        self._clock = clock
        self._new_request_id = new_request_id
        self._hosts = frozenset(host.lower() for host in policy.allowed_hosts)
        self._replica = policy.replica.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != ScopeType.HTTP:
            await self._application(scope, receive, send)
            return
        began = self._clock()
        known = Facts(
            request_id=self._request_id(scope),
            deadline=Deadline(began + self._policy.request_deadline_seconds, self._clock),
            client_address=facts.client_address(scope, self._policy.trusted_proxies),
        )
        scope[facts.KEY] = known  # type: ignore[typeddict-unknown-key]
        answer = _Answer(send, known.request_id, self._replica)
        metrics.REQUESTS_IN_FLIGHT.inc()
        try:
            await self._serve(scope, receive, answer, known)
        finally:
            metrics.REQUESTS_IN_FLIGHT.dec()
            self._close(scope, answer, known, self._clock() - began)

    async def _serve(self, scope: HTTPScope, receive: Receive, answer: "_Answer", known: Facts) -> None:
        try:
            if not _is_probe(scope):
                self._require_host(scope)
                await self._doorkeeper.admit(scope, known)
            paths.keep_encoded(scope)
            await self._application(scope, receive, answer)
        except FirewallError as error:
            known.refusal = Refusal.of(error)
            await answer.problem(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the last net: a client gets an answer whatever happened
            problems.report(error, request_id=known.request_id)
            known.refusal = Refusal.of(FirewallError())
            await answer.problem(FirewallError())

    def _request_id(self, scope: HTTPScope) -> str:
        given = facts.header(scope, b"x-request-id")
        return given.decode() if given and REQUEST_ID.fullmatch(given) else self._new_request_id()

    def _require_host(self, scope: HTTPScope) -> None:
        """Refuse hosts that are not ours."""
        given = facts.header(scope, b"host")
        name = re.sub(rb":\d{1,5}$", b"", given).decode("ascii", "replace").lower() if given else ""
        if name not in self._hosts:
            raise InvalidRequest("The Host header is missing or not one of this service.", code="host-not-allowed")

    def _close(self, scope: HTTPScope, answer: "_Answer", known: Facts, seconds: float) -> None:
        route = scope.get("path_template") or metrics.UNMATCHED
        if answer.status is None:
            return  # The client left, or the process is being stopped: nothing was answered.
        route_class = metrics.route_class(route)
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        metrics.REQUEST_COUNT.labels(
            method, route, route_class, str(answer.status), metrics.status_class(answer.status)
        ).inc()
        metrics.REQUEST_DURATION.labels(route, route_class).observe(seconds)
        if route_class != "health":
            who = known.identity.principal if known.identity else known.client_address
            metrics.count_client(who, is_refused=answer.status in CLIENT_ERRORS)
        level = "warning" if answer.status >= ERROR_FROM else "info"
        if route_class == "health":
            level = "debug"  # Probes come every second; readiness_changed says what matters.
        getattr(log.get(), level)(
            "request_finished",
            method=method,
            route=route,
            status=answer.status,
            duration_ms=round(seconds * 1000, 3),
            request_id=known.request_id,
            principal=known.identity.principal if known.identity else None,
            client_address=known.client_address,
            **self._refusal(scope, known),
        )

    def _refusal(self, scope: HTTPScope, known: Facts) -> dict[str, object]:
        """Return what the log says of a refusal (FM12): its code, the flaws' places and rules, the client's program.

        Never what was sent: a step of a pointer that is no field of ours and no index is not shown.
        """
        if known.refusal is None:
            return {}
        product = PRODUCT.match(facts.header(scope, b"user-agent") or b"")
        return {
            "code": known.refusal.code,
            "flaws": [f"{self._place(flaw)} {flaw.code}" for flaw in known.refusal.flaws[:FLAWS_LOGGED_MAX]],
            "client": product[0].decode() if product else None,
        }

    def _place(self, flaw: Flaw) -> str:
        steps: Iterable[str] = flaw.pointer.split("/")[1 : STEPS_LOGGED_MAX + 1]
        return pointer.join(
            step if step in self._fields or pointer.index(step) is not None else NOT_OURS for step in steps
        )


def _is_probe(scope: HTTPScope) -> bool:
    """Say whether it is a probe of whatever runs us: those come by address, and are never refused."""
    return scope["path"] == HEALTH or scope["path"].startswith(f"{HEALTH}/")


class _Answer:
    """Sends, and adds our headers to whatever is sent."""

    def __init__(self, send: Send, request_id: str, replica: bytes) -> None:
        self._send = send
        self._request_id = request_id
        self._headers = ((b"x-request-id", request_id.encode()), (b"x-replica", replica), *SECURITY_HEADERS)
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(item for item in self._headers if item[0] not in present),
            ]
        await self._send(message)

    async def problem(self, error: FirewallError) -> None:
        """Send an error, unless an answer has begun."""
        if self.status is not None:
            return
        status, headers, body = problems.render(error, self._request_id)
        headers["content-length"] = str(len(body))
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": status, "headers": pairs})
        await self({"type": "http.response.body", "body": body, "more_body": False})
