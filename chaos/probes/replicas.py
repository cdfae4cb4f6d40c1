"""Asks what runs the replicas for their state, twice a second.

Writes ``samples/replicas.jsonl``: ``{t, replicas: {name: {pid, running, ready, restarts, last_exit_code}}}``; or
``{t, error}``.
"""

from functools import partial
from typing import Any

from chaos.evidence import EvidenceWriter
from chaos.probes.sampler import every, sample
from chaos.probes.targets import Targets

REPLICAS = "samples/replicas.jsonl"


async def watch_replicas(
    targets: Targets, writer: EvidenceWriter, *, period_seconds: float = 0.5, deadline_seconds: float = 1.0
) -> None:
    """Sample until cancelled."""
    status = targets.replica_status
    if status is None:
        return

    async def take() -> dict[str, Any]:
        return {"replicas": {name: dict(one) for name, one in (await status()).items()}}

    await every(period_seconds, partial(sample, writer, REPLICAS, take, deadline_seconds=deadline_seconds))
