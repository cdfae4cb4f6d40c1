"""Faults between the replicas and a dependency, made by the world's own Toxiproxy. FM01, FM06, FM09, FM14.

Each replica slot has a proxy of its own for each dependency (``database-1`` ..), so one replica can be cut off
alone. The undo of last resort is a new Toxiproxy process: the control API of 2.12.0 deadlocks for good when a
latency toxic is removed while a client does not read (Shopify/toxiproxy#558).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from chaos.faults.base import (
    FaultFailed,
    FaultTimedOut,
    InvalidFault,
    Recorded,
    look,
    note,
    stack_errors_as_ours,
    within,
)
from chaos.faults.toxics import Proxy, Toxic
from chaos.faults.toxiproxy import ToxiproxyApi, ToxiproxyUnwell
from chaos.faults.vantage import Reached, Reply, ask_all, require_dependency
from chaos.scenario import Observation

if TYPE_CHECKING:
    from compose.stack import Stack

INJECT_DEADLINE_SECONDS = 15.0
LOOK_DEADLINE_SECONDS = 10.0
UNDO_DEADLINE_SECONDS = 15.0
RESTART_DEADLINE_SECONDS = 15.0
_LATENCY_MS_MAX = 60_000
_LATENCY_MARGIN_SECONDS = 2.0  # on top of the latency, before an answer counts as missing


@dataclass(frozen=True, slots=True)
class _Cut(Recorded):
    """What the faults of this module share: a dependency, and the replicas cut from it (``None``: every slot)."""

    needs: ClassVar[frozenset[str]] = frozenset()

    dependency: str = "database"
    replicas: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        require_dependency(self.dependency)
        for replica in self.replicas or ():
            _slot(replica)
        if self.replicas is not None and not self.replicas:
            raise InvalidFault("replicas must name at least one, or be left out for all")

    async def proxies(self, api: ToxiproxyApi) -> dict[str, Proxy]:
        """Return the proxies this fault is about.

        Raises:
            FaultFailed: one of them does not exist.
        """
        present = {
            name: proxy for name, proxy in (await api.proxies()).items() if name.startswith(f"{self.dependency}-")
        }
        if self.replicas is None:
            if not present:
                raise FaultFailed(f"Toxiproxy has no proxy for {self.dependency}")
            return present
        wanted = [f"{self.dependency}-{_slot(replica)}" for replica in self.replicas]
        if missing := [name for name in wanted if name not in present]:
            raise FaultFailed(f"Toxiproxy has no proxy {', '.join(missing)}")
        return {name: present[name] for name in wanted}

    async def replies(self, proxies: Mapping[str, Proxy], *, wait_seconds: float = 1.0) -> dict[str, Reply]:
        """Ask through each proxy's listener, all at once."""
        asked = await ask_all(
            self.dependency, (proxy.listener for proxy in proxies.values()), wait_seconds=wait_seconds
        )
        return {name: asked[proxy.listener] for name, proxy in proxies.items()}


@dataclass(frozen=True, slots=True)
class ProxyDown(_Cut):
    """The dependency refuses connections: listener closed, open connections closed."""

    kind: ClassVar[str] = "proxy_down"

    async def inject(self, stack: "Stack") -> None:
        """Disable the proxies."""
        api = ToxiproxyApi(stack.toxiproxy.address)
        async with within(INJECT_DEADLINE_SECONDS, "proxy_down: inject"):
            for name in await self.proxies(api):
                await api.set_enabled(name, enabled=False)

    async def bites(self, stack: "Stack") -> Observation:
        """Our own connection to each listener is refused."""

        async def refused() -> Observation:
            replies = await self.replies(await self.proxies(ToxiproxyApi(stack.toxiproxy.address)))
            return _observe(replies, all(reply.reached is Reached.REFUSED for reply in replies.values()))

        return await look("proxy_down: bites", LOOK_DEADLINE_SECONDS, refused)

    async def undo(self, stack: "Stack") -> None:
        """Enable the proxies."""
        api = ToxiproxyApi(stack.toxiproxy.address)

        async def enable() -> None:
            for name in await self.proxies(api):
                await api.set_enabled(name, enabled=True)

        await take_back(stack, "proxy_down: undo", enable)

    async def is_gone(self, stack: "Stack") -> Observation:
        """The dependency answers through each listener."""
        return await look("proxy_down: is_gone", LOOK_DEADLINE_SECONDS, lambda: _answers(self, stack))


@dataclass(frozen=True, slots=True)
class _Poison(_Cut):
    """Toxics on the proxies; their names are fixed, so that any process can remove them."""

    def toxics(self) -> tuple[Toxic, ...]:
        """Return the toxics each proxy gets."""
        raise NotImplementedError

    async def inject(self, stack: "Stack") -> None:
        """Add the toxics; existing connections get them too."""
        api = ToxiproxyApi(stack.toxiproxy.address)
        async with within(INJECT_DEADLINE_SECONDS, "toxics: inject"):
            for name in await self.proxies(api):
                for toxic in self.toxics():
                    await api.put_toxic(name, toxic)

    async def undo(self, stack: "Stack") -> None:
        """Remove the toxics."""
        api = ToxiproxyApi(stack.toxiproxy.address)

        async def remove() -> None:
            for name in await self.proxies(api):
                for toxic in self.toxics():
                    await api.remove_toxic(name, toxic.name)

        await take_back(stack, "toxics: undo", remove)


@dataclass(frozen=True, slots=True)
class SilentProxy(_Poison):
    """Connections are accepted, nothing is forwarded, in either direction; open connections fall silent as well.

    The kernel still acknowledges, so keepalives and ``tcp_user_timeout`` see nothing: only a deadline of the
    application does. The undo closes the connections that were held.
    """

    kind: ClassVar[str] = "silent_proxy"

    def toxics(self) -> tuple[Toxic, ...]:
        """Hold both directions until removal."""
        return tuple(
            Toxic(name=f"amgf_silent_{stream}", type="timeout", stream=stream, attributes={"timeout": 0})
            for stream in ("downstream", "upstream")
        )

    async def bites(self, stack: "Stack") -> Observation:
        """Each listener accepts and stays silent, while the dependency itself answers at its own port."""

        async def silent() -> Observation:
            proxies = await self.proxies(ToxiproxyApi(stack.toxiproxy.address))
            replies = await self.replies(proxies)
            direct = await ask_all(self.dependency, (proxy.direct for proxy in proxies.values()))
            held = all(reply.reached is Reached.SILENT for reply in replies.values())
            alive = all(reply.reached is Reached.ANSWERED for reply in direct.values())
            return _observe({**replies, **{f"direct {at}": reply for at, reply in direct.items()}}, held and alive)

        return await look("silent_proxy: bites", LOOK_DEADLINE_SECONDS, silent)

    async def is_gone(self, stack: "Stack") -> Observation:
        """The dependency answers through each listener."""
        return await look("silent_proxy: is_gone", LOOK_DEADLINE_SECONDS, lambda: _answers(self, stack))


@dataclass(frozen=True, slots=True)
class ProxyLatency(_Poison):
    """Every answer comes ``latency_ms`` late; connecting does not. PostgreSQL's own time-outs do not see it."""

    kind: ClassVar[str] = "proxy_latency"

    latency_ms: int = 1000

    def __post_init__(self) -> None:
        _Cut.__post_init__(self)
        if not 1 <= self.latency_ms <= _LATENCY_MS_MAX:
            raise InvalidFault(f"latency_ms must be between 1 and {_LATENCY_MS_MAX}, not {self.latency_ms}")

    def toxics(self) -> tuple[Toxic, ...]:
        """Delay what the dependency answers; no jitter: randomness would not be ours to seed."""
        return (Toxic(name="amgf_latency", type="latency", attributes={"latency": self.latency_ms}),)

    async def bites(self, stack: "Stack") -> Observation:
        """Our own question through each listener is answered, and not before the latency has passed."""
        seconds = self.latency_ms / 1000

        async def late() -> Observation:
            proxies = await self.proxies(ToxiproxyApi(stack.toxiproxy.address))
            replies = await self.replies(proxies, wait_seconds=seconds + _LATENCY_MARGIN_SECONDS)
            slow = all(r.reached is Reached.ANSWERED and r.seconds >= seconds for r in replies.values())
            return _observe(replies, slow)

        return await look("proxy_latency: bites", LOOK_DEADLINE_SECONDS + 2 * seconds, late)

    async def is_gone(self, stack: "Stack") -> Observation:
        """The dependency answers through each listener, sooner than the latency would allow."""
        seconds = self.latency_ms / 1000

        async def prompt() -> Observation:
            replies = await self.replies(await self.proxies(ToxiproxyApi(stack.toxiproxy.address)))
            quick = all(r.reached is Reached.ANSWERED and r.seconds < seconds for r in replies.values())
            return _observe(replies, quick)

        return await look("proxy_latency: is_gone", LOOK_DEADLINE_SECONDS, prompt)


async def take_back(stack: "Stack", what: str, change: Callable[[], Awaitable[None]]) -> None:
    """Undo through the API or, when the API is unwell, by a new Toxiproxy process, which knows of no fault.

    A restart takes back every fault of this Toxiproxy, not only the one at hand; it is noted for the ledger.

    Raises:
        FaultTimedOut: the API of the new process is unwell as well.
        FaultFailed: the new process does not start, or reading back shows that the fault is still there.
    """
    try:
        async with within(UNDO_DEADLINE_SECONDS, what):
            await change()
    except (FaultTimedOut, ToxiproxyUnwell) as error:
        note(f"last resort: Toxiproxy was restarted, because {error}")
        async with within(RESTART_DEADLINE_SECONDS, "restart of Toxiproxy"):
            with stack_errors_as_ours():
                await stack.toxiproxy.restart()
        async with within(UNDO_DEADLINE_SECONDS, what):
            await change()


async def _answers(cut: _Cut, stack: "Stack") -> Observation:
    replies = await cut.replies(await cut.proxies(ToxiproxyApi(stack.toxiproxy.address)))
    return _observe(replies, all(reply.reached is Reached.ANSWERED for reply in replies.values()))


def _observe(replies: Mapping[str, Reply], ok: bool) -> Observation:  # noqa: FBT001 - the value is the finding
    return Observation(ok=ok, text="; ".join(f"{name}: {reply}" for name, reply in sorted(replies.items())))


def _slot(replica: str) -> int:
    """Return the slot of ``replica-2``: 2."""
    name, _, number = replica.rpartition("-")
    if name != "replica" or not number.isdigit() or int(number) < 1:
        raise InvalidFault(f"not a replica: {replica!r}")
    return int(number)
