"""The replicas' state under the names of kube-state-metrics and cAdvisor, so that one rule file serves every target.

Decision 12: a service that refuses to start has no metrics of its own (FM03, FM16); this outside observer has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from compose.limits import CPU_PERIOD_MICROSECONDS
from compose.pod import Pod
from compose.replicas import Rollout

NAMESPACE: Final = "firewall"
CONTAINER: Final = "firewall"
DEPLOYMENT: Final = "ai-mutation-governance-firewall"
_POD: Final = ("namespace", "pod", "container")
_REASONS_TERMINATED: Final = ("Completed", "Error", "OOMKilled")
_REASONS_WAITING: Final = ("CrashLoopBackOff",)


class ReplicasCollector(Collector):
    """Reads the pods at every scrape."""

    def __init__(
        self,
        pods: Callable[[], Mapping[str, Pod]],
        rollout: Callable[[], Rollout] | None = None,
        wanted: Callable[[], int] = lambda: 0,
    ) -> None:
        """Take what to read: the pods; if they are a deployment, its last rolling update, and how many are wanted."""
        self._pods = pods
        self._rollout = rollout
        self._wanted = wanted

    def collect(self) -> Iterator[Metric]:
        """Yield every family, also those without a sample."""
        pods = self._pods()
        yield from self._states(pods)
        yield from self._resources(pods)
        if self._rollout is not None:
            yield from self._deployment(pods, self._rollout())

    def _states(self, pods: Mapping[str, Pod]) -> Iterator[Metric]:
        statuses = {name: pod.status() for name, pod in pods.items()}
        yield _gauge("kube_pod_container_status_ready", {n: float(s.ready) for n, s in statuses.items()})
        yield _gauge("kube_pod_container_status_running", {n: float(s.running) for n, s in statuses.items()})
        yield _counter("kube_pod_container_status_restarts", {n: float(s.restarts) for n, s in statuses.items()})
        yield _gauge(
            "kube_pod_container_status_last_terminated_exitcode",
            {n: float(s.last_exit_code) for n, s in statuses.items() if s.last_exit_code is not None},
        )
        for family, reasons, of in (
            ("last_terminated_reason", _REASONS_TERMINATED, {n: s.last_reason for n, s in statuses.items()}),
            ("waiting_reason", _REASONS_WAITING, {n: s.waiting_reason for n, s in statuses.items()}),
        ):
            gauge = GaugeMetricFamily(f"kube_pod_container_status_{family}", family, labels=[*_POD, "reason"])
            for name, seen in of.items():
                for reason in reasons:
                    gauge.add_metric([NAMESPACE, name, CONTAINER, reason], float(seen == reason))
            yield gauge

    def _resources(self, pods: Mapping[str, Pod]) -> Iterator[Metric]:
        grouped = {name: pod.group for name, pod in pods.items() if pod.group}
        yield _gauge("container_memory_working_set_bytes", {n: float(p.memory_bytes()) for n, p in pods.items()})
        # As cAdvisor: 0 where nothing limits it.
        yield _gauge(
            "container_spec_memory_limit_bytes",
            {n: float((p.bounds.memory_bytes or 0) if p.group else 0) for n, p in pods.items()},
        )
        yield _counter(
            "container_oom_events", {n: float(p.group.oom_kills() if p.group else 0) for n, p in pods.items()}
        )
        yield _counter("container_cpu_usage_seconds", {n: p.cpu_seconds() for n, p in pods.items()})
        limited = {n: p.bounds.cpu_cores for n, p in pods.items() if p.cpu_limited and p.bounds.cpu_cores}
        yield _gauge(
            "container_spec_cpu_quota", {n: float(cores * CPU_PERIOD_MICROSECONDS) for n, cores in limited.items()}
        )
        yield _gauge("container_spec_cpu_period", dict.fromkeys(limited, float(CPU_PERIOD_MICROSECONDS)))
        periods = {name: group.periods() for name, group in grouped.items()}
        yield _counter("container_cpu_cfs_periods", {n: float(total) for n, (total, _) in periods.items()})
        yield _counter("container_cpu_cfs_throttled_periods", {n: float(hit) for n, (_, hit) in periods.items()})

    def _deployment(self, pods: Mapping[str, Pod], rollout: Rollout) -> Iterator[Metric]:
        available = sum(pod.status().ready for pod in pods.values())
        labels = ["namespace", "deployment"]
        for name, value in (
            ("kube_deployment_spec_replicas", self._wanted()),
            ("kube_deployment_status_replicas_available", available),
        ):
            family = GaugeMetricFamily(name, name, labels=labels)
            family.add_metric([NAMESPACE, DEPLOYMENT], value)
            yield family
        conditions = GaugeMetricFamily(
            "kube_deployment_status_condition",
            "A condition of the deployment, one sample for each status.",
            labels=[*labels, "condition", "status"],
        )
        for condition, holds in (("Progressing", rollout.state != "failed"), ("Available", available >= 1)):
            for status in ("true", "false", "unknown"):
                conditions.add_metric(
                    [NAMESPACE, DEPLOYMENT, condition, status], float(status == ("true" if holds else "false"))
                )
        yield conditions


def _gauge(name: str, values: Mapping[str, float]) -> Metric:
    return _filled(GaugeMetricFamily(name, name, labels=list(_POD)), values.items())


def _counter(name: str, values: Mapping[str, float]) -> Metric:
    return _filled(CounterMetricFamily(name, name, labels=list(_POD)), values.items())


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, values: Iterable[tuple[str, float]]
) -> GaugeMetricFamily | CounterMetricFamily:
    for pod, value in values:
        family.add_metric([NAMESPACE, pod, CONTAINER], value)
    return family
