"""One replica as a kubelet keeps it: started, probed, restarted with back-off, limited, counted.

Probes follow Kubernetes: nothing else is asked before the start-up probe succeeded; a failed liveness probe
restarts, a failed readiness probe only takes out of rotation. Liveness needs three failures in a row, readiness one:
HAProxy has its own threshold, and what is reported here is what was seen last.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from compose import limits, part, processes
from compose.limits import Group, Limits
from compose.processes import PartFailed, Process
from compose.replicas import ReplicaSpec, ReplicaStatus

_LOG: Final = logging.getLogger(__name__)
PROBE_SECONDS: Final = 1.0
STARTING_PROBE_SECONDS: Final = 0.1
LIVENESS_FAILURES_MAX: Final = 3
STARTUP_SECONDS_MAX: Final = 30.0
GRACE_SECONDS: Final = 20.0
_CANNOT_EXECUTE: Final = 127


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long a replica that ended waits for its next start: nothing the first time, then doubling (kubelet's)."""

    initial_seconds: float = 10.0
    max_seconds: float = 300.0
    reset_seconds: float = 600.0
    """Running this long makes the next end the first one again."""

    def seconds(self, ends: int) -> float:
        """Return the wait after so many ends in a row."""
        return 0.0 if ends <= 1 else float(min(self.initial_seconds * 2 ** (ends - 2), self.max_seconds))


@dataclass(frozen=True, slots=True)
class Launch:
    """All that starting one replica takes."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    address: str
    """Of its HTTP port, for the probes."""
    log: Path
    revision: int = 0
    """Of the configuration that it was made from."""


class Pod:
    """One replica."""

    def __init__(self, name: str, spec: ReplicaSpec, *, group_name: str, bounds: Limits, back_off: BackOff) -> None:
        """Make its group; nothing runs before `run`."""
        self.name = name
        self.spec = spec
        self.bounds = bounds
        self.back_off = back_off
        self.group: Group | None
        self.group, self.no_group_reason = limits.create(group_name)
        if self.group:
            self.group.limit_memory(bounds.memory_bytes)
        self.ready = False
        self.started = False
        self.restarts = 0
        self.last_exit_code: int | None = None
        self.last_reason = ""
        self.waiting_reason = ""
        self.wanted = True
        self.revision = 0
        self.last_seconds: float | None = None
        self.log_begun: deque[int] = deque(maxlen=2)
        """Where in its log each of its newest lives begins, in bytes."""
        self.cpu_limited = False
        self.grace_seconds = GRACE_SECONDS
        self._process: Process | None = None
        self._ends_in_a_row = 0
        self._cpu_seconds_before = 0.0

    @property
    def pid(self) -> int | None:
        """The process id; `None` while it does not run."""
        return self._process.pid if self._process and self._process.exit_code is None else None

    def status(self) -> ReplicaStatus:
        """Return what is known of it now."""
        return ReplicaStatus(
            pid=self.pid,
            running=self.pid is not None,
            ready=self.ready and self.pid is not None,
            restarts=self.restarts,
            last_exit_code=self.last_exit_code,
            last_reason=self.last_reason,
            waiting_reason=self.waiting_reason,
            wanted=self.wanted,
            revision=self.revision,
            last_seconds=self.last_seconds,
        )

    def memory_bytes(self) -> int:
        """Return its working set."""
        if self.group:
            return self.group.memory_bytes()
        return limits.process_memory_bytes(self.pid) if self.pid else 0

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its lives."""
        if self.group:
            return self.group.cpu_seconds()
        return self._cpu_seconds_before + (limits.process_cpu_seconds(self.pid) if self.pid else 0.0)

    async def live(self, launch: Callable[[], Launch]) -> None:
        """Start it and keep it running until cancelled; then stop it in an orderly way.

        ``launch`` is asked anew for every life: what a replica is told is read when it is started.
        """
        try:
            while True:
                await self._one_life(launch())
                self.restarts += 1
                wait = self.back_off.seconds(self._ends_in_a_row)
                self.waiting_reason = "CrashLoopBackOff" if wait else ""
                await asyncio.sleep(wait)
                self.waiting_reason = ""
        finally:
            self.waiting_reason = ""
            await asyncio.shield(self._stop(self.grace_seconds))

    def discard(self) -> None:
        """Remove its group."""
        if self.group:
            self.group.remove()

    async def _one_life(self, launch: Launch) -> None:
        """Run it from start to end, and record how it ended."""
        began = time.monotonic()
        killed_before = self.group.oom_kills() if self.group else 0
        self.ready = self.started = False
        self.revision = launch.revision
        self.log_begun.append(launch.log.stat().st_size if launch.log.exists() else 0)
        try:
            self._process = self._launch(launch)
        except PartFailed as problem:
            self._record_end(_CANNOT_EXECUTE, reason="Error")
            _LOG.error("%s", problem)
        else:
            async with part.client(launch.address, timeout_seconds=PROBE_SECONDS) as http:
                await self._probe_until_end(http)
            code = self._process.exit_code or 0
            killed = self.group is not None and self.group.oom_kills() > killed_before
            self._record_end(
                128 - code if code < 0 else code, reason="OOMKilled" if killed else "Error" if code else "Completed"
            )
        self.last_seconds = round(time.monotonic() - began, 3)
        if self.last_seconds >= self.back_off.reset_seconds:
            self._ends_in_a_row = 0
        self._ends_in_a_row += 1

    def _launch(self, launch: Launch) -> Process:
        process = processes.launch(
            self.name,
            launch.argv,
            log=launch.log,
            environment=launch.environment,
            enter=self.group.entrances() if self.group else (),
        )
        self.cpu_limited = False
        if self.group:
            self.group.limit_cpu(None)
        return process

    async def _probe_until_end(self, http: httpx.AsyncClient) -> None:
        process = self._process
        if process is None:
            return
        must_start_by = time.monotonic() + STARTUP_SECONDS_MAX
        failures = 0
        while process.exit_code is None:
            began = time.monotonic()
            if not self.started:
                self.started = await _succeeds(http, "/health/startup")
                if self.started:
                    self._limit_cpu()
                elif began > must_start_by:
                    await self._stop(self.grace_seconds)
                    return
            if self.started:
                async with asyncio.TaskGroup() as probes:
                    alive = probes.create_task(_succeeds(http, "/health/live"))
                    ready = probes.create_task(_succeeds(http, "/health/ready"))
                self.ready = ready.result()
                failures = 0 if alive.result() else failures + 1
                if failures >= LIVENESS_FAILURES_MAX:
                    await self._stop(self.grace_seconds)
                    return
            await _until(process, began + (PROBE_SECONDS if self.started else STARTING_PROBE_SECONDS))

    def _limit_cpu(self) -> None:
        if self.group and self.bounds.cpu_cores is not None:
            self.group.limit_cpu(self.bounds.cpu_cores)
            self.cpu_limited = True

    def _record_end(self, code: int, *, reason: str) -> None:
        self.ready = self.started = False
        self.last_exit_code = code
        self.last_reason = reason

    async def _stop(self, grace_seconds: float) -> None:
        self.ready = False
        process = self._process
        if process is None or process.exit_code is not None:
            return
        if not self.group:
            self._cpu_seconds_before += limits.process_cpu_seconds(process.pid)
        with contextlib.suppress(PartFailed):
            await process.stop(signal.SIGTERM, deadline_seconds=grace_seconds)
        code = process.exit_code
        if code is not None:
            self._record_end(128 - code if code < 0 else code, reason="Error" if code else "Completed")


async def _succeeds(http: httpx.AsyncClient, path: str) -> bool:
    """Ask one probe, on a connection of its own as kubelet does."""
    try:
        return (await http.get(path, headers={"Connection": "close"})).is_success
    except httpx.HTTPError:
        return False


async def _until(process: Process, instant: float) -> None:
    """Wait until then, or until the process has ended."""
    await process.ended(instant - time.monotonic())
