"""What the runbooks look with, against real sockets."""

import http.server
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from chaos import runbook

PROBE = runbook.FOLDER / "probe.py"


def probe(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-S", PROBE, *arguments], capture_output=True, text=True, timeout=20, check=False
    )
    return done.returncode, done.stdout + done.stderr


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on a free port of the loopback and treat one connection as told."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=10)


def says_no_tls(connection: socket.socket) -> None:
    assert connection.recv(8) == bytes.fromhex("0000000804d2162f")
    connection.sendall(b"N")


def hangs_up(connection: socket.socket) -> None:
    connection.recv(8)


def says_nothing(connection: socket.socket) -> None:
    connection.recv(8)
    connection.recv(1)  # until the probe gives up


def talks_http(connection: socket.socket) -> None:
    connection.recv(8)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "outcome", "exit_code"),
    [(says_no_tls, "open", 0), (hangs_up, "closed", 1), (says_nothing, "silent", 1), (talks_http, "strange", 1)],
)
def test_a_greeting_tells_how_far_it_gets(
    answer: Callable[[socket.socket], None], outcome: str, exit_code: int
) -> None:
    with server(answer) as port:
        code, said = probe("postgres", "127.0.0.1", str(port))

    assert said.splitlines() == [f"127.0.0.1:{port} {outcome}", f"path: {outcome}"]
    assert code == exit_code


def test_of_several_ports_the_worst_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = free.getsockname()[1]
    with server(says_no_tls) as port:
        code, said = probe("postgres", "127.0.0.1", str(port), str(nobody))

    assert said.splitlines()[-1] == "path: refused"
    assert code == 1


class _Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/metrics"
        body = b'# TYPE x_total counter\nx_total{a="1"} 2.0\nx_total{a="2"} 3.0\nx_total_more 50.0\ny 1.0\n'
        self.send_response(200 if found else 503)
        self.end_headers()
        self.wfile.write(body if found else b"not ready\n")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])) + self.headers["X-Name"].encode()
        self.send_response(201)
        self.send_header("X-Replica", "replica-1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Metrics) as serving:
        threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02}).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_a_metric_is_summed_over_label_sets_and_addresses(address: str) -> None:
    assert probe("metric", "x_total", address, address) == (0, "x_total 10\n")


def test_a_metric_with_labels_is_that_label_set_alone(address: str) -> None:
    assert probe("metric", 'x_total{a="2"}', address, address) == (0, 'x_total{a="2"} 6\n')


def test_a_metric_that_is_not_there_is_an_error(address: str) -> None:
    assert probe("metric", "z", address) == (1, "z: no such metric\n")


def test_an_http_error_has_its_own_exit_code_and_shows_the_body(address: str) -> None:
    assert probe("http", f"{address}/health/ready") == (22, "HTTP 503\nnot ready\n")
    assert probe("http", f"{address}/metrics")[0] == 0


def test_nobody_at_an_address_has_its_own_exit_code() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = free.getsockname()[1]

    code, said = probe("http", f"http://127.0.0.1:{nobody}/")

    assert code == 7
    assert said.startswith("no connection")


def test_a_document_is_posted_with_its_header(address: str) -> None:
    said = probe("http", "--post", "{}", "--header", "X-Name: value", "--show", "x-replica", f"{address}/x")

    assert said == (0, "HTTP 201\nx-replica: replica-1\n{}value\n")


STATES = {
    "replica-1": {"wanted": True, "ready": True, "restarts": 0, "last_exit_code": None},
    "replica-2": {"wanted": False, "ready": False, "restarts": 0, "last_exit_code": 0},
    "replica-3": {"wanted": True, "ready": False, "restarts": 3, "last_exit_code": 78},
}
LOG = """{"event":"setting_refused","setting":"FIREWALL_PORT","accepted":"x; accepted: y"}
FIREWALL_PORT: not acceptable; accepted: a whole number from 1 to 65535
FIREWALL_PROT: unknown; accepted: a name from service/README.md, perhaps FIREWALL_PORT
something else
FIREWALL_PORT: not acceptable; accepted: a whole number from 1 to 65535
"""


class _Control(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(json.dumps(STATES) if self.path == "/replicas" else LOG)

    def do_POST(self) -> None:
        changes = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_good = changes == {"FIREWALL_PORT": "8000"}
        self._answer(json.dumps({"exit_code": 0 if is_good else 78, "output": "{}" if is_good else LOG}))

    def _answer(self, body: str) -> None:
        self.send_response(200 if self.headers["X-Stack-Control"] else 401)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def control() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Control) as serving:
        threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02}).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_replicas_that_should_be_ready_and_are_not_are_told_with_their_exit_code(control: str) -> None:
    code, said = probe("replicas", control)

    assert code == 0
    assert said.splitlines() == [
        "replica-1 ready",
        "replica-2 stopped",
        "replica-3 not ready, 3 restarts, last exit code 78",
        "exit: 78",
    ]


def test_what_is_refused_is_told_once_and_the_names_in_it_alone_on_request(control: str) -> None:
    _, said = probe("refused", control)
    _, names = probe("refused", control, "--names")

    assert said.splitlines() == LOG.splitlines()[1:3]
    assert names.splitlines() == ["FIREWALL_PORT", "FIREWALL_PROT"]


def test_a_trial_says_whether_a_configuration_would_be_accepted(control: str) -> None:
    refused, accepted = probe("trial", control), probe("trial", control, "FIREWALL_PORT=8000")

    assert refused[0] == 1
    assert refused[1].splitlines()[-1] == "configuration: refused"
    assert accepted == (0, "configuration: accepted\n")


@contextmanager
def limited(*statuses: int) -> Iterator[tuple[str, list[str | None]]]:
    """Answer with these statuses in turn, the last one for ever; keep the keys that were shown."""
    keys: list[str | None] = []

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[min(len(keys), len(statuses) - 1)])
            keys.append(self.headers["X-API-Key"])
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_address[1]}/", keys
        finally:
            serving.shutdown()
            thread.join(timeout=10)


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    (tmp_path / "key").write_text("a-secret-key\n")
    return str(tmp_path / "key")


@pytest.mark.parametrize(
    ("statuses", "code", "said"),
    [
        ((200, 200, 429, 200), 0, "patient: refused at request 3, waited 1 s, then admitted"),
        ((200, 429, 429), 1, "patient: refused at request 2, waited 1 s, then 429"),
        ((401,), 1, "patient: not refused for being too fast, but HTTP 401 at request 1"),
    ],
)
def test_a_patient_client_waits_as_long_as_told(statuses: tuple[int, ...], code: int, said: str, key_file: str) -> None:
    with limited(*statuses) as (url, keys):
        assert probe("patient", key_file, url) == (code, f"{said}\n")

    assert set(keys) == {"a-secret-key"}


@pytest.mark.parametrize(("statuses", "code", "refused"), [((200,), 0, 0), ((200, 429, 200), 1, 1)])
def test_a_paced_client_says_how_many_were_refused(
    statuses: tuple[int, ...], code: int, refused: int, key_file: str
) -> None:
    with limited(*statuses) as (url, _):
        said = f"paced: 4 requests at 20 a second, {refused} refused\n"
        assert probe("paced", key_file, "20", "0.2", url) == (code, said)
