"""Asks Alertmanager which alerts are active, four times a second, and Prometheus which are pending.

Writes ``samples/alerts.jsonl``: ``{t, alerts: [{name, state: active|suppressed, inhibited_by, silenced_by, labels}]}``
and ``samples/pending.jsonl``: ``{t, alerts: [{name, state: pending|firing, labels}]}``; or ``{t, error}``.
An alert shows in Alertmanager's API at once; ``group_wait`` only delays what is delivered (``notifications.jsonl``).
"""

import asyncio
from functools import partial
from typing import Any

import httpx

from chaos.evidence import EvidenceWriter
from chaos.probes.sampler import every, sample
from chaos.probes.targets import Targets

ALERTS = "samples/alerts.jsonl"
PENDING = "samples/pending.jsonl"


async def watch_alerts(
    targets: Targets,
    writer: EvidenceWriter,
    *,
    period_seconds: float = 0.25,
    pending_period_seconds: float = 0.5,
    deadline_seconds: float = 1.0,
) -> None:
    """Sample until cancelled."""
    async with httpx.AsyncClient(trust_env=False, timeout=deadline_seconds) as client, asyncio.TaskGroup() as tasks:
        if targets.alertmanager is not None:
            take = partial(_active, client, targets.alertmanager)
            act = partial(sample, writer, ALERTS, take, deadline_seconds=deadline_seconds)
            tasks.create_task(every(period_seconds, act), name="alerts in Alertmanager")
        if targets.prometheus is not None:
            take = partial(_pending, client, targets.prometheus)
            act = partial(sample, writer, PENDING, take, deadline_seconds=deadline_seconds)
            tasks.create_task(every(pending_period_seconds, act), name="alerts in Prometheus")


async def _active(client: httpx.AsyncClient, address: str) -> dict[str, Any]:
    answer = await client.get(f"{address}/api/v2/alerts")
    answer.raise_for_status()
    return {
        "alerts": [
            {
                "name": alert["labels"].get("alertname"),
                "state": alert["status"]["state"],
                "inhibited_by": alert["status"]["inhibitedBy"],
                "silenced_by": alert["status"]["silencedBy"],
                "labels": alert["labels"],
            }
            for alert in answer.json()
        ]
    }


async def _pending(client: httpx.AsyncClient, address: str) -> dict[str, Any]:
    answer = await client.get(f"{address}/api/v1/alerts")
    answer.raise_for_status()
    return {
        "alerts": [
            {"name": alert["labels"].get("alertname"), "state": alert["state"], "labels": alert["labels"]}
            for alert in answer.json()["data"]["alerts"]
        ]
    }
