"""What the probes look at: addresses, and nothing that belongs to how the stack is run."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ReplicaTarget:
    """One replica, reached directly and never through the proxy in front."""

    name: str
    address: str
    metrics_address: str


@dataclass(frozen=True, slots=True)
class Targets:
    """Everything that can be observed. ``None``: this world has no such part, and its samples stay absent.

    Attributes:
        replicas: the replicas of the service.
        front: of HAProxy, e.g. "http://127.0.0.1:8080".
        front_metrics: of HAProxy's exporter.
        prometheus: base address.
        alertmanager: base address.
        notifications_port: where Alertmanager delivers; 0 takes any free port.
        database: connection string of the monitoring role, direct and not through Toxiproxy.
        replica_status: asks what runs the replicas; JSON values by replica.
        proxy_log: Toxiproxy's own log, one JSON object a line.
    """

    replicas: tuple[ReplicaTarget, ...] = ()
    front: str | None = None
    front_metrics: str | None = None
    prometheus: str | None = None
    alertmanager: str | None = None
    notifications_port: int | None = None
    database: str | None = None
    replica_status: Callable[[], Awaitable[Mapping[str, Mapping[str, Any]]]] | None = None
    proxy_log: Path | None = None
