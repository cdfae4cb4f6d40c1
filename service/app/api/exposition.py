"""GET /metrics, on a port of its own that no proxy routes."""

from http import HTTPStatus

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest


def exposition(registry: CollectorRegistry = REGISTRY) -> ASGIApp:
    """Return the ASGI application that answers scrapes."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if scope["type"] != ScopeType.HTTP:
            return
        is_ours = scope["path"] == "/metrics" and scope["method"] == "GET"
        status = HTTPStatus.OK if is_ours else HTTPStatus.NOT_FOUND
        body = generate_latest(registry) if is_ours else b"only GET /metrics lives here\n"
        content_type = CONTENT_TYPE_LATEST if is_ours else "text/plain; charset=utf-8"
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return application
