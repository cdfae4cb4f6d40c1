"""One request of a client: sent, awaited until its deadline, and written into the history before and after.

Background traffic and whole lives go through the same place, so that what the checks read means the same of both. The
requests in flight are bounded; what finds the bound reached is recorded as ``dropped`` and makes the run invalid.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import httptools

from chaos.evidence import EvidenceWriter
from chaos.history import (
    HISTORY,
    Kind,
    Outcome,
    digest_of_answer,
    outcome_of_answer,
    outcome_of_silence,
    quantile,
)
from chaos.wire import Answer, Connections

ERRORS: Final = "errors.jsonl"
"""Bodies of answers that are no success: where the search for secrets looks."""
SUCCESSES: Final = range(200, 300)
_HEADERS_KEPT: Final = {"replica": "x-replica", "retry_after": "retry-after", "request": "x-request-id"}
_FACTS_OF_BOTH_ROWS: Final = ("life", "stream")
_ERROR_BYTES_MAX = 4096
_ERRORS_MAX = 2000
_FLAWS_MAX = 5
_LAST_SECOND = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the generator."""

    deadline_seconds: float = 5.0  # a client's patience, the outermost of the nested time-outs
    in_flight_max: int = 500  # 100 requests/s x 5 s of silence


@dataclass(frozen=True, slots=True)
class Figures:
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
class Request:
    """What is to be asked. ``facts`` go into the history with it; ``principal`` is a name and never a key."""

    kind: Kind
    method: str
    path: str
    principal: str
    headers: Mapping[str, str] = field(repr=False)
    due: float
    """CLOCK_MONOTONIC, seconds."""
    body: bytes = b""
    parameters: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a request; without an answer ``status`` is ``None`` and the document empty."""

    number: int
    outcome: Outcome
    status: int | None
    document: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def code(self) -> str:
        """The problem's code, or nothing."""
        return str(self.document.get("code", "")) if self.outcome is not Outcome.OK else ""


class Exchange:
    """The way to one address, for many clients at once.

    Args:
        address: of the proxy in front, e.g. "http://127.0.0.1:8080".
        writer: where the history goes.
        limits: deadline and pool.
    """

    def __init__(self, address: str, writer: EvidenceWriter, *, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.operations = 0
        self._address = address
        self._writer = writer
        self._in_flight = 0
        self._dropped = 0
        self._errors = 0
        self._recent: deque[tuple[float, Outcome, float]] = deque()  # completed, outcome, ms
        self._recent_lags: deque[tuple[float, float]] = deque()  # sent, ms
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._exit.__aenter__()
        self._connections = await self._exit.enter_async_context(Connections(self._address))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.__aexit__(kind, error, trace)

    def admit(self, kind: Kind | str, due: float) -> int | None:
        """Take a place for an operation and return its number; ``None``: there is none, it is recorded as dropped."""
        if self._in_flight >= self.limits.in_flight_max:
            self._dropped += 1
            self._write({"type": "dropped", "kind": str(kind), "intended": self._t(due)})
            return None
        self._in_flight += 1
        self.operations += 1
        return self.operations

    async def perform(self, number: int, request: Request) -> Done:
        """Send an admitted request, and write both of its rows. Raises nothing but cancellation."""
        self._invoke(number, request)  # here, so that a task cancelled before its first step leaves no trace
        completion: dict[str, Any] = {"error": "abandoned"}
        sent = False
        answer: Answer | None = None
        try:
            async with asyncio.timeout(self.limits.deadline_seconds):
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
            outcome = _outcome(request.kind, answer, completion, sent=sent)
            self._complete(number, request, outcome, completion)
        if answer is None:
            return Done(number, outcome, None, {}, {})
        return Done(number, outcome, answer.status, json_object(answer.content), answer.headers)

    async def until_idle(self) -> None:
        """Wait for all answers, at most one deadline and a second.

        Raises:
            TimeoutError: a request outlived its deadline, which is a defect of the generator.
        """
        async with asyncio.timeout(self.limits.deadline_seconds + 1):
            while self._in_flight:  # noqa: ASYNC110 - bounded by the deadline above
                await asyncio.sleep(0.01)

    def figures(self) -> Figures:
        """Return the last second."""
        now = time.monotonic()
        for recent in (self._recent, self._recent_lags):
            while recent and recent[0][0] < now - _LAST_SECOND:
                recent.popleft()
        outcomes = [outcome for _, outcome, _ in self._recent]
        return Figures(
            rate=len(self._recent_lags) / _LAST_SECOND,
            ok=outcomes.count(Outcome.OK),
            fail=outcomes.count(Outcome.FAIL),
            info=outcomes.count(Outcome.INFO),
            p99_ms=quantile((ms for _, _, ms in self._recent), 0.99),
            in_flight=self._in_flight,
            dropped=self._dropped,
            lag_ms=max((lag for _, lag in self._recent_lags), default=0.0),
        )

    def _invoke(self, number: int, request: Request) -> None:
        sent = time.monotonic()
        self._recent_lags.append((sent, (sent - request.due) * 1000))
        self._write(
            {
                "t": self._t(sent),
                "op": number,
                "type": "invoke",
                "kind": request.kind.value,
                "principal": request.principal,
                "method": request.method,
                "path": request.path,
                "intended": self._t(request.due),
                **request.facts,
            }
        )

    def _bytes_of(self, request: Request) -> bytes:
        target = f"{request.path}?{urlencode(request.parameters)}" if request.parameters else request.path
        return self._connections.request(request.method, target, request.headers, request.body)

    def _read(self, request: Request, answer: Answer) -> dict[str, Any]:
        """Return what the history keeps of an answer."""
        completion: dict[str, Any] = {"status": answer.status}
        for name, header in _HEADERS_KEPT.items():
            if header in answer.headers:
                completion[name] = answer.headers[header]
        document = json_object(answer.content)
        if answer.status not in SUCCESSES:
            if isinstance(document.get("code"), str):
                completion["code"] = document["code"]
            completion["media_type"] = answer.headers.get("content-type", "")
            if isinstance(document.get("errors"), list):
                completion["flaws"] = document["errors"][:_FLAWS_MAX]
            self._keep_error(answer)
            return completion
        if answer.headers.get("idempotency-replayed") == "true":
            completion["replayed"] = True
        return completion | _facts_of(request, answer, document)

    def _keep_error(self, answer: Answer) -> None:
        self._errors += 1
        if self._errors <= _ERRORS_MAX:
            text = answer.content[:_ERROR_BYTES_MAX].decode(errors="replace")
            self._writer.append(ERRORS, {"status": answer.status, "headers": dict(answer.headers), "body": text})

    def _complete(self, number: int, request: Request, outcome: Outcome, completion: dict[str, Any]) -> None:
        now = time.monotonic()
        milliseconds = round((now - request.due) * 1000, 3)
        self._in_flight -= 1
        self._recent.append((now, outcome, milliseconds))
        self._write(
            {
                "t": self._t(now),
                "op": number,
                "type": outcome.value,
                "kind": request.kind.value,
                "ms": milliseconds,
                **{name: request.facts[name] for name in _FACTS_OF_BOTH_ROWS if name in request.facts},
                **completion,
            }
        )

    def _write(self, row: dict[str, Any]) -> None:
        self._writer.append(HISTORY, row)

    def _t(self, monotonic: float) -> float:
        """Convert CLOCK_MONOTONIC to seconds since the origin."""
        return round(monotonic - self._writer.origin.monotonic_ns / 1e9, 6)


def json_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object in an answer; an empty one if it is something else."""
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _facts_of(request: Request, answer: Answer, document: dict[str, Any]) -> dict[str, Any]:
    """Return what the history keeps of a success, by what was asked."""
    match request.kind:
        case Kind.LIST:
            ids = [str(item.get("id")) for item in document.get("items", ())]
            return {"ids": ids, "more": bool(document.get("next_cursor"))}
        case Kind.CURRENT:
            return {
                "target": request.facts.get("target"),
                "version": document.get("version"),
                "snapshot": document.get("digest"),
                **({"stale": True} if document.get("stale") or "age" in answer.headers else {}),
            }
        case Kind.PROPOSE | Kind.RETRY | Kind.REUSE | Kind.GET | Kind.ROLLBACK:
            return {
                "digest": digest_of_answer(answer.content),
                "proposal": document.get("id"),
                "proposal_digest": document.get("proposal_digest"),
                "state": document.get("state"),
                **({"revision": document["revision"]} if "revision" in document else {}),
            }
        case Kind.BALLOT | Kind.ATTESTATION:
            return {}
        case _:
            return {"digest": digest_of_answer(answer.content)}


def _outcome(kind: Kind, answer: Answer | None, completion: dict[str, Any], *, sent: bool) -> Outcome:
    if answer is None:
        return outcome_of_silence(kind, sent=sent)
    return outcome_of_answer(kind, status=answer.status, code=completion.get("code"), replica=completion.get("replica"))
