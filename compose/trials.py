"""What `compose.host` tries, each in a child process of its own: `python trials.py NAME [ARGUMENT]`.

A trial does the thing itself, on a small scale, undoes it, says in one line what it saw and exits 0; when the host
refuses it says why and exits 1. Only the standard library: it also runs inside namespaces, without the environment.
"""

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
NOBODY: Final = 65534
CONNECT_SECONDS_MAX: Final = 0.3
"""Loopback answers within a millisecond; a connection still silent after this was dropped."""
CGROUP_BYTES: Final = 64 << 20
CGROUP_CPU_MICROSECONDS: Final = (50_000, 100_000)
"""Quota and period: half a core."""

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_ETH_P_ALL: Final = 3


class Refused(Exception):
    """The host does not let us; the message says what stood in the way."""


def reached() -> str:
    """Prove that the child ran at all, in the namespaces it was started in."""
    return f"works (pid {os.getpid()} inside)"


def change_user() -> str:
    """Become an unprivileged user, as PostgreSQL must when the stack is started by root."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    return "root can start programs as another user"


def death_signal() -> str:
    """Ask the kernel to be told of the parent's death."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise Refused(f"prctl: {os.strerror(ctypes.get_errno())}")
    return "the kernel ends a child with its parent"


def network_namespace() -> str:
    """Bring the loopback of an empty network namespace up and talk through it."""
    _loopback_up()
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), CONNECT_SECONDS_MAX).close()
    return "an own loopback, with fixed ports that clash with nobody's"


def packet_filter(nft: str) -> str:
    """Drop packets and see the connection hang that worked before."""
    _loopback_up()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        socket.create_connection(address, CONNECT_SECONDS_MAX).close()
        rules = f"""table inet trial {{
            chain output {{ type filter hook output priority 0; tcp dport {address[1]} drop; }}
        }}"""
        _run(nft, "-f", "-", given=rules)
        try:
            socket.create_connection(address, CONNECT_SECONDS_MAX).close()
        except TimeoutError:
            return "packets are dropped, and nobody is told"
    raise Refused("nft took the rule, and packets still pass")


def packet_capture() -> str:
    """Open a raw socket that sees every packet of the namespace."""
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)).close()  # type: ignore[attr-defined,unused-ignore]
    return "raw sockets see the world's packets"


def private_mounts() -> str:
    """Mount a tmpfs where the host keeps something else."""
    marker = Path("/run") / f"firewall-trial-{os.getpid()}"
    _run("mount", "-t", "tmpfs", "-o", "size=1m", "trial", "/run")
    marker.touch()
    return "an own tmpfs on /run"


def pressure() -> str:
    """Read how long tasks waited for a processor."""
    first = Path("/proc/pressure/cpu").read_text(encoding="ascii").splitlines()[0]
    return f"the kernel says `{first}`"


def cgroup_memory() -> str:
    """Live under a memory limit for a moment."""
    return _limited("memory", v1={"memory.limit_in_bytes": CGROUP_BYTES}, v2={"memory.max": CGROUP_BYTES})


def cgroup_cpu() -> str:
    """Live under a processor quota for a moment."""
    quota, period = CGROUP_CPU_MICROSECONDS
    v1 = {"cpu.cfs_period_us": period, "cpu.cfs_quota_us": quota}
    return _limited("cpu", v1=v1, v2={"cpu.max": f"{quota} {period}"})


def _limited(controller: str, *, v1: Mapping[str, object], v2: Mapping[str, object]) -> str:
    """Put a child under a limit, in the first cgroup that lets us; end it and remove the cgroup again."""
    version, parents = _cgroup_parents(controller)
    refusals = []
    for parent in parents:
        folder = parent / f"firewall-trial-{os.getpid()}"
        try:
            folder.mkdir()
            try:
                _live_in(folder, v1 if version == 1 else v2)
            finally:
                folder.rmdir()
        except OSError as error:
            refusals.append(f"{parent}: {os.strerror(error.errno or errno.EIO)}")
        else:
            return f"cgroup v{version}, below {parent}"
    raise Refused("; ".join(refusals) or f"no cgroup hierarchy with the {controller} controller is mounted")


def _live_in(folder: Path, limits: Mapping[str, object]) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:  # noqa: S607
        for file, value in limits.items():
            # Opened without O_CREAT: a controller that is not delegated has no such file.
            with (folder / file).open("r+", encoding="ascii") as limit:
                limit.write(str(value))
        (folder / "cgroup.procs").write_text(str(child.pid), encoding="ascii")
        child.kill()


def _cgroup_parents(controller: str) -> tuple[int, list[Path]]:
    """Return the version of the hierarchy that holds the controller, and where a child of ours may be made."""
    memberships = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    v1: list[Path] = []
    v2: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mount, _, filesystem = line.partition(" - ")
        root, point = mount.split()[3:5]
        kind, _, options = filesystem.split()[:3]
        if kind == "cgroup" and controller in options.split(","):
            own = next((path for _, names, path in memberships if controller in names.split(",")), "/")
            v1 = [_below(point, root, own), Path(point)]
        elif kind == "cgroup2" and controller in (Path(point) / "cgroup.controllers").read_text().split():
            own = next((path for number, _, path in memberships if number == "0"), "/")
            v2 = [_below(point, root, own), Path(point)]
    return (1, v1) if v1 else (2, v2)


def _below(point: str, root: str, path: str) -> Path:
    """Translate a cgroup's path to where it is mounted; a container mounts only a part of the hierarchy."""
    return Path(point) / os.path.relpath(path, root) if os.path.commonpath([root, path]) == root else Path(point)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        asked = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(handle, _SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | _IFF_UP, b""))


def _run(*command: str, given: str = "") -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused((done.stderr.strip() or f"{command[0]} failed").splitlines()[0])


TRIALS: Final[Mapping[str, Callable[..., str]]] = {
    trial.__name__: trial
    for trial in (
        cgroup_cpu,
        cgroup_memory,
        change_user,
        death_signal,
        network_namespace,
        packet_capture,
        packet_filter,
        pressure,
        private_mounts,
        reached,
    )
}


def main() -> int:
    """Run one trial: what it saw, or what stood in the way, on standard output; exit 0 or 1."""
    name, *arguments = sys.argv[1:]
    try:
        sys.stdout.write(TRIALS[name](*arguments) + "\n")
    except (OSError, Refused, AttributeError) as error:
        # AttributeError: a system whose libraries do not know the call at all (macOS has no prctl).
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
