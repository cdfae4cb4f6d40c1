"""The blocking twin of the pool, for the command-line client: one process, one simulation, then nothing is left."""

from app.sandbox.result import Inconclusive, SandboxResult


def simulate(inputs: bytes, *, deadline_seconds: float = 30) -> SandboxResult | Inconclusive:
    """Simulate in a process of its own, with a hash seed of its own."""
    raise NotImplementedError
