"""Stands in for the runtimes that the gate governs: takes deliveries, checks who sent them, and says what it runs.

A process of its own (`python -m compose.actuator CONFIGURATION`), since in production it is somebody else's: it knows
the HMAC key of its targets and an API key of the role `actuator`, and nothing else. What it does not take: a delivery
without a good signature (401), one older than what it runs (409).
"""

import asyncio
import hashlib
import hmac
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec
import uvicorn
from litestar import Litestar, Request, Response, get, post

from compose import part, processes
from compose.ports import Ports
from compose.settings import REPOSITORY

SIGNATURE: Final = "X-AMGF-Signature"
ATTEMPTS_MAX: Final = 8
PAUSE_SECONDS: Final = 0.3
BODY_BYTES_MAX: Final = 2 * 1024 * 1024


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What the stack tells its actuator; no secret is in it, only the names of files that hold one."""

    port: int
    address: str
    """Of the front, where observations go."""
    key_file: str
    api_key_file: str


class Actuator(part.Part):
    """The stand-in, as a part of a stack."""

    name = "actuator"

    def __init__(self, folder: Path, *, ports: Ports, log: Path, key_file: Path, api_key_file: Path) -> None:
        """Write nothing yet; `folder` gets the configuration."""
        super().__init__(log=log)
        self.address = address_of(ports)
        self._file = folder / "actuator.json"
        self._configuration = Configuration(
            port=ports.actuator,
            address=f"http://127.0.0.1:{ports.front}",
            key_file=str(key_file),
            api_key_file=str(api_key_file),
        )

    async def answers(self) -> bool:
        """Say whether it takes deliveries."""
        return await part.answers_ok(f"{self.address}/running")

    def _command(self) -> Sequence[str | Path]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_bytes(msgspec.json.encode(self._configuration))
        return [sys.executable, "-m", "compose.actuator", self._file]

    def _environment(self) -> Mapping[str, str]:
        return processes.plain_environment(PYTHONPATH=str(REPOSITORY))


def address_of(ports: Ports) -> str:
    """Return where deliveries go."""
    return f"http://127.0.0.1:{ports.actuator}"


def signature(key: bytes, target: str, body: bytes) -> str:
    """Return the header's value that a delivery to a target must carry."""
    of_target = hmac.digest(key, b"amgf/actuator/v1\0" + target.encode(), hashlib.sha256)
    return "sha256=" + hmac.new(of_target, body, hashlib.sha256).hexdigest()


@dataclass
class Runtime:
    """What runs where, and who is told."""

    key: bytes = field(repr=False)
    api_key: str = field(repr=False)
    address: str
    running: dict[str, int] = field(default_factory=dict)
    """Version by target."""
    tasks: asyncio.TaskGroup | None = None

    def take(self, body: bytes, sent: str) -> tuple[int, dict[str, Any]]:
        """Judge a delivery, and run what it brings; return the answer's status and document."""
        try:
            delivery = json.loads(body)
            target, version, document = str(delivery["target"]), int(delivery["version"]), delivery["document"]
        except (ValueError, KeyError, TypeError):
            return 400, {"code": "malformed"}
        if not hmac.compare_digest(sent, signature(self.key, target, body)):
            return 401, {"code": "bad-signature"}
        if version < self.running.get(target, 0):
            return 409, {"code": "older-than-what-runs"}
        self.running[target] = version
        observed = {"version": version, "digest": _digest(document)}
        if self.tasks is not None:
            self.tasks.create_task(self._observe(target, observed), name=f"observation of {target}")
        return 202, observed

    async def _observe(self, target: str, observed: dict[str, Any]) -> None:
        """Tell the gate what runs, a few times if it must be."""
        path = f"/api/v1/targets/{quote(target, safe='')}/observations"
        for attempt in range(ATTEMPTS_MAX):
            await asyncio.sleep(PAUSE_SECONDS * attempt)
            try:
                async with part.client(self.address) as http:
                    answer = await http.post(path, json=observed, headers={"X-API-Key": self.api_key})
            except httpx.HTTPError as problem:
                _log(event="not_observed", target=target, error=type(problem).__name__)
                continue
            _log(event="observed", target=target, version=observed["version"], status=answer.status_code)
            if not answer.is_server_error:
                return


def _digest(document: Any) -> str:
    """Return the digest of what runs, computed here: canonical JSON of whole numbers and ASCII names needs no more."""
    content = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def application(runtime: Runtime) -> Litestar:
    """Return the stand-in's HTTP side."""

    @asynccontextmanager
    async def running(_: Litestar):  # type: ignore[no-untyped-def] # noqa: ANN202 - Litestar calls it
        async with asyncio.TaskGroup() as runtime.tasks:
            yield

    @post("/deliveries", request_max_body_size=BODY_BYTES_MAX)
    async def deliver(request: Request[Any, Any, Any]) -> Response[Any]:
        status, answer = runtime.take(await request.body(), request.headers.get(SIGNATURE, ""))
        _log(event="delivery", status=status, **answer)
        return Response(answer, status_code=status)

    @get("/running")
    async def what_runs() -> dict[str, int]:
        return runtime.running

    return Litestar([deliver, what_runs], lifespan=[running], openapi_config=None)


def _log(**facts: Any) -> None:
    sys.stdout.write(json.dumps({"timestamp": datetime.now(UTC).isoformat(), **facts}) + "\n")
    sys.stdout.flush()


def main(file: Path) -> None:
    """Be the stand-in that a configuration describes."""
    told = msgspec.json.decode(file.read_bytes(), type=Configuration)
    runtime = Runtime(
        key=Path(told.key_file).read_bytes().strip(),
        api_key=Path(told.api_key_file).read_text(encoding="utf-8").strip(),
        address=told.address,
    )
    uvicorn.run(application(runtime), host="127.0.0.1", port=told.port, log_config=None, access_log=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
