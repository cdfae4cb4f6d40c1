"""The database as the rest of the service sees it: units of work that end by their deadline, whatever happens (FM01).

There is a database, or there is none. While there is one, a unit takes a connection from the generation's pool; what
says "gone" ends the generation. While there is none, one driver tries, on the documented backoff, one attempt at a
time, and requests wait in the waiting room; five failures in a row open the circuit, and then nobody waits.

What counts as a failure: the loss of a generation (once, however many units were in it), each attempt of the driver,
each unit that our own deadline ended, each request that waited in vain.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg import errors
from psycopg_pool import PoolClosed

from app import log, metrics
from app.errors import DatabaseUnavailable, OutcomeUnknown, OutcomeUnknownAtDeadline, QueryTimeout
from app.resilience.backoff import Backoff
from app.resilience.breaker import Breaker, CircuitOpen, Permit, State
from app.resilience.deadline import Clock, Deadline
from app.resilience.waiting_room import WaitingRefused, WaitingRoom, WaitingRoomFull, WaitingTimeout
from app.settings import DatabaseAddress, DatabasePolicy
from app.storage.connection import (
    Connection,
    GatedConnection,
    OpenGate,
    cause_of,
    cut,
    error_type,
    is_lost,
    parameters,
)
from app.storage.generation import Generation
from app.storage.session import Session, session_parameters

Result = TypeVar("Result")
Work = Callable[[Connection], Awaitable[Result]]

STABLE_SECONDS: Final = 5.0
"""A database that was there for less is flapping: the backoff goes on where it was."""
FIRST_FILL_SECONDS: Final = 2.0
RESOLVER_SECONDS: Final = 0.5
CLOSE_SECONDS: Final = 10.0
RETRY_AFTER_SECONDS_MAX: Final = 30.0
LOST: Final = "lost"
"""Why a unit was unavailable: its connection went away before COMMIT was sent."""
CIRCUIT_EVENTS: Final = {
    State.CLOSED: "circuit_closed",
    State.HALF_OPEN: "circuit_half_open",
    State.OPEN: "circuit_opened",
}


_random: Final = secrets.SystemRandom().random


class Effect(Enum):
    """What a unit may leave behind."""

    READ = "read"
    WRITE = "write"


@dataclass(slots=True)
class _Unit:
    """One unit of work under way."""

    operation: str
    effect: Effect
    generation: Generation
    connection: Connection
    permit: Permit
    outcome: asyncio.Future[Any]
    commit_sent: bool = False
    is_zombie: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """Whom the database tells what. `verify` runs on each new connection of the driver and at each probe."""

    verify: Callable[[Connection], Awaitable[None]]
    found: Callable[[], None]
    lost: Callable[[], None]


class Database:
    """An asynchronous context: inside it, the driver and the probe run."""

    def __init__(
        self,
        address: DatabaseAddress,
        policy: DatabasePolicy,
        *,
        replica: str,
        signals: Signals,
        clock: Clock,
        random: Callable[[], float] = _random,
    ) -> None:
        self._parameters = parameters(address, policy, replica=replica)
        self._policy = policy
        self._signals = signals
        self._clock = clock
        self._random = random
        self._backoff = Backoff(initial_seconds=policy.backoff_initial_seconds, max_seconds=policy.backoff_max_seconds)
        self._room = WaitingRoom(waiters_max=policy.waiters_max, on_change=metrics.WAITING_ROOM_WAITERS.set)
        self._breaker = Breaker(
            metrics.DATABASE,
            failures=policy.breaker_failures,
            cooldown_seconds=policy.breaker_cooldown_seconds,
            clock=clock,
            on_change=self._circuit_changed,
        )
        self._generation: Generation | None = None
        self._generations = 0
        self._next_attempt_at = clock()
        self._lost_event = asyncio.Event()
        self._first_attempt_over = asyncio.Event()
        self._closing = False
        self._stack = AsyncExitStack()
        self._tasks: asyncio.TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._driver = self._tasks.create_task(self._drive(), name="database-driver")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        self._driver.cancel()
        if self._generation is not None:
            generation, self._generation = self._generation, None
            await generation.close()
        # Units end by their deadlines; this bound is for what none of us foresaw.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._stack.__aexit__(None, None, None)

    # --- what others see ---------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether there is a database."""
        return self._generation is not None

    @property
    def circuit(self) -> State:
        """The circuit breaker's state."""
        return self._breaker.state

    def pool_counts(self) -> Mapping[str, int]:
        """Return the pool's connections by state."""
        return self._generation.counts() if self._generation else {"open": 0, "in_use": 0, "idle": 0}

    async def first_attempt(self) -> None:
        """Return when the first attempt to connect has succeeded or failed."""
        await self._first_attempt_over.wait()

    async def read(self, operation: str, work: Work[Result], *, deadline: Deadline) -> Result:
        """Run `work` on a connection in autocommit mode; once more if the connection is lost under it.

        Raises:
            DatabaseUnavailable: nothing was begun, or the answer was lost; reading again is safe.
            QueryTimeout: it took too long.
        """
        return await self._run(operation, work, effect=Effect.READ, deadline=deadline)

    async def transact(self, operation: str, work: Work[Result], *, deadline: Deadline) -> Result:
        """Run `work` in one transaction; return after COMMIT was answered, never before.

        `work` may be run twice, the first time without effect: see `_run`.

        Raises:
            DatabaseUnavailable: nothing was done.
            OutcomeUnknown: COMMIT was sent and not answered.
            QueryTimeout: it took too long, nothing was done.
        """
        return await self._run(operation, work, effect=Effect.WRITE, deadline=deadline)

    @contextlib.asynccontextmanager
    async def session(self, name: str) -> AsyncIterator[Session]:
        """Lend a connection outside the pool, for what holds a lock as long as its session lives.

        The session is cut the moment the database is lost, and the server ends it when it has been idle for
        `session.IDLE_SECONDS`: a lock never outlives whoever was to hold it.

        Raises:
            DatabaseUnavailable: there is no database, or it took no further connection.
        """
        generation = self._generation
        if generation is None:
            raise self._unavailable(LOST)
        parameters = session_parameters(self._parameters, name=name)
        seconds = self._policy.connect_timeout_seconds + RESOLVER_SECONDS
        try:
            connection = await generation.connect_beside(parameters, seconds=seconds)
        except (psycopg.Error, OSError):
            raise self._unavailable(LOST) from None
        try:
            yield Session(connection, clock=self._clock)
        finally:
            await generation.close_beside(connection)

    # --- units of work -----------------------------------------------------------------------------------------

    async def _run(self, operation: str, work: Work[Result], *, effect: Effect, deadline: Deadline) -> Result:
        """Run a unit; when its connection was lost before COMMIT was sent, run it once more.

        Nothing was done then, so the second run is not a second effect: the unit takes its place in the waiting room
        like any other that finds the database gone, within the same deadline.
        """
        try:
            return await self._run_once(operation, work, effect=effect, deadline=deadline)
        except DatabaseUnavailable as error:
            if error.reason != LOST:
                raise
        metrics.DB_REPEATED_UNITS.inc()
        return await self._run_once(operation, work, effect=effect, deadline=deadline)

    async def _run_once(self, operation: str, work: Work[Result], *, effect: Effect, deadline: Deadline) -> Result:
        generation, connection, permit = await self._admit(deadline)
        loop = asyncio.get_running_loop()
        unit = _Unit(operation, effect, generation, connection, permit, loop.create_future())
        timer = loop.call_later(deadline.remaining_seconds(), self._expire, unit)
        self._tasks.create_task(self._carry(unit, work, timer), name=f"unit-{operation}")
        result: Result = await unit.outcome
        return result

    async def _admit(self, deadline: Deadline) -> tuple[Generation, Connection, Permit]:
        """Return a connection and the leave to use it; wait for the database if it is worth it."""
        while True:
            generation = await self._await_generation(deadline)
            try:
                permit = self._breaker.admit()
            except CircuitOpen:
                raise self._unavailable("circuit_open") from None
            try:
                seconds = min(self._policy.pool_wait_seconds, deadline.remaining_seconds())
                connection = await generation.take(seconds)
            except psycopg.Error as error:
                permit.released()
                if isinstance(error, PoolClosed) or generation.is_lost:
                    continue
                metrics.DB_ERRORS.labels(error_type(error)).inc()
                raise self._unavailable("pool_exhausted") from None
            except BaseException:
                permit.released()
                raise
            return generation, connection, permit

    async def _await_generation(self, deadline: Deadline) -> Generation:
        while self._generation is None:
            if self._breaker.state is not State.CLOSED:
                raise self._unavailable("circuit_open")
            with self._breaker.admit() as permit:
                try:
                    await self._room.wait(min(self._policy.wait_seconds, deadline.remaining_seconds()))
                except WaitingRoomFull:
                    raise self._unavailable("full") from None
                except WaitingRefused:
                    raise self._unavailable("circuit_open") from None
                except WaitingTimeout:
                    permit.failed()
                    raise self._unavailable("timeout") from None
        return self._generation

    def _unavailable(self, reason: str) -> DatabaseUnavailable:
        if reason in metrics.REFUSAL_REASONS:
            metrics.WAITING_ROOM_REFUSALS.labels(reason).inc()
        ahead = self._next_attempt_at - self._clock() if self._generation is None else 0.0
        seconds = max(ahead, self._breaker.cooldown_remaining_seconds())
        return DatabaseUnavailable(retry_after_seconds=min(seconds, RETRY_AFTER_SECONDS_MAX), reason=reason)

    async def _carry(self, unit: _Unit, work: Work[Any], timer: asyncio.TimerHandle) -> None:
        """Do the unit's work; answer for it; give the connection back. Raises nothing: it runs in a task group."""
        connection = unit.connection
        started = self._clock()
        try:
            if unit.effect is Effect.WRITE:
                async with connection.transaction():
                    result = await work(connection)
                    unit.commit_sent = True
            else:
                result = await work(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, the unit's caller gets it
            self._fail(unit, error)
        else:
            unit.generation.sign_of_life()
            unit.permit.succeeded()
            if not unit.outcome.done():
                unit.outcome.set_result(result)
        finally:
            timer.cancel()
            unit.permit.released()
            if unit.is_zombie:
                metrics.DB_ZOMBIES.dec()
            if not unit.outcome.done():
                unit.outcome.cancel()
            metrics.DB_QUERY_DURATION.labels(unit.operation).observe(self._clock() - started)
            try:
                await unit.generation.give(connection)
            except psycopg.Error as error:
                self._lose(unit.generation, error)

    def _expire(self, unit: _Unit) -> None:
        """Answer for a unit at its deadline and cut its connection; its task ends by itself."""
        unit.is_zombie = True
        unit.permit.failed()
        metrics.DB_ZOMBIES.inc()
        metrics.DB_ERRORS.labels("timeout").inc()
        log.get().warning("query_timed_out", operation=unit.operation, found_by="deadline")
        if not unit.outcome.done():
            unit.outcome.set_exception(OutcomeUnknownAtDeadline() if unit.commit_sent else QueryTimeout())
        cut(unit.connection)

    def _fail(self, unit: _Unit, error: Exception) -> None:
        """Decide what a unit's error means for its caller, the circuit and the generation."""
        if unit.is_zombie:
            return  # The deadline has answered, and the error is our own cut.
        if is_lost(error):
            metrics.DB_ERRORS.labels("connection").inc()
            (unit.permit.failed if self._lose(unit.generation, error) else unit.permit.released)()
            answer: Exception = OutcomeUnknown() if unit.commit_sent else self._unavailable(LOST)
        else:
            # The database answered, whatever it said; or it was not asked, and a rule of ours refused.
            unit.permit.succeeded()
            answer = error
            if isinstance(error, psycopg.Error):
                unit.generation.sign_of_life()
                if not isinstance(error, errors.UniqueViolation):
                    metrics.DB_ERRORS.labels(error_type(error)).inc()
                if error_type(error) == "timeout":
                    log.get().warning("query_timed_out", operation=unit.operation, found_by="database")
                    answer = QueryTimeout()
        if not unit.outcome.done():
            unit.outcome.set_exception(answer)

    # --- loss and return ---------------------------------------------------------------------------------------

    def _lose(self, generation: Generation, error: BaseException) -> bool:
        """End a generation; True if this was the first to say so."""
        if generation.is_lost or self._closing:
            return False
        generation.lose()
        if self._generation is generation:
            self._generation = None
            metrics.DEPENDENCY_UP.labels(metrics.DATABASE).set(0)
            log.get().warning("database_lost", error_type=cause_of(error), generation=generation.number)
            self._signals.lost()
            self._lost_event.set()
        self._tasks.create_task(generation.close(), name=f"close-{generation.number}")
        return True

    async def _drive(self) -> None:
        """Connect, watch, and connect again: the only code that tries a database that is gone."""
        failures = 0
        while True:
            generation = await self._reconnect(failures)
            await self._watch(generation)
            lasted = self._clock() - generation.opened_at
            failures = 0 if lasted >= STABLE_SECONDS else failures + 1

    async def _reconnect(self, failures: int) -> Generation:
        """Try until there is a database; `failures` in a row went before (a flapping one starts with a delay)."""
        lost_at = self._clock()
        attempts = 0
        if failures:
            await self._pause(self._backoff.delay_seconds(failures, random=self._random()))
        while True:
            attempts += 1
            began = self._clock()
            try:
                generation = await self._attempt()
            except (psycopg.Error, OSError) as error:
                failures += 1
                cause = cause_of(error)
                delay = self._backoff.delay_seconds(failures, random=self._random())
                metrics.DB_CONNECT_ATTEMPTS.labels(cause).inc()
                metrics.DB_ERRORS.labels("connection").inc()
                log.get().warning(
                    "database_unreachable",
                    error_type=cause,
                    attempt=attempts,
                    attempt_seconds=round(self._clock() - began, 3),
                    next_attempt_seconds=round(delay, 3),
                )
                self._first_attempt_over.set()
                await self._pause(delay)
            else:
                metrics.DB_CONNECT_ATTEMPTS.labels("connected").inc()
                log.get().info(
                    "database_reconnected" if generation.number > 1 else "database_connected",
                    attempts=attempts,
                    outage_seconds=round(self._clock() - lost_at, 3),
                    generation=generation.number,
                )
                self._first_attempt_over.set()
                return generation

    async def _pause(self, seconds: float) -> None:
        self._next_attempt_at = self._clock() + seconds
        await asyncio.sleep(seconds)

    async def _attempt(self) -> Generation:
        """Make one connection, check it, fill a pool beside it, open the doors.

        Raises:
            psycopg.Error, OSError: if any of it failed; nothing is left open.
        """
        with self._probe_permit() as permit:
            try:
                generation = await self._open_generation()
            except (psycopg.Error, OSError):
                permit.failed()
                raise
            permit.succeeded()
        self._generation = generation
        self._lost_event.clear()
        metrics.DEPENDENCY_UP.labels(metrics.DATABASE).set(1)
        self._signals.found()
        self._room.admit_all()
        return generation

    def _probe_permit(self) -> Permit:
        try:
            return self._breaker.admit_probe()
        except CircuitOpen:
            # A unit of the last generation is the probe and has not ended: the result is not ours to tell.
            return self._breaker.mute_permit()

    async def _open_generation(self) -> Generation:
        sentinel = await self._connect()
        generation = Generation(
            self._generations + 1,
            sentinel=sentinel,
            parameters=self._parameters,
            policy=self._policy,
            clock=self._clock,
            on_failure=self._lose,
        )
        try:
            await self._check(sentinel, self._policy.connect_timeout_seconds)
            await generation.open(FIRST_FILL_SECONDS)
        except BaseException:
            await generation.close()
            raise
        self._generations += 1
        return generation

    async def _connect(self) -> GatedConnection:
        # psycopg bounds connecting, but not the resolver before it.
        seconds = self._policy.connect_timeout_seconds + RESOLVER_SECONDS
        try:
            async with asyncio.timeout(seconds):
                return await GatedConnection.connect(gate=OpenGate(), **self._parameters)
        except TimeoutError:
            raise errors.ConnectionTimeout from None

    async def _watch(self, generation: Generation) -> None:
        """Probe a generation until it is lost, by the probe or by a unit."""
        while not generation.is_lost:
            try:
                async with asyncio.timeout(self._policy.probe_interval_seconds):
                    await self._lost_event.wait()
            except TimeoutError:
                await self._probe(generation)

    async def _probe(self, generation: Generation) -> None:
        began = self._clock()
        try:
            await self._check(generation.sentinel, self._policy.probe_timeout_seconds)
        except (psycopg.Error, OSError) as error:
            if generation.is_lost:
                return
            metrics.DB_ERRORS.labels("connection").inc()
            self._probe_permit().failed()
            self._lose(generation, error)
        else:
            generation.sign_of_life()
        finally:
            metrics.DB_QUERY_DURATION.labels("health_probe").observe(self._clock() - began)

    async def _check(self, connection: Connection, seconds: float) -> None:
        """Run `Signals.verify`, cut off after `seconds`.

        Raises:
            psycopg.Error: if the database is not there, or not to be written to.
        """
        timer = asyncio.get_running_loop().call_later(seconds, cut, connection)
        began = self._clock()
        try:
            await self._signals.verify(connection)
        except psycopg.Error:
            if self._clock() - began >= seconds:
                raise errors.ConnectionTimeout from None
            raise
        finally:
            timer.cancel()

    def _circuit_changed(self, state: State) -> None:
        metrics.CIRCUIT_STATE.labels(metrics.DATABASE).set(state)
        log.get().warning(CIRCUIT_EVENTS[state], dependency=metrics.DATABASE)
        if state is State.OPEN:
            self._room.refuse_all()
