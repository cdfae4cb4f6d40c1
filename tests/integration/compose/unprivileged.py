"""Runs a program as `nobody` from a test that is root, with the interpreter and the repository within its reach."""

import os
import shlex
import sys
from pathlib import Path

from compose.marks import Isolation
from compose.places import Identity, can_reach
from compose.settings import REPOSITORY

NOBODY = Identity(65534, 65534)


def command(argv: list[str]) -> list[str]:
    """Return what executes `argv` as `nobody`; needs root.

    Where a folder on the way is closed to others (an interpreter under /root), an open folder of the same name
    stands in for it, in mounts of this process alone, with nothing in it but what is needed.
    """
    needed = [Path(sys.executable), Path(sys.base_prefix), Path(sys.prefix), REPOSITORY]
    closed = sorted({_closed_folder(path) for path in needed} - {None}, key=str)
    lines = ["set -e"]
    for number, folder in enumerate(closed):
        kept = f"/mnt/{number}"
        lines += [
            *(["mount -t tmpfs -o mode=755 tmpfs /mnt"] if number == 0 else []),
            f"mkdir {kept} && mount --bind {_quoted(folder)} {kept}",
            f"mount -t tmpfs -o mode=755 tmpfs {_quoted(folder)}",
        ]
        for path in needed:
            real = path if path.is_dir() else path.parent
            if folder and real.is_relative_to(folder):
                inside = real.relative_to(folder)
                lines.append(
                    f"mkdir -p {_quoted(real)}; mount --bind {shlex.quote(f'{kept}/{inside}')} {_quoted(real)}"
                )
    lines.append(f"exec setpriv --reuid {NOBODY.user} --regid {NOBODY.group} --clear-groups -- {shlex.join(argv)}")
    return ["unshare", "--mount", "--", "sh", "-c", "\n".join(lines)]


def is_possible() -> bool:
    return os.geteuid() == 0


def isolations() -> list[Isolation]:
    return [Isolation.USER, Isolation.NONE]


def _closed_folder(path: Path) -> Path | None:
    """Return the outermost folder on the way that `nobody` may not enter."""
    for step in reversed((path.resolve() / "x").parents):
        if step.is_dir() and not can_reach(step, NOBODY):
            return step
    return None


def _quoted(path: Path | None) -> str:
    return shlex.quote(str(path))
