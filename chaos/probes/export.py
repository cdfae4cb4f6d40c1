"""Keeps what Prometheus saw, at the end of a run: the truth of the operators, beside the clients' own.

Writes ``prometheus.jsonl``, one line a series: ``{t, query, labels, values: [[t, value], ...]}``; or
``{t, query, error}``.
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import httpx

from chaos.evidence import EvidenceWriter
from chaos.probes.sampler import EXPECTED, describe

PROMETHEUS = "prometheus.jsonl"

# By name: PromQL. ALERTS holds pending and firing with their instants, also of alerts no poll happened to see.
QUERIES: Mapping[str, str] = MappingProxyType(
    {
        "alerts": "ALERTS",
        "database_up": 'firewall_dependency_up{dependency="database"}',
        "circuit_state": "firewall_circuit_state",
        "requests": "sum by (status_class) (rate(firewall_requests_total[5s]))",
        "front_responses": "sum by (code) (rate(haproxy_frontend_http_responses_total[5s]))",
        "up": "up",
    }
)


async def export(
    address: str,
    writer: EvidenceWriter,
    *,
    start: float,
    end: float,
    step_seconds: float = 1.0,
    queries: Mapping[str, str] = QUERIES,
    deadline_seconds: float = 10.0,
) -> None:
    """Write every query's series between two instants of the scenario; a query that fails leaves an ``error``."""
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=deadline_seconds) as client:
        for name, expression in queries.items():
            try:
                async with asyncio.timeout(deadline_seconds):
                    series = await _range(client, writer, expression, start=start, end=end, step_seconds=step_seconds)
            except EXPECTED as error:
                writer.append(PROMETHEUS, {"query": name, "error": describe(error)})
                continue
            for one in series:
                writer.append(PROMETHEUS, {"t": one["values"][0][0], "query": name, **one})


async def _range(
    client: httpx.AsyncClient, writer: EvidenceWriter, expression: str, *, start: float, end: float, step_seconds: float
) -> list[dict[str, Any]]:
    wall = writer.origin.wall_ns / 1e9
    answer = await client.post(
        "/api/v1/query_range",
        data={"query": expression, "start": wall + start, "end": wall + end, "step": step_seconds},
    )
    answer.raise_for_status()
    return [
        {
            "labels": one["metric"],
            "values": [[round(writer.origin.of_wall(at), 3), float(value)] for at, value in one["values"]],
        }
        for one in answer.json()["data"]["result"]
    ]
