"""All probes of a scenario at once: one context, entered when the world is up and left before it goes."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from chaos.evidence import EvidenceWriter
from chaos.probes.alerts import watch_alerts
from chaos.probes.attempts import watch_attempts
from chaos.probes.canaries import look_at_the_living, secrets_in
from chaos.probes.checkpoints import watch_checkpoints
from chaos.probes.database_dump import dump_database, settled
from chaos.probes.direct import watch_direct
from chaos.probes.export import export
from chaos.probes.health import watch_health
from chaos.probes.metrics import watch_metrics
from chaos.probes.notifications import Receiver
from chaos.probes.replay import replay
from chaos.probes.replicas import watch_replicas
from chaos.probes.sampler import Take, every, sample
from chaos.probes.sessions import watch_sessions
from chaos.probes.targets import Targets, targets_of

if TYPE_CHECKING:
    from compose.stack import Stack

_OWN_DEADLINE_MIN_SECONDS = 1.0


def running(stack: "Stack", writer: EvidenceWriter, *, own: Mapping[str, tuple[float, Take]] | None = None) -> "Probes":
    """Return the probes of a stack, to be entered."""
    return Probes(targets_of(stack), writer, own=own)


async def freeze(stack: "Stack", writer: EvidenceWriter) -> None:
    """Keep, at the end, what goes away with the stack: the database's rows, Prometheus's series, command lines."""
    targets = targets_of(stack)
    if targets.database is not None:
        await settled(targets.database)
        await dump_database(targets.database, writer)
    await replay(writer, service_path=stack.spec.service_path, genesis=stack.gate.genesis)
    await look_at_the_living(secrets_in(stack.secrets_folder), targets, writer)
    if targets.prometheus is not None:
        await export(targets.prometheus, writer, start=0.0, end=writer.origin.elapsed())


class Probes:
    """Samples from entering to leaving.

    Args:
        targets: what there is to look at.
        writer: where the samples go.
        own: looks that only this scenario needs: name -> (interval in seconds, look), into ``samples/<name>.jsonl``.

    ``notifications_port`` is, once entered, where Alertmanager must deliver.
    """

    def __init__(
        self, targets: Targets, writer: EvidenceWriter, *, own: Mapping[str, tuple[float, Take]] | None = None
    ) -> None:
        self._targets = targets
        self._writer = writer
        self._own = own or {}
        self._exit = AsyncExitStack()
        self._samplers: list[asyncio.Task[None]] = []
        self.notifications_port: int | None = None

    async def __aenter__(self) -> Self:
        targets, writer = self._targets, self._writer
        if targets.notifications_port is not None:
            receiver = Receiver(writer, port=targets.notifications_port)
            self.notifications_port = (await self._exit.enter_async_context(receiver)).port
        tasks = await self._exit.enter_async_context(asyncio.TaskGroup())
        self._samplers = [
            tasks.create_task(watch_health(targets, writer), name="probe: health"),
            tasks.create_task(watch_direct(targets, writer), name="probe: direct requests"),
            tasks.create_task(watch_metrics(targets, writer), name="probe: metrics"),
            tasks.create_task(watch_alerts(targets, writer), name="probe: alerts"),
            tasks.create_task(watch_sessions(targets, writer), name="probe: sessions"),
            tasks.create_task(watch_replicas(targets, writer), name="probe: replicas"),
            tasks.create_task(watch_attempts(targets.proxy_log, writer), name="probe: attempts"),
            tasks.create_task(watch_checkpoints(targets, writer), name="probe: checkpoints"),
            *(
                tasks.create_task(self._watch_own(name, interval, look), name=f"probe: {name}")
                for name, (interval, look) in self._own.items()
            ),
        ]
        return self

    async def _watch_own(self, name: str, interval: float, look: Take) -> None:
        deadline = max(interval, _OWN_DEADLINE_MIN_SECONDS)
        await every(interval, partial(sample, self._writer, f"samples/{name}.jsonl", look, deadline_seconds=deadline))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sampler in self._samplers:
            sampler.cancel()
        await self._exit.__aexit__(kind, error, trace)
