"""The wrapper around toxiproxy-python believes nothing: a control API that lies, fails or hangs is found out.

The liar is a real HTTP server: a stand-in for a Toxiproxy in states that a healthy one cannot be brought into.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

import pytest
from toxiproxy.api import APIConsumer

from chaos.faults import FaultError, FaultFailed, FaultTimedOut, InvalidFault, ProxyDown
from chaos.faults.base import noting
from chaos.faults.toxics import Toxic
from chaos.faults.toxiproxy import ToxiproxyApi, ToxiproxyUnwell

if TYPE_CHECKING:
    from compose.stack import Stack

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

PROXY = {"name": "database-1", "listen": "127.0.0.1:1", "upstream": "127.0.0.1:2", "enabled": False, "toxics": []}
Answer = tuple[int, str]


@dataclass
class Liar:
    """An API that tells the truth about a disabled proxy, and answers changes as it is told."""

    change: Callable[[str, str], Answer]
    address: str = ""
    released: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str]] = field(default_factory=list)
    proxy: dict[str, Any] = field(default_factory=lambda: dict(PROXY))

    def answer(self, method: str, path: str) -> Answer:
        self.asked.append((method, path))
        if method == "GET":
            return 200, json.dumps({"database-1": self.proxy} if path == "/proxies" else self.proxy)
        return self.change(method, path)


@contextmanager
def lying(change: Callable[[Liar, str, str], Answer]) -> Iterator[Liar]:
    liar = Liar(change=lambda method, path: change(liar, method, path))

    class Requests(BaseHTTPRequestHandler):
        def _do(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = liar.answer(self.command, self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_PATCH = do_DELETE = _do  # noqa: N815 - the library's names

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.daemon_threads = True
    liar.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield liar
    finally:
        liar.released.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def hang(liar: Liar, _method: str, _path: str) -> Answer:
    liar.released.wait(20)
    return 200, "{}"


LIES = [
    pytest.param(lambda *_: (500, '{"error": "taken", "status": 500}'), ToxiproxyUnwell, id="500 to enable"),
    pytest.param(lambda *_: (503, "<html>timeout</html>"), ToxiproxyUnwell, id="503 in HTML"),
    pytest.param(lambda *_: (302, ""), ToxiproxyUnwell, id="a redirect"),
    pytest.param(lambda *_: (200, "{}"), FaultFailed, id="200 and nothing changed"),
    pytest.param(lambda *_: (404, '{"error": "proxy not found"}'), FaultFailed, id="404"),
    pytest.param(lambda *_: (400, '{"error": "bad request"}'), FaultFailed, id="400"),
    pytest.param(hang, FaultTimedOut, id="no answer"),
]


@pytest.mark.parametrize(("change", "error"), LIES)
async def test_an_enable_that_did_not_happen_is_never_reported_as_done(change: Any, error: type[FaultError]) -> None:
    with lying(change) as liar:
        api = ToxiproxyApi(liar.address, deadline_seconds=0.3)

        with pytest.raises(error):
            await api.set_enabled("database-1", enabled=True)


@pytest.mark.parametrize(
    "body", ["<html></html>", "[]", '{"database-1": {"name": "database-1"}}', '{"database-1": {"enabled": "yes"}}']
)
async def test_an_answer_of_another_shape_is_not_read_as_good_news(body: str) -> None:
    with lying(lambda *_: (200, "{}")) as liar:
        liar.answer = lambda *_: (200, body)  # type: ignore[method-assign]

        with pytest.raises(ToxiproxyUnwell):
            await ToxiproxyApi(liar.address).proxies()


async def test_a_toxic_that_stays_after_its_removal_is_found_out() -> None:
    toxic = {"name": "slow", "type": "latency", "stream": "downstream", "toxicity": 1, "attributes": {"latency": 5}}
    with lying(lambda *_: (204, "")) as liar:
        liar.proxy["toxics"] = [toxic]

        with pytest.raises(FaultFailed, match="still has toxic slow"):
            await ToxiproxyApi(liar.address).remove_toxic("database-1", "slow")


async def test_a_toxic_that_never_appears_is_found_out() -> None:
    with lying(lambda *_: (200, "{}")) as liar, pytest.raises(FaultFailed, match="shows None"):
        await ToxiproxyApi(liar.address).put_toxic("database-1", Toxic(name="hold", type="timeout"))


async def test_a_reset_that_left_a_proxy_disabled_is_found_out() -> None:
    with lying(lambda *_: (204, "")) as liar, pytest.raises(FaultFailed, match="database-1"):
        await ToxiproxyApi(liar.address).reset()


@dataclass
class OneToxiproxy:
    """A stack's Toxiproxy whose restart brings a process that tells the truth."""

    liar: Liar
    restarts: int = 0

    @property
    def address(self) -> str:
        return self.liar.address

    async def restart(self) -> None:
        self.restarts += 1
        self.liar.released.set()
        self.liar.proxy["enabled"] = True
        self.liar.change = lambda *_: (200, "{}")


@asynccontextmanager
async def stack_of(change: Any) -> AsyncIterator[tuple["Stack", OneToxiproxy]]:
    @dataclass
    class Parts:
        toxiproxy: OneToxiproxy

    with lying(change) as liar:
        toxiproxy = OneToxiproxy(liar)
        yield cast("Stack", Parts(toxiproxy)), toxiproxy


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda *_: (500, "{}"), id="500 to enable"),
        pytest.param(lambda *_: (503, "<html>timeout</html>"), id="503 in HTML"),
        pytest.param(hang, id="no answer"),
    ],
)
async def test_an_undo_that_the_api_will_not_make_is_made_by_a_restart_and_noted(change: Any) -> None:
    async with stack_of(change) as (stack, toxiproxy):
        with noting() as notes:
            await ProxyDown().undo(stack)

    assert toxiproxy.restarts == 1
    assert ["last resort" in text for text in notes] == [True]


async def test_an_inject_that_the_api_will_not_make_raises_and_restarts_nothing() -> None:
    async with stack_of(lambda *_: (500, "{}")) as (stack, toxiproxy):
        with pytest.raises(ToxiproxyUnwell):
            await ProxyDown().inject(stack)

    assert toxiproxy.restarts == 0


async def test_a_cancelled_call_ends_before_the_cancellation_goes_on() -> None:
    """Otherwise its request could arrive after the undo that the cancellation leads to."""
    arrived = threading.Event()
    done = []

    def slow(liar: Liar, _method: str, _path: str) -> Answer:
        arrived.set()
        liar.released.wait(0.3)
        done.append(True)
        return 200, "{}"

    with lying(slow) as liar:
        call = asyncio.ensure_future(ToxiproxyApi(liar.address).set_enabled("database-1", enabled=False))
        await asyncio.to_thread(arrived.wait, 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert done == [True]


async def test_each_server_has_a_consumer_of_its_own() -> None:
    with lying(lambda *_: (200, "{}")) as one, lying(lambda *_: (200, "{}")) as other:
        first, second = ToxiproxyApi(one.address), ToxiproxyApi(other.address)
        await asyncio.gather(first.proxies(), second.proxies())

        assert (len(one.asked), len(other.asked)) == (1, 1)
        assert (APIConsumer.host, APIConsumer.port) == ("127.0.0.1", 8474)


@pytest.mark.parametrize(
    ("toxic", "said"),
    [
        pytest.param(Toxic(name="t", type="latencey"), "type must be", id="misspelt type"),
        pytest.param(Toxic(name="t", type="latency", attributes={"latencey": 5}), "no attribute", id="misspelt name"),
        pytest.param(Toxic(name="t", type="bandwidth", attributes={"rate": -1}), ">= 0", id="negative bandwidth"),
        pytest.param(Toxic(name="t", type="slicer", attributes={"average_size": 0}), "slicer", id="empty slices"),
        pytest.param(Toxic(name="t", type="slicer"), "slicer", id="slices of default size"),
        pytest.param(
            Toxic(name="t", type="slicer", attributes={"average_size": 8, "size_variation": 8}), "slicer", id="vary"
        ),
        pytest.param(
            Toxic(name="t", type="latency", attributes={"latency": 5, "jitter": 6}), "jitter", id="jitter too large"
        ),
        pytest.param(Toxic(name="t", type="timeout", stream="both"), "stream", id="both streams"),
        pytest.param(Toxic(name="t", type="timeout", toxicity=1.5), "toxicity", id="toxicity"),
        pytest.param(
            Toxic(name="t", type="timeout", attributes={"timeout": True}), "whole number", id="a truth for a number"
        ),
    ],
)
async def test_what_the_server_would_misread_or_die_of_never_reaches_it(toxic: Toxic, said: str) -> None:
    with lying(lambda *_: (200, "{}")) as liar:
        with pytest.raises(InvalidFault, match=said):
            await ToxiproxyApi(liar.address).put_toxic("database-1", toxic)

        assert liar.asked == []
