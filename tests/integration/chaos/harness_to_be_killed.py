"""Run by test_faults_sweep.py: as ``outside``, a harness that starts a world; as ``inside``, one that holds a fault."""

import asyncio
import sys
from pathlib import Path

from chaos.evidence import EvidenceWriter, Origin
from chaos.faults import ProxyDown
from chaos.undo_ledger import UndoLedger
from compose import world


async def outside(folder: Path, isolation: str) -> None:
    argv: list[str | Path] = [sys.executable, "-m", "tests.integration.chaos.harness_to_be_killed", "inside", folder]
    started = await world.start(argv, isolation=isolation)
    assert started.stdout is not None
    assert await started.stdout.readline() == b"injected\n"
    sys.stdout.write(f"{started.id}\n")
    sys.stdout.flush()
    await started.wait()


async def inside(folder: Path) -> None:
    ledger = UndoLedger(EvidenceWriter(folder, Origin.now()))
    ledger.intend(ProxyDown(), injection="proxy down")
    sys.stdout.write("injected\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    role, at, *more = sys.argv[1:]
    asyncio.run(outside(Path(at), *more) if role == "outside" else inside(Path(at)))
