"""The limits a worker process gives itself before it takes the first request. None of them can be raised again.

Address space 400 MiB (a rule that doubles texts meets a MemoryError), CPU time per request (SIGXCPU), no files to be
written, no core dumps, no new privileges; it ends with the process that started it, and is the kernel's first choice
when memory runs out.
"""

import contextlib
import ctypes
import resource
import signal
from pathlib import Path
from typing import Final

ADDRESS_SPACE_BYTES: Final = 400 * 1_048_576
CPU_SECONDS: Final = 10
"""Of one request. Above any honest one, below any deadline that matters to a machine."""
MEMORY_EXIT: Final = 75
"""A worker that met its memory limit ends with this code."""
OPEN_FILES: Final = 32
OOM_SCORE: Final = "1000"
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


def confine() -> None:
    """Limit this process for the rest of its life."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
    ):
        _, hard = resource.getrlimit(kind)
        lowest = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (lowest, lowest))


def grant_cpu(seconds: int = CPU_SECONDS) -> None:
    """Allow so much CPU time from now on; the limit counts from the process's start, in whole seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + 1 + seconds, hard))
