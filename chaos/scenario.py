"""What a scenario is: a failure mode's injections, its load, its clocks and one check per documented claim.

A scenario is data plus pure functions. The engine (``chaos.engine``) runs the injections in order inside one
world and records evidence; the judge applies ``checks`` and ``clocks`` to the recorded folder, now or years later.
How each of the sixteen modes fits in here: ``docs/adr/0001-the-shape-holds-sixteen.md``.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from chaos.evidence import Evidence
from chaos.result import EvidenceReference
from chaos.verdict import Verdict

if TYPE_CHECKING:
    from compose.stack import Stack, StackSpec


@dataclass(frozen=True, slots=True)
class Observation:
    """What a vantage point outside the service saw: whether it is as it must be, and in which words."""

    ok: bool
    text: str


class Fault(Protocol):
    """A change made to the world, reversible from its recorded parameters alone.

    ``inject`` and ``undo`` are idempotent; ``undo`` is safe after a half-finished ``inject`` and in a process
    that did not inject. The undo ledger stores ``kind`` and ``parameters()`` before ``inject`` is called;
    ``chaos.faults.from_record`` rebuilds the fault from them. All four have deadlines of their own.
    """

    @property
    def kind(self) -> str:
        """Its name in the registry of ``chaos.faults``."""

    @property
    def needs(self) -> frozenset[str]:
        """Host capabilities (``compose.host``): "namespaces", "packet_filter", "cgroups", ..."""

    def parameters(self) -> dict[str, Any]:
        """Return JSON values that rebuild this fault."""

    async def inject(self, stack: "Stack") -> None:
        """Make the change."""

    async def bites(self, stack: "Stack") -> Observation:
        """Look, from outside the service, whether the fault has the effect it is meant to have."""

    async def undo(self, stack: "Stack") -> None:
        """Take the change back."""

    async def is_gone(self, stack: "Stack") -> Observation:
        """Look, from outside the service, whether the effect has ended."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Arrivals of one more kind beside the background traffic (FM04, FM05, FM06, FM12: the traffic is the fault).

    ``kind`` names a request that ``chaos.streams`` knows how to make ("invalid_key", "expired_token", ...) and
    ``parameters`` its variables; an unknown kind is an error before anything runs. Every line of the history
    that a stream causes carries ``stream``: its name.
    """

    name: str
    kind: str
    per_second: float
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Load:
    """Open-loop background traffic: arrivals are Poisson, seeded, and never wait for answers."""

    proposals_per_second: float = 20.0
    reads_per_second: float = 10.0
    retry_share: float = 0.1  # of proposals sent twice under one Idempotency-Key
    reuse_share: float = 0.01  # of the others: their key is used again with another body, which must be refused
    shared_key_share: float = 0.0  # of those left: another principal uses the same key for a proposal of its own
    lives_per_second: float = 0.0  # whole lives of proposals, where the stack has a gate: each some fifteen requests
    streams: tuple[Stream, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpectedAlerts:
    """What Alertmanager may show from an injection until it has drained. Any other alert fails the scenario."""

    firing: frozenset[str] = frozenset()  # must be active, each under its own name
    co_alerts: frozenset[str] = frozenset()  # may be active too: the same cause, seen from elsewhere
    suppressed: frozenset[str] = frozenset()  # may be there only while inhibited


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault, held for a stated time, then undone and recovered from.

    ``undone_by_runbook``: the repair is a step of the runbook (a stopped database is started by the person who
    follows it); the engine then runs the runbook before it calls ``undo``, which finds nothing left to do.
    ``judged_by_clocks``: False for an injection too short, or too mild, to be detected (a brief interruption, a
    share just below the threshold); then its alert must not page.
    ``runbook_steps``: the numbered recovery steps executed after this injection; ``None`` means all.
    ``load``: the traffic instead of the scenario's, from the end of ``inject`` to the start of ``undo``.
    ``alerts``: instead of the scenario's (FM07: near its limit one alert, over it another).
    """

    name: str
    fault: Fault
    hold_seconds: Mapping[str, float]  # by profile name
    undone_by_runbook: bool = False
    judged_by_clocks: bool = True
    runbook_steps: frozenset[int] | None = None
    load: Load | None = None
    alerts: ExpectedAlerts | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The instants of one injection, in ``t``. ``None``: that phase was not reached."""

    injection: str
    baseline_started: float | None = None
    baseline_steady: float | None = None
    injection_started: float | None = None  # the act began
    injected: float | None = None  # the act returned; clocks count from here
    bitten: float | None = None  # receipt of bite taken
    hold_ended: float | None = None
    undo_started: float | None = None
    undone: float | None = None  # receipt of undo taken
    recovered: float | None = None  # steady state seen again
    drained: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check concluded, why, and where to look."""

    verdict: Verdict
    reason: str
    evidence: tuple[EvidenceReference, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """All that a check may look at: the evidence, the windows of the injections that ran, and the expectations.

    ``expectations``: the numbers this failure mode is held to, as recorded in ``environment.json`` at the start
    of the run (from ``slo/spec``), so that judging later gives the same answer.
    """

    evidence: Evidence
    windows: tuple[Window, ...]
    expectations: Mapping[str, Any]

    def window(self, injection: str) -> Window | None:
        """Return the window of one injection, or ``None`` when it did not run."""
        return next((window for window in self.windows if window.injection == injection), None)


Check = Callable[[Case], Finding]
ClockReading = Callable[[Case, Window], tuple[float | None, tuple[EvidenceReference, ...]]]


@dataclass(frozen=True, slots=True)
class ScenarioClocks:
    """How the three clocks are read from the evidence of one injection, in seconds.

    ``None`` with evidence: looked there and it did not happen, which fails. ``None`` without evidence: there was
    nothing to look at, which is unknown.
    """

    detect: ClockReading
    mitigate: ClockReading
    recover: ClockReading


@dataclass(frozen=True, slots=True)
class Probe:
    """A vantage point that only some modes need, sampled from baseline to drain into ``samples/<name>.jsonl``.

    One look is one line: ``{t, ...}`` with what ``look`` returned, or ``{t, error}`` when it raised or took
    longer than ``interval_seconds`` (at least one second). A probe never looks through the service.
    """

    name: str
    interval_seconds: float
    look: Callable[["Stack"], Awaitable[dict[str, Any]]]


def as_it_is(spec: "StackSpec") -> "StackSpec":
    """Leave the stack as the profile describes it."""
    return spec


@dataclass(frozen=True, slots=True)
class Scenario:
    """One failure mode, runnable.

    ``rests_on``: for a claim shown by some of the injections only, their names; every other claim rests on all of
    them. A claim is judged only when each of its injections is proved to have bitten; those this host cannot make
    are left out, and a claim left with none is skipped.
    ``stack`` turns the profile's stack into the one this mode needs (limits, a spare replica, a stand-in for an
    external service). ``exclusive``: no other world may run beside this one (it measures the machine).
    """

    failure_mode: str  # "FM01"
    slug: str  # also the runbook's, the test's and the alert group's name
    injections: tuple[Injection, ...]
    checks: Mapping[str, Check]  # claim id -> check
    clocks: ScenarioClocks
    alert: str | None  # the alert that must fire under its own name
    suppressed_alerts: frozenset[str] = frozenset()  # may be active, only while inhibited by ``alert``
    co_alerts: frozenset[str] = frozenset()  # may page under their own name as well, and rightly (FM02: 504s are 5xx)
    rests_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # claim id -> names of injections
    load: Load = field(default_factory=Load)
    invariants: Mapping[str, Check] = field(default_factory=dict)  # "I1" ..: what holds in every mode, and SLO caps
    probes: tuple[Probe, ...] = ()  # beside those that every scenario has
    stack: Callable[["StackSpec"], "StackSpec"] = as_it_is
    exclusive: bool = False

    def expected_alerts(self, injection: Injection) -> ExpectedAlerts:
        """Return what may be seen in Alertmanager because of one injection; for an undetectable one: nothing."""
        if injection.alerts is not None:
            return injection.alerts
        if not injection.judged_by_clocks:
            return ExpectedAlerts()
        return ExpectedAlerts(
            firing=frozenset() if self.alert is None else frozenset({self.alert}),
            co_alerts=self.co_alerts,
            suppressed=self.suppressed_alerts,
        )

    def load_during(self, injection: Injection) -> Load:
        """Return the traffic while one injection holds."""
        return injection.load or self.load
