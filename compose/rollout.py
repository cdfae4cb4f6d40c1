"""A rolling update as a Deployment with maxUnavailable 0 makes it (FM10): a new replica first, then an old one goes.

A new replica that is not ready within the progress deadline stops the update: it is reported as not progressing, the
old replicas go on serving, and nothing is undone by itself (Kubernetes does not either); `undo` does it.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from compose.ports import SLOTS
from compose.replicas import ReplicaSpec, Rollout

if TYPE_CHECKING:
    from compose.supervisor import Supervisor

LOOK_SECONDS: Final = 0.1


class RolloutOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to roll out."""

    settings: dict[str, str] = {}
    service_path: str | None = None
    progress_deadline_seconds: float = 600.0


class RollingUpdate:
    """One update, from its order to its end or its undoing."""

    def __init__(self, supervisor: "Supervisor", order: RolloutOrder) -> None:
        """Remember which replicas are there now, to replace them or to bring them back."""
        self.status = Rollout(state="progressing")
        self._supervisor = supervisor
        self._order = order
        self._before = {name: pod.spec for name, pod in supervisor.pods.items()}
        self._new: list[str] = []
        self._task: asyncio.Task[None] | None = None

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Start the update in the background."""
        self._task = tasks.create_task(self._run(), name="rollout")

    def cancel(self) -> None:
        """Go no further."""
        if self._task is not None:
            self._task.cancel()

    async def undo(self) -> None:
        """Bring back what was there before, new replicas last to go."""
        self.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])
        for name, spec in self._before.items():
            if name in self._supervisor.pods and name not in self._new:
                if not self._supervisor.pods[name].wanted:  # its removal had begun
                    await self._supervisor.restart(name, None)
                    await self._is_ready(name, self._order.progress_deadline_seconds)
                continue
            if name in self._new or len(self._supervisor.pods) == SLOTS:
                await self._remove(name if name in self._new else self._new[0])
            self._supervisor.add(name, msgspec.structs.replace(spec, slot=self._free_slot(preferred=spec.slot)))
            await self._is_ready(name, self._order.progress_deadline_seconds)
        while self._new:
            await self._remove(self._new[0])
        self.status = msgspec.structs.replace(self.status, state="undone")

    async def _run(self) -> None:
        for name in self._before:
            slot = self._free_slot()
            new = f"replica-{slot}"
            self._new.append(new)
            self._supervisor.add(
                new, ReplicaSpec(slot=slot, settings=self._order.settings, service_path=self._order.service_path)
            )
            if not await self._is_ready(new, self._order.progress_deadline_seconds):
                self.status = msgspec.structs.replace(
                    self.status,
                    state="failed",
                    reason=f"{new} was not ready within {self._order.progress_deadline_seconds:g} s",
                )
                return
            await self._supervisor.remove(name)
            self.status = msgspec.structs.replace(self.status, updated=(*self.status.updated, new))
        self.status = msgspec.structs.replace(self.status, state="complete")

    async def _is_ready(self, name: str, deadline_seconds: float) -> bool:
        deadline = time.monotonic() + deadline_seconds
        while time.monotonic() < deadline:
            if self._supervisor.pod(name).status().ready:
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def _remove(self, new: str) -> None:
        self._new.remove(new)
        await self._supervisor.remove(new)

    def _free_slot(self, *, preferred: int = 0) -> int:
        """Return a slot without a replica: the preferred one, else one that was free before the update, else any."""
        taken = {pod.spec.slot for pod in self._supervisor.pods.values()}
        before = {spec.slot for spec in self._before.values()}
        free = [slot for slot in range(1, SLOTS + 1) if slot not in taken]
        return min(free, key=lambda slot: (slot != preferred, slot in before, slot))
