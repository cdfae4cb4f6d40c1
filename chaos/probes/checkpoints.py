"""The witness: asks every replica for the log's checkpoint once a second, and keeps each one it was shown.

Writes ``samples/checkpoints.jsonl``: ``{t, replica, note, ms}`` or ``{t, replica, status | error, ms}``. Asked of the
replicas themselves, so that two of them that disagree are seen to.
"""

import asyncio
from functools import partial
from typing import Any

from chaos.evidence import EvidenceWriter
from chaos.probes.sampler import every, sample
from chaos.probes.targets import Targets
from chaos.wire import Connections

CHECKPOINTS = "samples/checkpoints.jsonl"
_TARGET = "/api/v1/log/checkpoint"
_OK = 200


async def watch_checkpoints(
    targets: Targets, writer: EvidenceWriter, *, period_seconds: float = 1.0, deadline_seconds: float = 3.0
) -> None:
    """Sample until cancelled; every replica has a loop of its own. Without a log or an API key nothing is."""
    if targets.api_key is None or not targets.has_log:
        return
    async with asyncio.TaskGroup() as tasks:
        for replica in targets.replicas:
            take = partial(_checkpoint, Connections(replica.address), targets.api_key)
            act = partial(sample, writer, CHECKPOINTS, take, deadline_seconds=deadline_seconds, replica=replica.name)
            tasks.create_task(every(period_seconds, act), name=f"checkpoints of {replica.name}")


async def _checkpoint(connections: Connections, api_key: str) -> dict[str, Any]:
    connection = await connections.take()
    answer = await connection.exchange(connections.request("GET", _TARGET, {"X-API-Key": api_key}))
    connections.give(connection)
    if answer.status != _OK:
        return {"status": answer.status}
    return {"note": answer.content.decode()}
