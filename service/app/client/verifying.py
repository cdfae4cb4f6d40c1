"""What an offline verification needs of this machine: signatures, and the simulation run again."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from app.core.replay.standing import Obligation
from app.core.verification.judging import Resimulated
from app.sandbox import once
from app.sandbox.result import Inconclusive
from app.security.signatures import verify

SIMULATION_SECONDS: Final = 60.0
THREADS: Final = 4
CHUNK: Final = 32


def resimulate(inputs: bytes) -> Resimulated:
    """Run a simulation in a process of its own."""
    found = once.simulate(inputs, deadline_seconds=SIMULATION_SECONDS)
    if isinstance(found, Inconclusive):
        why = "engine unavailable" if found.reason == "engine-mismatch" else f"inconclusive here: {found.reason}"
        return Resimulated(None, why)
    return Resimulated(found.record)


def not_resimulated(_inputs: bytes) -> Resimulated:
    """Leave the simulation unchecked."""
    return Resimulated(None, "not run, as asked")


class Verifiers:
    """Verifies many signatures at once: libsodium lets go of the interpreter while it works."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="verify")

    def __call__(self, owed: Sequence[Obligation]) -> Iterable[bool]:
        """Return whether each is good, in order."""
        chunks = [owed[start : start + CHUNK] for start in range(0, len(owed), CHUNK)]
        return [is_good for chunk in self._threads.map(_verify, chunks) for is_good in chunk]


def _verify(owed: Sequence[Obligation]) -> list[bool]:
    return [verify(one.public_key, one.message, one.signature) for one in owed]
