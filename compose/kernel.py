"""The few system calls that Python does not offer and the stack needs. Standard library only.

Where the kernel is not Linux each of them says so by `OSError`, except `die_with_parent`, which then does nothing:
such hosts rely on orderly teardown and on the sweep (`compose.world`).
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1
_IPC_RMID: Final = 0
MS_BIND: Final = 0x1000

_LINUX: Final = sys.platform == "linux"
# Loaded at import, so that a forked child calls it without taking the loader's locks.
_libc: Final = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, how: int = signal.SIGKILL) -> None:
    """Let the kernel send this process a signal when the thread that forked it ends.

    Call it in the child, after every change of credentials (they clear it). `parent` is the pid that forked: when it
    is gone already, the signal is delivered at once.
    """
    if not _LINUX:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, how, 0, 0, 0)
    if os.getppid() not in {parent, 0}:  # 0: the parent lives in an outer pid namespace
        os.kill(os.getpid(), how)


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own (for process trees without a pid namespace)."""
    if _LINUX:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def drop_ambient_capabilities() -> None:
    """Keep the capabilities of a user namespace from passing to the program about to be executed."""
    if _LINUX:
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def mount(source: str, target: Path, *, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system (or, with `MS_BIND`, a folder) in this process's mount namespace.

    Raises:
        OSError: the kernel refused.
    """
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode() or None
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def remove_shared_memory(segment: int) -> bool:
    """Remove a System V shared memory segment by its id; say whether it was there and ours to remove."""
    return bool(_libc.shmctl(segment, _IPC_RMID, None) == 0)


def raise_loopback() -> None:
    """Switch on the loopback device of this network namespace.

    Raises:
        OSError: the kernel refused.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16xh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
