"""Small real servers for the tests of traffic and probes: they speak HTTP over loopback and can be told to fail."""

import asyncio
import contextlib
import json
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from chaos.history import sha256


@dataclass
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Question:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


Respond = Callable[[Question], Awaitable[Answer]]


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(respond: Respond) -> AsyncIterator[str]:
    """Serve until left; give the address."""

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        pairs = (pair.partition("=") for pair in scope["query_string"].decode().split("&") if pair)
        question = Question(
            method=scope["method"],
            path=scope["path"],
            query={name: value for name, _, value in pairs},
            headers={name.decode(): value.decode() for name, value in scope["headers"]},
            body=body,
        )
        answer = await respond(question)
        content = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(
        uvicorn.Config(application, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
    listener.close()


def refused_address() -> str:
    """Return an address where nothing listens."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


class ProposalsInMemory:
    """Speaks the proposals API of firewall.md, section 4, well enough to be a peer of the generator."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Any]] = {}
        self.by_key: dict[tuple[str, str], tuple[str, str]] = {}  # principal and key -> body digest, identity
        self.questions: list[Question] = []
        self.conflicts = 0

    async def __call__(self, question: Question) -> Answer:
        self.questions.append(question)
        headers = {"x-replica": "replica-1", "x-request-id": uuid.uuid4().hex}
        if question.method == "POST":
            return self._propose(question, headers)
        identity = question.path.rpartition("/")[2]
        if identity != "proposals":
            found = self.stored.get(identity)
            return Answer(200 if found else 404, found or {"code": "not-found"}, headers)
        ids = sorted(one for one in self.stored if one > question.query.get("cursor", ""))
        page = ids[: int(question.query.get("limit", "20"))]
        more = page[-1] if len(ids) > len(page) else None
        return Answer(200, {"items": [self.stored[one] for one in page], "next_cursor": more}, headers)

    def _propose(self, question: Question, headers: dict[str, str]) -> Answer:
        principal, key, digest = (
            question.headers["x-api-key"],
            question.headers["idempotency-key"],
            sha256(question.body),
        )
        if (principal, key) in self.by_key:
            known_digest, identity = self.by_key[principal, key]
            if known_digest != digest:
                self.conflicts += 1
                return Answer(422, {"code": "idempotency-key-reused"}, headers)
            return Answer(201, self.stored[identity], headers)
        identity = f"{len(self.stored):08d}"
        self.stored[identity] = {"id": identity, "proposal_digest": digest, **json.loads(question.body)}
        self.by_key[principal, key] = (digest, identity)
        return Answer(201, self.stored[identity], headers)
