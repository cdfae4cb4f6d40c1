"""The series that the rules rely on are the ones that service, exporter and Prometheus's configuration give."""

from collections.abc import Iterable

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.core import Metric

from app import metrics as service
from compose.exporter import ReplicasCollector
from compose.part import render
from compose.ports import Ports
from compose.replicas import Rollout
from slo import profiles
from slo.metrics import Metrics

DECLARED = Metrics.load()


def families(collected: Iterable[Metric]) -> dict[str, Metric]:
    """By the name rules use: a counter's sample name ends with _total, its family's does not."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for family in collected
        if family.name.startswith(("firewall_", "kube_", "container_"))
    }


@pytest.mark.parametrize("name", [name for name, metric in DECLARED.metrics.items() if metric.jobs == ("firewall",)])
def test_the_service_exposes_what_is_declared(name: str) -> None:
    service.initialise([("POST", "/api/v1/proposals", (201, 503))])
    service.REQUEST_DURATION.labels("/api/v1/proposals", "api")  # histograms appear when something is observed
    service.DB_QUERY_DURATION.labels("proposal_create")
    family = families(REGISTRY.collect())[name]
    declared = DECLARED.metrics[name]

    assert family.type == declared.type
    for sample in family.samples:
        assert set(sample.labels) - {"le"} == set(declared.labels), sample.name
    limits = {float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels}
    assert set(declared.buckets) <= limits


@pytest.mark.parametrize("name", [name for name, metric in DECLARED.metrics.items() if metric.jobs == ("replicas",)])
def test_the_replicas_exporter_exposes_what_is_declared(name: str) -> None:
    collector = ReplicasCollector(dict, Rollout, lambda: 2)
    family = families(collector.collect())[name]
    declared = DECLARED.metrics[name]

    assert family.type == declared.type
    assert set(getattr(family, "_labelnames", ())) == set(declared.labels)


def test_prometheus_gives_each_job_the_target_labels_that_are_declared() -> None:
    configuration = yaml.safe_load(
        render(
            "prometheus.yml.j2",
            ports=Ports(),
            profile=profiles.load("fast"),
            environment="production",
            staging=True,
            service="firewall",
            run_label="run",
            rules=[],
            targets_file="replicas.json",
        )
    )
    by_prometheus = {"instance", "job"}
    # The replicas' own targets come from a file that their supervisor writes: env, pod, service.
    found = [
        (job["job_name"], by_prometheus | set(target["labels"]) - {"__metrics_path__"})
        for job in configuration["scrape_configs"]
        for target in job.get("static_configs", ())
    ]

    assert {job for job, _ in found} == DECLARED.jobs.keys() - {"firewall"}
    assert [labels for _, labels in found] == [set(DECLARED.jobs[job]) for job, _ in found]
    assert configuration["global"]["external_labels"] == {"run": "run"}
