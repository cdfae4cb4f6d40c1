"""A real supervisor of replicas and nothing else of a stack; the test says whose service, and what it is told."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from compose import part, processes
from compose.pod import BackOff
from compose.ports import Ports
from compose.replicas import Replicas, ReplicaStatus
from compose.settings import REPOSITORY
from compose.supervisor import Configuration

START_SECONDS = 30.0


@asynccontextmanager
async def supervised(folder: Path, service_path: Path, settings: Mapping[str, str]) -> AsyncIterator[Replicas]:
    """Run a supervisor without a replica."""
    ports = Ports.free()
    configuration = Configuration(
        ports=ports,
        world="test",
        service_path=str(service_path),
        settings=dict(settings),
        logs=str(folder),
        targets_file=str(folder / "targets.json"),
        environment="production",
        back_off=BackOff(initial_seconds=0.2, max_seconds=0.2),
    )
    file = folder / "supervisor.json"
    file.write_bytes(msgspec.json.encode(configuration))
    replicas = Replicas(f"http://127.0.0.1:{ports.supervisor}")
    process = processes.launch(
        "supervisor",
        [sys.executable, "-m", "compose.supervisor", file],
        log=folder / "supervisor.log",
        environment=processes.plain_environment(PYTHONPATH=str(REPOSITORY)),
        cwd=REPOSITORY,
    )
    try:
        await processes.ready(
            process, lambda: part.answers_ok(replicas.metrics_address), deadline_seconds=START_SECONDS
        )
        yield replicas
    finally:
        await process.stop()


async def until(replicas: Replicas, name: str, *, ready: bool = True) -> ReplicaStatus:
    """Return a replica's state once it is ready, or has ended.

    Raises:
        TimeoutError: it did not come to that.
    """
    async with asyncio.timeout(START_SECONDS):
        while True:
            state = (await replicas.status())[name]
            if state.ready if ready else state.last_exit_code is not None:
                return state
            await asyncio.sleep(0.05)
