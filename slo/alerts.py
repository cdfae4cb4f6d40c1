"""The alerts as they are specified: expressions with named durations, and the cases that prove them.

``slo.rules`` renders them for Prometheus, ``slo.rule_tests`` renders the cases for promtool.
"""

from functools import cache
from typing import Literal

import msgspec

from slo import severity
from slo.files import SPECIFICATION, InvalidSpecificationError, read


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a series goes from sample to sample: one of the first four; a counter goes on from where it stands."""

    value: float | None = None
    per_second: float | None = None
    per_scrape: float | None = None
    steps: tuple["Behaviour", ...] = ()
    lasts: str | None = None  # in ``steps``: of all but the last one


SeriesInput = dict[str, float | Behaviour]  # a number is a constant value

CaseKind = Literal["firing", "boundary", "quiet", "missing", "held"]


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input and the complete set of alerts that fire on it.

    ``firing``: the alert comes exactly after ``settles`` + ``for``. ``boundary``: just short of it. ``quiet``: no
    traffic. ``missing``: no series. ``held``: still firing after its cause ended.
    """

    name: str
    kind: CaseKind
    series: SeriesInput = {}
    without: tuple[str, ...] = ()
    settles: str = "0"
    observe: str | None = None
    labels: dict[str, str] = {}  # of the firing alert, beside service and env; "" takes one away
    beside: tuple[str, ...] = ()  # other alerts that rightly fire
    description: str | None = None  # as rendered


class Alert(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One alert; ``role`` says whether it names a cause or what users feel."""

    name: str
    severity: Literal["critical", "high", "medium", "low", "none"]
    role: Literal["cause", "symptom", "watchdog"]
    expression: str
    summary: str
    description: str
    failure_mode: str | None = None
    group: str | None = None
    advice: str | None = None  # what to do about an alert beyond the document; the others have a runbook
    for_: str | None = msgspec.field(default=None, name="for")
    keep_firing_for: str | None = None
    cases: tuple[Case, ...] = ()

    @property
    def group_name(self) -> str:
        """The rule group: the failure mode's slug, or the named group of an alert beyond the document.

        Raises:
            InvalidSpecificationError: it has both or neither.
        """
        if self.failure_mode is not None and self.group is None:
            return severity.failure_mode(self.failure_mode).slug
        if self.failure_mode is None and self.group is not None:
            return self.group
        raise InvalidSpecificationError(f"{self.name}: exactly one of failure_mode and group")

    @property
    def runbook(self) -> str:
        """The file in ``runbooks/`` that says what to do."""
        return f"{self.group_name}.md" if self.failure_mode is not None else "index.md"


class Inhibition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """While ``cause`` is active, ``symptoms`` with the same values of ``equal`` notify nobody."""

    cause: str
    symptoms: tuple[str, ...]
    equal: tuple[str, ...]


class Inhibitions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All inhibitions, and the alerts that nothing may ever silence."""

    inhibitions: tuple[Inhibition, ...]
    never_inhibited: tuple[str, ...]


class Alerts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of ``alerts.yaml``."""

    runbook_base_url: str
    team: str
    alerts: tuple[Alert, ...]
    healthy: SeriesInput

    def named(self, name: str) -> Alert:
        """Return one alert.

        Raises:
            InvalidSpecificationError: there is none of that name.
        """
        for alert in self.alerts:
            if alert.name == name:
                return alert
        raise InvalidSpecificationError(f"no alert {name!r}")


@cache
def load() -> Alerts:
    """Return the specified alerts."""
    return read(SPECIFICATION / "alerts.yaml", Alerts)


@cache
def load_inhibitions() -> Inhibitions:
    """Return the inhibitions."""
    return read(SPECIFICATION / "inhibitions.yaml", Inhibitions)
