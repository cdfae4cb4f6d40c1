"""What a run says: the structs behind ``report.json`` (schema: ``chaos/report/report.schema.json``).

All instants are seconds since the scenario's origin (see ``chaos.evidence``); all lengths are seconds. A field
added or changed here is a new ``SCHEMA_VERSION`` and a new schema file (``python -m chaos.report.schema``).
"""

from pathlib import Path
from typing import Any

import msgspec

from chaos.verdict import Verdict

SCHEMA_VERSION = "1.0"


class EvidenceReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to look: a file below the scenario's evidence folder and a place in it ("line 12")."""

    file: str
    place: str


class ClaimResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The judgement of one documented sentence."""

    id: str  # "FM01.D1"
    text: str
    verdict: Verdict
    reason: str
    evidence: tuple[EvidenceReference, ...] = ()


class Clock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A judged duration: the worst over the scenario's injections, and each of them."""

    measured: float | None  # None: could not be measured, which is never a pass
    bound: float | None  # None: nobody set one, which is never a pass
    verdict: Verdict
    reason: str = ""
    by_injection: dict[str, float | None] = {}
    evidence: tuple[EvidenceReference, ...] = ()


class Clocks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time to detect, to mitigate and to recover."""

    detect: Clock
    mitigate: Clock
    recover: Clock


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An observation, from a vantage point that is not the service, that a fault bites or is gone."""

    proves: str  # "bite" or "undo"
    ok: bool
    at: float
    observation: str
    evidence: tuple[EvidenceReference, ...] = ()


class FaultResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One injection as it happened.

    ``pass``: proved to bite and proved to be undone. ``unknown``: not proved to bite, so nothing that rests on it
    can be concluded. ``fail``: not proved to be undone.
    """

    injection: str
    kind: str
    parameters: dict[str, Any]
    verdict: Verdict
    reason: str
    injected_at: float | None
    undone_at: float | None
    recovered_at: float | None
    receipts: tuple[Receipt, ...] = ()


class ScenarioResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
    evidence_folder: str  # relative to the run's folder
    figures: dict[str, float] = {}  # named numbers worth a trend: requests, error share, budget spent
    residue: tuple[str, ...] = ()  # what is not proved to be undone
    harness_error: str | None = None  # the harness, not the service, is at fault


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole run."""

    schema_version: str
    run_id: str
    profile: str
    host: dict[str, Any]
    verdict: Verdict
    exit_code: int
    scenarios: tuple[ScenarioResult, ...]
    started_at: str = ""  # ISO 8601, UTC
    seed: int = 0
    command: str = ""  # repeats the run
    coverage: dict[str, int] = {}  # claims by verdict, "not_run" and "not_built", over all 188
    coverage_gaps: tuple[str, ...] = ()  # what the ledger owes for the modes that ran
    residue: tuple[str, ...] = ()
    harness_error: str | None = None


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``run.json``: what is true of a run as a whole, written at its start and again at its end.

    With it and the scenarios' folders the whole report can be made again.
    """

    run_id: str
    profile: str
    seed: int
    command: str
    started_at: str  # ISO 8601, UTC
    host: dict[str, Any]  # capability -> {available, reason, unlocks}, and what the machine is
    scenarios: tuple[str, ...]  # slugs, in order: also the names of the evidence folders
    finished: bool = False
    interrupted_by: int | None = None  # signal number
    residue: tuple[str, ...] = ()  # found by the sweep after the run
    harness_error: str | None = None

    def write(self, run_folder: Path) -> None:
        """Write ``run.json``."""
        run_folder.mkdir(parents=True, exist_ok=True)
        (run_folder / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")

    @classmethod
    def read(cls, run_folder: Path) -> "RunRecord":
        """Read ``run.json``; raises ``OSError`` or ``msgspec.DecodeError``."""
        return msgspec.json.decode((run_folder / "run.json").read_bytes(), type=cls)
