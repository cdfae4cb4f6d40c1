"""What the probes look at: addresses, and nothing that belongs to how the stack is run."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from compose.stack import Stack


@dataclass(frozen=True, slots=True)
class ReplicaTarget:
    """One replica, reached directly and never through the proxy in front."""

    name: str
    address: str
    metrics: str  # the exposition itself, e.g. "http://127.0.0.1:9001/metrics"


@dataclass(frozen=True, slots=True)
class Targets:
    """Everything that can be observed. ``None``: this world has no such part, and its samples stay absent.

    Attributes:
        replicas: the replicas of the service.
        front_metrics: HAProxy's exposition, e.g. "http://127.0.0.1:8405/metrics".
        prometheus: base address.
        alertmanager: base address.
        notifications_port: where Alertmanager delivers; 0 takes any free port.
        database: connection string of the monitoring role, direct and not through Toxiproxy.
        api_key: of a client, for looks that are requests; never recorded.
        replica_status: asks what runs the replicas; JSON values by replica.
        proxy_log: Toxiproxy's own log, one JSON object a line.
        has_log: there are checkpoints to witness.
    """

    replicas: tuple[ReplicaTarget, ...] = ()
    front_metrics: str | None = None
    prometheus: str | None = None
    alertmanager: str | None = None
    notifications_port: int | None = None
    database: str | None = None
    api_key: str | None = field(default=None, repr=False)
    replica_status: Callable[[], Awaitable[Mapping[str, Mapping[str, Any]]]] | None = None
    proxy_log: Path | None = None
    has_log: bool = False


def targets_of(stack: "Stack") -> Targets:
    """Return what there is to look at in a running stack."""

    async def replica_status() -> Mapping[str, Mapping[str, Any]]:
        return {name: msgspec.to_builtins(status) for name, status in (await stack.replicas.status()).items()}

    return Targets(
        replicas=tuple(
            ReplicaTarget(name, stack.replica_address(name), stack.replica_metrics_address(name))
            for name in stack.replica_names()
        ),
        front_metrics=f"http://127.0.0.1:{stack.ports.front_metrics}/metrics",
        prometheus=f"http://127.0.0.1:{stack.ports.prometheus}",
        alertmanager=f"http://127.0.0.1:{stack.ports.alertmanager}",
        notifications_port=stack.ports.receiver,
        database=stack.postgres.dsn("firewall_monitor"),
        api_key=stack.api_key("editor"),
        replica_status=replica_status,
        proxy_log=stack.spec.logs / "toxiproxy.log",
        has_log=True,
    )
