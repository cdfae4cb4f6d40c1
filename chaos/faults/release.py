"""A release that breaks its clients (FM12): a new version of the service demands a field that no client sends.

The new version is a copy of the running one with one line more in the shape of a proposal, rolled out as any other. The
receipt reads the API's own description from every replica: what it demands is what the old clients will be refused for.
"""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import httpx

from chaos.faults.base import FaultFailed, Recorded, look, stack_errors_as_ours, until, within
from chaos.scenario import Observation

if TYPE_CHECKING:
    from compose.stack import Stack

FIELD: Final = "ticket"
MODULE: Final = Path("app/core/governed/proposal.py")
BEFORE: Final = "    rationale: Annotated[str, msgspec.Meta(min_length=1, max_length=RATIONALE_CHARACTERS_MAX)]\n"
AFTER: Final = f"{BEFORE}    {FIELD}: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]\n"

INJECT_DEADLINE_SECONDS = 40.0
UNDO_DEADLINE_SECONDS = 60.0
LOOK_DEADLINE_SECONDS = 8.0
PROGRESS_DEADLINE_SECONDS = 60.0
_REQUEST_SECONDS = 2.0
_UNDER_WAY = frozenset({"progressing", "complete", "failed"})


@dataclass(frozen=True, slots=True)
class BreakingRelease(Recorded):
    """A rollout of a version whose proposals need a field more."""

    kind: ClassVar[str] = "breaking_release"
    needs: ClassVar[frozenset[str]] = frozenset()

    async def inject(self, stack: "Stack") -> None:
        """Roll the new version out; return when its first replica is ready."""
        async with within(INJECT_DEADLINE_SECONDS, "breaking_release: inject"):
            with stack_errors_as_ours():
                if (await stack.replicas.rollout_status()).state not in _UNDER_WAY:
                    release = await asyncio.to_thread(
                        next_release, stack.spec.service_path, stack.spec.folder / "next-release"
                    )
                    await stack.replicas.rollout(
                        service_path=str(release), progress_deadline_seconds=PROGRESS_DEADLINE_SECONDS
                    )
                await until(lambda: _one_is_ready(stack))

    async def bites(self, stack: "Stack") -> Observation:
        """The description of a replica that serves demands the field."""
        return await look("breaking_release: bites", LOOK_DEADLINE_SECONDS, lambda: self._observe(stack, is_there=True))

    async def undo(self, stack: "Stack") -> None:
        """Bring back the version from before."""
        async with within(UNDO_DEADLINE_SECONDS, "breaking_release: undo"):
            with stack_errors_as_ours():
                await stack.replicas.rollout_undo()

    async def is_gone(self, stack: "Stack") -> Observation:
        """No replica's description demands it, and the replicas from before are the ones there are."""
        return await look(
            "breaking_release: is_gone", LOOK_DEADLINE_SECONDS, lambda: self._observe(stack, is_there=False)
        )

    async def _observe(self, stack: "Stack", *, is_there: bool) -> Observation:
        with stack_errors_as_ours():
            found = await stack.replicas.status()
        demands = {}
        async with httpx.AsyncClient(trust_env=False, timeout=_REQUEST_SECONDS) as client:
            for name, one in found.items():
                if one.ready:
                    answer = await _description(client, one.address)
                    demands[name] = FIELD in answer["components"]["schemas"]["ProposalContent"]["required"]
        told = ", ".join(f"{name} {'demands' if yes else 'does not demand'} {FIELD}" for name, yes in demands.items())
        if is_there:
            return Observation(ok=any(demands.values()), text=told or "no replica is ready")
        is_back = bool(demands) and {*found} == {*stack.replica_names()}
        return Observation(ok=is_back and not any(demands.values()), text=told or "no replica is ready")


def next_release(service: Path, folder: Path) -> Path:
    """Copy the service into ``folder``, with the field more, and return the copy.

    Raises:
        FaultFailed: the service does not say any more what is to be changed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(service, folder, ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / MODULE
    text = module.read_text(encoding="utf-8")
    if text.count(BEFORE) != 1:
        raise FaultFailed(f"{MODULE} does not have this line once: {BEFORE.strip()}")
    module.write_text(text.replace(BEFORE, AFTER), encoding="utf-8")
    return folder


async def _one_is_ready(stack: "Stack") -> bool:
    found = await stack.replicas.status()
    return any(one.ready for name, one in found.items() if name not in stack.replica_names())


async def _description(client: httpx.AsyncClient, address: str) -> dict[str, Any]:
    try:
        answer = await client.get(f"{address}/schema/openapi.json", headers={"Host": "127.0.0.1"})
        document: dict[str, Any] = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise FaultFailed(f"{address} does not describe itself: {type(error).__name__}") from error
    return document
