"""Where the stack keeps what it needs while it runs: folders that another user can reach, and that are found again.

A folder made here is called `amgf-*`, stands in the system's folder for temporary files and holds a file `owner`
naming the process it belongs to, so that the sweep (`compose.world`) can tell what was left behind.
"""

import contextlib
import os
import pwd
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compose import kernel, marks
from compose.marks import Mark

PREFIX: Final = "amgf-"
OWNER_FILE: Final = "owner"
NOBODY: Final = 65534
JUST_MADE_SECONDS: Final = 60.0
_ENDED: Final = ("Z", "X")  # states of /proc/<pid>/stat
_SEGMENT_LINE: Final = 6  # of postmaster.pid: key and id of the segment


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and group that a program runs as."""

    user: int
    group: int


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
    """Return `pid:start time`, which names one process for ever; empty when it has ended, even if nobody reaped it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if Path("/proc/self").exists() else f"{pid}:0"
    return "" if fields[0] in _ENDED else f"{pid}:{fields[19]}"


def is_alive(key: str) -> bool:
    """Say whether the process that `process_key` named still runs."""
    pid = key.partition(":")[0]
    return pid.isdigit() and process_key(int(pid)) == key


def pid_namespace() -> str:
    """Return the name of this process's pid namespace; empty where the kernel has none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


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


def our_folders() -> list[Path]:
    """Return the temporary folders of ours on this host."""
    return sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))


def folder_is_in_use(folder: Path) -> bool:
    """Say whether the process that a folder belongs to is alive; a folder just being made counts as in use."""
    try:
        return is_alive((folder / OWNER_FILE).read_text())
    except OSError:
        pass
    try:
        return time.time() - folder.stat().st_mtime < JUST_MADE_SECONDS
    except OSError:
        return False


def remove_folder(folder: Path) -> None:
    """Remove a folder of ours, and the shared memory of a PostgreSQL that was killed in it."""
    for recorded in folder.rglob("postmaster.pid"):
        forget_shared_memory(recorded)
    shutil.rmtree(folder, ignore_errors=True)


def forget_shared_memory(postmaster_file: Path) -> None:
    """Remove the shared memory segment that a killed PostgreSQL recorded in its `postmaster.pid`."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        _, segment = postmaster_file.read_text().splitlines()[_SEGMENT_LINE].split()
        kernel.remove_shared_memory(int(segment))


def marked_processes() -> dict[int, Mark]:
    """Return the processes on this host that carry our marks, and their descendants, whose marks may be overwritten."""
    parents: dict[int, int] = {}
    marked: dict[int, Mark] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        with contextlib.suppress(OSError, ValueError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state in _ENDED:
                continue
            parents[pid] = int(parent)
            variables = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            mark = marks.read(dict(pair.split("=", 1) for pair in variables if "=" in pair))
            if mark:
                marked[pid] = mark
    for pid in parents:
        line = [pid]
        while line[-1] in parents and line[-1] not in marked and len(line) < len(parents):
            line.append(parents[line[-1]])
        if line[-1] in marked:
            marked[pid] = marked[line[-1]]
    return marked


def processes_of(world: str) -> list[int]:
    """Return the processes of one world."""
    return sorted(pid for pid, mark in marked_processes().items() if mark.world == world)


def command_of(pid: int) -> str:
    """Return the name of a process's program; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
