"""The process: `python -m app` with real sockets, signals and exit codes (FM01, FM03, FM16)."""

import json
import re
import secrets
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from tests.integration.service.process import replica
from tests.integration.service.running import PROPOSAL, Server

pytestmark = pytest.mark.integration

PATH = "/api/v1/proposals"
POST = f'method="POST",route="{PATH}",route_class="api"'


def test_it_serves_measures_logs_and_stops_as_asked(server: Server, editor_key: str) -> None:
    with replica(server) as running:
        running.await_status("/health/ready", 200)
        headers = {"X-API-Key": editor_key, "Idempotency-Key": secrets.token_hex(8)}
        assert running.http.post(PATH, json={**PROPOSAL, "rationale": "served"}, headers=headers).status_code == 201
        series = httpx.get(running.metrics).text
        exit_code, out, err = running.end()

    assert exit_code == 0
    assert err == ""
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert {"service_started", "readiness_changed", "request_finished", "service_stopped"} <= set(events)
    for line in (
        f'firewall_requests_total{{{POST},status="201",status_class="2xx"}} 1.0',
        f'firewall_requests_total{{{POST},status="503",status_class="5xx"}} 0.0',
        'firewall_dependency_up{dependency="database"} 1.0',
        'firewall_circuit_state{dependency="database"} 0.0',
        'firewall_db_errors_total{error_type="connection"} 0.0',
        'firewall_auth_attempts_total{status="expired"} 0.0',
        'firewall_rate_limit_rejections_total{scope="principal"} 0.0',
        "firewall_schema_compatible 1.0",
        "firewall_waiting_room_waiters 0.0",
    ):
        assert line in series
    (opened,) = re.findall(r'^firewall_pool_connections\{state="open"\} (.+)$', series, re.MULTILINE)
    assert float(opened) >= 2  # what it keeps open; the worker may use more


def test_a_request_under_way_is_finished_before_it_stops(server: Server, editor_key: str) -> None:
    with replica(server) as running:
        running.await_status("/health/ready", 200)
        body = json.dumps({**PROPOSAL, "rationale": "finished"}).encode()
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
            lines = (
                f"POST {PATH} HTTP/1.1",
                "Host: localhost",
                f"X-API-Key: {editor_key}",
                f"Idempotency-Key: {secrets.token_hex(8)}",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
            )
            client.sendall("\r\n".join((*lines, "", "")).encode() + body[:10])
            running.await_status("/health/ready", 200)
            running.process.send_signal(signal.SIGTERM)
            client.sendall(body[10:])
            answer = client.recv(65536)
        out, _ = running.process.communicate(timeout=20)

    assert answer.startswith(b"HTTP/1.1 201 ")
    assert running.process.returncode == 0
    assert '"service_stopped"' in out


def test_a_client_that_never_finishes_its_body_does_not_keep_it(server: Server, editor_key: str) -> None:
    with replica(server, SHUTDOWN_GRACE_SECONDS="1") as running:
        running.await_status("/health/ready", 200)
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
            head = (
                f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {editor_key}\r\nIdempotency-Key: never\r\n"
                "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            )
            client.sendall(head.encode())
            began = time.monotonic()
            exit_code, _, _ = running.end()

    assert exit_code == 0
    assert time.monotonic() - began < 8


def test_it_refuses_a_database_without_a_schema(bare_server: Server) -> None:
    with replica(bare_server) as running:
        out, err = running.process.communicate(timeout=20)

    assert running.process.returncode == 65
    (line,) = err.splitlines()
    assert line.startswith("schema missing: ")
    assert '"event":"schema_mismatch"' in out
    assert "service_started" not in out


def test_without_a_database_it_stays_up_and_refuses_a_strange_one_when_that_comes(bare_server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    with replica(bare_server, DATABASE_PORT=str(port)) as running:
        running.await_status("/health/live", 200)
        assert running.http.get("/health/startup").status_code == 503
        assert running.http.get("/health").status_code == 503
        forward = _forward(port, bare_server.postgres.port)
        try:
            running.process.wait(15)
        finally:
            forward.kill()
            forward.wait(10)

    assert running.process.returncode == 65


def _forward(port: int, target: int) -> subprocess.Popen[bytes]:
    """Let a database appear on a port where there was none."""
    script = (
        "import asyncio, sys\n"
        "async def pump(r, w):\n"
        "    while part := await r.read(65536):\n"
        "        w.write(part)\n"
        "    w.close()\n"
        "async def handle(r, w):\n"
        "    ur, uw = await asyncio.open_connection('127.0.0.1', int(sys.argv[2]))\n"
        "    await asyncio.gather(pump(r, uw), pump(ur, w), return_exceptions=True)\n"
        "async def main():\n"
        "    server = await asyncio.start_server(handle, '127.0.0.1', int(sys.argv[1]))\n"
        "    await server.serve_forever()\n"
        "asyncio.run(main())\n"
    )
    return subprocess.Popen([sys.executable, "-c", script, str(port), str(target)])


def test_a_taken_port_is_exit_69(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environ = server.environ(ENVIRONMENT="development", REPLICA="replica-1", PORT=str(taken.getsockname()[1]))
        done = subprocess.run(
            [sys.executable, "-m", "app"], env=environ, capture_output=True, text=True, timeout=30, check=False
        )

    assert done.returncode == 69
    assert len(done.stderr.splitlines()) == 1
