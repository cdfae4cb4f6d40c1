"""A founded firewall for benchmarks: the real application over a real PostgreSQL, called in this process.

Beside it stands the ordinary service (`benchmarks.ordinary`) on tables of its own in the same server, called the same
way. What is counted is the CPU of this process: the application and its driver, without an HTTP server and without
PostgreSQL's own. Everything is stopped and removed when the block ends, also on Ctrl-C.
"""

import io
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import click
import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal

from app import log
from benchmarks import ordinary, samples
from benchmarks.measure import Prepared
from tests.integration.service import gate
from tests.integration.service.running import _running
from tests.integration.service.stages import Stages, by_hand

DOCUMENT: Final = {**samples.two_kilobytes(), "notes": {}}
"""Of every target: 2 kB."""
DONE: Final = frozenset({200, 201, 202})


class Refused(Exception):
    """A request was not answered as it must be."""


@dataclass(frozen=True, slots=True)
class Request:
    """A POST with JSON."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it."""

    status: int
    value: Any


@dataclass(frozen=True, slots=True)
class Served:
    """The application, the ordinary one, and the people who take part."""

    portal: BlockingPortal
    stages: Stages
    ordinary: ordinary.Service

    @property
    def ours(self) -> Any:
        """The application as an HTTP server calls it."""
        return self.stages.client.service.application

    def side(
        self,
        name: str,
        application: Any,
        make: Callable[[], Awaitable[Sequence[Request]]],
        *,
        at_once: int = 1,
        units: int = 1,
    ) -> Prepared:
        """Return a way that sends what `make` returns, one after the other, in `at_once` lines at a time."""

        async def prepared(calls: int) -> list[list[Sequence[Request]]]:
            return [[await make() for _ in range(at_once)] for _ in range(calls)]

        def prepare(calls: int) -> Callable[[], object]:
            lines = self.portal.call(prepared, calls)
            return lambda: self.portal.call(_send_all, application, lines)

        return Prepared(name, lambda: None, units=units * at_once, prepare=prepare)

    def answers(self, application: Any, make: Callable[[], Awaitable[Sequence[Request]]]) -> list[Any]:
        """Send once what `make` returns; return the answers' bodies."""

        async def work() -> list[Any]:
            return [(await send(application, request)).value for request in await make()]

        return self.portal.call(work)


@contextmanager
def served() -> Iterator[Served]:
    """Run everything until the block ends."""
    click.echo("  (a PostgreSQL and the application are started: some seconds)", err=True)
    with open(os.devnull, "wb") as nowhere, tempfile.TemporaryDirectory(prefix="amgf-bench-") as name:  # noqa: PTH123
        log.configure("info", output=nowhere)
        folder = Path(name)
        with _running(folder) as server:
            made = server.command("app.migrations.apply")
            if made.returncode != 0:
                raise Refused(made.stderr)
            founded = gate.found(server, folder)
            with (
                start_blocking_portal("asyncio", {"use_uvloop": True}) as portal,
                portal.wrap_async_context_manager(by_hand(founded)) as stages,
                portal.wrap_async_context_manager(ordinary.serving(server, founded.keys)) as other,
            ):
                yield Served(portal, stages, other)


async def send(application: Any, request: Request) -> Answer:
    """Call an ASGI application as an HTTP server does.

    Raises:
        Refused: it did not do what it was asked for.
    """
    headers = {"host": "firewall.test", "content-type": "application/json", **request.headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
            (b"content-length", str(len(request.body)).encode()),
        ],
        "client": ("127.0.0.1", 50_000),
        "server": ("firewall.test", 80),
        "state": {},
    }
    events = iter([{"type": "http.request", "body": request.body, "more_body": False}])
    status, body = 0, io.BytesIO()

    async def receive() -> Any:
        event = next(events, None)
        if event is None:
            await anyio.sleep_forever()
        return event

    async def answer(event: Any) -> None:
        nonlocal status
        status = event.get("status", status)
        body.write(event.get("body", b""))

    await application(scope, receive, answer)
    if status not in DONE:
        raise Refused(f"{request.path}: {status} {body.getvalue()[:300]!r}")
    return Answer(status, msgspec.json.decode(body.getvalue()))


async def _send_all(application: Any, lines: Sequence[Sequence[Sequence[Request]]]) -> None:
    for beside in lines:
        if len(beside) == 1:
            await _send_line(application, beside[0])
            continue
        async with anyio.create_task_group() as tasks:
            for line in beside:
                tasks.start_soon(_send_line, application, line)


async def _send_line(application: Any, line: Sequence[Request]) -> None:
    for request in line:
        await send(application, request)
