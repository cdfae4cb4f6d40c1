"""Sends every replica a client's request directly, past the proxy in front, four times a second.

While no replica is ready the proxy answers for all of them; what a replica itself would say to a client, and how fast,
is seen only here. A request that has to ask the database: the first page of the list.

Writes ``samples/direct.jsonl``: ``{t, replica, status, code, retry_after, ms}`` or ``{t, replica, error, ms}``.
"""

import asyncio
import json
from functools import partial
from typing import Any

from chaos.evidence import EvidenceWriter
from chaos.probes.sampler import every, sample
from chaos.probes.targets import Targets
from chaos.wire import Connections

DIRECT = "samples/direct.jsonl"
_TARGET = "/api/v1/proposals?limit=1"


async def watch_direct(
    targets: Targets, writer: EvidenceWriter, *, period_seconds: float = 0.25, deadline_seconds: float = 5.0
) -> None:
    """Sample until cancelled; every replica has a loop of its own. Without an API key nothing is sampled."""
    if targets.api_key is None:
        return
    async with asyncio.TaskGroup() as tasks:
        for replica in targets.replicas:
            take = partial(_answer, Connections(replica.address), targets.api_key)
            act = partial(sample, writer, DIRECT, take, deadline_seconds=deadline_seconds, replica=replica.name)
            tasks.create_task(every(period_seconds, act), name=f"direct requests to {replica.name}")


async def _answer(connections: Connections, api_key: str) -> dict[str, Any]:
    connection = await connections.take()
    answer = await connection.exchange(connections.request("GET", _TARGET, {"X-API-Key": api_key}))
    connections.give(connection)
    document = json.loads(answer.content)
    return {
        "status": answer.status,
        "code": document.get("code") if isinstance(document, dict) else None,
        "retry_after": answer.headers.get("retry-after"),
    }
