"""The blocking twin of the pool, for the command-line client: a process for one simulation, then nothing is left."""

import asyncio
import secrets

from app.sandbox import frames
from app.sandbox.pool import SEEDS
from app.sandbox.process import WorkerLost, WorkerProcess
from app.sandbox.result import Inconclusive, SandboxResult


def simulate(inputs: bytes, *, deadline_seconds: float = 30) -> SandboxResult | Inconclusive:
    """Simulate in a process of its own, with a hash seed of its own. Not from within an event loop."""
    return asyncio.run(_simulate(inputs, deadline_seconds))


async def _simulate(inputs: bytes, deadline_seconds: float) -> SandboxResult | Inconclusive:
    try:
        worker = await WorkerProcess.start(secrets.choice(SEEDS))
    except WorkerLost as lost:
        return Inconclusive(lost.reason, lost.detail)
    try:
        answer = await worker.ask(frames.Simulate(inputs), deadline_seconds=deadline_seconds)
    except WorkerLost as lost:
        return Inconclusive(lost.reason, lost.detail)
    finally:
        worker.kill()
        await worker.ended()
    if isinstance(answer, frames.Simulated):
        return SandboxResult(answer.record, answer.after)
    if isinstance(answer, frames.Refused):
        return Inconclusive(answer.reason, answer.detail)
    return Inconclusive("protocol", "an answer to another question")
