"""Sends every replica a client's request directly, past the proxy in front, four times a second.

While no replica is ready the proxy answers for all of them; what a replica itself would say to a client, and how fast,
is seen only here. A request that has to ask the database: the first page of the list.

Writes ``samples/direct.jsonl``: ``{t, replica, status, code, retry_after, ms}`` or ``{t, replica, error, ms}``.
"""

import asyncio
from functools import partial
from typing import Any

import httpx

from chaos.evidence import EvidenceWriter
from chaos.probes.sampler import every, sample
from chaos.probes.targets import Targets

DIRECT = "samples/direct.jsonl"
_PATH = "/api/v1/proposals?limit=1"


async def watch_direct(
    targets: Targets, writer: EvidenceWriter, *, period_seconds: float = 0.25, deadline_seconds: float = 5.0
) -> None:
    """Sample until cancelled; every replica has a loop of its own. Without an API key nothing is sampled."""
    if targets.api_key is None:
        return
    headers = {"X-API-Key": targets.api_key}
    client = httpx.AsyncClient(trust_env=False, timeout=deadline_seconds, headers=headers)
    async with client, asyncio.TaskGroup() as tasks:
        for replica in targets.replicas:
            take = partial(_answer, client, replica.address + _PATH)
            act = partial(sample, writer, DIRECT, take, deadline_seconds=deadline_seconds, replica=replica.name)
            tasks.create_task(every(period_seconds, act), name=f"direct requests to {replica.name}")


async def _answer(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    answer = await client.get(url)
    code = None if answer.is_success else answer.json().get("code")
    return {"status": answer.status_code, "code": code, "retry_after": answer.headers.get("Retry-After")}
