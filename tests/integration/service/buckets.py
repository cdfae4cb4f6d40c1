"""A real Valkey, the production script in it on a clock that the test drives, and the exact bucket it must equal."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import redis

from app.resilience.valkey import SCRIPT
from app.settings import RateLimit, Secret, ValkeyAddress
from compose.ports import Ports
from compose.valkey import Valkey

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
# The file itself, whole and unchanged; only what it calls TIME is ours.
DRIVEN = f"""
local server = redis
local redis = {{call = function(command, ...)
  if command == 'TIME' then return {{math.floor(ARGV[6] / 1000000), ARGV[6] % 1000000}} end
  return server.call(command, ...)
end}}
{SCRIPT}
"""


@dataclass(frozen=True)
class ValkeyServer:
    """A running Valkey. `part` starts and stops it."""

    part: Valkey
    runner: asyncio.Runner

    @property
    def address(self) -> ValkeyAddress:
        return self.at(self.part.port)

    def at(self, port: int) -> ValkeyAddress:
        return ValkeyAddress(host="127.0.0.1", port=port, password=Secret(self.part.password_file.read_bytes()))

    def connect(self) -> Any:
        return redis.Redis(
            host="127.0.0.1", port=self.part.port, password=self.part.password_file.read_text(), decode_responses=True
        )

    def restart(self) -> None:
        self.runner.run(self.part.restart())


@contextmanager
def running(folder: Path) -> Iterator[ValkeyServer]:
    with asyncio.Runner() as runner:
        part = Valkey(folder / "valkey", port=Ports.free().valkey, log=folder / "valkey.log", secrets_folder=folder)
        runner.run(part.start())
        try:
            yield ValkeyServer(part, runner)
        finally:
            runner.run(part.stop())


@dataclass
class Exact:
    """The bucket of the textbook, in fractions."""

    limit: RateLimit
    tokens: Fraction = field(init=False)
    at: int = START

    def __post_init__(self) -> None:
        self.tokens = Fraction(self.limit.burst)

    def take(self, now: int) -> int:
        """Take a token at an instant; return 0, or the microseconds until there is one."""
        self.tokens = min(
            Fraction(self.limit.burst), self.tokens + Fraction((now - self.at) * self.limit.per_minute, 60 * SECOND)
        )
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0
        return -((self.tokens - 1) * 60 * SECOND // self.limit.per_minute)


@dataclass
class Memory:
    """What a replica remembers of one bucket, as `RateLimiter` does."""

    level: int
    steady: int
    at: int


class Driven:
    """The production script, asked by several replicas, while the server's clock may be set at will."""

    def __init__(self, server: Any, limit: RateLimit, *, key: str) -> None:
        self._run = server.register_script(DRIVEN)
        self._limit = limit
        self._key = key
        self._server = server
        self._memories: dict[int, Memory] = {}
        self.wrong_by = 0
        """What the server's clock is ahead of the true time, in microseconds."""
        server.delete(key)

    def take(self, now: int, *, replica: int = 0) -> int:
        """Take a token at a true instant; return 0, or the microseconds until there is one."""
        known: tuple[Any, Any] = ("", "")
        memory = self._memories.get(replica)
        if memory is not None:
            steady = memory.steady + now - memory.at
            refilled = memory.level + (now - memory.at) * self._limit.per_minute
            known = (min(refilled, self._limit.burst * 60 * SECOND), steady)
        serial, taken, wait, level, steady = self._run(
            keys=[self._key], args=[self._limit.per_minute, self._limit.burst, "7", *known, now + self.wrong_by]
        )
        assert serial == "7"
        self._memories[replica] = Memory(int(level), int(steady), now)
        assert bool(taken) == (int(wait) == 0)
        return int(wait)

    def lose(self) -> None:
        """Let the server forget the bucket."""
        self._server.delete(self._key)

    def ttl_seconds(self) -> float:
        return float(self._server.pttl(self._key)) / 1000
