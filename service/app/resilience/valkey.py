"""One call to Valkey: at most one attempt, at most `timeout_seconds`, connecting included.

redis-py would repeat a call up to ten times; a repeated call would take a second token. So it repeats nothing here. An
answer that is not to this call's question (its serial number tells) ends the connection and counts as no answer.
"""

import asyncio
import hashlib
from collections.abc import Coroutine
from importlib import resources
from types import TracebackType
from typing import Any, Final, Self

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.settings import ValkeyAddress, ValkeyPolicy

BACKSTOP: Final = 10
LATE_TURNS: Final = 3
SCRIPT: Final = resources.files("app.resilience").joinpath("rate_limit.lua").read_text(encoding="utf-8")


class ValkeyGone(Exception):
    """Valkey refused, was silent, or answered something else.

    `kind` is one of `metrics.VALKEY_ERROR_TYPES`, `reason` the class of the driver's error, never its text.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.reason = reason


class Valkey:
    """The shared store of token buckets. Nothing is opened before the first call."""

    def __init__(self, address: ValkeyAddress, policy: ValkeyPolicy) -> None:
        self._timeout_seconds = policy.timeout_seconds
        self._pool = BlockingConnectionPool(
            host=address.host,
            port=address.port,
            password=address.password.reveal().decode() if address.password else None,
            max_connections=policy.connections_max,
            # Ours is the one that counts. Two that end at the same instant would cancel twice and catch once.
            timeout=BACKSTOP * policy.timeout_seconds,
            socket_timeout=BACKSTOP * policy.timeout_seconds,
            socket_connect_timeout=BACKSTOP * policy.timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            decode_responses=True,
        )
        self._client = Redis(connection_pool=self._pool)
        self._sha = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # what Valkey calls it
        self._serial = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()
        await self._pool.disconnect()

    async def ping(self, *, anew: bool = False) -> None:
        """Return when Valkey answers and knows the script.

        Args:
            anew: forget idle connections first; those of before an outage may be dead without saying so.

        Raises:
            ValkeyGone: it did not, in time.
        """
        await self._bounded(self._load(anew=anew))

    async def take(self, key: str, *arguments: str) -> tuple[bool, int, int, int]:
        """Run the script; return whether a token was taken, the wait, the level and the bucket's time.

        Raises:
            ValkeyGone: nobody knows whether a token was taken.
        """
        self._serial += 1
        serial = str(self._serial)
        rate, burst, *known = arguments
        answer = await self._bounded(self._evaluate(key, rate, burst, serial, *known))
        match answer:
            case [str(echoed), int(taken), str(wait), str(level), str(now)] if echoed == serial:
                return bool(taken), int(wait), int(level), int(now)
        await self._bounded(self._pool.disconnect())
        raise ValkeyGone("protocol", "UnexpectedAnswer")

    async def _load(self, *, anew: bool) -> None:
        if anew:
            await self._pool.disconnect(inuse_connections=False)
        await self._client.script_load(SCRIPT)

    async def _evaluate(self, key: str, *arguments: str) -> Any:
        try:
            return await self._client.evalsha(self._sha, 1, key, *arguments)
        except (
            redis.exceptions.NoScriptError
        ):  # A new server, or a flushed one. It has run nothing, so nothing is taken twice.
            return await self._client.eval(SCRIPT, 1, key, *arguments)

    async def _bounded(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await the call in a task of its own: whatever its time-out cancels, it is never the request."""
        task = asyncio.get_running_loop().create_task(call)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask
        try:
            await asyncio.wait({task}, timeout=self._timeout_seconds)
            for _ in range(LATE_TURNS):
                if task.done():
                    break
                await asyncio.sleep(0)  # It is perhaps we who are late, and the answer is there to be read.
            if not task.done():
                raise ValkeyGone("timeout", "TimeoutError")
        finally:
            task.cancel()
        try:
            return task.result()
        except asyncio.CancelledError:
            raise ValkeyGone("timeout", "CancelledError") from None
        except (TimeoutError, redis.exceptions.TimeoutError) as error:
            raise ValkeyGone("timeout", type(error).__name__) from None
        except (redis.exceptions.ConnectionError, OSError) as error:
            raise ValkeyGone("connection", type(error).__name__) from None
        except redis.exceptions.RedisError as error:
            raise ValkeyGone("protocol", type(error).__name__) from None
