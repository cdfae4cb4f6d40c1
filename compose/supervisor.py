"""Plays kubelet for the replicas, as a process of its own: `python -m compose.supervisor CONFIGURATION`.

It starts, probes and restarts them, tells Prometheus which there are, and serves a control interface and the
exporter on one loopback port. It keeps what all replicas are told, as a ConfigMap would (FM16). It dies with the stack,
and the replicas with it. Rolling updates stand in `compose.rollout`.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn
from litestar import Litestar, MediaType, Response, delete, get, post, put
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, NotFoundException, ValidationException
from litestar.handlers import BaseRouteHandler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from compose import processes
from compose.exporter import ReplicasCollector
from compose.limits import Limits
from compose.monitoring import write_targets
from compose.pod import BackOff, Launch, Pod
from compose.ports import SLOTS, STAGING_SLOT, Ports
from compose.processes import Process
from compose.replicas import (
    CONTROL_HEADER,
    STAGING,
    ReplicaSpec,
    ReplicaStatus,
    RestartOrder,
    Rollout,
    SharedConfiguration,
    Trial,
)
from compose.rollout import RollingUpdate, RolloutOrder

LAST_GRACE_SECONDS: Final = 0.3
"""At the end of the stack nobody is served any more, so a replica's draining (2 s) is not waited for."""
LOG_BYTES_MAX: Final = 16_384
"""Of a replica's log, its newest part: what is shown to somebody who asks."""
TRIAL_SECONDS: Final = 10.0
TRIAL_BYTES_MAX: Final = 65_536

_LOG: Final = logging.getLogger(__name__)


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What the stack tells its supervisor; no secret is in it, only the names of files that hold one."""

    ports: Ports
    world: str
    """Begins the names of the replicas' cgroups."""
    service_path: str
    settings: dict[str, str]
    """Environment of every replica."""
    logs: str
    targets_file: str
    environment: str
    staging: dict[str, str | None] = {}
    """What the replica of the staging environment is told otherwise."""
    limits: Limits = Limits()
    back_off: BackOff = BackOff()


class Supervisor:
    """Keeps the replicas."""

    def __init__(self, configuration: Configuration) -> None:
        """Keep no replica yet."""
        self.configuration = configuration
        self.pods: dict[str, Pod] = {}
        self.rolling: RollingUpdate | None = None
        self._lives: dict[str, asyncio.Task[None]] = {}
        self.shared = SharedConfiguration()
        self.staged: dict[str, str | None] = {}
        """What was changed for staging: a ConfigMap of its own."""
        self._trials = 0
        self._tasks: asyncio.TaskGroup | None = None

    @contextlib.asynccontextmanager
    async def running(self, _: Litestar) -> AsyncIterator[None]:
        """Keep replicas until left; then stop them all."""
        async with asyncio.TaskGroup() as self._tasks:
            try:
                yield
            finally:
                if self.rolling:
                    self.rolling.cancel()
                for name, life in self._lives.items():
                    self.pods[name].grace_seconds = LAST_GRACE_SECONDS
                    life.cancel()
        for pod in self.pods.values():
            pod.discard()

    def add(self, name: str, spec: ReplicaSpec) -> None:
        """Start a replica."""
        if not 1 <= spec.slot <= STAGING_SLOT:
            raise ValidationException(f"slot {spec.slot} does not exist; there are 1 to {STAGING_SLOT}")
        taken = [other.name for other in self.pods.values() if other.spec.slot == spec.slot and other.name != name]
        if taken or name in self.pods:
            raise ValidationException(f"slot {spec.slot} or name {name} is taken by {taken[0] if taken else name}")
        pod = Pod(
            name,
            spec,
            group_name=f"{self.configuration.world}-{name}",
            bounds=self.configuration.limits,
            back_off=self.configuration.back_off,
        )
        if pod.no_group_reason:
            _LOG.warning("%s has no limits: %s", name, pod.no_group_reason)
        self.pods[name] = pod
        self._tell_prometheus()
        self._live(pod)

    async def restart(self, name: str, spec: ReplicaSpec | None) -> None:
        """Stop a replica in an orderly way and start it again."""
        pod = self.pod(name)
        await self._end(name)
        if spec is not None:
            pod.spec = spec
        self._live(pod)

    async def stop(self, name: str) -> None:
        """Stop a replica; it stays known."""
        pod = self.pod(name)
        pod.wanted = False
        await self._end(name)

    async def remove(self, name: str) -> None:
        """Stop a replica and forget it."""
        await self.stop(name)
        self.pods.pop(name).discard()
        self._tell_prometheus()

    def configure(self, changes: dict[str, str | None]) -> None:
        """Put changes in the place of all earlier ones; they hold from each replica's next start."""
        self.shared = SharedConfiguration(revision=self.shared.revision + 1, changes=changes)

    async def stage(self, restored: Collection[str]) -> None:
        """Start staging's replica, or start it again, with today's changes but those, whatever the others are told."""
        self.staged = {name: value for name, value in self.shared.changes.items() if name not in restored}
        if STAGING in self.pods:
            await self.restart(STAGING, None)
        else:
            self.add(STAGING, ReplicaSpec(slot=STAGING_SLOT))

    async def try_configuration(self, changes: dict[str, str | None]) -> Trial:
        """Let the service say what it thinks of what a new replica would be told; nothing is started."""
        spec = ReplicaSpec(slot=SLOTS, settings={name: value for name, value in changes.items() if value is not None})
        without = tuple(name for name, value in changes.items() if value is None)
        self._trials += 1
        output = self._log(f"configuration-trial-{self._trials}")
        process = processes.launch(
            "a trial of the configuration",
            (sys.executable, "-m", "app.settings", "show", "--json"),
            log=output,
            environment=self._environment("trial", msgspec.structs.replace(spec, without=without)),
        )
        return await _ended_trial(process, output)

    def log_of(self, name: str) -> str:
        """Return what a replica wrote in its newest two lives: the one that ended is what is asked for."""
        path, begun = self._log(name), self.pod(name).log_begun
        content = path.read_bytes()[begun[0] :] if begun else b""
        return content[-LOG_BYTES_MAX:].decode("utf-8", "replace")

    def roll(self, order: RolloutOrder) -> None:
        """Begin a rolling update."""
        if self._tasks is None or (self.rolling and self.rolling.status.state == "progressing"):
            raise ValidationException("a rolling update is under way")
        self.rolling = RollingUpdate(self, order)
        self.rolling.begin(self._tasks)

    def rollout_status(self) -> Rollout:
        """Return how the last rolling update stands."""
        return self.rolling.status if self.rolling else Rollout()

    def status(self, pod: Pod) -> ReplicaStatus:
        """Return what is known of a replica, and where it is."""
        return msgspec.structs.replace(
            pod.status(), address=self._address(pod), environment=self._environment_of(pod.spec)
        )

    def pods_of(self, *, staging: bool) -> dict[str, Pod]:
        """Return the replicas of the staging environment, or those of the stack's own."""
        return {name: pod for name, pod in self.pods.items() if (pod.spec.slot == STAGING_SLOT) is staging}

    def pod(self, name: str) -> Pod:
        """Return a replica.

        Raises:
            NotFoundException: there is none of that name.
        """
        if name not in self.pods:
            raise NotFoundException(f"no replica {name}; there are: {', '.join(self.pods) or 'none'}")
        return self.pods[name]

    def _live(self, pod: Pod) -> None:
        if self._tasks is None:
            raise ValidationException("the supervisor is going down")
        pod.wanted = True
        self._lives[pod.name] = self._tasks.create_task(pod.live(lambda: self._launch(pod)), name=pod.name)

    async def _end(self, name: str) -> None:
        life = self._lives.get(name)
        if life is None:
            return
        if not life.cancelling():  # somebody may be waiting for this end already
            life.cancel()
        await asyncio.wait([life])
        if self._lives.get(name) is life:
            del self._lives[name]

    def _launch(self, pod: Pod) -> Launch:
        return Launch(
            argv=(sys.executable, "-m", "app"),
            environment=self._environment(pod.name, pod.spec),
            address=self._address(pod),
            log=self._log(pod.name),
            revision=self.shared.revision,
        )

    def _environment(self, name: str, spec: ReplicaSpec) -> dict[str, str]:
        """Return what a replica is told if it is started now."""
        ports, slot = self.configuration.ports, spec.slot
        settings: dict[str, str | None] = {
            **self.configuration.settings,
            "FIREWALL_REPLICA": name,
            "FIREWALL_HOST": "127.0.0.1",
            "FIREWALL_PORT": str(ports.replicas[slot - 1]),
            "FIREWALL_METRICS_PORT": str(ports.replicas_metrics[slot - 1]),
            "FIREWALL_DATABASE_PORT": str(ports.database_proxies[slot - 1]),
            "FIREWALL_VALKEY_PORT": str(ports.valkey_proxies[slot - 1]),
            **({**self.staged, **self.configuration.staging} if spec.slot == STAGING_SLOT else self.shared.changes),
            **spec.settings,
            **dict.fromkeys(spec.without),
        }
        return processes.plain_environment(
            PYTHONPATH=spec.service_path or self.configuration.service_path,
            PYTHONUNBUFFERED="1",
            **{setting: value for setting, value in settings.items() if value is not None},
        )

    def _log(self, name: str) -> Path:
        return Path(self.configuration.logs) / f"{name}.log"

    def _address(self, pod: Pod) -> str:
        return f"http://127.0.0.1:{self.configuration.ports.replicas[pod.spec.slot - 1]}"

    def _tell_prometheus(self) -> None:
        ports = self.configuration.ports.replicas_metrics
        write_targets(
            Path(self.configuration.targets_file),
            {name: ports[pod.spec.slot - 1] for name, pod in self.pods.items()},
            environments={name: self._environment_of(pod.spec) for name, pod in self.pods.items()},
        )

    def _environment_of(self, spec: ReplicaSpec) -> str:
        return STAGING if spec.slot == STAGING_SLOT else self.configuration.environment


async def _ended_trial(process: Process, output: Path) -> Trial:
    """Wait for a trial, end one that does not end, and return what it said."""
    try:
        if not await process.ended(TRIAL_SECONDS):
            raise ValidationException(f"the trial did not end within {TRIAL_SECONDS:g} s")
    finally:
        await process.stop()
    return Trial(exit_code=process.exit_code or 0, output=_taken(output))


def _taken(output: Path) -> str:
    content = output.read_bytes()[:TRIAL_BYTES_MAX]
    output.unlink()
    return content.decode("utf-8", "replace")


def create_app(supervisor: Supervisor) -> Litestar:
    """Wire the control interface and the exporter."""
    return Litestar(
        route_handlers=[
            *_metrics_routes(supervisor),
            *_replica_routes(supervisor),
            *_configuration_routes(supervisor),
            *_rollout_routes(supervisor),
        ],
        guards=[_require_control_header],
        lifespan=[supervisor.running],
        openapi_config=None,
        logging_config=None,
    )


def _metrics_routes(supervisor: Supervisor) -> tuple[BaseRouteHandler, ...]:
    """Export each environment by itself, as the observer of each would."""
    registry, of_staging = CollectorRegistry(), CollectorRegistry()
    registry.register(
        ReplicasCollector(
            lambda: supervisor.pods_of(staging=False),
            rollout=supervisor.rollout_status,
            wanted=lambda: sum(pod.wanted for pod in supervisor.pods_of(staging=False).values()),
        )
    )
    of_staging.register(ReplicasCollector(lambda: supervisor.pods_of(staging=True)))

    @get("/metrics", opt={"public": True}, sync_to_thread=False)
    def metrics() -> Response[bytes]:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @get("/metrics/staging", opt={"public": True}, sync_to_thread=False)
    def metrics_of_staging() -> Response[bytes]:
        return Response(generate_latest(of_staging), media_type=CONTENT_TYPE_LATEST)

    return metrics, metrics_of_staging


def _replica_routes(supervisor: Supervisor) -> tuple[BaseRouteHandler, ...]:
    @get("/replicas", sync_to_thread=False)
    def status() -> dict[str, ReplicaStatus]:
        return {name: supervisor.status(pod) for name, pod in supervisor.pods.items()}

    @put("/replicas/{name:str}")
    async def add(name: str, data: ReplicaSpec) -> None:
        supervisor.add(name, data)

    @post("/replicas/{name:str}/restart")
    async def restart(name: str, data: RestartOrder) -> None:
        await supervisor.restart(name, data.spec)

    @post("/replicas/{name:str}/stop")
    async def stop(name: str) -> None:
        await supervisor.stop(name)

    @delete("/replicas/{name:str}")
    async def remove(name: str) -> None:
        await supervisor.remove(name)

    @get("/replicas/{name:str}/log", media_type=MediaType.TEXT)
    async def log(name: str) -> str:
        return supervisor.log_of(name)

    return status, add, restart, stop, remove, log


def _configuration_routes(supervisor: Supervisor) -> tuple[BaseRouteHandler, ...]:
    @get("/configuration", sync_to_thread=False)
    def shared() -> SharedConfiguration:
        return supervisor.shared

    @put("/configuration")
    async def configure(data: dict[str, str | None]) -> None:
        supervisor.configure(data)

    @post("/configuration/restore")
    async def restore(data: list[str]) -> list[str]:
        changes = supervisor.shared.changes
        restored = sorted(changes.keys() & set(data))
        if restored:
            supervisor.configure({name: value for name, value in changes.items() if name not in restored})
        return restored

    @post("/configuration/stage")
    async def stage(data: list[str]) -> None:
        await supervisor.stage(data)

    @post("/configuration/trial")
    async def try_it(data: dict[str, str | None]) -> Trial:
        return await supervisor.try_configuration(data)

    return shared, configure, restore, stage, try_it


def _rollout_routes(supervisor: Supervisor) -> tuple[BaseRouteHandler, ...]:
    @get("/rollout", sync_to_thread=False)
    def status() -> Rollout:
        return supervisor.rollout_status()

    @post("/rollout")
    async def begin(data: RolloutOrder) -> None:
        supervisor.roll(data)

    @post("/rollout/undo")
    async def undo() -> None:
        if supervisor.rolling:
            await supervisor.rolling.undo()

    return status, begin, undo


def _require_control_header(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refuse what a web page could send from a browser on this host."""
    if not handler.opt.get("public") and CONTROL_HEADER not in connection.headers:
        raise NotAuthorizedException(f"{CONTROL_HEADER} is missing")


def main() -> None:
    """Serve until told to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    configuration = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Configuration)
    uvicorn.run(
        create_app(Supervisor(configuration)),
        host="127.0.0.1",
        port=configuration.ports.supervisor,
        log_level="warning",
        access_log=False,
        log_config=None,
    )


if __name__ == "__main__":
    main()
