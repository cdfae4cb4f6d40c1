"""Limits on both versions of cgroups, on a copy of what the kernel shows."""

from pathlib import Path

import pytest

from compose import limits
from compose.limits import create, groups_of


def version_1(folder: Path) -> tuple[Path, Path]:
    own = folder / "own"
    own.write_text("4:memory:/outer/inner\n2:cpuacct:/\n1:cpu:/\n0::/\n")
    for controller, path in (("memory", "memory/outer/inner"), ("cpu", "cpu"), ("cpuacct", "cpuacct")):
        (folder / path).mkdir(parents=True)
        assert controller in path
    return folder, own


def version_2(folder: Path) -> tuple[Path, Path]:
    own = folder / "own"
    own.write_text("0::/user.slice\n")
    (folder / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (folder / "cgroup.subtree_control").write_text("cpu memory pids\n")
    return folder, own


def test_on_version_1_a_group_is_made_inside_of_our_own_in_each_hierarchy(tmp_path: Path) -> None:
    mounts, own = version_1(tmp_path)

    group, reason = create("w1-replica-1", mounts=mounts, own=own)

    assert group is not None, reason
    assert len(group.entrances()) == 3
    group.limit_memory(512)
    group.limit_cpu(0.5)
    memory, cpu = mounts / "memory/outer/inner/amgf-w1-replica-1", mounts / "cpu/amgf-w1-replica-1"
    assert (memory / "memory.limit_in_bytes").read_text() == "512"
    assert (cpu / "cpu.cfs_quota_us").read_text() == "50000"
    assert (cpu / "cpu.cfs_period_us").read_text() == "100000"
    (memory / "memory.usage_in_bytes").write_text("1000\n")
    (memory / "memory.stat").write_text("inactive_file 7\ntotal_inactive_file 300\n")
    (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    (cpu / "cpu.stat").write_text("nr_periods 10\nnr_throttled 4\nthrottled_time 99\n")
    assert (group.memory_bytes(), group.oom_kills(), group.periods()) == (700, 2, (10, 4))
    assert groups_of("w1", mounts=mounts, own=own) == sorted(group.folders.values())
    assert groups_of("w2", mounts=mounts, own=own) == []


def test_on_version_2_one_folder_holds_everything(tmp_path: Path) -> None:
    mounts, own = version_2(tmp_path)

    group, reason = create("w1-replica-1", mounts=mounts, own=own)

    assert group is not None, reason
    folder = mounts / "amgf-w1-replica-1"
    assert group.entrances() == (str(folder / "cgroup.procs"),)
    group.limit_memory(512)
    group.limit_cpu(0.5)
    assert (folder / "memory.max").read_text() == "512"
    assert (folder / "cpu.max").read_text() == "50000 100000"
    (folder / "memory.current").write_text("1000\n")
    (folder / "memory.stat").write_text("inactive_file 300\n")
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    (folder / "cpu.stat").write_text("usage_usec 2500000\nnr_periods 10\nnr_throttled 4\n")
    assert (group.memory_bytes(), group.oom_kills(), group.cpu_seconds()) == (700, 1, 2.5)


@pytest.mark.parametrize("made", ["nothing", "only memory"])
def test_a_host_without_usable_groups_says_so_instead_of_failing(tmp_path: Path, made: str) -> None:
    if made == "only memory":
        (tmp_path / "memory").mkdir()
    own = tmp_path / "own"
    own.write_text("4:memory:/\n")

    group, reason = create("w1-replica-1", mounts=tmp_path, own=own)

    assert group is None
    assert "memory and cpu" in reason


def test_a_hierarchy_that_may_not_be_written_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts, own = version_2(tmp_path)

    def refuse(_: Path, __: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(limits, "_write", refuse)

    group, reason = create("w1-replica-1", mounts=mounts, own=own)

    assert (group, reason) == (None, "cgroups cannot be made here: Operation not permitted")
    assert groups_of(mounts=mounts, own=own) == []


def test_a_frozen_group_is_thawed(tmp_path: Path) -> None:
    (tmp_path / "freezer.state").write_text("FROZEN")
    (tmp_path / "cgroup.freeze").write_text("1")

    limits.thaw(tmp_path)

    assert (tmp_path / "freezer.state").read_text() == "THAWED"
    assert (tmp_path / "cgroup.freeze").read_text() == "0"
