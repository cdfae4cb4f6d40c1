"""What a whole run concludes, and the exit code CI acts on.

``judge_run`` is both the first judgement and every later one: it reads only the run's folder (``run.json`` and a
folder for each scenario), so asking again gives the same answer.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chaos.judge import judge_scenario, not_judged
from chaos.ledger import Waiver, confront, load_waivers
from chaos.matrix import NOT_BUILT, Matrix, load_matrix
from chaos.plan import NOT_ASKED_FOR
from chaos.result import SCHEMA_VERSION, Report, RunRecord, ScenarioResult
from chaos.scenario import Scenario
from chaos.verdict import Verdict, worst

EXIT_PASS = 0
EXIT_FAILED = 1
EXIT_UNKNOWN = 2
EXIT_RESIDUE = 3
EXIT_COVERAGE = 4
EXIT_USAGE = 64
EXIT_CRASHED = 70
_EXIT_SIGNALLED = 128
_NOT_BEGUN = "it had not begun when the run was interrupted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict of a run and its exit code."""

    verdict: Verdict
    exit_code: int


def combine(
    scenarios: Sequence[ScenarioResult],
    *,
    residue: Collection[str] = (),
    coverage_gaps: Collection[str] = (),
    harness_error: str | None = None,
    interrupted_by: int | None = None,
) -> Outcome:
    """Return the verdict and exit code of a run.

    Precedence: harness crash 70, residue 3, interrupted 128 + signal, failed 1, coverage gap 4, unknown 2, pass 0.
    Only something that passed passes: a run in which everything was skipped is unknown.
    """
    verdict = worst(scenario.verdict for scenario in scenarios)
    left = [*residue, *(line for scenario in scenarios for line in scenario.residue)]
    crashed = harness_error is not None or any(scenario.harness_error is not None for scenario in scenarios)
    if verdict not in {Verdict.PASS, Verdict.FAIL}:
        verdict = Verdict.UNKNOWN
    if left:
        verdict = Verdict.FAIL
    elif verdict is Verdict.PASS and (crashed or coverage_gaps or interrupted_by is not None):
        verdict = Verdict.UNKNOWN
    reasons = (
        (crashed, EXIT_CRASHED),
        (bool(left), EXIT_RESIDUE),
        (interrupted_by is not None, _EXIT_SIGNALLED + (interrupted_by or 0)),
        (verdict is Verdict.FAIL, EXIT_FAILED),
        (bool(coverage_gaps), EXIT_COVERAGE),
        (verdict is Verdict.UNKNOWN, EXIT_UNKNOWN),
    )
    return Outcome(verdict, next((code for applies, code in reasons if applies), EXIT_PASS))


def judge_run(
    run_folder: Path,
    scenarios: Collection[Scenario],
    *,
    matrix: Matrix | None = None,
    waivers: dict[str, Waiver] | None = None,
) -> Report:
    """Judge a run from its folder; waivers are held against the day it began.

    Raises:
        OSError: there is no ``run.json``.
        msgspec.DecodeError: it is not one.
        KeyError: a scenario of the run does not exist any more.
    """
    record = RunRecord.read(run_folder)
    matrix = load_matrix() if matrix is None else matrix
    waivers = load_waivers() if waivers is None else waivers
    on = datetime.fromisoformat(record.started_at).date()
    by_slug = {scenario.slug: scenario for scenario in scenarios}
    ran = [by_slug[slug] for slug in record.scenarios]
    results = tuple(
        not_judged(scenario, folder, _NOT_BEGUN, matrix=matrix)
        if record.interrupted_by is not None and not folder.exists()
        else judge_scenario(scenario, folder, matrix=matrix, waivers=waivers, on=on)
        for scenario in ran
        for folder in [run_folder / scenario.slug]
    )
    modes = {scenario.failure_mode for scenario in ran}
    gaps = [
        gap
        for gap in confront(matrix, ran, waivers, on=on, not_built={mode.id for mode in matrix.modes} - modes)
        if gap.failure_mode in modes
    ]
    harness_error = record.harness_error or (None if record.finished else "the harness did not finish the run")
    problems = (*(gap.problem for gap in gaps), *_left_out(results))
    outcome = combine(
        results,
        residue=record.residue,
        coverage_gaps=problems,
        harness_error=harness_error,
        interrupted_by=record.interrupted_by,
    )
    return Report(
        schema_version=SCHEMA_VERSION,
        run_id=record.run_id,
        profile=record.profile,
        host=record.host,
        verdict=outcome.verdict,
        exit_code=outcome.exit_code,
        scenarios=results,
        started_at=record.started_at,
        seed=record.seed,
        command=record.command,
        coverage=_coverage(matrix, results),
        coverage_gaps=problems,
        residue=(*record.residue, *(line for result in results for line in result.residue)),
        harness_error=harness_error,
    )


def _coverage(matrix: Matrix, results: Sequence[ScenarioResult]) -> dict[str, int]:
    judged = Counter(claim.verdict.value for result in results for claim in result.claims)
    ran = {result.failure_mode for result in results}
    absent = Counter(
        "not_built" if claim.failure_mode in NOT_BUILT else "not_run"
        for claim in matrix.claims.values()
        if claim.failure_mode not in ran
    )
    keys = [*(verdict.value for verdict in Verdict), "not_run", "not_built"]
    return {key: judged[key] + absent[key] for key in keys}


def _left_out(results: Sequence[ScenarioResult]) -> Iterator[str]:
    """Say of each scenario which injections the caller did not ask for: what is left is not the failure mode."""
    for result in results:
        names = [fault.injection for fault in result.faults if fault.reason == NOT_ASKED_FOR]
        if names:
            yield f"{result.failure_mode}: run in part, without {', '.join(names)}"
