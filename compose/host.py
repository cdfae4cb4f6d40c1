"""What this host lets us do, each thing tried in a child process, so that a scenario is skipped with a true reason.

Never guessed from the user id: root in a container often may not, an unprivileged user in a user namespace often may.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from compose.programs import MissingProgram, find

Isolation = Literal["root", "user", "none"]
Seen = tuple[bool, str]
"""Whether it works, and what was seen or stood in the way."""

TRIAL_SECONDS_MAX: Final = 15.0
"""One trial takes well under a second; this is for a busy host."""

ROOT_NAMESPACES: Final = ("unshare", "--pid", "--net", "--mount", "--fork", "--kill-child")
USER_NAMESPACES: Final = ("unshare", "--user", "--map-root-user", *ROOT_NAMESPACES[1:])


@dataclass(frozen=True)
class Capability:
    """One thing a host can or cannot do."""

    name: str
    available: bool
    reason: str
    """What was seen, or what stood in the way."""
    unlocks: str
    """What cannot be proven without it."""


UNLOCKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "root": "installing system packages; namespaces where unprivileged ones are forbidden",
        "change_user": "PostgreSQL, which refuses to run as root, when the stack is started by root",
        "death_signal": "nothing left behind when the run is killed",
        "namespaces": "a world of its own for each scenario, removed by the kernel",
        "root_namespaces": "that world, made with root's rights",
        "user_namespaces": "that world, made by anyone",
        "network_namespace": "fixed ports, scenarios side by side, network faults",
        "private_mounts": "state and secrets in memory, gone with the world",
        "packet_filter": "packets dropped for real (a silent network, unlike Toxiproxy's)",
        "packet_capture": "receipts taken from the packets themselves",
        "cgroup_memory": "memory limits and the kernel's OOM kill",
        "cgroup_cpu": "processor quotas and throttling",
        "pressure": "refusing latency verdicts on a starved host",
    }
)


def detect() -> Mapping[str, Capability]:
    """Try everything, side by side; takes under a second on an idle host."""
    with ThreadPoolExecutor() as pool:
        by_root = pool.submit(_try, "reached", within=ROOT_NAMESPACES)
        by_anyone = pool.submit(_try, "reached", within=USER_NAMESPACES)
        plain = ("death_signal", "pressure", "cgroup_memory", "cgroup_cpu")
        trials = {name: pool.submit(_try, name) for name in plain}
        trials["change_user"] = pool.submit(_change_user)
        within = next((way for way, tried in _ways(by_root, by_anyone) if tried[0]), ())
        inside = ("network_namespace", "private_mounts", "packet_capture")
        trials |= {name: pool.submit(_try_inside, within, name) for name in inside}
        trials["packet_filter"] = pool.submit(_packet_filter, within)
        seen = {name: trial.result() for name, trial in trials.items()}
    seen["root"] = (os.geteuid() == 0, f"user id {os.geteuid()}")
    seen["root_namespaces"] = by_root.result()
    seen["user_namespaces"] = by_anyone.result()
    seen["namespaces"] = by_root.result() if by_root.result()[0] else by_anyone.result()
    return MappingProxyType({name: Capability(name, *seen[name], unlocks) for name, unlocks in UNLOCKS.items()})


def isolation(capabilities: Mapping[str, Capability]) -> Isolation:
    """Choose how a world is kept apart: by root's namespaces, by unprivileged ones, or by process groups alone."""
    if not (capabilities["namespaces"].available and capabilities["network_namespace"].available):
        return "none"
    return "root" if capabilities["root_namespaces"].available else "user"


def _ways(by_root: Future[Seen], by_anyone: Future[Seen]) -> tuple[tuple[Sequence[str], Seen], ...]:
    return (ROOT_NAMESPACES, by_root.result()), (USER_NAMESPACES, by_anyone.result())


def _try(trial: str, *arguments: str, within: Sequence[str] = ()) -> Seen:
    if within and shutil.which(within[0]) is None:
        return False, f"{within[0]} is not on this machine"
    script = Path(__file__).with_name("trials.py")
    try:
        done = subprocess.run(
            [*within, sys.executable, "-I", "-S", "-B", str(script), trial, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRIAL_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {TRIAL_SECONDS_MAX:g} s"
    said = done.stdout.strip() or done.stderr.strip() or f"exit code {done.returncode}"
    return done.returncode == 0, said.splitlines()[-1]


def _try_inside(within: Sequence[str], trial: str, *arguments: str) -> Seen:
    if not within:
        return False, "needs namespaces"
    return _try(trial, *arguments, within=within)


def _change_user() -> Seen:
    if os.geteuid() != 0:
        return True, "not needed: this is not root"
    return _try("change_user")


def _packet_filter(within: Sequence[str]) -> Seen:
    try:
        nft = find("nft")
    except MissingProgram as missing:
        return False, str(missing)
    return _try_inside(within, "packet_filter", str(nft))
