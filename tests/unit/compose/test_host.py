"""What a host can do is tried, said with what was seen, and leaves nothing behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compose import trials
from compose.host import UNLOCKS, Capability, detect, isolation

SCRIPT = Path(trials.__file__)


def capabilities(**available: bool) -> dict[str, Capability]:
    return {name: Capability(name, available.get(name, False), "", "") for name in UNLOCKS}


def left_behind(folder: str) -> list[Path]:
    """What a trial made and whose process is gone (another test run may be trying right now)."""
    made = Path(folder).glob("**/firewall-trial-*")
    return [path for path in made if not Path("/proc", path.name.rpartition("-")[2]).exists()]


def test_every_capability_says_what_was_seen_and_what_it_unlocks() -> None:
    detected = detect()

    assert set(detected) == set(UNLOCKS)
    for capability in detected.values():
        assert capability.reason
        assert capability.unlocks


def test_trying_leaves_no_cgroup_no_rule_and_no_mount_behind() -> None:
    detect()

    assert not left_behind("/sys/fs/cgroup")
    assert not left_behind("/run")
    if nft := shutil.which("nft"):
        listed = subprocess.run([nft, "list", "tables"], capture_output=True, text=True, timeout=10, check=False)
        assert "trial" not in listed.stdout


def test_root_means_user_id_0() -> None:
    assert detect()["root"].available == (os.geteuid() == 0)


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        ({}, "none"),
        ({"namespaces": True, "root_namespaces": True}, "none"),
        ({"namespaces": True, "root_namespaces": True, "network_namespace": True}, "root"),
        ({"namespaces": True, "user_namespaces": True, "network_namespace": True}, "user"),
        ({"namespaces": True, "user_namespaces": True, "network_namespace": True, "root": True}, "user"),
    ],
)
def test_a_world_is_kept_apart_by_the_strongest_means_that_works(available: dict[str, bool], chosen: str) -> None:
    assert isolation(capabilities(**available)) == chosen


def test_a_refused_trial_exits_1_with_the_reason_in_one_line(tmp_path: Path) -> None:
    # `false` stands for an nft that refuses: whether the namespace works or not, this cannot succeed.
    refused = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT, "packet_filter", tmp_path / "nft"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert refused.returncode == 1
    assert len(refused.stdout.splitlines()) == 1
    assert refused.stderr == ""


def test_a_filter_that_lets_packets_pass_is_not_taken_for_one_that_drops(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or not detect()["network_namespace"].available:
        pytest.skip("the host has no network namespaces")
    liar = tmp_path / "nft"
    liar.write_text("#!/bin/sh\ncat >/dev/null\n")
    liar.chmod(0o755)

    tried = subprocess.run(
        [unshare, "--user", "--map-root-user", "--net", sys.executable, "-I", "-S", SCRIPT, "packet_filter", liar],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (tried.returncode, tried.stdout) == (1, "nft took the rule, and packets still pass\n")


@pytest.mark.parametrize(
    ("point", "root", "path", "expected"),
    [
        ("/sys/fs/cgroup/memory", "/", "/a/b", "/sys/fs/cgroup/memory/a/b"),
        ("/sys/fs/cgroup/memory", "/docker/1", "/docker/1/x", "/sys/fs/cgroup/memory/x"),
        ("/sys/fs/cgroup/memory", "/docker/1", "/", "/sys/fs/cgroup/memory"),
        ("/sys/fs/cgroup", "/", "/", "/sys/fs/cgroup"),
    ],
)
def test_a_cgroup_is_looked_for_where_it_is_mounted(point: str, root: str, path: str, expected: str) -> None:
    assert trials._below(point, root, path) == Path(expected)
