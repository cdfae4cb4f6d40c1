"""A configuration that is wrong, and a rolling update to it. FM16.

What all replicas share (a ConfigMap, `compose.supervisor`) is changed, secrets are replaced by unfit ones, and a
rolling update begins: its first new replica is told what is wrong. What that replica makes of it is the service's
matter, so no receipt asks for it: the fault bites when a replica was started with the wrong configuration.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from chaos.faults.base import InvalidFault, Recorded, look, stack_errors_as_ours, within
from chaos.scenario import Observation
from compose.postgres import write_secret
from compose.replicas import STAGING

if TYPE_CHECKING:
    from compose.stack import Stack

INJECT_DEADLINE_SECONDS = 10.0
LOOK_DEADLINE_SECONDS = 5.0
UNDO_DEADLINE_SECONDS = 60.0  # replicas may have to be started
_PREFIX = "FIREWALL_"


@dataclass(frozen=True, slots=True)
class InvalidConfiguration(Recorded):
    """Settings with wrong values, settings left out, secret files with a content that is none, rolled out.

    ``secrets``: content of the file that a setting points to from now on. It stands in the record, so it is never a
    real secret. ``progress_deadline_seconds``: the rolling update stops when its new replica is not ready by then.
    ``in_staging``: a replica of the staging environment is started with it too, which nobody's requests reach.
    """

    kind: ClassVar[str] = "invalid_configuration"
    needs: ClassVar[frozenset[str]] = frozenset()

    values: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    secrets: dict[str, str] = field(default_factory=dict)
    progress_deadline_seconds: float = 8.0
    in_staging: bool = False

    def __post_init__(self) -> None:
        names = [*self.values, *self.missing, *self.secrets]
        if not names or len(set(names)) != len(names):
            raise InvalidFault("at least one setting is changed, and each in one way")
        if strange := [name for name in names if not name.startswith(_PREFIX)]:
            raise InvalidFault(f"not a setting of the service: {', '.join(strange)}")
        if self.progress_deadline_seconds <= 0:
            raise InvalidFault("progress_deadline_seconds must be above 0")

    async def inject(self, stack: "Stack") -> None:
        """Write the secrets, change the configuration, begin the rolling update."""
        async with within(INJECT_DEADLINE_SECONDS, "invalid_configuration: inject"):
            for setting, path in self._files(stack):
                write_secret(path, self.secrets[setting])
            with stack_errors_as_ours():
                if (await stack.replicas.configuration()).changes == self._changes(stack):
                    return
                await stack.replicas.configure(self._changes(stack))
                await stack.replicas.rollout(progress_deadline_seconds=self.progress_deadline_seconds)
                if self.in_staging:
                    await stack.replicas.stage()

    async def bites(self, stack: "Stack") -> Observation:
        """What runs the replicas has our changes in force and has started a new replica with them."""

        async def started() -> Observation:
            with stack_errors_as_ours():
                shared = await stack.replicas.configuration()
                states = await stack.replicas.status()
            told = {
                name: state
                for name, state in states.items()
                if name not in stack.replica_names() and state.revision == shared.revision
            }
            new = set(told) - {STAGING}
            lives = "; ".join(
                f"{name} started with it, {state.restarts} restarts, last exit code {state.last_exit_code}"
                for name, state in told.items()
            )
            return Observation(
                ok=shared.changes == self._changes(stack) and bool(new) and (STAGING in told) is self.in_staging,
                text=f"{len(shared.changes)} settings changed; {lives or 'no replica was started with them'}",
            )

        return await look("invalid_configuration: bites", LOOK_DEADLINE_SECONDS, started)

    async def undo(self, stack: "Stack") -> None:
        """Take the changes back (a runbook may have done so), the rolling update too, and the unfit secrets away."""
        async with within(UNDO_DEADLINE_SECONDS, "invalid_configuration: undo"):
            with stack_errors_as_ours():
                if (await stack.replicas.configuration()).changes:
                    await stack.replicas.configure({})
                if STAGING in await stack.replicas.status():
                    await stack.replicas.remove(STAGING)
                if (await stack.replicas.rollout_status()).state not in {"none", "undone"}:
                    await stack.replicas.rollout_undo()
            for _, path in self._files(stack):
                path.unlink(missing_ok=True)

    async def is_gone(self, stack: "Stack") -> Observation:
        """Nothing is changed, no rolling update is under way, and exactly the replicas of before are there, ready."""

        async def as_before() -> Observation:
            with stack_errors_as_ours():
                shared = await stack.replicas.configuration()
                states = await stack.replicas.status()
                rollout = await stack.replicas.rollout_status()
            ready = sorted(name for name, state in states.items() if state.ready)
            left = [path.name for _, path in self._files(stack) if path.exists()]
            return Observation(
                ok=not shared.changes
                and not left
                and rollout.state in {"none", "undone"}
                and set(states) == set(ready) == set(stack.replica_names()),
                text=f"{len(shared.changes)} settings changed; rolling update: {rollout.state}; "
                f"replicas: {', '.join(sorted(states))}; ready: {', '.join(ready) or 'none'}",
            )

        return await look("invalid_configuration: is_gone", LOOK_DEADLINE_SECONDS, as_before)

    def _changes(self, stack: "Stack") -> dict[str, str | None]:
        files = {setting: str(path) for setting, path in self._files(stack)}
        return {**self.values, **files, **dict.fromkeys(self.missing)}

    def _files(self, stack: "Stack") -> Iterator[tuple[str, Path]]:
        for setting in self.secrets:
            yield setting, stack.secrets_folder / f"unfit-{setting.removeprefix(_PREFIX).lower()}"
