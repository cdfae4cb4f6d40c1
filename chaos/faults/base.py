"""What all faults share: their errors, their deadlines, and what they have to say for the record.

The errors, a class per thing the engine does differently::

    FaultError
    ├── InvalidFault     the description is wrong: nothing was attempted
    ├── FaultRefused     a guard said no (the host's own namespace, say): nothing was attempted
    ├── FaultFailed      it was attempted and the world is not as it was meant to become
    └── FaultTimedOut    no end within its own deadline: the state of the world is unknown
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

from chaos.scenario import Observation
from compose.processes import PartFailed

_POLL_SECONDS = 0.05


class FaultError(Exception):
    """A fault could not be injected, looked at or undone."""


class InvalidFault(FaultError, ValueError):
    """The kind is unknown or a parameter is missing, unknown, of the wrong type or out of range."""


class FaultRefused(FaultError):
    """A guard refused to act, because acting could reach beyond our own world."""


class FaultFailed(FaultError):
    """The change was attempted and reading back shows that it is not there."""


class FaultTimedOut(FaultError, TimeoutError):
    """``what`` did not end within ``deadline_seconds``."""

    def __init__(self, what: str, deadline_seconds: float) -> None:
        super().__init__(f"{what}: no end within {deadline_seconds:g} s")
        self.what = what
        self.deadline_seconds = deadline_seconds


@asynccontextmanager
async def within(deadline_seconds: float, what: str) -> AsyncIterator[None]:
    """Bound the body.

    Raises:
        FaultTimedOut: the body did not end in time.
    """
    bound = asyncio.timeout(deadline_seconds)
    try:
        async with bound:
            yield
    except TimeoutError as error:
        if bound.expired():
            raise FaultTimedOut(what, deadline_seconds) from error
        raise


async def look(what: str, deadline_seconds: float, looking: Callable[[], Awaitable[Observation]]) -> Observation:
    """Take an observation; not being able to look is an observation that is not ok, never a good sign.

    Raises:
        FaultTimedOut: the observation itself did not end in time.
    """
    async with within(deadline_seconds, what):
        try:
            return await looking()
        except (FaultError, OSError) as error:
            return Observation(ok=False, text=f"{what}: could not look: {error}")


async def until(claim: Callable[[], Awaitable[bool]]) -> None:
    """Wait until ``claim`` holds; the caller bounds the wait."""
    while not await claim():  # noqa: ASYNC110 - the claim is about another process, which sets no event of ours
        await asyncio.sleep(_POLL_SECONDS)


@contextmanager
def stack_errors_as_ours() -> Iterator[None]:
    """Turn the failure of a part of the stack to start or stop into ``FaultFailed``."""
    try:
        yield
    except PartFailed as error:
        raise FaultFailed(str(error)) from error


_notes: ContextVar[list[str] | None] = ContextVar("chaos_fault_notes", default=None)


def note(text: str) -> None:
    """Say something that must stand in the undo ledger, such as a last resort that was taken."""
    notes = _notes.get()
    if notes is not None:
        notes.append(text)


@contextmanager
def noting() -> Iterator[list[str]]:
    """Collect what faults say in the body."""
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


class Recorded:
    """A frozen dataclass of JSON values: its fields are its parameters."""

    __slots__ = ()

    def parameters(self) -> dict[str, Any]:
        """Return JSON values that rebuild this fault."""
        parameters: dict[str, Any] = msgspec.to_builtins(self)
        return parameters
