"""A container's limits on a process: memory and CPU through cgroups, version 1 or 2, where the host lets us.

Never fails because the host cannot: `create` then returns why (FM07 and FM08 are skipped with that reason). Groups
are called `amgf-<world>-<name>` and survive a SIGKILL, so the guard of the world removes them.
Standard library only: the guard imports this.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREFIX: Final = "amgf-"
ALONE: Final = "alone-"
"""Begins the names of groups of a stack that runs in no world; its process id follows."""
MOUNTS: Final = Path("/sys/fs/cgroup")
CPU_PERIOD_MICROSECONDS: Final = 100_000
_CONTROLLERS: Final = ("memory", "cpu", "cpuacct")
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the matrix grants a pod (FM07: 512Mi, FM08: 500m). `None`: no limit."""

    memory_bytes: int | None = 512 * 1024 * 1024
    cpu_cores: float | None = None
    """By default none: half a core makes a start take three times as long, and only FM08 is about it. Where it is
    asked for, it is applied once the replica has started, as Kubernetes' in-place resize allows."""


@dataclass(frozen=True, slots=True)
class Group:
    """A cgroup of ours: one folder on version 2, one for each controller on version 1."""

    folders: dict[str, Path]
    unified: bool

    def entrances(self) -> tuple[str, ...]:
        """Return the files that a process writes `0` into to enter."""
        return tuple(sorted({str(folder / "cgroup.procs") for folder in self.folders.values()}))

    def limit_memory(self, size_bytes: int | None) -> None:
        """Set the limit; the kernel kills a process of the group where memory runs out."""
        if self.unified:
            _write(self.folders["memory"] / "memory.max", "max" if size_bytes is None else str(size_bytes))
        else:
            _write(self.folders["memory"] / "memory.limit_in_bytes", "-1" if size_bytes is None else str(size_bytes))

    def limit_cpu(self, cores: float | None) -> None:
        """Set the share of one period that the group may run."""
        quota = None if cores is None else round(cores * CPU_PERIOD_MICROSECONDS)
        if self.unified:
            _write(self.folders["cpu"] / "cpu.max", f"{'max' if quota is None else quota} {CPU_PERIOD_MICROSECONDS}")
        else:
            _write(self.folders["cpu"] / "cpu.cfs_period_us", str(CPU_PERIOD_MICROSECONDS))
            _write(self.folders["cpu"] / "cpu.cfs_quota_us", "-1" if quota is None else str(quota))

    def memory_bytes(self) -> int:
        """Return the working set: what is used, less the file pages that can be dropped (as cAdvisor counts it)."""
        folder = self.folders["memory"]
        used = int(_read(folder / ("memory.current" if self.unified else "memory.usage_in_bytes")) or 0)
        droppable = _fields(folder / "memory.stat").get("inactive_file" if self.unified else "total_inactive_file", 0)
        return max(used - droppable, 0)

    def oom_kills(self) -> int:
        """Return how many processes the kernel has killed here for lack of memory."""
        return _fields(self.folders["memory"] / ("memory.events" if self.unified else "memory.oom_control")).get(
            "oom_kill", 0
        )

    def cpu_seconds(self) -> float:
        """Return the CPU time used since the group was made."""
        if self.unified:
            return _fields(self.folders["cpu"] / "cpu.stat").get("usage_usec", 0) / 1e6
        return int(_read(self.folders["cpuacct"] / "cpuacct.usage") or 0) / 1e9

    def periods(self) -> tuple[int, int]:
        """Return how many periods there were under a CPU limit, and in how many of them it was reached."""
        counted = _fields(self.folders["cpu"] / "cpu.stat")
        return counted.get("nr_periods", 0), counted.get("nr_throttled", 0)

    def remove(self) -> None:
        """Remove the group; one that still holds a process stays for the sweep."""
        for folder in set(self.folders.values()):
            with contextlib.suppress(OSError):
                folder.rmdir()


def create(name: str, *, mounts: Path = MOUNTS, own: Path = Path("/proc/self/cgroup")) -> tuple[Group | None, str]:
    """Make a group called `amgf-<name>`; return it, or `None` and the reason in words.

    Args:
        name: begins with the world's id.
        mounts: where the hierarchies are mounted.
        own: the list of groups that this process is in; a version 1 group is made inside of its own.
    """
    parents = _parents(mounts, own)
    if not parents:
        return None, "this host has no cgroup controllers for memory and cpu that we could use"
    unified = parents["memory"] == parents["cpu"]
    made: dict[str, Path] = {}
    try:
        for controller, parent in parents.items():
            folder = parent / f"{PREFIX}{name}"
            folder.mkdir(exist_ok=True)
            made[controller] = folder
        group = Group(made, unified)
        group.limit_memory(None)  # proves that the controllers are there and ours to set
        group.limit_cpu(None)
    except OSError as problem:
        Group(made, unified).remove()
        return None, f"cgroups cannot be made here: {problem.strerror or problem}"
    return group, ""


def groups_of(world: str = "", *, mounts: Path = MOUNTS, own: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """Return the folders of our groups (of one world, or of all)."""
    found: set[Path] = set()
    for parent in set(_parents(mounts, own).values()):
        found.update(parent.glob(f"{PREFIX}{world}*"))
    return sorted(found)


def process_memory_bytes(pid: int) -> int:
    """Return a process's resident memory, where it has no group of its own; 0 when it is gone."""
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * _PAGE_BYTES if fields else 0


def process_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, where it has no group of its own; 0 when it is gone."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND if fields else 0.0


def _parents(mounts: Path, own: Path) -> dict[str, Path]:
    """Say in which folder to make a group, by controller; empty when there is no usable hierarchy."""
    if "memory" in _read(mounts / "cgroup.controllers").split():
        # Version 2. In the root group, because a group that holds processes cannot hand controllers on.
        if not {"memory", "cpu"} <= set(_read(mounts / "cgroup.subtree_control").split()):
            with contextlib.suppress(OSError):
                _write(mounts / "cgroup.subtree_control", "+memory +cpu")
        return dict.fromkeys(("memory", "cpu"), mounts)
    paths = dict(_version_1_paths(own))
    parents = {
        controller: mounts / controller / paths.get(controller, "/").lstrip("/")
        for controller in _CONTROLLERS
        if (mounts / controller).is_dir()
    }
    return parents if len(parents) == len(_CONTROLLERS) else {}


def _version_1_paths(own: Path) -> Iterator[tuple[str, str]]:
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            # The group may lie outside of what a cgroup namespace shows; then the hierarchy's root has to do.
            yield controller, "/" if path.startswith("/..") else path


def _fields(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}  # noqa: PLR2004


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def thaw(group: Path) -> None:
    """Let the processes of a frozen group run, so that signals reach them."""
    for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        if (group / name).exists():
            with contextlib.suppress(OSError):
                _write(group / name, word)
