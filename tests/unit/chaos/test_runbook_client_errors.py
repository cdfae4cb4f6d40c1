"""runbooks/client_errors.py tells one client from many, and silence from calm."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from compose.settings import REPOSITORY

SCRIPT = REPOSITORY / "runbooks" / "client_errors.py"


def said(address: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, SCRIPT, address], capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout


@contextmanager
def prometheus(refusals: Mapping[str, float]) -> Iterator[str]:
    """Answer instant queries as Prometheus would, with so many refusals of each bucket among a hundred answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (query,) = parse_qs(urlsplit(self.path).query)["query"]
            total = sum(refusals.values())
            if "by (bucket)" in query:
                found = [({"bucket": bucket}, value) for bucket, value in refusals.items()]
            elif 'status_class="4xx"' in query:
                found = [({"method": "POST", "route": "/api/v1/proposals", "status": "422"}, total)]
            else:
                found = [({}, 100.0)]
            result = [{"metric": labels, "value": [0, str(value)]} for labels, value in found]
            body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("refusals", "code", "pattern"),
    [
        ({"00": 30, "01": 0, "02": 1}, 0, "few clients"),
        ({"00": 10, "01": 12, "02": 9}, 0, "many clients"),
        ({"00": 1, "01": 1}, 1, "calm"),
    ],
)
def test_the_pattern_of_refusals_is_told(refusals: Mapping[str, float], code: int, pattern: str) -> None:
    with prometheus(refusals) as address:
        ended, output = said(address)

    assert (ended, output.splitlines()[-1]) == (code, f"pattern: {pattern}")
    assert code != 0 or "422 POST /api/v1/proposals" in output


def test_a_prometheus_that_does_not_answer_is_not_calm() -> None:
    code, output = said("http://127.0.0.1:1")

    assert (code, output.splitlines()[-1]) == (2, "pattern: unreadable")
