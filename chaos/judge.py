"""Judges a recorded scenario: evidence in, verdicts out, the same whenever and wherever it is asked.

Pure: looks at nothing but the evidence folder, the scenario, the document and the waivers. Every check is applied
(one failure hides no other), and whatever was not shown is ``unknown``:

- a fault without a receipt of its bite carries no claim; without a receipt of its undo it is a failure and residue;
- a check that raises, or that passes without citing evidence that exists, has shown nothing;
- a run that was aborted, or whose harness failed, passes nothing.

What a whole run concludes from its scenarios: ``chaos.outcome``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from traceback import extract_tb

import msgspec

from chaos.evidence import Evidence
from chaos.figures import figures
from chaos.journal import Account, Event, read_account, read_windows
from chaos.ledger import Waiver
from chaos.matrix import ClaimKind, FailureMode, Matrix
from chaos.precision import stray_alerts
from chaos.proof import Proof, prove
from chaos.result import ClaimResult, Clock, Clocks, FaultResult, ScenarioResult
from chaos.scenario import Case, Check, ClockReading, Finding, Scenario, Window
from chaos.verdict import Verdict, worst

_CITED_MAX = 12  # of one claim; more does not help a reader


@dataclass(frozen=True, slots=True)
class _Trial:
    """Everything the rules below need, read once."""

    scenario: Scenario
    mode: FailureMode
    evidence: Evidence
    account: Account
    proofs: tuple[Proof, ...]
    waivers: Mapping[str, Waiver]
    on: date
    cut_short: str | None  # why no pass may be given

    def case(self, injections: Sequence[Proof]) -> Case:
        return Case(
            evidence=self.evidence,
            windows=tuple(proof.window for proof in injections),
            expectations=self.evidence.environment.get("expectations", {}),
        )


@dataclass(frozen=True, slots=True)
class _Ground:
    """The injections something rests on, sorted by what they can carry."""

    proven: tuple[Proof, ...]
    unproven: tuple[Proof, ...]
    skipped: tuple[Proof, ...]


@dataclass(slots=True)
class _Readings:
    """One clock, read over the injections."""

    by_injection: dict[str, float | None] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def judge_scenario(
    scenario: Scenario, folder: Path, *, matrix: Matrix, waivers: Mapping[str, Waiver], on: date
) -> ScenarioResult:
    """Judge one scenario's evidence; ``on`` is the day the run began, for the waivers.

    Never raises for what is in the folder: evidence that cannot be read is unknown.
    """
    mode = matrix.mode(scenario.failure_mode)
    evidence = Evidence(folder)
    try:
        trial = _read(scenario, mode, evidence, waivers, on)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"the evidence cannot be read: {_where(error)}"
        return msgspec.structs.replace(not_judged(scenario, folder, why, matrix=matrix), harness_error=why)
    claims = _with_precision(trial, [_claim(trial, claim.id, claim.text) for claim in mode.claims])
    invariants = [_invariant(trial, name, check) for name, check in scenario.invariants.items()]
    clocks = _clocks(trial)
    faults = [proof.result for proof in trial.proofs]
    verdict = _verdict(trial, claims, invariants, clocks, faults)
    return ScenarioResult(
        failure_mode=mode.id,
        slug=scenario.slug,
        title=mode.title,
        verdict=verdict,
        reason=_reason(verdict, [*claims, *invariants], clocks, faults, trial.cut_short),
        isolation=str(evidence.environment.get("isolation", "")),
        seed=int(evidence.environment.get("seed", 0)),
        started_at=datetime.fromtimestamp(evidence.origin.wall_ns / 1e9, tz=UTC).isoformat(timespec="seconds"),
        duration=trial.account.rows[-1].t if trial.account.rows else 0.0,
        clocks=clocks,
        faults=tuple(faults),
        claims=tuple(claims),
        invariants=tuple(invariants),
        evidence_folder=folder.name,
        figures=figures(evidence, [proof.window for proof in trial.proofs]),
        residue=tuple(f"{mode.id} {proof.residue}" for proof in trial.proofs if proof.residue),
        harness_error=_harness_error(trial.account),
    )


def _read(scenario: Scenario, mode: FailureMode, evidence: Evidence, waivers: Mapping[str, Waiver], on: date) -> _Trial:
    account = read_account(evidence)
    windows = {window.injection: window for window in read_windows(evidence)}
    proofs = tuple(
        prove(injection, windows.get(injection.name, Window(injection.name)), account, evidence)
        for injection in scenario.injections
    )
    _ = evidence.origin
    return _Trial(scenario, mode, evidence, account, proofs, waivers, on, _why_cut_short(account))


def _why_cut_short(account: Account) -> str | None:
    error = _harness_error(account)
    if error is not None:
        return f"the harness failed: {error}"
    aborted = account.first(Event.ABORTED)
    if aborted is not None:
        return f"the run was aborted: {aborted.data.get('reason', 'no reason given')}"
    if account.first(Event.SCENARIO_FINISHED) is None:
        return "the run did not finish"
    return None


def _harness_error(account: Account) -> str | None:
    row = account.first(Event.HARNESS_ERROR)
    return None if row is None else f"{row.data.get('exception', 'unknown')}: {row.data.get('message', '')}"


def _claim(trial: _Trial, claim: str, text: str) -> ClaimResult:
    if claim in trial.account.skipped_claims:
        return ClaimResult(claim, text, Verdict.SKIPPED, trial.account.skipped_claims[claim])
    check = trial.scenario.checks.get(claim)
    if check is not None:
        return _checked(trial, claim, text, check)
    waiver = trial.waivers.get(claim)
    if waiver is None:
        return ClaimResult(claim, text, Verdict.UNKNOWN, "neither checked nor waived")
    if not waiver.holds(trial.on):
        return ClaimResult(claim, text, Verdict.UNKNOWN, f"its waiver held from {waiver.granted} to {waiver.until}")
    return ClaimResult(claim, text, Verdict.WAIVED, f"{waiver.reason} (until {waiver.until})")


def _checked(trial: _Trial, claim: str, text: str, check: Check) -> ClaimResult:
    ground = _ground(trial, claim)
    if not ground.proven and not ground.unproven:
        return ClaimResult(claim, text, Verdict.SKIPPED, f"none of its faults was made: {_not_made(ground.skipped)}")
    doubts = [str(proof.unproven) for proof in ground.unproven]
    if not ground.proven:
        return ClaimResult(claim, text, Verdict.UNKNOWN, "; ".join(doubts))
    finding = _accountable(trial.evidence, _apply(check, trial.case(ground.proven)))
    if finding.verdict is Verdict.PASS and trial.cut_short is not None:
        doubts.append(trial.cut_short)
    reasons = [*doubts] if doubts and finding.verdict is Verdict.PASS else [finding.reason, *doubts]
    if ground.skipped:
        reasons.append(f"not tried: {_not_made(ground.skipped)}")
    verdict = worst([finding.verdict, Verdict.UNKNOWN]) if doubts else finding.verdict
    return ClaimResult(claim, text, verdict, "; ".join(reasons), finding.evidence[:_CITED_MAX])


def _invariant(trial: _Trial, name: str, check: Check) -> ClaimResult:
    """Judge what must hold at all times: broken in the calm it is broken, whether a fault was proved or not."""
    text = _first_line(name, check)
    judged = _checked(trial, name, text, check)
    ground = _ground(trial, name)
    if ground.proven or judged.verdict is not Verdict.UNKNOWN:
        return judged
    finding = _apply(check, trial.case(()))
    if finding.verdict is not Verdict.FAIL:
        return judged
    return ClaimResult(name, text, Verdict.FAIL, f"{finding.reason}; {judged.reason}", finding.evidence[:_CITED_MAX])


def _not_made(skipped: Sequence[Proof]) -> str:
    return ", ".join(f"{proof.result.injection} ({proof.result.reason})" for proof in skipped)


def _ground(trial: _Trial, claim: str) -> _Ground:
    needed = trial.scenario.rests_on.get(claim)
    proofs = [proof for proof in trial.proofs if needed is None or proof.result.injection in needed]
    return _Ground(
        proven=tuple(proof for proof in proofs if not proof.is_skipped and proof.unproven is None),
        unproven=tuple(proof for proof in proofs if not proof.is_skipped and proof.unproven is not None),
        skipped=tuple(proof for proof in proofs if proof.is_skipped),
    )


def _first_line(name: str, check: Check) -> str:
    """Return what an invariant says: no sentence of the document, but the first of its check."""
    return next(iter((check.__doc__ or "").strip().splitlines()), name)


def _apply(check: Check, case: Case) -> Finding:
    try:
        return check(case)
    except Exception as error:  # noqa: BLE001 - a broken check is a verdict, and must not hide the others
        return Finding(Verdict.UNKNOWN, f"the check raised {_where(error)}")


def _where(error: BaseException) -> str:
    frames = extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def _accountable(evidence: Evidence, finding: Finding) -> Finding:
    """Take back a pass that cites nothing, or something that is not in the folder."""
    if finding.verdict is not Verdict.PASS:
        return finding
    if not finding.evidence:
        return Finding(Verdict.UNKNOWN, f"{finding.reason}; but the check cites no evidence")
    for reference in finding.evidence:
        path = PurePosixPath(reference.file)
        if path.is_absolute() or ".." in path.parts or not (evidence.folder / path).is_file():
            return Finding(Verdict.UNKNOWN, f"{finding.reason}; but there is no {reference.file} to look at")
    return finding


def _with_precision(trial: _Trial, claims: list[ClaimResult]) -> list[ClaimResult]:
    """Put alerts that had no business there to the account of the mode's alert, or of its last detection line."""
    try:
        stray = stray_alerts(trial.scenario, [proof.window for proof in trial.proofs], trial.evidence)
    except Exception as error:  # noqa: BLE001 - as above
        stray = Finding(Verdict.UNKNOWN, f"alert precision cannot be judged: {_where(error)}")
    if stray is None:
        return claims
    detections = trial.mode.of_kind(ClaimKind.DETECTION)
    named = [claim.id for claim in detections if claim.alert is not None and claim.alert == trial.scenario.alert]
    blamed = named[0] if named else detections[-1].id
    return [_joined(claim, stray) if claim.id == blamed else claim for claim in claims]


def _joined(claim: ClaimResult, finding: Finding) -> ClaimResult:
    return ClaimResult(
        id=claim.id,
        text=claim.text,
        verdict=worst([claim.verdict, finding.verdict]),
        reason=finding.reason if claim.verdict is Verdict.PASS else f"{finding.reason}; {claim.reason}",
        evidence=(*finding.evidence, *claim.evidence)[:_CITED_MAX],
    )


def _clocks(trial: _Trial) -> Clocks:
    clocks = trial.scenario.clocks
    return Clocks(
        detect=_clock(trial, "detect", clocks.detect),
        mitigate=_clock(trial, "mitigate", clocks.mitigate),
        recover=_clock(trial, "recover", clocks.recover),
    )


def _clock(trial: _Trial, name: str, reading: ClockReading) -> Clock:
    bound = trial.evidence.environment.get("expectations", {}).get(f"{name}_seconds")
    bound = float(bound) if isinstance(bound, int | float) else None
    judged = {injection.name for injection in trial.scenario.injections if injection.judged_by_clocks}
    readings = _Readings()
    skipped = []
    for proof in trial.proofs:
        if proof.result.injection not in judged:
            continue
        if proof.is_skipped:
            skipped.append(proof)
            continue
        _read_clock(trial, proof, reading, bound, readings)
    if trial.cut_short is not None:
        readings.findings.append(Finding(Verdict.UNKNOWN, trial.cut_short))
    if skipped and not readings.by_injection:
        return Clock(None, bound, Verdict.SKIPPED, f"none of its faults was made: {_not_made(skipped)}")
    measured = [value for value in readings.by_injection.values() if value is not None]
    is_whole = len(measured) == len(readings.by_injection) > 0
    verdict = worst(finding.verdict for finding in readings.findings)
    return Clock(
        measured=max(measured) if is_whole else None,
        bound=bound,
        verdict=verdict,
        reason="; ".join(finding.reason for finding in readings.findings if finding.verdict is verdict)
        or "no injection is judged by this clock",
        by_injection=readings.by_injection,
        evidence=tuple(reference for finding in readings.findings for reference in finding.evidence)[:_CITED_MAX],
    )


def _read_clock(trial: _Trial, proof: Proof, reading: ClockReading, bound: float | None, readings: _Readings) -> None:
    name = proof.result.injection
    readings.by_injection[name] = None
    if proof.unproven is not None:
        readings.findings.append(Finding(Verdict.UNKNOWN, proof.unproven))
        return
    try:
        seconds, evidence = reading(trial.case([proof]), proof.window)
    except Exception as error:  # noqa: BLE001 - as above
        readings.findings.append(Finding(Verdict.UNKNOWN, f"{name}: the clock raised {_where(error)}"))
        return
    if seconds is None:
        finding = (
            Finding(Verdict.FAIL, f"{name}: never happened", evidence)
            if evidence
            else Finding(Verdict.UNKNOWN, f"{name}: nothing to read it from")
        )
    elif not math.isfinite(seconds) or seconds < 0:
        finding = Finding(Verdict.UNKNOWN, f"{name}: {seconds} s is no duration after the fault", evidence)
        seconds = None
    elif bound is None:
        finding = Finding(Verdict.UNKNOWN, f"{name}: {seconds:.1f} s, but no bound was set", evidence)
    elif seconds > bound:
        finding = Finding(Verdict.FAIL, f"{name}: {seconds:.1f} s exceeds the bound of {bound:g} s", evidence)
    else:
        finding = Finding(Verdict.PASS, f"{name}: {seconds:.1f} s of {bound:g} s", evidence)
    readings.by_injection[name] = None if seconds is None else round(seconds, 3)
    readings.findings.append(finding)


def _verdict(
    trial: _Trial,
    claims: Sequence[ClaimResult],
    invariants: Sequence[ClaimResult],
    clocks: Clocks,
    faults: Sequence[FaultResult],
) -> Verdict:
    judged = [claim.verdict for claim in (*claims, *invariants)]
    judged += [fault.verdict for fault in faults]
    judged += [clock.verdict for clock in (clocks.detect, clocks.mitigate, clocks.recover)]
    if trial.cut_short is not None or all(proof.window.injected is None for proof in trial.proofs):
        is_all_skipped = bool(faults) and all(fault.verdict is Verdict.SKIPPED for fault in faults)
        judged.append(Verdict.SKIPPED if is_all_skipped and trial.cut_short is None else Verdict.UNKNOWN)
    return worst(judged)


def _reason(
    verdict: Verdict,
    claims: Sequence[ClaimResult],
    clocks: Clocks,
    faults: Sequence[FaultResult],
    cut_short: str | None,
) -> str:
    if verdict is Verdict.PASS:
        return f"{sum(claim.verdict is Verdict.PASS for claim in claims)} claims and invariants hold"
    named = [
        *(claim.id for claim in claims if claim.verdict is verdict),
        *(f"time to {name}" for name in ("detect", "mitigate", "recover") if getattr(clocks, name).verdict is verdict),
        *(f"fault {fault.injection}" for fault in faults if fault.verdict is verdict),
    ]
    prefix = f"{cut_short}: " if cut_short is not None else ""
    return f"{prefix}{verdict.value}: {', '.join(named) or 'everything'}"


def not_judged(scenario: Scenario, folder: Path, why: str, *, matrix: Matrix) -> ScenarioResult:
    """Return a scenario of which nothing is known, and why."""
    mode = matrix.mode(scenario.failure_mode)
    clock = Clock(None, None, Verdict.UNKNOWN, why)
    return ScenarioResult(
        failure_mode=mode.id,
        slug=scenario.slug,
        title=mode.title,
        verdict=Verdict.UNKNOWN,
        reason=why,
        isolation="",
        seed=0,
        started_at="",
        duration=0.0,
        clocks=Clocks(clock, clock, clock),
        faults=(),
        claims=tuple(ClaimResult(claim.id, claim.text, Verdict.UNKNOWN, why) for claim in mode.claims),
        invariants=tuple(ClaimResult(name, name, Verdict.UNKNOWN, why) for name in scenario.invariants),
        evidence_folder=folder.name,
    )
