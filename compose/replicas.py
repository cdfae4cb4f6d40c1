"""The replicas of the service, as the rest of the suite sees them: a client of their supervisor's control API.

The supervisor (`compose.supervisor`) is a process of its own that plays kubelet, so that replicas are restarted
whatever the harness is doing, and so that their state is exported while they are down (decision 12).
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import httpx
import msgspec

from compose import part
from compose.processes import PartFailed

CONTROL_HEADER: Final = "X-Stack-Control"
"""Every request carries it: a web page open on this host cannot send it without being asked."""
STAGING: Final = "staging"
"""The environment in `ports.STAGING_SLOT`, and the name of its replica."""
REQUEST_SECONDS: Final = 40.0
"""A stop may take the replica's grace period."""


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor knows of one replica."""

    pid: int | None
    """`None` while it does not run."""
    running: bool
    ready: bool
    restarts: int
    """By the supervisor, because it ended or was not alive; what `restart` asks for does not count."""
    last_exit_code: int | None
    """As a shell says it: 137 is SIGKILL."""
    last_reason: str = ""
    """`Error`, `Completed` or `OOMKilled`."""
    waiting_reason: str = ""
    """`CrashLoopBackOff` between two starts."""
    wanted: bool = True
    """False: stopped on purpose, stays so."""
    address: str = ""
    """Where it answers, past HAProxy."""
    revision: int = 0
    """Of the configuration that its newest life was started with; see `SharedConfiguration`."""
    last_seconds: float | None = None
    """How long its last life lasted, from start to end."""
    environment: str = ""
    """Whose it is: the stack's, or staging."""


class SharedConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """What all replicas are told beside what each is told alone: a ConfigMap, read at every start of a replica."""

    revision: int = 0
    """Grows with every change."""
    changes: dict[str, str | None] = {}
    """By name of the setting, over what the stack began with; `None`: taken out."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What the service says of the configuration without being started: its exit code and its words."""

    exit_code: int
    output: str


class ReplicaSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica is started as."""

    slot: int
    """1 to `ports.SLOTS`, or `ports.STAGING_SLOT`: decides its ports and its proxies, and its environment."""
    settings: dict[str, str] = {}
    """Environment on top of what all replicas have."""
    without: tuple[str, ...] = ()
    """Names of settings that it must not have."""
    service_path: str | None = None
    """Another copy of the service than the stack's."""


class RestartOrder(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a replica again."""

    spec: ReplicaSpec | None = None
    """`None`: as it was."""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """The last rolling update."""

    state: str = "none"
    """`none`, `progressing`, `complete`, `failed` (not progressing) or `undone`."""
    reason: str = ""
    updated: tuple[str, ...] = ()


class Replicas:
    """Asks the supervisor and tells it what to do. Every call ends within its deadline."""

    def __init__(self, address: str) -> None:
        """Take the address of the control API."""
        self.address = address
        self.metrics_address = f"{address}/metrics"

    async def status(self) -> dict[str, ReplicaStatus]:
        """Return every replica's state by name."""
        return msgspec.json.decode(await self._ask("GET", "/replicas"), type=dict[str, ReplicaStatus])

    async def add(self, name: str, spec: ReplicaSpec) -> None:
        """Start a new replica, or one that was removed, without waiting for it to be ready."""
        await self._ask("PUT", f"/replicas/{name}", msgspec.to_builtins(spec))

    async def restart(self, name: str, spec: ReplicaSpec | None = None) -> None:
        """Stop a replica in an orderly way and start it again, with other settings when given."""
        await self._ask("POST", f"/replicas/{name}/restart", msgspec.to_builtins(RestartOrder(spec=spec)))

    async def stop(self, name: str) -> None:
        """Stop a replica and leave it stopped until `restart`."""
        await self._ask("POST", f"/replicas/{name}/stop")

    async def remove(self, name: str) -> None:
        """Stop a replica and forget it."""
        await self._ask("DELETE", f"/replicas/{name}")

    async def log(self, name: str) -> str:
        """Return what a replica wrote in its newest two lives."""
        return (await self._ask("GET", f"/replicas/{name}/log")).decode(errors="replace")

    async def configuration(self) -> SharedConfiguration:
        """Return what was changed in the configuration since the stack began."""
        return msgspec.json.decode(await self._ask("GET", "/configuration"), type=SharedConfiguration)

    async def configure(self, changes: Mapping[str, str | None]) -> None:
        """Put these changes in the place of all earlier ones; a replica reads them when it is started next."""
        await self._ask("PUT", "/configuration", dict(changes))

    async def stage(self, restored: Collection[str] = ()) -> None:
        """Start the replica of the staging environment with these changes, but for those of the names `restored`."""
        await self._ask("POST", "/configuration/stage", list(restored))

    async def try_configuration(self, changes: Mapping[str, str | None] | None = None) -> Trial:
        """Let the service judge the configuration of a new replica, with further changes for this one time."""
        return msgspec.json.decode(await self._ask("POST", "/configuration/trial", dict(changes or {})), type=Trial)

    async def rollout(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        service_path: str | None = None,
        progress_deadline_seconds: float = 600.0,
    ) -> None:
        """Begin to replace all replicas by new ones, never one fewer that is ready (FM10); see `rollout_status`."""
        body = {
            "settings": dict(settings or {}),
            "service_path": service_path,
            "progress_deadline_seconds": progress_deadline_seconds,
        }
        await self._ask("POST", "/rollout", body)

    async def rollout_undo(self) -> None:
        """Take the last rolling update back."""
        await self._ask("POST", "/rollout/undo")

    async def rollout_status(self) -> Rollout:
        """Return how the last rolling update stands."""
        return msgspec.json.decode(await self._ask("GET", "/rollout"), type=Rollout)

    async def _ask(self, method: str, path: str, body: Any = None) -> bytes:
        try:
            async with part.client(self.address, timeout_seconds=REQUEST_SECONDS) as http:
                answer = await http.request(method, path, json=body, headers={CONTROL_HEADER: "1"})
        except httpx.HTTPError as problem:
            raise PartFailed("the replicas' supervisor", f"did not answer: {type(problem).__name__}") from problem
        if answer.is_error:
            raise PartFailed("the replicas' supervisor", f"refused {method} {path}: {answer.text}")
        return answer.content
