"""The five verdicts of a claim and how they combine.

A claim that could not be judged is ``unknown``, never ``pass``. ``skipped`` (the host cannot) and
``waived`` (dated reason) are listed, never hidden, and never outvote a judged claim.
"""

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """What is known about a claim after a run."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    WAIVED = "waived"


# Worst first (Jepsen: a failure outranks an unknown, an unknown outranks a pass).
_WORST_FIRST = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.PASS, Verdict.SKIPPED, Verdict.WAIVED)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of a whole from its parts; of no parts at all, ``unknown``."""
    seen = set(verdicts)
    return next((verdict for verdict in _WORST_FIRST if verdict in seen), Verdict.UNKNOWN)
