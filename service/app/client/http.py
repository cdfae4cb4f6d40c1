"""Talking to a firewall: one HTTP client with deadlines, and retries that can never do a thing twice.

Reads are repeated as they are. What changes something carries an Idempotency-Key, made once for the whole command, so
a repetition after a lost answer is answered with what was done the first time. Repeated are refused connections,
answers that never came, 429 and 503 (after their Retry-After) and 504; at most `ATTEMPTS` times.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from app.client import shown
from app.client.exits import INPUT, NO, NOT_ALLOWED, TRY_AGAIN, UNAVAILABLE, Stop, bad_input
from app.core.documents import strict_json
from app.errors import MalformedBody

ATTEMPTS: Final = 5
PAUSE_SECONDS: Final = 0.5
PAUSE_SECONDS_MAX: Final = 10.0
CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 35.0
"""Longer than the service's own deadline: it is the service that should say that it took too long."""
ANSWER_BYTES_MAX: Final = strict_json.RECORD.bytes
KEY_FILE_BYTES_MAX: Final = 4_096
PREFIX: Final = "/api/v1"
NOT_PUBLISHED: Final = "not-published-yet"
REPEATED: Final = frozenset({429, 503, 504})
NOT_WHAT_WAS_ASKED: Final = frozenset({403, 404, 409, 410, 412, 422, 428})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def value(self) -> Any:
        """Return the JSON value.

        Raises:
            Stop: it is not JSON as we read it.
        """
        try:
            return strict_json.decode(self.content, strict_json.RECORD).value
        except MalformedBody as error:
            raise Stop(f"the service's answer is not acceptable JSON ({error.flaws[0].message})", code=INPUT) from None


class Refusal(Stop):
    """The service said no; `problem` is its document."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.problem_code = str(problem.get("code", ""))
        super().__init__(_sentence(status, problem), code=_exit_code(status))


class Firewall:
    """One service. A context: inside of it, connections are kept."""

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None,
        pause: Callable[[float], None] = time.sleep,  # noqa: TID251 - between attempts, bounded; tests pass their own
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._address = _checked(address)
        self._pause = pause
        headers = {"user-agent": "amgf-client/1"}
        if api_key is not None:
            headers["x-api-key"] = api_key
        self._client = httpx.Client(
            base_url=self._address,
            headers=headers,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            follow_redirects=False,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def get(
        self, path: str, *, query: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Read.

        Raises:
            Refusal: the service said no.
            Stop: it cannot be reached, or not now.
        """
        return self._send("GET", path, query=query, headers=headers)

    def post(
        self, path: str, body: Any, *, query: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Change something, once, however often it must be sent.

        Raises:
            Refusal: the service said no.
            Stop: it cannot be reached, or not now; whether it was done is then told by sending it again.
        """
        sent = {
            "content-type": "application/json",
            "idempotency-key": f"amgf-{secrets.token_hex(16)}",
            **(headers or {}),
        }
        return self._send("POST", path, query=query, headers=sent, content=_encoded(body))

    def get_when_published(self, path: str, *, query: Mapping[str, Any], wait_seconds: float) -> Answer:
        """Read what may not be under a checkpoint yet: ask again until it is, or the time is over.

        Raises:
            Refusal: the service said no, or still not published.
        """
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                return self.get(path, query=query)
            except Refusal as refusal:
                if refusal.problem_code != NOT_PUBLISHED or time.monotonic() >= deadline:
                    raise
            self.pause(PAUSE_SECONDS)

    def pause(self, seconds: float) -> None:
        """Wait between two questions."""
        self._pause(seconds)

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        content: bytes | None = None,
    ) -> Answer:
        pause = PAUSE_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            is_last = attempt == ATTEMPTS
            wait = pause
            try:
                answer = self._once(method, path, query=query, headers=headers, content=content)
            except httpx.TransportError as error:
                if is_last:
                    raise Stop(
                        f"{self._address} cannot be reached ({type(error).__name__})", code=UNAVAILABLE
                    ) from None
            else:
                if answer.status < HTTPStatus.BAD_REQUEST:
                    return answer
                refusal = Refusal(answer.status, _problem(answer))
                if is_last or answer.status not in REPEATED:
                    raise refusal
                wait = max(pause, _retry_after(answer))
            self._pause(min(wait, PAUSE_SECONDS_MAX))
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _once(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        content: bytes | None,
    ) -> Answer:
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        request = self._client.build_request(method, PREFIX + path, params=parameters, headers=headers, content=content)
        with_body = self._client.send(request, stream=True)
        try:
            parts, size = [], 0
            for part in with_body.iter_bytes():
                size += len(part)
                if size > ANSWER_BYTES_MAX:
                    raise bad_input(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
                parts.append(part)
        finally:
            with_body.close()
        return Answer(with_body.status_code, dict(with_body.headers), b"".join(parts))


def read_api_key(path: Path) -> str:
    """Return the API key in a file: the key alone, or a line `X-API-Key: …` as curl's `-H @file` takes it.

    Raises:
        Stop: the file cannot be read or holds no key.
    """
    try:
        with path.open("rb") as file:
            content = file.read(KEY_FILE_BYTES_MAX)
    except OSError as error:
        raise bad_input(f"the API key's file cannot be read: {error.strerror}") from None
    for line in content.decode("utf-8", "replace").splitlines():
        name, separator, rest = line.partition(":")
        key = rest.strip() if separator and name.strip().lower() == "x-api-key" else line.strip()
        if key.startswith("amgf_") and key.isascii() and key.isprintable():
            return key
    raise bad_input(f"there is no API key in {path}")


def _encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _checked(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
        raise bad_input("the address is not one: http(s)://host[:port]")
    return address.rstrip("/").removesuffix(PREFIX)


def _problem(answer: Answer) -> Mapping[str, Any]:
    try:
        problem = json.loads(answer.content)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _retry_after(answer: Answer) -> float:
    told = answer.headers.get("retry-after", "")
    return float(told) if told.isdigit() else 0.0


def _exit_code(status: int) -> int:
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return NOT_ALLOWED
    if status in REPEATED:
        return TRY_AGAIN
    return NO if status in NOT_WHAT_WAS_ASKED else INPUT


def _sentence(status: int, problem: Mapping[str, Any]) -> str:
    told = shown.text(problem.get("detail") or problem.get("title") or f"the service answered {status}")
    code = shown.text(problem.get("code") or status)
    flaws = problem.get("errors")
    lines = [f"{told} [{code}]"]
    if isinstance(flaws, list):
        lines += [
            f"  at {shown.text(flaw.get('pointer') or '/')}: {shown.text(flaw.get('message', ''))}"
            for flaw in flaws[:20]
            if isinstance(flaw, dict)
        ]
    if problem.get("request_id"):
        lines.append(f"  request {shown.text(problem['request_id'])}")
    return "\n".join(lines)
