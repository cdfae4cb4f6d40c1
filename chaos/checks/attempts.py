"""When a replica tried to reach its database while there was none: two witnesses, one account.

The replica's own log says when each attempt failed, how long it took and how long it will wait. Toxiproxy's log,
stamped on sight, says when each attempt arrived, without asking the replica; but a proxy that is down logs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chaos.checks.windows import fault
from chaos.evidence import Row
from chaos.faults import vantage
from chaos.probes.attempts import ATTEMPTS
from chaos.probes.service_log import service_log
from chaos.scenario import Case, Window

_AGREEMENT_SECONDS = 0.3
UNREACHABLE = "database_unreachable"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: when it began, when it was known to have failed (``None``: not said), and the row that says so."""

    began: float
    ended: float | None
    row: Row


def logged_attempts(case: Case, window: Window, replica: str) -> list[Attempt]:
    """Return the failed attempts a replica's log tells of while the fault lasted."""
    start, end = fault(window)
    return [
        Attempt(began=row.t - float(row.data.get("attempt_seconds", 0.0)), ended=row.t, row=row)
        for row in service_log(case.evidence, replica)
        if start <= row.t < end and row.data.get("event") == UNREACHABLE
    ]


def seen_attempts(case: Case, window: Window, proxy: str) -> list[Attempt]:
    """Return the connections Toxiproxy took in front of the database while the fault lasted, but for our own looks."""
    start, end = fault(window)
    return [
        Attempt(began=row.t, ended=None, row=row)
        for row in case.evidence.between(ATTEMPTS, start, end)
        if row.data.get("proxy") == proxy and row.data.get("outcome") == "accepted" and not _is_ours(row)
    ]


def _is_ours(row: Row) -> bool:
    """Say whether the harness made the connection: receipts and runbook steps come from an address of their own."""
    return str(row.data.get("client", "")).startswith(f"{vantage.HOST}:") and vantage.HOST != "127.0.0.1"


def disagreements(logged: Sequence[Attempt], seen: Sequence[Attempt], window: Window) -> list[tuple[Attempt, str]]:
    """Return where the two witnesses contradict each other.

    Until its receipt is taken the harness itself connects through the proxy, and the last attempt may be under way
    when the fault ends: connections of those moments that the log does not tell of mean nothing.
    """
    unmatched = list(seen)
    wrong = []
    for attempt in logged:
        match = min(unmatched, key=lambda one: abs(one.began - attempt.began), default=None)
        if match is None or abs(match.began - attempt.began) > _AGREEMENT_SECONDS:
            wrong.append((attempt, "the log tells of an attempt that Toxiproxy did not see"))
        else:
            unmatched.remove(match)
    receipt = window.injected if window.bitten is None else window.bitten
    from_here = (receipt or 0.0) + _AGREEMENT_SECONDS
    last = max((attempt.ended or attempt.began for attempt in logged), default=0.0)
    silent = [one for one in unmatched if from_here < one.began <= last]
    return wrong + [(one, "Toxiproxy took a connection that the log does not tell of") for one in silent]


def proxy_of(replica: str) -> str:
    """Return the name of the Toxiproxy proxy in front of a replica's database: "replica-1" -> "database-1"."""
    return "database-" + replica.rpartition("-")[2]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A documented backoff: pauses between attempts, in seconds.

    Attributes:
        sequence: the pauses in order; the last one repeats.
        jitter_share: how far a pause may lie from it, either way.
        resolution_seconds: what the clocks of the witness add, either way.
        attempt_seconds_max: how long one attempt may take; counts where only its beginning is known.
    """

    sequence: Sequence[float]
    jitter_share: float
    resolution_seconds: float = 0.15
    attempt_seconds_max: float = 0.0

    def allowed(self, index: int) -> tuple[float, float]:
        """Return the shortest and the longest pause after attempt ``index``, counted from 0."""
        step = self.sequence[min(index, len(self.sequence) - 1)]
        return (
            step * (1 - self.jitter_share) - self.resolution_seconds,
            step * (1 + self.jitter_share) + self.resolution_seconds + self.attempt_seconds_max,
        )

    def departures(self, attempts: Sequence[Attempt]) -> list[tuple[Attempt, str]]:
        """Return the attempts that came too soon or too late after the one before, and what was measured."""
        wrong = []
        for index, (earlier, later) in enumerate(pairwise(attempts)):
            pause = later.began - (earlier.began if earlier.ended is None else earlier.ended)
            shortest, longest = self.allowed(index)
            if not shortest <= pause <= longest:
                wrong.append((later, f"pause {index + 1} was {pause:.2f} s, {shortest:.2f} to {longest:.2f} allowed"))
        return wrong


def schedule_of(expectations: Mapping[str, Sequence[float] | float], *, attempt_seconds_max: float = 0.0) -> Schedule:
    """Read the documented backoff from a failure mode's expectations."""
    sequence, jitter = expectations["backoff_sequence_seconds"], expectations["backoff_jitter_share"]
    if not isinstance(sequence, Sequence) or isinstance(jitter, Sequence):
        raise TypeError("backoff_sequence_seconds is a list and backoff_jitter_share a number")
    return Schedule(sequence=tuple(sequence), jitter_share=jitter, attempt_seconds_max=attempt_seconds_max)
