"""Toxiproxy's control API, with a deadline on every call and every change read back. FM01, FM02, FM09, FM14.

The only module that knows the package ``toxiproxy-python``. Of it we use the API consumer and its errors, and
neither ``Proxy`` nor ``Toxiproxy``: they reach one server per process (host and port are attributes of the class
they share), wait for ever, and ``enable()`` reports success when the server answered 500.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import requests
from toxiproxy.api import APIConsumer, validate_response
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from chaos.faults.base import FaultFailed, FaultTimedOut
from chaos.faults.toxics import Proxy, Toxic
from chaos.faults.vantage import Address

_Shape = TypeVar("_Shape")

CALL_DEADLINE_SECONDS = 2.0  # an API that works answers in milliseconds; a deadlocked one after 25 s or never
_EXCERPT = 120  # characters of an unexpected answer worth citing


class ToxiproxyUnwell(FaultFailed):
    """The API could not be reached or gave an answer that it must not give; restarting it is the remedy."""


class NoSuchProxy(FaultFailed):
    """No proxy, or no toxic, of that name."""


class ToxiproxyApi:
    """The control API of one Toxiproxy process."""

    def __init__(self, address: str, *, deadline_seconds: float = CALL_DEADLINE_SECONDS) -> None:
        where = Address.parse(address)
        self._deadline_seconds = deadline_seconds
        # A class of its own per server: the library keeps host and port on the class.
        self._consumer = type("Consumer", (_Consumer,), {"host": where.host, "port": where.port})

    async def proxies(self) -> dict[str, Proxy]:
        """Return every proxy by name."""
        return await self._read("/proxies", dict[str, Proxy])

    async def proxy(self, name: str) -> Proxy:
        """Return one proxy.

        Raises:
            NoSuchProxy: there is none of that name.
        """
        return await self._read(f"/proxies/{name}", Proxy)

    async def set_enabled(self, name: str, *, enabled: bool) -> Proxy:
        """Open or close a proxy's listener (closing drops its connections) and read back that it is so.

        Raises:
            FaultFailed: the server answered as if it had, and has not.
        """
        await self._call("PATCH", f"/proxies/{name}", {"enabled": enabled})
        seen = await self.proxy(name)
        if seen.enabled is not enabled:
            raise FaultFailed(f"proxy {name} is {_enabled(seen.enabled)} after it was set {_enabled(enabled)}")
        return seen

    async def put_toxic(self, proxy: str, toxic: Toxic) -> Proxy:
        """Add the toxic, or make the one of that name like it; read back that it is so.

        Raises:
            InvalidFault: the server would misunderstand it silently, or not survive it.
            FaultFailed: a toxic of that name but of another type or stream is there, or reading back disagrees.
        """
        toxic.require_valid()
        present = (await self.proxy(proxy)).toxic(toxic.name)
        if present is None:
            await self._call("POST", f"/proxies/{proxy}/toxics", msgspec.to_builtins(toxic))
        elif (present.type, present.stream) != (toxic.type, toxic.stream):
            raise FaultFailed(f"proxy {proxy} has another toxic named {toxic.name} already")
        elif not present.agrees_with(toxic):
            change = {"attributes": toxic.attributes, "toxicity": toxic.toxicity}
            await self._call("PATCH", f"/proxies/{proxy}/toxics/{toxic.name}", change)
        seen = await self.proxy(proxy)
        found = seen.toxic(toxic.name)
        if found is None or not found.agrees_with(toxic):
            raise FaultFailed(f"proxy {proxy} shows {found} after {toxic} was set")
        return seen

    async def remove_toxic(self, proxy: str, name: str) -> Proxy:
        """Remove a toxic if it is there, and read back that it is not. Removing a timeout closes connections."""
        if (await self.proxy(proxy)).toxic(name) is not None:
            await self._call("DELETE", f"/proxies/{proxy}/toxics/{name}")
        seen = await self.proxy(proxy)
        if seen.toxic(name) is not None:
            raise FaultFailed(f"proxy {proxy} still has toxic {name} after its removal")
        return seen

    async def reset(self) -> dict[str, Proxy]:
        """Enable every proxy, remove every toxic, and read back that it is so.

        Raises:
            FaultFailed: the server stops at the first proxy that it cannot open and leaves the rest.
        """
        await self._call("POST", "/reset")
        seen = await self.proxies()
        if left := [proxy.name for proxy in seen.values() if not proxy.enabled or proxy.toxics]:
            raise FaultFailed(f"still disabled or poisoned after a reset: {', '.join(left)}")
        return seen

    async def _read(self, path: str, shape: type[_Shape]) -> _Shape:
        content = await self._call("GET", path)
        try:
            return msgspec.json.decode(content, type=shape)
        except msgspec.MsgspecError as error:
            raise ToxiproxyUnwell(f"Toxiproxy GET {path}: not what the API answers: {_excerpt(content)}") from error

    async def _call(self, method: str, path: str, body: Any = None) -> bytes:
        wait_seconds = self._deadline_seconds
        return await _in_a_thread(lambda: _answer(self._consumer, method, path, body, wait_seconds))


class _Consumer(APIConsumer):  # type: ignore[misc] # the library has no types
    """The library's consumer, with the one verb that it lacks."""

    @classmethod
    def patch(cls, url: str, **options: Any) -> requests.Response:
        """Change data through the API (POST does the same and is deprecated since Toxiproxy 2.6)."""
        response: requests.Response = validate_response(
            requests.patch(f"http://{cls.host}:{cls.port}{url}", **options)  # noqa: S113 - in the options
        )
        return response


def _answer(consumer: type[_Consumer], method: str, path: str, body: Any, wait_seconds: float) -> bytes:
    """Make one call and return the body of its answer; turn the library's and requests' errors into ours."""
    options: dict[str, Any] = {"timeout": wait_seconds, "allow_redirects": False}
    options["proxies"] = {"http": "", "all": ""}  # loopback: never through a proxy that the environment names
    if body is not None:
        options["json"] = body
    try:
        response: requests.Response = getattr(consumer, method.lower())(path, **options)
    except NotFound as error:
        raise NoSuchProxy(f"Toxiproxy {method} {path}: {_excerpt(error.args[0])}") from error
    except (ProxyExists, InvalidToxic) as error:
        raise FaultFailed(f"Toxiproxy {method} {path}: {_excerpt(error.args[0])}") from error
    except requests.Timeout as error:
        raise FaultTimedOut(f"Toxiproxy {method} {path}", wait_seconds) from error
    except requests.RequestException as error:
        raise ToxiproxyUnwell(f"Toxiproxy {method} {path}: {type(error).__name__}") from error
    if response.status_code not in {200, 201, 204}:
        excerpt = _excerpt(response.content)
        raise ToxiproxyUnwell(f"Toxiproxy {method} {path}: status {response.status_code}, {excerpt}")
    return response.content


async def _in_a_thread(call: Callable[[], bytes]) -> bytes:
    """Make the blocking call in a thread; when cancelled, wait for its end all the same.

    A request on its way must not arrive after the undo that the cancellation leads to. The wait is bounded by the
    call's own socket time-outs.
    """
    running = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running}, timeout=2 * CALL_DEADLINE_SECONDS)
        if running.done() and not running.cancelled():
            running.exception()  # seen: the cancellation is what the caller learns
        raise


def _excerpt(content: Any) -> str:
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
    return " ".join(text.split())[:_EXCERPT]


def _enabled(value: bool) -> str:  # noqa: FBT001 - the value is the subject
    return "enabled" if value else "disabled"
