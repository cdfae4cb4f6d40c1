"""The running service: the API and the metrics in one process, from its ports to its graceful end.

A database that cannot be reached is no reason to exit: the service stays up, not ready, and keeps trying (FM01).
"""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Final

import uvicorn
import uvloop
from litestar.types import ASGIApp

from app import log
from app.api.exposition import exposition
from app.errors import InvalidSettings
from app.main import VERSION, Service, create_service
from app.resilience.readiness import DRAINING
from app.settings import ServerPolicy, Settings
from app.settings.contradictions import cannot_listen

EXIT_SCHEMA_MISMATCH: Final = 65
EXIT_DEPENDENCY_MISSING: Final = 69
BACKLOG: Final = 512
KEEP_ALIVE_SECONDS: Final = 30
"""Longer than HAProxy keeps idle connections, so that it is never we who close one just as it is used."""


class _Server(uvicorn.Server):
    """A server that leaves signals to us: there are two of them in this process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(told: Settings) -> int:
    """Serve until told to stop; return the exit code.

    Raises:
        InvalidSettings: this host has no such address, or does not let us listen there.
    """
    try:
        sockets = (_bind(told.server.host, told.server.port), _bind(told.server.host, told.server.metrics_port))
    except OSError as error:
        problem = cannot_listen(error)
        if problem is not None:
            raise InvalidSettings([problem]) from None
        sys.stderr.write("a port of FIREWALL_PORT and FIREWALL_METRICS_PORT cannot be listened on\n")
        return EXIT_DEPENDENCY_MISSING
    return uvloop.run(serve(told, *sockets))


async def serve(told: Settings, api_socket: socket.socket, metrics_socket: socket.socket) -> int:
    """Serve until a signal comes, or the database turns out to have another schema; return the exit code."""
    loop = asyncio.get_running_loop()
    service = create_service(told, clock=time.monotonic)  # uvloop's own clock counts milliseconds
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with service.database, service.sandbox, service.dispatcher, asyncio.TaskGroup() as tasks:
        await service.database.first_attempt()
        if service.refused.is_set():
            return _refuse(service)
        beside = [tasks.create_task(run()) for run in (service.lag.watch, service.worker.run, *service.background)]
        metrics_server = _server(exposition(), told.server)
        api_server = _server(service.application, told.server)
        measuring = tasks.create_task(metrics_server.serve(sockets=[metrics_socket]))
        serving = tasks.create_task(api_server.serve(sockets=[api_socket]))
        log.get().info("service_started", version=VERSION, replica=told.http.replica, port=told.server.port)
        await _any_of(tasks, stop, service.refused)
        if not service.refused.is_set():
            await _drain(service, told.server, stop)
        api_server.should_exit = True
        await serving
        metrics_server.should_exit = True
        await measuring
        for task in beside:
            task.cancel()
    if service.refused.is_set():
        return _refuse(service)
    log.get().info("service_stopped", replica=told.http.replica)
    return 0


def _refuse(service: Service) -> int:
    """Say in one line why this code must not work on that database."""
    comparison = service.schema.comparison
    if comparison is not None:
        sys.stderr.write(f"schema {comparison.kind}: {comparison.detail}; run python -m app.migrations.status\n")
    return EXIT_SCHEMA_MISMATCH


async def _any_of(tasks: asyncio.TaskGroup, *events: asyncio.Event) -> None:
    """Return when the first of the events is set."""
    waiting = [tasks.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


async def _drain(service: Service, policy: ServerPolicy, stop: asyncio.Event) -> None:
    """Turn readiness red and go on serving until the proxy has noticed; a second signal cuts it short."""
    service.readiness.object_to(DRAINING)
    log.get().info("service_draining", drain_seconds=policy.drain_seconds)
    stop.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(policy.drain_seconds):
            await stop.wait()


def _server(application: ASGIApp, policy: ServerPolicy) -> _Server:
    return _Server(
        uvicorn.Config(
            application,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(policy.grace_seconds)),
        )
    )


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket bound but not listening: until we serve, connections are refused rather than kept waiting."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    return bound
