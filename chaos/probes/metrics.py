"""Reads ``/metrics`` of every replica directly, twice a second, and of the proxy in front, once a second.

Writes ``samples/metrics.jsonl``: ``{t, replica, series: {'name{label="value"}': number}}`` or ``{t, replica, error}``,
and ``samples/haproxy.jsonl``: ``{t, series}``. Only the series below are kept: evidence, not a second Prometheus.
"""

import asyncio
from collections.abc import Collection, Iterator
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlencode

import httpx
from prometheus_client.parser import text_string_to_metric_families

from chaos.evidence import EvidenceWriter
from chaos.probes.sampler import every, sample
from chaos.probes.targets import Targets

METRICS = "samples/metrics.jsonl"
FRONT_METRICS = "samples/haproxy.jsonl"

SERVICE_SERIES = frozenset(
    {
        "firewall_requests_total",
        "firewall_db_errors_total",
        "firewall_db_query_duration_seconds_count",
        "firewall_auth_attempts_total",
        "firewall_rate_limit_rejections_total",
        "firewall_rate_limit_local_total",
        "firewall_valkey_errors_total",
        "firewall_dependency_up",
        "firewall_circuit_state",
        "firewall_schema_compatible",
        "firewall_pool_connections",
        "firewall_waiting_room_waiters",
        "firewall_waiting_room_refusals_total",
        "firewall_db_connect_attempts_total",
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    }
)
_ASKED = urlencode([("name[]", name) for name in sorted(SERVICE_SERIES)])  # the rest would be written out for nothing
FRONT_SERIES = frozenset(
    {
        "haproxy_frontend_http_responses_total",
        "haproxy_frontend_http_requests_total",
        "haproxy_backend_http_responses_total",
        "haproxy_backend_active_servers",
        "haproxy_server_check_failures_total",
        "haproxy_server_http_responses_total",
    }
)


def sample_name(name: str, **labels: str) -> str:
    """Return the key of a series in the evidence: labels in order of their names, as Prometheus prints them."""
    if not labels:
        return name
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in sorted(labels.items())) + "}"


def selected(exposition: str, names: Collection[str]) -> dict[str, float]:
    """Return the wanted series of a text exposition without timestamps.

    Names and labels are parsed once: what is said of a series again and again differs by its value alone.
    """
    return {_sample_name(series): float(value) for series, value in _wanted_lines(exposition, names)}


@lru_cache(maxsize=8192)
def _sample_name(series: str) -> str:
    (family,) = text_string_to_metric_families(f"{series} 0\n")
    (one,) = family.samples
    return sample_name(one.name, **one.labels)


def _wanted_lines(exposition: str, names: Collection[str]) -> Iterator[tuple[str, str]]:
    for line in exposition.splitlines():
        if line.partition("{")[0].partition(" ")[0] in names:
            series, _, value = line.rpartition(" ")
            yield series, value


async def watch_metrics(
    targets: Targets,
    writer: EvidenceWriter,
    *,
    period_seconds: float = 0.5,
    front_period_seconds: float = 1.0,
    deadline_seconds: float = 1.0,
) -> None:
    """Sample until cancelled, each target in a loop of its own."""
    async with httpx.AsyncClient(trust_env=False, timeout=deadline_seconds) as client, asyncio.TaskGroup() as tasks:
        for replica in targets.replicas:
            take = partial(_series, client, f"{replica.metrics}?{_ASKED}", SERVICE_SERIES)
            act = partial(sample, writer, METRICS, take, deadline_seconds=deadline_seconds, replica=replica.name)
            tasks.create_task(every(period_seconds, act), name=f"metrics of {replica.name}")
        if targets.front_metrics is not None:
            take = partial(_series, client, targets.front_metrics, FRONT_SERIES)
            act = partial(sample, writer, FRONT_METRICS, take, deadline_seconds=deadline_seconds)
            tasks.create_task(every(front_period_seconds, act), name="metrics of the proxy in front")


async def _series(client: httpx.AsyncClient, url: str, names: Collection[str]) -> dict[str, Any]:
    answer = await client.get(url)
    answer.raise_for_status()
    return {"series": selected(answer.text, names)}
