import asyncio
import traceback

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.resilience.breaker import Breaker, CircuitOpen, Permit, State

FAILURES = 5
COOLDOWN = 10.0


class HandClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: HandClock) -> Breaker:
    return Breaker("database", failures=FAILURES, cooldown_seconds=COOLDOWN, clock=clock)


def opened(clock: HandClock) -> Breaker:
    circuit = breaker(clock)
    for _ in range(FAILURES):
        circuit.admit().failed()
    return circuit


def test_sixth_call_after_five_failures_is_refused() -> None:
    circuit = opened(HandClock())

    with pytest.raises(CircuitOpen):
        circuit.admit()


def test_four_failures_and_a_success_start_the_count_anew() -> None:
    circuit = breaker(HandClock())
    for _ in range(FAILURES - 1):
        circuit.admit().failed()
    circuit.admit().succeeded()

    circuit.admit().failed()

    assert circuit.state is State.CLOSED
    assert circuit.failures == 1


def test_of_one_hundred_concurrent_calls_after_the_cooldown_one_goes_through() -> None:
    clock = HandClock()
    circuit = opened(clock)
    clock.now = COOLDOWN
    through = 0

    async def call() -> None:
        nonlocal through
        try:
            with circuit.admit() as permit:
                through += 1
                await asyncio.sleep(0)
                permit.succeeded()
        except CircuitOpen:
            pass

    async def all_at_once() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(100):
                tasks.create_task(call())

    asyncio.run(all_at_once())

    assert through == 1
    assert circuit.state is State.CLOSED


def test_a_cancelled_probe_gives_its_token_back_at_once() -> None:
    clock = HandClock()
    circuit = opened(clock)
    clock.now = COOLDOWN

    with pytest.raises(asyncio.CancelledError), circuit.admit():
        raise asyncio.CancelledError

    assert circuit.admit().is_probe


def test_a_success_from_before_the_outage_closes_nothing() -> None:
    clock = HandClock()
    circuit = breaker(clock)
    slow = circuit.admit()
    for _ in range(FAILURES):
        circuit.admit().failed()
    clock.now = COOLDOWN
    probe = circuit.admit()

    slow.succeeded()

    before_its_result = circuit.state
    probe.failed()
    assert (before_its_result, circuit.state) == (State.HALF_OPEN, State.OPEN)


def test_clients_that_leave_are_not_failures() -> None:
    circuit = breaker(HandClock())
    for _ in range(100):
        circuit.admit().released()

    assert circuit.state is State.CLOSED
    assert circuit.failures == 0


def test_each_refusal_is_a_new_exception_with_a_short_traceback() -> None:
    circuit = opened(HandClock())
    refusals = []
    for _ in range(1_000):
        with pytest.raises(CircuitOpen) as caught:
            circuit.admit()
        refusals.append(caught.value)

    assert len({id(refusal) for refusal in refusals}) == 1_000
    assert max(len(traceback.extract_tb(refusal.__traceback__)) for refusal in refusals) < 5


def test_a_failed_probe_starts_the_cooldown_anew() -> None:
    clock = HandClock()
    circuit = opened(clock)
    clock.now = COOLDOWN
    circuit.admit().failed()

    assert circuit.cooldown_remaining_seconds() == COOLDOWN
    with pytest.raises(CircuitOpen) as caught:
        circuit.admit()
    assert caught.value.retry_after_seconds == COOLDOWN


def test_a_driver_may_probe_without_the_cooldown_but_never_beside_another_probe() -> None:
    circuit = opened(HandClock())
    probe = circuit.admit_probe()

    with pytest.raises(CircuitOpen):
        circuit.admit_probe()
    probe.succeeded()

    assert circuit.state is State.CLOSED


def test_a_result_is_told_once() -> None:
    circuit = breaker(HandClock())
    permit = circuit.admit()
    for _ in range(FAILURES):
        permit.failed()

    assert circuit.failures == 1


class BreakerMachine(RuleBasedStateMachine):
    """Calls, successes, failures, cancellations and time in any order, against a model in five lines."""

    permits = Bundle("permits")

    @initialize()
    def start(self) -> None:
        self.clock = HandClock()
        self.changes: list[State] = []
        self.circuit = Breaker(
            "d", failures=3, cooldown_seconds=COOLDOWN, clock=self.clock, on_change=self.changes.append
        )
        self.in_a_row = 0
        self.epoch = 0
        self.epochs: dict[int, int] = {}
        self.kept: list[Permit] = []
        self.told: set[int] = set()
        self.opened_at = 0.0
        self.state = State.CLOSED

    def _enter(self, state: State) -> None:
        self.state = state
        self.epoch += 1

    @rule(target=permits, as_driver=st.booleans())
    def call(self, *, as_driver: bool) -> Permit | None:
        cooled = self.clock.now >= self.opened_at + COOLDOWN
        may = self.state is State.CLOSED or (self.state is State.OPEN and (cooled or as_driver))
        try:
            permit = self.circuit.admit_probe() if as_driver else self.circuit.admit()
        except CircuitOpen:
            assert not may
            return None
        assert may
        if self.state is State.OPEN:
            self._enter(State.HALF_OPEN)
        self.kept.append(permit)  # Keeps its id from being used again.
        self.epochs[id(permit)] = self.epoch
        return permit

    @rule(permit=permits, result=st.sampled_from(["succeeded", "failed", "released"]))
    def tell(self, permit: Permit | None, result: str) -> None:
        if permit is None:
            return
        getattr(permit, result)()
        if id(permit) in self.told or self.epochs[id(permit)] != self.epoch:
            self.told.add(id(permit))
            return
        self.told.add(id(permit))
        if self.state is State.HALF_OPEN:
            if result == "failed":
                self.opened_at = self.clock.now
            if result == "succeeded":
                self.in_a_row = 0
            self._enter(State.CLOSED if result == "succeeded" else State.OPEN)
        elif result == "succeeded":
            self.in_a_row = 0
        elif result == "failed":
            self.in_a_row += 1
            if self.in_a_row == 3:
                self.opened_at = self.clock.now
                self._enter(State.OPEN)

    @rule(seconds=st.floats(0, 2 * COOLDOWN))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: hasattr(self, "circuit"))
    @invariant()
    def agrees(self) -> None:
        assert self.circuit.state is self.state
        assert len(self.changes) == self.epoch

    @precondition(lambda self: hasattr(self, "circuit"))
    @invariant()
    def at_most_one_probe(self) -> None:
        probes = [p for p in self.kept if p.is_probe and id(p) not in self.told and self.epochs[id(p)] == self.epoch]
        assert len(probes) == (1 if self.state is State.HALF_OPEN else 0)


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
