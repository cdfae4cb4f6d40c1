"""Where requests wait for the database to come back (FM01.M4, docs/adr/0005).

Bounded twice: at most `waiters_max` wait, none longer than it was given. Nothing in here has been begun, let alone
acknowledged: whoever is let in does all of its work afterwards, whoever is not is refused with a clear conscience.
"""

import asyncio
from collections.abc import Callable


class WaitingRoomFull(Exception):
    """`waiters_max` requests wait already."""


class WaitingTimeout(Exception):
    """The database did not come back in the time given."""


class WaitingRefused(Exception):
    """Waiting has become pointless: the circuit opened."""


class WaitingRoom:
    """Requests in front of a closed door, in the order they came."""

    def __init__(self, *, waiters_max: int, on_change: Callable[[int], None] = lambda _: None) -> None:
        self._waiters_max = waiters_max
        self._on_change = on_change
        self._waiters: dict[asyncio.Future[None], None] = {}

    @property
    def waiters(self) -> int:
        """How many wait."""
        return len(self._waiters)

    async def wait(self, seconds: float) -> None:
        """Return when let in.

        Raises:
            WaitingRoomFull: at once, if there is no room.
            WaitingTimeout: after `seconds`.
            WaitingRefused: when everybody was sent away.
        """
        if len(self._waiters) >= self._waiters_max:
            raise WaitingRoomFull
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        self._on_change(len(self._waiters))
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            raise WaitingTimeout from None
        finally:
            self._waiters.pop(waiter, None)
            self._on_change(len(self._waiters))

    def admit_all(self) -> None:
        """Let everybody in."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def refuse_all(self) -> None:
        """Send everybody away."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(WaitingRefused())
