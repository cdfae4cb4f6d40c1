"""Where the stack keeps what it needs while it runs: folders that another user can reach, and that are found again.

A folder made here is called `amgf-*`, stands in the system's folder for temporary files and holds a file `owner`
naming the process it belongs to, so that the sweep (`compose.world`) can tell what was left behind.
"""

import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

from compose.processes import Identity

PREFIX: Final = "amgf-"
OWNER_FILE: Final = "owner"
NOBODY: Final = 65534


def unprivileged() -> Identity | None:
    """Return whom to become where a program refuses to run as root; `None`: we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Identity(NOBODY, NOBODY)
    return Identity(entry.pw_uid, entry.pw_gid)


def can_reach(path: Path, identity: Identity | None) -> bool:
    """Say whether that user may go to `path` and read it; ourselves (`None`) always."""
    if identity is None:
        return True
    steps = [*reversed(path.resolve().parents), path.resolve()]
    return all(_allows(step.stat(), identity, stat.S_IXOTH) for step in steps if step.is_dir()) and _allows(
        path.stat(), identity, stat.S_IROTH
    )


def private_folder(purpose: str, identity: Identity | None = None) -> Path:
    """Make a temporary folder that `identity` can reach; nobody else may write there."""
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-"))
    folder.chmod(0o711 if identity else 0o700)
    (folder / OWNER_FILE).write_text(process_key(os.getpid()))
    return folder


def make_folder(folder: Path, identity: Identity | None = None) -> Path:
    """Make a folder that only `identity` (by default we) may enter."""
    folder.mkdir(mode=0o700, parents=True)
    if identity:
        os.chown(folder, identity.user, identity.group)
    return folder


def process_key(pid: int) -> str:
    """Return `pid:start time`, which names one process for ever; empty when it is not there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if Path("/proc/self").exists() else f"{pid}:0"
    return f"{pid}:{fields[19]}"


def is_alive(key: str) -> bool:
    """Say whether the process that `process_key` named still runs."""
    pid = key.partition(":")[0]
    return pid.isdigit() and process_key(int(pid)) == key


def copy_tree(source: Path, target: Path, identity: Identity | None = None) -> None:
    """Copy a folder with its modes, and hand the copy to `identity`."""
    shutil.copytree(source, target, symlinks=True, copy_function=_copy_file)
    if identity:
        for folder, _, names in os.walk(target):
            made = Path(folder)
            for path in (made, *(made / name for name in names)):
                os.chown(path, identity.user, identity.group, follow_symlinks=False)


def link_tree(source: Path, target: Path) -> None:
    """Make a second name for every file of a folder where the file system can, else a copy."""

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(source, target, symlinks=True, copy_function=link)


def _copy_file(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    shutil.copymode(source, target)


def _allows(status: os.stat_result, identity: Identity, other_bit: int) -> bool:
    if status.st_uid == identity.user:
        return bool(status.st_mode & (other_bit << 6))
    if status.st_gid == identity.group:
        return bool(status.st_mode & (other_bit << 3))
    return bool(status.st_mode & other_bit)
