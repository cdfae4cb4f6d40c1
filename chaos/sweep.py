"""Finds and removes what an interrupted run left behind: at the start of every run, and as a command.

Three places are looked at: the processes, folders and namespaces that carry our marks (``compose.world``), the
packet filter of the host, which no fault of ours ever touches, and the undo ledgers of earlier runs. A ledger with
open entries whose process has ended needs nothing undone: every fault lives in its world, and the kernel, or the
first step here, has removed that. Its entries are closed as ``abandoned_with_world``, which is no residue; while
something of a world is still there they stay open. Nothing without a mark of ours is touched, and no living run.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Protocol

from chaos.faults.packets import TABLE
from chaos.undo_ledger import LEDGER, LedgerInUse, LedgerUnreadable, UndoLedger, open_entries
from compose import marks, programs, world

_NFT_DEADLINE_SECONDS = 5.0


class Worlds(Protocol):
    """What is asked of ``compose.world``."""

    def sweep(self) -> list[str]:
        """Remove what worlds without an owner left on this host, and return in words what it was."""

    def leftovers(self) -> list[str]:
        """Return in words what is there now."""


def sweep(runs: Path, *, worlds: Worlds = world) -> list[str]:
    """Remove everything of ours that no living run owns; return a line for each thing found (empty: clean)."""
    found = worlds.sweep()
    left = worlds.leftovers() if found else []
    residue = [f"{each} (could not be removed)" if each in left else each for each in found]
    residue += [f"{each} (could not be removed)" for each in left if each not in found]
    residue += _sweep_packet_filter()
    if not left:
        for folder in _recorded_scenarios(runs):
            residue += _close_ledger(folder)
    return residue


def _recorded_scenarios(runs: Path) -> list[Path]:
    """Return the folders that hold a ledger, each once (``runs/latest`` is a link to one of the runs)."""
    return sorted(path.parent for path in runs.glob(f"*/*/{LEDGER}") if not path.parent.parent.is_symlink())


def _close_ledger(folder: Path) -> list[str]:
    """Close the open entries of a ledger whose process has ended; say what keeps us from it."""
    try:
        if not open_entries(folder):
            return []
        ledger = UndoLedger.reopen(folder)
    except LedgerInUse:
        return []  # a run that is alive
    except (LedgerUnreadable, OSError) as error:
        return [f"undo ledger that cannot be closed: {error}"]
    try:
        for entry in ledger.open_entries():
            ledger.abandon(entry, "the run has ended, and its world with it")
    except OSError as error:
        return [f"undo ledger that cannot be closed: {error}"]
    finally:
        ledger.close()
    return []


def _sweep_packet_filter() -> list[str]:
    """Look for our table in the network namespace of the host, where it must never be; remove it if it is."""
    if os.geteuid() != 0 or marks.here() is not None:
        return []  # whoever may not list tables cannot have made one; inside a world a fault may be in force
    try:
        nft = programs.find("nft")
    except programs.MissingProgram:
        return []
    name = f"nftables table inet {TABLE} in the host's network namespace"
    try:
        if not _has_our_table(_nft(nft, "-j", "list", "tables")):
            return []
        _nft(nft, "delete", "table", "inet", TABLE)
    except (OSError, subprocess.SubprocessError) as error:
        return [f"{name}: cannot look or remove: {type(error).__name__}"]
    return [name]


def _has_our_table(listed: str) -> bool:
    entries = json.loads(listed or '{"nftables": []}')["nftables"]
    return any(entry.get("table", {}).get("name") == TABLE for entry in entries)


def _nft(program: Path, *arguments: str) -> str:
    ended = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=_NFT_DEADLINE_SECONDS, check=True
    )
    return ended.stdout
