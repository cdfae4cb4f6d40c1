"""HAProxy as clients without manners meet it: raw bytes in, and what of them reaches a replica.

The replica here is a socket that writes down every byte; HAProxy and its configuration are the real ones.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from compose.ports import Ports
from compose.proxies import HEADERS_BYTES_MAX, HAProxy

pytestmark = [pytest.mark.integration, pytest.mark.anyio, pytest.mark.timeout(60)]

PROBLEM = b"content-type: application/problem+json"
SMUGGLED = b"GET /api/v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
MUCH_BYTES = 1_000_000
HTTP_REQUEST_SECONDS = 5.0
"""HAProxy's patience with the head of a request."""


@dataclass
class Replica:
    """Answers whatever comes, and remembers it; `is_mute` answers nothing but probes."""

    seen: list[bytes] = field(default_factory=list)
    is_mute: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                is_probe = head.startswith(b"GET /health/ready ")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                if not is_probe:
                    self.seen.append(head + body)
                if is_probe or not self.is_mute:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()


@dataclass(frozen=True)
class Front:
    port: int
    replica: Replica
    log: Path
    haproxy: HAProxy

    async def send(self, *pieces: bytes, pause_seconds: float = 0.0, within_seconds: float = 10.0) -> bytes:
        """Send bytes as they are and return everything that comes back until the other side closes or rests."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = b""
        try:
            async with asyncio.timeout(within_seconds):
                for number, piece in enumerate(pieces):
                    await asyncio.sleep(pause_seconds if number else 0.0)
                    writer.write(piece)
                    await writer.drain()
                answer += await reader.read(65_536)
                async with asyncio.timeout(0.3):
                    while more := await reader.read(65_536):
                        answer += more
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()
        return answer


@asynccontextmanager
async def fronted(folder: Path, *, deadline_seconds: float = 0.5) -> AsyncIterator[Front]:
    ports = Ports.free()
    replica = Replica()
    log = folder / "haproxy.log"
    haproxy = HAProxy(folder, ports=ports, log=log, request_deadline_seconds=deadline_seconds)
    async with await asyncio.start_server(replica.serve, "127.0.0.1", ports.replicas[0]):
        await haproxy.start()
        try:
            await haproxy.command("disable health firewall/replica-1")  # what it thinks of the replica is not looked at
            await haproxy.command("set server firewall/replica-1 health up")
            yield Front(ports.front, replica, log, haproxy)
        finally:
            await haproxy.stop()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    async with fronted(tmp_path_factory.mktemp("front")) as made:
        yield made


def status_of(answer: bytes) -> int | None:
    match = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return int(match[1]) if match else None


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /api/v1/proposals HTTP/1.1", b"Host: a", *headers, b"", b""]) + body


def get(path: bytes = b"/api/v1/proposals", *headers: bytes) -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: a", *headers, b"", b""])


CHUNKED = b"0\r\n\r\n" + SMUGGLED
# What is sent, and the status that refuses it. None of it reaches a replica.
REFUSED = [
    pytest.param(post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CHUNKED), 411, id="length and chunks"),
    pytest.param(post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNKED), 411, id="chunks and length"),
    pytest.param(post(b"Transfer-Encoding: chunked", body=CHUNKED), 411, id="chunks"),
    pytest.param(post(b"Transfer-Encoding: xchunked", body=CHUNKED), 400, id="an unknown encoding"),
    pytest.param(post(b"Transfer-Encoding: chunked, identity", body=CHUNKED), 400, id="two encodings"),
    pytest.param(post(b"Transfer-Encoding: \x0bchunked", body=CHUNKED), 400, id="an encoding behind a tabulator"),
    pytest.param(post(b"Transfer-Encoding : chunked", body=CHUNKED), 400, id="a space before the colon"),
    pytest.param(post(b" Transfer-Encoding: chunked", body=CHUNKED), 400, id="a folded header"),
    pytest.param(post(b"Content-Length: 4", b"Content-Length: 5", body=b"abcde"), 400, id="two lengths"),
    pytest.param(post(b"Content-Length: 4, 5", body=b"abcde"), 400, id="two lengths in one header"),
    pytest.param(post(b"Content-Length: -1"), 400, id="a negative length"),
    pytest.param(post(b"Content-Length: +5", body=b"abcde"), 400, id="a signed length"),
    pytest.param(post(b"Content-Length: 0x5", body=b"abcde"), 400, id="a hexadecimal length"),
    pytest.param(post(b"Content-Length: 5 5", body=b"abcde"), 400, id="a length with a space"),
    pytest.param(post(b"Content-Length:", body=b"abcde"), 400, id="an empty length"),
    pytest.param(post(b"Content-Length: 99999999999999999999"), 400, id="a length beyond 64 bits"),
    pytest.param(b"GET /api/ HTTP/1.1\r\n\r\n", 400, id="no host"),
    pytest.param(b"GET /api/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two hosts"),
    pytest.param(b"GET /api/ HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400, id="NUL in a header"),
    pytest.param(b"GET /api/ HTTP/1.1\r\nHost: a\r\nX\x00: b\r\n\r\n", 400, id="NUL in a header's name"),
    pytest.param(b"GET /api/\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="NUL in the path"),
    pytest.param(b"GET /api/\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a byte that is no ASCII in the path"),
    pytest.param(b"GET /api/ HTTP/1.1\r\nHost: a\r\nX y: b\r\n\r\n", 400, id="a space in a header's name"),
    pytest.param(b"GET /api/ HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400, id="a header without a name"),
    pytest.param(b"GET /api/ HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, id="a bare carriage return"),
    pytest.param(b"G@T /api/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="a method that is none"),
    pytest.param(b"GET /api/ HTTP/3.7a\r\nHost: a\r\n\r\n", 400, id="a version that is none"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None, id="HTTP/2 without agreement"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, 400, id="TLS"),
    pytest.param(b"\xff" * 64, 400, id="rubbish"),
    pytest.param(get(b"/api/", b"X: " + b"x" * HEADERS_BYTES_MAX), 431, id="headers too large"),
    pytest.param(get(b"/api/", *[b"X%d: y" % n for n in range(5_000)]), 400, id="five thousand headers"),
    pytest.param(get(b"/api/", b"X: " + b"x" * 10_000_000), 400, id="ten megabytes of headers"),
    pytest.param(get(b"/api/" + b"x" * 60_000), 400, id="a long path"),
]


@pytest.mark.parametrize(("sent", "status"), REFUSED)
async def test_what_can_be_read_in_two_ways_or_not_at_all_reaches_no_replica(
    front: Front, sent: bytes, status: int | None
) -> None:
    front.replica.seen.clear()

    answer = await front.send(sent)

    # Who sends megabytes that nobody reads may find the connection closed before the answer.
    is_cut_off = len(sent) > MUCH_BYTES and answer == b""
    assert status_of(answer) == status or is_cut_off, answer[:300]
    assert front.replica.seen == []
    assert b"smuggled" not in answer
    assert answer.count(b"HTTP/1.") <= 1, "one answer, to one request"
    assert b"HAProxy" not in answer
    assert b"2.6" not in answer


SPELLINGS = [
    pytest.param(get(b"/api/v1/x", b"X: \xe4"), id="latin-1 in a header"),
    pytest.param(post(b"Content-Length: 2", body=b"{}"), id="a body that says its length"),
    pytest.param(post(b"Content-Length: 2", b"Content-Length: 2", body=b"{}"), id="one length, twice"),
    pytest.param(post(b"Content-Length: 2", b"Expect: 100-continue", body=b"{}"), id="a question before the body"),
    pytest.param(get(b"/api/", b"X: " + b"x" * (HEADERS_BYTES_MAX - 200)), id="headers just small enough"),
    pytest.param(get(b"/api/", b"X: y\r\n Transfer-Encoding: chunked"), id="a header on two lines becomes one"),
    pytest.param(b"GET  /api/ HTTP/1.1\r\nHost: a\r\n\r\n", id="two spaces become one"),
    pytest.param(b"GET http://a/api/v1/x HTTP/1.1\r\nHost: a\r\n\r\n", id="an absolute address"),
]


@pytest.mark.parametrize("sent", SPELLINGS)
async def test_what_is_unusual_and_clear_is_passed_on_once(front: Front, sent: bytes) -> None:
    front.replica.seen.clear()

    answer = await front.send(sent)

    assert b"HTTP/1.1 200 OK" in answer, answer[:300]
    (seen,) = front.replica.seen
    assert len(re.findall(rb"(?i)\r\ncontent-length:", seen)) <= 1
    assert b"\r\ntransfer-encoding" not in seen.lower()
    assert re.match(rb"(GET|POST) /\S+ HTTP/1.1\r\n", seen)


async def test_two_requests_in_one_write_are_two_and_get_two_answers(front: Front) -> None:
    front.replica.seen.clear()

    answer = await front.send(post(b"Content-Length: 2", body=b"{}") + get(b"/api/v1/second"))

    assert [one.split(b" ")[1] for one in front.replica.seen] == [b"/api/v1/proposals", b"/api/v1/second"]
    assert answer.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/metrics",
            "/Metrics",
            "//metrics",
            "/%6detrics",
            "/./metrics",
            "/metrics/",
            "/schema",
            "/schema/openapi.json",
        ),
        *("/%73chema", "//schema", "/", "/replicas", "/rollout", "/proxies", "/apiary", "/admin", "/.git/config", "*"),
    ],
)
async def test_only_the_api_and_health_are_routed(front: Front, path: str) -> None:
    front.replica.seen.clear()

    answer = await front.send(get(path.encode()))

    assert status_of(answer) in {404, 400}, answer
    assert front.replica.seen == []


PROBLEMS = [
    pytest.param(get(b"/elsewhere"), 404, "not-found", id="404"),
    pytest.param(b"GET /api/ HTTP/1.1\r\nHost: \r\nHost: a\r\n\r\n", 400, None, id="400"),
    pytest.param(b"GET /api/ HTTP/1.1\r\n\r\n", 400, "ambiguous-request", id="400, no host"),
    pytest.param(post(b"Transfer-Encoding: chunked", body=CHUNKED), 411, "length-required", id="411"),
    pytest.param(get(b"/api/", b"X: " + b"x" * HEADERS_BYTES_MAX), 431, "headers-too-large", id="431"),
]


@pytest.mark.parametrize(("sent", "status", "code"), PROBLEMS)
async def test_its_own_refusals_are_problems_like_the_services(
    front: Front, sent: bytes, status: int, code: str | None
) -> None:
    answer = await front.send(sent)

    assert status_of(answer) == status
    if code is not None:
        check_problem(front, answer, status, code)


def check_problem(front: Front, answer: bytes, status: int, code: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    problem: dict[str, Any] = json.loads(body)
    assert status_of(answer) == status
    assert PROBLEM in head.lower()
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"urn:amgf:problem:{code}")
    assert problem["instance"] == f"urn:amgf:request:{problem['request_id']}"
    assert re.fullmatch(r"[A-Za-z0-9_-]{8,64}", problem["request_id"])
    assert problem["request_id"] in front.log.read_text(), "found in HAProxy's log"
    assert problem["title"]
    assert problem["detail"]


async def test_a_replica_that_does_not_answer_or_is_gone_is_told_as_the_service_would(tmp_path: Path) -> None:
    async with fronted(tmp_path) as front:
        front.replica.is_mute = True
        check_problem(front, await front.send(get()), 504, "outcome-unknown")
        await front.haproxy.command("set server firewall/replica-1 state maint")
        unavailable = await front.send(get())
        check_problem(front, unavailable, 503, "no-replica-available")
        assert b"retry-after: 1" in unavailable.lower()


async def test_who_dawdles_is_cut_off_and_hinders_nobody(tmp_path: Path) -> None:
    async with fronted(tmp_path, deadline_seconds=0.5) as front:
        began = time.monotonic()

        async def timed(*pieces: bytes, pause_seconds: float) -> tuple[bytes, float]:
            answer = await front.send(*pieces, pause_seconds=pause_seconds, within_seconds=15)
            return answer, time.monotonic() - began

        async def good() -> list[float]:
            took = []
            for _ in range(40):
                asked = time.monotonic()
                assert status_of((await front.send(get()))[:20]) == 200
                took.append(time.monotonic() - asked)
            return took

        async with asyncio.TaskGroup() as tasks:
            silent = [tasks.create_task(timed(b"", pause_seconds=0)) for _ in range(300)]
            head = [bytes([one]) for one in get(b"/api/" + b"x" * 40)]
            slow_head = tasks.create_task(timed(*head, pause_seconds=0.2))
            slow_body = tasks.create_task(timed(post(b"Content-Length: 9"), *[b"x"] * 3, pause_seconds=0.3))
            took = await good()

        assert sorted(took)[int(len(took) * 0.95)] < 1.5, "each waits 0.3 s for more of its answer"
        assert status_of(slow_head.result()[0]) in {408, None}
        assert status_of(slow_body.result()[0]) in {408, 504, None}
        assert {answer for answer, _ in (task.result() for task in silent)} == {b""}, (
            "who asked nothing is told nothing"
        )
        ended = [task.result()[1] for task in (*silent, slow_head, slow_body)]
        assert max(ended) < HTTP_REQUEST_SECONDS + 5
        assert [one for one in front.replica.seen if not one.startswith(b"GET /api/v1/proposals")] == []
