"""Asks every replica's health endpoints directly, four times a second.

Never through the proxy in front: it counts every 5xx as an answer to a client, and probes are none.

Writes ``samples/health.jsonl``: ``{t, replica, path, status, ms}`` or ``{t, replica, path, error, ms}``.
"""

import asyncio
from functools import partial
from typing import Any

from chaos.evidence import EvidenceWriter
from chaos.probes.sampler import every, sample
from chaos.probes.targets import Targets
from chaos.wire import Connections

HEALTH = "samples/health.jsonl"
PATHS = ("/health", "/health/ready", "/health/live")


async def watch_health(
    targets: Targets, writer: EvidenceWriter, *, period_seconds: float = 0.25, deadline_seconds: float = 1.0
) -> None:
    """Sample until cancelled; every (replica, path) has a loop of its own, so one that hangs stops no other."""
    looks = [(replica.name, replica.address, path) for replica in targets.replicas for path in PATHS]
    async with asyncio.TaskGroup() as tasks:
        for name, address, path in looks:
            take = partial(_status, Connections(address), path)
            act = partial(sample, writer, HEALTH, take, deadline_seconds=deadline_seconds, replica=name, path=path)
            tasks.create_task(every(period_seconds, act), name=f"health of {name} {path}")


async def _status(connections: Connections, path: str) -> dict[str, Any]:
    connection = await connections.take()
    answer = await connection.exchange(connections.request("GET", path, {}))
    connections.give(connection)
    return {"status": answer.status}
