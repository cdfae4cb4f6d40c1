"""A circuit breaker: closed (calls pass), open (refused at once), half-open (one probe passes). docs/adr/0014.

What the published ones get wrong and this one must not (reliability.md finding 4):
- half-open lets one call through, however many ask at the same instant;
- a cancelled probe gives its token back, or the circuit would stay open for ever;
- results count only in the generation they began in: a success from before the outage closes nothing;
- our own time-outs are failures, clients that leave are not;
- every refusal is a new exception: a shared one grows its traceback with each raise;
- the clock is monotonic and passed in.

Not for threads: every method is synchronous and belongs to one event loop.
"""

from collections.abc import Callable
from enum import IntEnum
from types import TracebackType
from typing import Final, Self

from app.resilience.deadline import Clock


class State(IntEnum):
    """The values of the gauge `firewall_circuit_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


MUTE: Final = -1
"""A generation that never is."""


class CircuitOpen(Exception):
    """The call was refused without being made."""

    def __init__(self, dependency: str, retry_after_seconds: float) -> None:
        super().__init__(dependency)
        self.dependency = dependency
        self.retry_after_seconds = retry_after_seconds


class Permit:
    """Leave to make one call. Its result is told once; leaving without one gives the permit back."""

    __slots__ = ("_breaker", "_generation", "_is_told", "is_probe")

    def __init__(self, breaker: "Breaker", generation: int, *, is_probe: bool) -> None:
        self._breaker = breaker
        self._generation = generation
        self._is_told = False
        self.is_probe = is_probe

    def succeeded(self) -> None:
        """The dependency answered (an answer we dislike is still an answer)."""
        self._tell(failed=False)

    def failed(self) -> None:
        """The dependency did not answer, or not within our own time-out."""
        self._tell(failed=True)

    def released(self) -> None:
        """Nothing was learnt: the call was not made, or its client left."""
        self._tell(failed=None)

    def _tell(self, *, failed: bool | None) -> None:
        if not self._is_told:
            self._is_told = True
            self._breaker._record(self._generation, failed=failed)  # noqa: SLF001 - two halves of one thing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.released()


class Breaker:
    """Counts failures in a row; `failures` of them open the circuit for at least `cooldown_seconds`."""

    def __init__(
        self,
        dependency: str,
        *,
        failures: int,
        cooldown_seconds: float,
        clock: Clock,
        on_change: Callable[[State], None] = lambda _: None,
    ) -> None:
        self.dependency = dependency
        self._failures_max = failures
        self._cooldown_seconds = cooldown_seconds
        self._clock = clock
        self._on_change = on_change
        self._state = State.CLOSED
        self._generation = 0
        self._failures = 0
        self._opened_at = 0.0

    @property
    def state(self) -> State:
        """The state; an open circuit becomes half-open only by a probe."""
        return self._state

    @property
    def failures(self) -> int:
        """Failures in a row while closed."""
        return self._failures

    def admit(self) -> Permit:
        """Return leave for one call; when the cool-down is over, one caller becomes the probe.

        Raises:
            CircuitOpen: if the call must not be made.
        """
        if self._state is State.CLOSED:
            return Permit(self, self._generation, is_probe=False)
        if self._state is State.OPEN and self.cooldown_remaining_seconds() <= 0:
            return self._probe()
        raise CircuitOpen(self.dependency, self.cooldown_remaining_seconds())

    def admit_probe(self) -> Permit:
        """Return leave for whoever else decides when to probe (a reconnection driver): no cool-down, one at a time.

        Raises:
            CircuitOpen: if a probe is under way.
        """
        if self._state is State.CLOSED:
            return Permit(self, self._generation, is_probe=False)
        if self._state is State.OPEN:
            return self._probe()
        raise CircuitOpen(self.dependency, self.cooldown_remaining_seconds())

    def mute_permit(self) -> Permit:
        """Return leave whose result changes nothing."""
        return Permit(self, MUTE, is_probe=False)

    def cooldown_remaining_seconds(self) -> float:
        """Seconds until a caller may become the probe; 0 when closed or over."""
        if self._state is State.CLOSED:
            return 0.0
        return max(0.0, self._opened_at + self._cooldown_seconds - self._clock())

    def _probe(self) -> Permit:
        self._enter(State.HALF_OPEN)
        return Permit(self, self._generation, is_probe=True)

    def _record(self, generation: int, *, failed: bool | None) -> None:
        if generation != self._generation:
            return  # Stale: it began before the state it would speak about.
        if self._state is State.HALF_OPEN:
            self._conclude(failed=failed)
        elif failed:
            self._failures += 1
            if self._failures >= self._failures_max:
                self._open()
        elif failed is False:
            self._failures = 0

    def _conclude(self, *, failed: bool | None) -> None:
        if failed is False:
            self._failures = 0
            self._enter(State.CLOSED)
        elif failed:
            self._open()
        else:
            # A probe that learnt nothing: the next caller may probe at once.
            self._enter(State.OPEN)

    def _open(self) -> None:
        self._opened_at = self._clock()
        self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self._state = state
        self._generation += 1
        self._on_change(state)
