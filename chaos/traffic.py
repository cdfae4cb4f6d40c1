"""Background load: an open-loop, seeded population of clients, recorded as a history.

Requests go through the proxy in front, as users' do. Each has a deadline; latency counts from the instant the
arrival was *due*. An arrival that finds the bounded pool full is recorded as ``dropped`` and the run becomes
invalid, as it does when the generator itself lags (``chaos.checks.availability.generator_kept_up``).
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import httptools

from chaos.arrivals import Arrival, schedule, stream
from chaos.evidence import EvidenceWriter
from chaos.history import (
    HISTORY,
    Kind,
    Outcome,
    digest_of_answer,
    outcome_of_answer,
    outcome_of_silence,
    quantile,
    sha256,
)
from chaos.scenario import Load
from chaos.wire import Answer, Connections

_PROPOSALS = "/api/v1/proposals"
_PAGE_ITEMS = 50
_SUCCESSES = range(200, 300)
_HEADERS_KEPT: Final = {"replica": "x-replica", "retry_after": "retry-after", "request": "x-request-id"}
_WALKS_MAX = 8
_LAST_SECOND = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the generator."""

    deadline_seconds: float = 5.0  # a client's patience, the outermost of the nested time-outs
    in_flight_max: int = 500  # 100 requests/s x 5 s of silence


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last second, for the live view; ``p99_ms`` is ``None`` when nothing was answered."""

    rate: float
    ok: int
    fail: int
    info: int
    p99_ms: float | None
    in_flight: int
    dropped: int  # since the start
    lag_ms: float  # worst of the last second


@dataclass(frozen=True, slots=True)
class _Page:
    """Where a walk through the list goes on."""

    client: int
    cursor: str
    after: str


@dataclass(slots=True)
class _Request:
    """One request on its way."""

    number: int
    kind: Kind
    method: str
    path: str
    headers: dict[str, str]
    due: float
    client: int
    body: bytes | None = None
    parameters: dict[str, str] = field(default_factory=dict)


class UnknownStreamError(ValueError):
    """A load asks for a kind of stream that nobody has built."""


class Traffic:
    """Sends load from entering to leaving the context; leaving waits for what is in flight.

    Args:
        address: of the proxy in front, e.g. "http://127.0.0.1:8080".
        keys: API keys, one a principal; recorded as "client-1", "client-2", never as themselves.
        load: rates and share of retries.
        writer: where ``history.jsonl`` goes.
        seed: of all chance; the same seed gives the same arrivals and bodies.
        limits: deadline and pool.

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
    ) -> None:
        if not keys:
            raise ValueError("traffic needs at least one API key")
        _require_known(load)
        self.seed = seed
        self._address = address
        self._keys = tuple(keys)
        self._load = load
        self._writer = writer
        self._limits = limits or Limits()
        self._chance = stream(seed, "choices")
        self._operations = 0
        self._changes = 0
        self._number_of_serial: dict[int, int] = {}
        self._acknowledged: list[tuple[str, int, int]] = []  # proposal, operation, client
        self._pages: deque[_Page] = deque(maxlen=_WALKS_MAX)
        self._in_flight = 0
        self._dropped = 0
        self._recent: deque[tuple[float, Outcome, float]] = deque()  # completed, outcome, ms
        self._recent_lags: deque[tuple[float, float]] = deque()  # sent, ms
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._exit.__aenter__()
        self._connections = await self._exit.enter_async_context(Connections(self._address))
        self._tasks = await self._exit.enter_async_context(asyncio.TaskGroup())
        self._generator = self._start(self._load, self.seed)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._generator.cancel()
        await self._exit.__aexit__(kind, error, trace)

    def change_load(self, load: Load) -> None:
        """Go on with another load from now; what is in flight stays, repeats still due are dropped unsent.

        Raises:
            UnknownStreamError: the load names a kind of stream that is not known here; nothing is changed.
        """
        _require_known(load)
        self._generator.cancel()
        self._changes += 1
        self._number_of_serial.clear()
        self._generator = self._start(load, stream(self.seed, f"load {self._changes}").getrandbits(64))

    async def drain(self) -> None:
        """Stop new arrivals and wait for the answers, at most one deadline and a second.

        Raises:
            TimeoutError: a request outlived its deadline, which is a defect of the generator.
        """
        self._generator.cancel()
        async with asyncio.timeout(self._limits.deadline_seconds + 1):
            while self._in_flight:  # noqa: ASYNC110 - bounded by the deadline above
                await asyncio.sleep(0.01)

    def snapshot(self) -> Snapshot:
        """Return the last second."""
        now = time.monotonic()
        for recent in (self._recent, self._recent_lags):
            while recent and recent[0][0] < now - _LAST_SECOND:
                recent.popleft()
        outcomes = [outcome for _, outcome, _ in self._recent]
        return Snapshot(
            rate=len(self._recent_lags) / _LAST_SECOND,
            ok=outcomes.count(Outcome.OK),
            fail=outcomes.count(Outcome.FAIL),
            info=outcomes.count(Outcome.INFO),
            p99_ms=quantile((ms for _, _, ms in self._recent), 0.99),
            in_flight=self._in_flight,
            dropped=self._dropped,
            lag_ms=max((lag for _, lag in self._recent_lags), default=0.0),
        )

    def _start(self, load: Load, seed: int) -> asyncio.Task[None]:
        return self._tasks.create_task(self._generate(load, seed), name="traffic generator")

    async def _generate(self, load: Load, seed: int) -> None:
        started = time.monotonic()
        for arrival in schedule(load, seed):
            due = started + arrival.offset
            await asyncio.sleep(due - time.monotonic())  # at once when late
            self._admit(arrival, due)

    def _admit(self, arrival: Arrival, due: float) -> None:
        if self._in_flight >= self._limits.in_flight_max:
            self._dropped += 1
            self._write({"type": "dropped", "kind": arrival.kind.value, "intended": self._t(due)})
            return
        self._operations += 1
        self._number_of_serial[arrival.serial] = self._operations
        request, facts = self._prepare(arrival, due)
        self._in_flight += 1
        self._tasks.create_task(self._perform(request, facts), name=f"operation {request.number}")

    def _prepare(self, arrival: Arrival, due: float) -> tuple[_Request, dict[str, Any]]:
        client = arrival.client % len(self._keys)
        if arrival.kind.writes:
            return self._prepare_write(arrival, due, client)
        if arrival.kind is Kind.GET and self._acknowledged:
            return self._prepare_get(due)
        return self._prepare_list(due, client)

    def _prepare_write(self, arrival: Arrival, due: float, client: int) -> tuple[_Request, dict[str, Any]]:
        if arrival.key is None or arrival.body is None:
            raise ValueError(f"arrival {arrival.serial} is a write without key or body")
        headers = {
            "X-API-Key": self._keys[client],
            "Idempotency-Key": arrival.key,
            "Content-Type": "application/json",
        }
        facts: dict[str, Any] = {"key": arrival.key, "body_sha256": sha256(arrival.body)}
        if arrival.of in self._number_of_serial:
            facts["of"] = self._number_of_serial[arrival.of]
        request = _Request(self._operations, arrival.kind, "POST", _PROPOSALS, headers, due, client, body=arrival.body)
        return request, facts

    def _prepare_get(self, due: float) -> tuple[_Request, dict[str, Any]]:
        """Read one's own writes: the latest acknowledgement every other time, else any."""
        newest = self._chance.random() < 0.5  # noqa: PLR2004 - a coin
        proposal, number, client = self._acknowledged[-1] if newest else self._chance.choice(self._acknowledged)
        request = _Request(
            self._operations, Kind.GET, "GET", f"{_PROPOSALS}/{proposal}", self._reading(client), due, client
        )
        return request, {"of": number, "proposal": proposal}

    def _prepare_list(self, due: float, client: int) -> tuple[_Request, dict[str, Any]]:
        """Walk on where a page said there was more, else begin a new walk."""
        facts: dict[str, Any] = {}
        parameters = {"limit": str(_PAGE_ITEMS)}
        if self._pages:
            page = self._pages.popleft()
            client = page.client  # a cursor belongs to who was given it
            parameters["cursor"] = page.cursor
            facts["after"] = page.after
        request = _Request(self._operations, Kind.LIST, "GET", _PROPOSALS, self._reading(client), due, client)
        request.parameters = parameters
        return request, facts

    def _reading(self, client: int) -> dict[str, str]:
        return {"X-API-Key": self._keys[client]}

    def _invoke(self, request: _Request, facts: dict[str, Any]) -> None:
        sent = time.monotonic()
        self._recent_lags.append((sent, (sent - request.due) * 1000))
        self._write(
            {
                "t": self._t(sent),
                "op": request.number,
                "type": "invoke",
                "kind": request.kind.value,
                "principal": f"client-{request.client + 1}",
                "method": request.method,
                "path": request.path,
                "intended": self._t(request.due),
                **facts,
            }
        )

    async def _perform(self, request: _Request, facts: dict[str, Any]) -> None:
        self._invoke(request, facts)  # here, so that a task cancelled before its first step leaves no trace
        completion: dict[str, Any] = {"error": "abandoned"}
        sent = False
        answer: Answer | None = None
        try:
            async with asyncio.timeout(self._limits.deadline_seconds):
                connection = await self._connections.take()
                sent = True
                answer = await connection.exchange(self._bytes_of(request))
            self._connections.give(connection)
            completion = self._read(request, answer)
        except TimeoutError:
            completion = {"error": "timeout"}
        except httptools.HttpParserError:
            completion = {"error": "malformed"}
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)
            completion = {"error": "reset" if sent else "refused" if refused else "unreachable"}
        finally:
            self._complete(request, _outcome(request.kind, answer, completion, sent=sent), completion)

    def _bytes_of(self, request: _Request) -> bytes:
        target = f"{request.path}?{urlencode(request.parameters)}" if request.parameters else request.path
        return self._connections.request(request.method, target, request.headers, request.body or b"")

    def _read(self, request: _Request, answer: Answer) -> dict[str, Any]:
        completion: dict[str, Any] = {"status": answer.status}
        for name, header in _HEADERS_KEPT.items():
            if header in answer.headers:
                completion[name] = answer.headers[header]
        document = _json_object(answer.content)
        if answer.status not in _SUCCESSES:
            if isinstance(document.get("code"), str):
                completion["code"] = document["code"]
            return completion
        if request.kind is Kind.LIST:
            ids = [str(item.get("id")) for item in document.get("items", ())]
            cursor = document.get("next_cursor")
            if cursor and ids:
                self._pages.append(_Page(request.client, cursor, ids[-1]))
            return completion | {"ids": ids, "more": bool(cursor)}
        completion["digest"] = digest_of_answer(answer.content)
        completion["proposal"] = document.get("id")
        completion["proposal_digest"] = document.get("proposal_digest")
        if request.kind.writes and completion["proposal"] is not None:
            self._acknowledged.append((str(completion["proposal"]), request.number, request.client))
        return completion

    def _complete(self, request: _Request, outcome: Outcome, completion: dict[str, Any]) -> None:
        now = time.monotonic()
        milliseconds = round((now - request.due) * 1000, 3)
        self._in_flight -= 1
        self._recent.append((now, outcome, milliseconds))
        self._write(
            {
                "t": self._t(now),
                "op": request.number,
                "type": outcome.value,
                "kind": request.kind.value,
                "ms": milliseconds,
                **completion,
            }
        )

    def _write(self, row: dict[str, Any]) -> None:
        self._writer.append(HISTORY, row)

    def _t(self, monotonic: float) -> float:
        """Convert CLOCK_MONOTONIC to seconds since the origin."""
        return round(monotonic - self._writer.origin.monotonic_ns / 1e9, 6)


def _outcome(kind: Kind, answer: Answer | None, completion: dict[str, Any], *, sent: bool) -> Outcome:
    if answer is None:
        return outcome_of_silence(kind, sent=sent)
    return outcome_of_answer(kind, status=answer.status, code=completion.get("code"), replica=completion.get("replica"))


def _require_known(load: Load) -> None:
    unknown = sorted({one.kind for one in load.streams})
    if unknown:
        raise UnknownStreamError(f"traffic knows no stream of kind {', '.join(unknown)}")


def _json_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object in an answer; an empty one if it is something else."""
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
