"""A pool of killable workers for asyncio.

    async with SandboxPool(workers=2) as pool:
        result = await pool.simulate_twice(inputs, deadline_seconds=10)

Each worker is a process of its own with limits on memory and CPU, an empty environment and a PYTHONHASHSEED that no
other worker of the pool has. A worker that passes its deadline, dies or writes rubbish is killed and replaced; the
request ends as `Inconclusive`. Requests wait in one bounded queue, first come first served.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Self

from app import metrics
from app.core.governance import policy_set
from app.errors import Flaw, SimulationBusy
from app.sandbox import frames
from app.sandbox.process import COMMAND, WorkerLost, WorkerProcess
from app.sandbox.result import Inconclusive, SandboxResult

WORKERS_MIN: Final = 2
"""Two processes must agree."""
ANSWERS_MAX: Final = 1_000
"""After so many a worker is replaced: memory it has once had it keeps."""
RESTART_SECONDS: Final = (0.05, 0.2, 1, 5, 15)
"""Pauses after workers that did not even start."""
SEEDS: Final = range(1, 2**32)


class SandboxPool:
    """`workers` processes (at least 2), and at most `waiting_max` requests that wait for one."""

    def __init__(self, *, workers: int = 2, waiting_max: int = 32, command: Sequence[str] = COMMAND) -> None:
        if workers < WORKERS_MIN:
            raise ValueError(f"at least {WORKERS_MIN} workers: two processes must agree")
        self._seeds = secrets.SystemRandom().sample(SEEDS, workers)
        self._waiting_max = waiting_max
        self._command = command
        self._free: deque[WorkerProcess] = deque()
        self._alive: set[WorkerProcess] = set()
        self._waiting: deque[tuple[int, asyncio.Future[list[WorkerProcess]]]] = deque()
        self._keepers = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin to start the workers; requests wait until there are some."""
        await self._keepers.__aenter__()
        self._tasks = [self._keepers.create_task(self._keep(seed)) for seed in self._seeds]
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Kill every worker and wait until it is gone. Requests under way end as inconclusive."""
        for task in self._tasks:
            task.cancel()
        await self._keepers.__aexit__(None, None, None)
        for _, waiter in self._waiting:
            waiter.cancel()

    @property
    def pids(self) -> list[int]:
        """The processes there are now."""
        return sorted(worker.pid for worker in self._alive)

    async def simulate(self, inputs: bytes, *, deadline_seconds: float) -> SandboxResult | Inconclusive:
        """Simulate in one process. The deadline counts the wait for a free worker.

        Raises:
            SimulationBusy: if too many wait already.
        """
        answers = await self._ask(frames.Simulate(inputs), 1, deadline_seconds)
        return _counted(_result(answers[0]))

    async def simulate_twice(self, inputs: bytes, *, deadline_seconds: float) -> SandboxResult | Inconclusive:
        """Simulate in two processes with different hash seeds; `nondeterministic` if their answers differ.

        Raises:
            SimulationBusy: if too many wait already.
        """
        answers = await self._ask(frames.Simulate(inputs), 2, deadline_seconds)
        return _counted(agreed([_result(answer) for answer in answers]))

    async def check_policies(
        self, document: Any, *, deadline_seconds: float = 5
    ) -> list[dict[str, Any]] | Inconclusive:
        """Return the errors of a policy set's rules: `{"rule", "pointer", "line", "column", "message"}` each.

        Line and column count from 1; 0 means the expression as a whole.

        Raises:
            InvalidPolicySet: if the document is not of the shape.
            SimulationBusy: if too many wait already.
        """
        rules = [(rule.id, rule.expression) for rule in policy_set.parse(document).rules]
        answer = (await self._ask(frames.CheckPolicies(rules), 1, deadline_seconds))[0]
        if not isinstance(answer, frames.Flaws):
            return _inconclusive(answer)
        return [
            {"rule": rule, "pointer": pointer, "line": line, "column": column, "message": message}
            for pointer, line, column, rule, message in answer.flaws
        ]

    async def check_document(
        self, schema: dict[str, Any] | None, document: Any, *, deadline_seconds: float = 5
    ) -> list[Flaw] | Inconclusive:
        """Return the flaws of a schema (under /schema), or else of the document that must satisfy it (/document).

        Raises:
            SimulationBusy: if too many wait already.
        """
        answer = (await self._ask(frames.CheckDocument(schema, document), 1, deadline_seconds))[0]
        if not isinstance(answer, frames.Flaws):
            return _inconclusive(answer)
        return [Flaw(pointer, code, message) for pointer, _, _, code, message in answer.flaws]

    async def _ask(
        self, request: frames.Request, processes: int, deadline_seconds: float
    ) -> list[frames.Answer | WorkerLost]:
        """Ask so many different workers at once; what a worker did not answer is its loss."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(deadline_seconds):
                workers = await self._take(processes)
        except TimeoutError:
            return [WorkerLost("deadline" if self._alive else "unavailable", "no worker was free in time")]
        try:
            left = deadline_seconds - (time.monotonic() - began)
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(_ask_one(worker, request, left)) for worker in workers]
            return [task.result() for task in asked]
        finally:
            self._give_back(workers)
            metrics.SIMULATION_DURATION.observe(time.monotonic() - began)

    async def _take(self, count: int) -> list[WorkerProcess]:
        if len(self._waiting) >= self._waiting_max:
            raise SimulationBusy
        waiter: asyncio.Future[list[WorkerProcess]] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, waiter))
        self._hand_out()
        try:
            return await waiter
        except BaseException:
            # Given up on in the very moment in which it was served: they are still ours to give back.
            if waiter.done() and not waiter.cancelled():
                self._give_back(waiter.result())
            else:
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not waiter)
                self._hand_out()
            raise

    def _hand_out(self) -> None:
        self._free = deque(worker for worker in self._free if worker.is_alive)
        while self._waiting and len(self._free) >= self._waiting[0][0]:
            count, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result([self._free.popleft() for _ in range(count)])

    def _give_back(self, workers: Sequence[WorkerProcess]) -> None:
        for worker in workers:
            if worker.answered >= ANSWERS_MAX:
                worker.kill()
            if worker in self._alive and worker.is_alive:
                self._free.append(worker)
        self._hand_out()

    async def _keep(self, seed: int) -> None:
        """Have one worker at all times."""
        failures = 0
        while True:
            try:
                worker = await WorkerProcess.start(seed, command=self._command)
            except WorkerLost as lost:
                metrics.SANDBOX_WORKERS_LOST.labels(lost.reason).inc()
                await asyncio.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)])
                failures += 1
                continue
            failures = 0
            self._alive.add(worker)
            self._free.append(worker)
            metrics.SANDBOX_WORKERS.set(len(self._alive))
            self._hand_out()
            try:
                await worker.ended()
            finally:
                worker.kill()
                self._alive.discard(worker)
                metrics.SANDBOX_WORKERS.set(len(self._alive))
                await asyncio.shield(worker.ended())


def agreed(results: Sequence[SandboxResult | Inconclusive]) -> SandboxResult | Inconclusive:
    """Return what several processes found, if all found the same."""
    first = results[0]
    for other in results:
        if isinstance(other, Inconclusive):
            return other
    for other in results[1:]:
        if other != first:
            digests = " ".join(result.digest for result in results if isinstance(result, SandboxResult))
            return Inconclusive("nondeterministic", digests)
    return first


async def _ask_one(worker: WorkerProcess, request: frames.Request, seconds: float) -> frames.Answer | WorkerLost:
    try:
        return await worker.ask(request, deadline_seconds=seconds)
    except WorkerLost as lost:
        metrics.SANDBOX_WORKERS_LOST.labels(lost.reason).inc()
        return lost


def _result(answer: frames.Answer | WorkerLost) -> SandboxResult | Inconclusive:
    if isinstance(answer, frames.Simulated):
        return SandboxResult(answer.record, answer.after)
    return _inconclusive(answer)


def _inconclusive(answer: frames.Answer | WorkerLost) -> Inconclusive:
    if isinstance(answer, WorkerLost | frames.Refused):
        return Inconclusive(answer.reason, answer.detail)
    return Inconclusive("protocol", "an answer to another question")


def _counted(result: SandboxResult | Inconclusive) -> SandboxResult | Inconclusive:
    metrics.SIMULATIONS.labels(result.verdict if isinstance(result, SandboxResult) else result.reason).inc()
    return result
