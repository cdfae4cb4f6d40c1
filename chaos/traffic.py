"""Background load: an open-loop, seeded population of clients, recorded as a history.

Requests go through the proxy in front, as users' do. Each has a deadline; latency counts from the instant the
arrival was *due*. An arrival that finds the bounded pool full is recorded as ``dropped`` and the run becomes
invalid, as it does when the generator itself lags (``chaos.checks.availability.generator_kept_up``). Where the stack
has a gate, whole lives of proposals (``chaos.lives``) begin beside it, at a rate of their own; and so do the streams of
the load (``chaos.streams``), where the traffic itself is the fault.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from chaos.arrivals import Arrival, schedule, stream
from chaos.evidence import EvidenceWriter
from chaos.exchange import Done, Exchange, Figures, Limits, Request
from chaos.history import Kind, Outcome, sha256
from chaos.lives import Lives
from chaos.scenario import Load, Stream
from chaos.streams import KINDS, Means, Occasion, UnknownStreamError, require_known
from chaos.streams.base import instants
from compose.gate import Gate

__all__ = ["Traffic", "UnknownStreamError"]

_PROPOSALS = "/api/v1/proposals"
_TARGETS = "/api/v1/targets"
_PAGE_ITEMS = 50
_WALKS_MAX = 8


@dataclass(frozen=True, slots=True)
class _Page:
    """Where a walk through the list goes on."""

    client: int
    cursor: str
    after: str


class Traffic:
    """Sends load from entering to leaving the context; leaving waits for what is in flight.

    Args:
        address: of the proxy in front, e.g. "http://127.0.0.1:8080".
        keys: API keys, one a principal; recorded as "client-1", "client-2", never as themselves.
        load: rates and share of retries.
        writer: where ``history.jsonl`` goes.
        seed: of all chance; the same seed gives the same arrivals and bodies.
        limits: deadline and pool.
        gate: who may do what, for whole lives; ``None``: proposals are only taken in.
        means: what the makers of streams are given.

    Raises:
        UnknownStreamError: the load names a kind of stream that is not known here.
    """

    def __init__(
        self,
        address: str,
        keys: Sequence[str],
        load: Load,
        writer: EvidenceWriter,
        *,
        seed: int,
        limits: Limits | None = None,
        gate: Gate | None = None,
        means: Means | None = None,
    ) -> None:
        if not keys:
            raise ValueError("traffic needs at least one API key")
        require_known(load.streams)
        self.seed = seed
        self._keys = tuple(keys)
        self._load = load
        self._gate = gate
        self._means = means or Means(api_keys={_name(client): key for client, key in enumerate(keys)})
        self._chance = stream(seed, "choices")
        self._exchange = Exchange(address, writer, limits=limits)
        self._lives = None if gate is None else Lives(self._exchange, gate)
        self._changes = 0
        self._number_of_serial: dict[int, int] = {}
        self._acknowledged: list[tuple[str, int, int]] = []  # proposal, operation, client
        self._pages: deque[_Page] = deque(maxlen=_WALKS_MAX)
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._exit.__aenter__()
        await self._exit.enter_async_context(self._exchange)
        self._tasks = await self._exit.enter_async_context(asyncio.TaskGroup())
        self._generators = self._start(self._load, self.seed)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if self._lives is not None:
            self._lives.close()
        await self._exit.__aexit__(kind, error, trace)

    @property
    def operations(self) -> int:
        """How many requests were begun until now."""
        return self._exchange.operations

    @property
    def lives_under_way(self) -> int:
        """How many whole lives of proposals have begun and not ended."""
        return 0 if self._lives is None else self._lives.under_way

    def change_load(self, load: Load) -> None:
        """Go on with another load from now; what is in flight stays, repeats still due are dropped unsent.

        Raises:
            UnknownStreamError: the load names a kind of stream that is not known here; nothing is changed.
        """
        require_known(load.streams)
        self._stop()
        self._changes += 1
        self._number_of_serial.clear()
        self._generators = self._start(load, stream(self.seed, f"load {self._changes}").getrandbits(64))

    async def drain(self) -> None:
        """Stop new arrivals, let lives end after the step they are at, and wait for the answers.

        Raises:
            TimeoutError: a request outlived its deadline, which is a defect of the generator.
        """
        self._stop()
        if self._lives is not None:
            self._lives.close()
        await self._exchange.until_idle()

    def snapshot(self) -> Figures:
        """Return the last second."""
        return self._exchange.figures()

    def _start(self, load: Load, seed: int) -> tuple[asyncio.Task[None], ...]:
        started = [self._tasks.create_task(self._generate(load, seed), name="traffic generator")]
        if self._lives is not None and load.lives_per_second > 0:
            coming = self._lives.arrive(load.lives_per_second, seed, self._tasks)
            started.append(self._tasks.create_task(coming, name="lives generator"))
        started.extend(
            self._tasks.create_task(self._generate_stream(one, seed), name=f"stream {one.name}") for one in load.streams
        )
        return tuple(started)

    def _stop(self) -> None:
        for generator in self._generators:
            generator.cancel()

    async def _generate(self, load: Load, seed: int) -> None:
        started = time.monotonic()
        for arrival in schedule(load, seed, gate=self._gate):
            due = started + arrival.offset
            await asyncio.sleep(due - time.monotonic())  # at once when late
            self._admit(arrival, due)

    async def _generate_stream(self, one: Stream, seed: int) -> None:
        make, chance = KINDS[one.kind], stream(seed, f"contents of {one.name}")
        started = time.monotonic()
        for count, offset in enumerate(instants(one, seed)):
            due = started + offset
            await asyncio.sleep(due - time.monotonic())
            request = make(Occasion(one, count, due, chance, self._means))
            number = self._exchange.admit(request.kind, due)
            if number is not None:
                self._tasks.create_task(self._exchange.perform(number, request), name=f"operation {number}")

    def _admit(self, arrival: Arrival, due: float) -> None:
        number = self._exchange.admit(arrival.kind, due)
        if number is None:
            return
        self._number_of_serial[arrival.serial] = number
        request, client = self._prepare(arrival, arrival.client % len(self._keys), due)
        self._tasks.create_task(self._perform(number, request, client), name=f"operation {number}")

    async def _perform(self, number: int, request: Request, client: int) -> None:
        done = await self._exchange.perform(number, request)
        if done.outcome is Outcome.OK:
            self._remember(request, client, done)

    def _prepare(self, arrival: Arrival, client: int, due: float) -> tuple[Request, int]:
        """Return the request of an arrival and the client who makes it: what was given to one is used by no other."""
        if arrival.kind.writes:
            return self._prepare_write(arrival, client, due), client
        if arrival.kind is Kind.CURRENT:
            path = f"{_TARGETS}/{arrival.target}/current"
            return self._reading(Kind.CURRENT, path, client, due, target=arrival.target), client
        if arrival.kind is Kind.GET and self._acknowledged:
            return self._prepare_get(due)
        return self._prepare_list(client, due)

    def _prepare_write(self, arrival: Arrival, client: int, due: float) -> Request:
        if arrival.key is None or arrival.body is None:
            raise ValueError(f"arrival {arrival.serial} is a write without key or body")
        facts: dict[str, Any] = {"key": arrival.key, "body_sha256": sha256(arrival.body)}
        if arrival.of in self._number_of_serial:
            facts["of"] = self._number_of_serial[arrival.of]
        return Request(
            arrival.kind,
            "POST",
            _PROPOSALS,
            _name(client),
            {
                "X-API-Key": self._keys[client],
                "Idempotency-Key": arrival.key,
                "Content-Type": "application/json",
            },
            due,
            body=arrival.body,
            facts=facts,
        )

    def _prepare_get(self, due: float) -> tuple[Request, int]:
        """Read one's own writes: the latest acknowledgement every other time, else any."""
        newest = self._chance.random() < 0.5  # noqa: PLR2004 - a coin
        proposal, number, client = self._acknowledged[-1] if newest else self._chance.choice(self._acknowledged)
        path = f"{_PROPOSALS}/{proposal}"
        return self._reading(Kind.GET, path, client, due, of=number, proposal=proposal), client

    def _prepare_list(self, client: int, due: float) -> tuple[Request, int]:
        """Walk on where a page said there was more, else begin a new walk."""
        facts: dict[str, Any] = {}
        parameters = {"limit": str(_PAGE_ITEMS)}
        if self._pages:
            page = self._pages.popleft()
            client = page.client  # a cursor belongs to who was given it
            parameters["cursor"] = page.cursor
            facts["after"] = page.after
        return self._reading(Kind.LIST, _PROPOSALS, client, due, parameters=parameters, **facts), client

    def _reading(
        self, kind: Kind, path: str, client: int, due: float, *, parameters: dict[str, str] | None = None, **facts: Any
    ) -> Request:
        headers = {"X-API-Key": self._keys[client]}
        return Request(kind, "GET", path, _name(client), headers, due, parameters=parameters or {}, facts=facts)

    def _remember(self, request: Request, client: int, done: Done) -> None:
        """Keep what later reads ask for: identities acknowledged, and where a walk goes on."""
        if request.kind is Kind.LIST:
            cursor, items = done.document.get("next_cursor"), done.document.get("items", ())
            if cursor and items:
                self._pages.append(_Page(client, cursor, str(items[-1].get("id"))))
        elif request.kind.proposes and done.document.get("id") is not None:
            self._acknowledged.append((str(done.document["id"]), done.number, client))


def _name(client: int) -> str:
    return f"client-{client + 1}"
