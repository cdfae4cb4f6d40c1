"""A pool of killable workers for asyncio.

    async with SandboxPool(workers=2) as pool:
        result = await pool.simulate_twice(inputs, deadline_seconds=10)

Each worker is a process of its own with limits on memory and CPU, an empty environment and a PYTHONHASHSEED that no
other worker has. A worker that passes its deadline or writes rubbish is killed with SIGKILL and replaced.
"""

from typing import Any, Self

from app.errors import Flaw
from app.sandbox.result import Inconclusive, SandboxResult


class SandboxPool:
    """`workers` processes (at least 2), and at most `waiting_max` requests that wait for one."""

    def __init__(self, *, workers: int = 2, waiting_max: int = 32) -> None:
        self._workers = workers
        self._waiting_max = waiting_max

    async def __aenter__(self) -> Self:
        """Start the workers."""
        raise NotImplementedError

    async def __aexit__(self, *_exception: object) -> None:
        """Kill every worker and wait until it is gone."""

    async def simulate(self, inputs: bytes, *, deadline_seconds: float) -> SandboxResult | Inconclusive:
        """Simulate in one process. The deadline counts the wait for a free worker.

        Raises:
            SimulationBusy: if too many wait already.
        """
        raise NotImplementedError

    async def simulate_twice(self, inputs: bytes, *, deadline_seconds: float) -> SandboxResult | Inconclusive:
        """Simulate in two processes with different hash seeds; `nondeterministic` if their answers differ.

        Raises:
            SimulationBusy: if too many wait already.
        """
        raise NotImplementedError

    async def check_policies(
        self, document: Any, *, deadline_seconds: float = 5
    ) -> list[dict[str, Any]] | Inconclusive:
        """Return the errors of a policy set: `{"rule": id|null, "line", "column", "message"}`, empty if there are none.

        Raises:
            InvalidPolicySet: if the document is not of the shape.
            SimulationBusy: if too many wait already.
        """
        raise NotImplementedError

    async def check_document(
        self, schema: dict[str, Any] | None, document: Any, *, deadline_seconds: float = 5
    ) -> list[Flaw] | Inconclusive:
        """Return the flaws of a schema (under /schema), or else of the document that must satisfy it (/document).

        Raises:
            SimulationBusy: if too many wait already.
        """
        raise NotImplementedError
