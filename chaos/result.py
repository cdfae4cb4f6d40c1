"""What a run says: the structs behind ``report.json`` (schema: ``chaos/report/report.schema.json``).

All instants are seconds since the scenario's origin (see ``chaos.evidence``); all lengths are seconds.
"""

import msgspec

from chaos.verdict import Verdict

SCHEMA_VERSION = "1.0"


class EvidenceReference(msgspec.Struct, frozen=True):
    """Where to look: a file below the scenario's evidence folder and a place in it ("line 12")."""

    file: str
    place: str


class ClaimResult(msgspec.Struct, frozen=True):
    """The judgement of one documented sentence."""

    id: str  # "FM01.D1"
    text: str
    verdict: Verdict
    reason: str
    evidence: tuple[EvidenceReference, ...] = ()


class Clock(msgspec.Struct, frozen=True):
    """A judged duration: the worst over the scenario's injections, and each of them."""

    measured: float | None  # None: could not be measured, which is never a pass
    bound: float
    verdict: Verdict
    by_injection: dict[str, float | None] = {}


class Clocks(msgspec.Struct, frozen=True):
    """Time to detect, to mitigate and to recover."""

    detect: Clock
    mitigate: Clock
    recover: Clock


class Receipt(msgspec.Struct, frozen=True):
    """An observation, from a vantage point that is not the service, that a fault bites or is gone."""

    proves: str  # "bite" or "undo"
    ok: bool
    at: float
    observation: str
    evidence: tuple[EvidenceReference, ...] = ()


class FaultResult(msgspec.Struct, frozen=True):
    """One injection as it happened."""

    injection: str
    kind: str
    parameters: dict[str, object]
    injected_at: float | None
    undone_at: float | None
    recovered_at: float | None
    receipts: tuple[Receipt, ...] = ()


class ScenarioResult(msgspec.Struct, frozen=True):
    """All that is known about one failure mode after a run."""

    failure_mode: str  # "FM01"
    slug: str
    title: str
    verdict: Verdict
    reason: str
    isolation: str
    seed: int
    started_at: str  # ISO 8601, UTC
    duration: float
    clocks: Clocks | None
    faults: tuple[FaultResult, ...]
    claims: tuple[ClaimResult, ...]
    invariants: tuple[ClaimResult, ...]  # "I1" ..: judged like claims, but no sentence of the document
    evidence_folder: str
    figures: dict[str, float] = {}  # named numbers worth a trend: requests, error share, budget spent


class Report(msgspec.Struct, frozen=True):
    """A whole run."""

    schema_version: str
    run_id: str
    profile: str
    host: dict[str, object]
    verdict: Verdict
    exit_code: int
    scenarios: tuple[ScenarioResult, ...]
    coverage: dict[str, int] = {}  # claims by verdict, over all 188
    residue: tuple[str, ...] = ()
