import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.client import exits
from app.client.exits import Stop
from app.client.http import ATTEMPTS, Firewall, Refusal, read_api_key

KEY = "amgf_abc_def"


@dataclass
class Script:
    """What the server answers, one after the other; the last one for ever. `asked`: what it was asked."""

    answers: list[tuple[int, dict[str, str], bytes]]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def next(self, asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(asked)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


@pytest.fixture
def script() -> Script:
    return Script([(200, {}, b"{}")])


@pytest.fixture
def address(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            asked = {"path": self.path, "headers": dict(self.headers.items()), "body": self.rfile.read(length)}
            status, headers, body = script.next(asked)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815 - the names of the library

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def problem(code: str, **fields: Any) -> bytes:
    return json.dumps({"code": code, "detail": f"It is {code}.", **fields}).encode()


def firewall(address: str, pauses: list[float] | None = None) -> Firewall:
    return Firewall(address, api_key=KEY, pause=(pauses if pauses is not None else []).append)


def test_a_repeated_change_carries_the_same_idempotency_key(address: str, script: Script) -> None:
    script.answers = [(503, {"retry-after": "2"}, problem("database-unavailable")), (201, {}, b'{"id":1}')]
    pauses: list[float] = []

    with firewall(address, pauses) as service:
        answer = service.post("/proposals", {"a": 1})

    keys = {one["headers"]["idempotency-key"] for one in script.asked}
    assert (answer.status, len(script.asked), len(keys)) == (201, 2, 1)
    assert pauses == [2.0]
    assert script.asked[0]["headers"]["x-api-key"] == KEY


def test_it_gives_up_after_so_many_attempts(address: str, script: Script) -> None:
    script.answers = [(504, {}, problem("query-timeout"))]

    with firewall(address) as service, pytest.raises(Refusal) as refusal:
        service.get("/proposals")

    assert len(script.asked) == ATTEMPTS
    assert refusal.value.exit_code == exits.TRY_AGAIN


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, exits.INPUT),
        (401, exits.NOT_ALLOWED),
        (403, exits.NOT_ALLOWED),
        (404, exits.NO),
        (409, exits.NO),
        (422, exits.NO),
    ],
)
def test_a_no_is_said_once_with_its_code(address: str, script: Script, status: int, code: int) -> None:
    script.answers = [(status, {}, problem("reason", errors=[{"pointer": "/a", "message": "bad \x1b[31m"}]))]

    with firewall(address) as service, pytest.raises(Refusal) as refusal:
        service.get("/proposals")

    assert len(script.asked) == 1
    assert refusal.value.exit_code == code
    assert "It is reason. [reason]" in refusal.value.message
    assert "\\u001b" in refusal.value.message


def test_a_service_that_is_not_there_is_said_so(address: str, script: Script) -> None:
    del address, script

    with (
        Firewall("http://127.0.0.1:1", api_key=None, pause=lambda _seconds: None) as service,
        pytest.raises(Stop) as stop,
    ):
        service.get("/proposals")

    assert stop.value.exit_code == exits.UNAVAILABLE


def test_it_waits_until_a_bundle_is_published(address: str, script: Script) -> None:
    not_yet: tuple[int, dict[str, str], bytes] = (409, {}, problem("not-published-yet"))
    script.answers = [not_yet, not_yet, (200, {}, b"{}")]

    with firewall(address) as service:
        service.get_when_published("/proposals/1/bundle", query={"from": None}, wait_seconds=5)

    assert len(script.asked) == 3
    assert script.asked[0]["path"] == "/api/v1/proposals/1/bundle"


def test_an_answer_that_is_no_json_is_refused(address: str, script: Script) -> None:
    script.answers = [(200, {}, b'{"a":1,"a":2}')]

    with firewall(address) as service, pytest.raises(Stop) as stop:
        service.get("/proposals").value()

    assert stop.value.exit_code == exits.INPUT


@pytest.mark.parametrize("address", ["ftp://x", "127.0.0.1:8080", "http://", "http://user@host"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Stop):
        Firewall(address, api_key=None)


@pytest.mark.parametrize("content", [KEY, f"X-API-Key: {KEY}\n", f"x-api-key:{KEY}\r\n"])
def test_an_api_key_may_stand_alone_or_as_a_header(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)

    assert read_api_key(tmp_path / "key") == KEY


@pytest.mark.parametrize("content", ["", "secret", "X-API-Key:", "\u00e4mgf_"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)

    with pytest.raises(Stop):
        read_api_key(tmp_path / "key")
