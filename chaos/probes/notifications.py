"""Receives what Alertmanager delivers, so that "would have paged" is proved and not inferred.

Writes ``notifications.jsonl``: ``{t, receiver, status, alerts: [{name, status, labels}]}``; the receiver is the last
part of the path Alertmanager posts to, e.g. ``/page``.
"""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import uvicorn

from chaos.evidence import EvidenceWriter

NOTIFICATIONS = "notifications.jsonl"
_BODY_BYTES_MAX = 4 << 20


class _Server(uvicorn.Server):
    """Leaves the process's signals to the engine."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Receiver:
    """An async context manager: listens on ``port`` (0: any) of the loopback while entered."""

    def __init__(self, writer: EvidenceWriter, *, port: int) -> None:
        self._writer = writer
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                self._receive,
                interface="asgi3",
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.create_task(self._server.serve(sockets=[self._socket]), name="notification receiver")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        await self._tasks.__aexit__(None, None, None)  # the server ends by itself, also when an error passes through
        self._socket.close()

    async def _receive(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Record one delivery (an ASGI application)."""
        body = b""
        more = True
        while more and len(body) < _BODY_BYTES_MAX:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        status = 200 if self._record(str(scope["path"]).rpartition("/")[2], body) else 400
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    def _record(self, receiver: str, body: bytes) -> bool:
        try:
            delivery = json.loads(body)
            alerts = [
                {"name": alert["labels"].get("alertname"), "status": alert["status"], "labels": alert["labels"]}
                for alert in delivery["alerts"]
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            self._writer.append(NOTIFICATIONS, {"receiver": receiver, "error": "not a delivery of Alertmanager"})
            return False
        self._writer.append(NOTIFICATIONS, {"receiver": receiver, "status": delivery.get("status"), "alerts": alerts})
        return True
