"""The severity of each failure mode and what it asks of people (decision 1).

The document's summary counts severities without assigning them; the assignment here meets all its numbers,
and a test recomputes both of its tables from this catalogue.
"""

from functools import cache
from typing import Literal, get_args

import msgspec

from slo.files import SPECIFICATION, InvalidSpecificationError, read

Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # most severe first


class Meaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the document's escalation matrix; ``response_seconds`` is the same time as a number.

    ``receivers``: whom Alertmanager notifies, after how many seconds without an acknowledgement.
    """

    response_time: str
    response_seconds: int
    escalation: str
    receivers: dict[str, int]


class FailureMode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One failure mode's place in the catalogue."""

    id: str  # "FM01"
    title: str  # the document's heading
    slug: str  # from the document's heading: names scenario, runbook, test and alert group
    severity: Severity
    recovers: Literal["automated", "client", "no"]
    manual: bool


class SummaryRow(msgspec.Struct, frozen=True):
    """A row of the document's summary: how many modes, how many of them recover in which way."""

    severity: Severity
    count: int
    automatic: int
    manual: int


class _Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    severities: dict[Severity, Meaning]
    failure_modes: tuple[FailureMode, ...]


def failure_modes() -> tuple[FailureMode, ...]:
    """Return the catalogue, in the document's order."""
    return _catalogue().failure_modes


def failure_mode(identifier: str) -> FailureMode:
    """Return one failure mode.

    Raises:
        InvalidSpecificationError: there is no such id.
    """
    for mode in failure_modes():
        if mode.id == identifier:
            return mode
    raise InvalidSpecificationError(f"no failure mode {identifier!r}")


def meaning(severity: Severity) -> Meaning:
    """Return what a severity asks of people."""
    return _catalogue().severities[severity]


def rank(severity: str) -> int:
    """Return 0 for the most severe; anything that is no severity comes after all of them."""
    return next((place for place, one in enumerate(SEVERITIES) if one == severity), len(SEVERITIES))


def summary() -> tuple[SummaryRow, ...]:
    """Recompute the document's summary table."""
    return tuple(
        SummaryRow(
            severity=severity,
            count=len(modes),
            automatic=sum(mode.recovers != "no" for mode in modes),
            manual=sum(mode.manual for mode in modes),
        )
        for severity in SEVERITIES
        for modes in [[mode for mode in failure_modes() if mode.severity == severity]]
    )


@cache
def _catalogue() -> _Catalogue:
    catalogue = read(SPECIFICATION / "severities.yaml", _Catalogue)
    if set(catalogue.severities) != set(SEVERITIES):
        raise InvalidSpecificationError("severities.yaml: not the four severities")
    return catalogue
