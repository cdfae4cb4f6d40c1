"""Exit codes and their precedence, and that judging again gives the same answer."""

import dataclasses
import shutil
from pathlib import Path

import msgspec
import pytest

from chaos.matrix import load_matrix
from chaos.outcome import combine, judge_run
from chaos.plan import NOT_ASKED_FOR
from chaos.result import Report, ScenarioResult
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import append, edit, record_run, scenario


def result(verdict: Verdict, *, residue: tuple[str, ...] = (), harness_error: str | None = None) -> ScenarioResult:
    return ScenarioResult(
        failure_mode="FM01",
        slug="fm01_database_connection_failure",
        title="",
        verdict=verdict,
        reason="",
        isolation="root",
        seed=1,
        started_at="",
        duration=1.0,
        clocks=None,
        faults=(),
        claims=(),
        invariants=(),
        evidence_folder="",
        residue=residue,
        harness_error=harness_error,
    )


PASS, FAIL, UNKNOWN, SKIPPED = (result(each) for each in list(Verdict)[:4])
LEFT = result(Verdict.FAIL, residue=("FM01 proxy_down: not undone",))
CRASHED = result(Verdict.UNKNOWN, harness_error="OSError")


@pytest.mark.parametrize(
    ("scenarios", "facts", "verdict", "exit_code"),
    [
        ([PASS, PASS], {}, "pass", 0),
        ([PASS, SKIPPED], {}, "pass", 0),
        ([PASS, FAIL], {}, "fail", 1),
        ([UNKNOWN, FAIL], {}, "fail", 1),
        ([PASS, UNKNOWN], {}, "unknown", 2),
        ([SKIPPED], {}, "unknown", 2),
        ([], {}, "unknown", 2),
        ([PASS], {"residue": ["cgroup chaos-1"]}, "fail", 3),
        ([PASS, LEFT], {}, "fail", 3),
        ([PASS], {"coverage_gaps": ["FM01.D1: ..."]}, "unknown", 4),
        ([UNKNOWN], {"coverage_gaps": ["FM01.D1: ..."]}, "unknown", 4),
        ([FAIL], {"coverage_gaps": ["FM01.D1: ..."]}, "fail", 1),
        ([LEFT], {"coverage_gaps": ["FM01.D1: ..."]}, "fail", 3),
        ([PASS, CRASHED], {}, "unknown", 70),
        ([PASS], {"harness_error": "OSError"}, "unknown", 70),
        ([LEFT, CRASHED], {}, "fail", 70),
        ([UNKNOWN], {"interrupted_by": 2}, "unknown", 130),
        ([PASS], {"interrupted_by": 15}, "unknown", 143),
        ([LEFT], {"interrupted_by": 2}, "fail", 3),
    ],
)
def test_the_exit_code_is_the_gravest_that_applies(
    scenarios: list[ScenarioResult], facts: dict[str, object], verdict: str, exit_code: int
) -> None:
    outcome = combine(scenarios, **facts)  # type: ignore[arg-type]

    assert (outcome.verdict.value, outcome.exit_code) == (verdict, exit_code)


def encoded(report: Report) -> bytes:
    return msgspec.json.encode(report)


def test_a_stored_run_is_judged_again_to_the_same_bytes_wherever_it_lies(tmp_path: Path) -> None:
    record_run(tmp_path / "a" / "run")
    first = judge_run(tmp_path / "a" / "run", [scenario()])
    shutil.copytree(tmp_path / "a" / "run", tmp_path / "b" / "elsewhere")

    again = judge_run(tmp_path / "b" / "elsewhere", [scenario()])

    assert first.exit_code == 0
    assert encoded(first) == encoded(again)


def test_coverage_counts_all_188_claims(tmp_path: Path) -> None:
    record_run(tmp_path)

    report = judge_run(tmp_path, [scenario()])

    assert report.coverage["pass"] == 13
    assert report.coverage["not_built"] + report.coverage["not_run"] == 188 - 13
    assert sum(report.coverage.values()) == len(load_matrix().claims)


def test_a_run_whose_harness_was_killed_says_so(tmp_path: Path) -> None:
    msgspec.structs.replace(record_run(tmp_path), finished=False).write(tmp_path)

    report = judge_run(tmp_path, [scenario()])

    assert (report.exit_code, report.harness_error) == (70, "the harness did not finish the run")


def test_a_check_taken_out_is_a_coverage_gap(tmp_path: Path) -> None:
    record_run(tmp_path)
    subject = scenario()
    checks = {key: check for key, check in subject.checks.items() if key != "FM01.R3"}

    report = judge_run(tmp_path, [dataclasses.replace(subject, checks=checks)])

    assert (report.exit_code, report.coverage_gaps) == (4, ("FM01.R3: is neither checked nor waived",))


def test_a_run_of_chosen_injections_never_passes_as_the_whole(tmp_path: Path) -> None:
    record_run(tmp_path)
    folder = tmp_path / "fm01_database_connection_failure"
    edit(folder, "journal.jsonl", lambda row: None if row.get("injection") == "silent_proxy" else row)
    append(
        folder, "journal.jsonl", {"event": "injection_skipped", "injection": "silent_proxy", "reason": NOT_ASKED_FOR}
    )

    report = judge_run(tmp_path, [scenario()])

    assert report.exit_code == 4
    assert report.coverage_gaps == ("FM01: run in part, without silent_proxy",)


def test_residue_of_a_scenario_is_residue_of_the_run(tmp_path: Path) -> None:
    record_run(tmp_path)
    folder = tmp_path / "fm01_database_connection_failure"
    edit(folder, "receipts.jsonl", lambda row: None if row["proves"] == "undo" else row)

    report = judge_run(tmp_path, [scenario()])

    assert report.exit_code == 3
    assert len(report.residue) == 2


def test_a_scenario_that_had_not_begun_when_the_run_was_interrupted_is_unknown(tmp_path: Path) -> None:
    msgspec.structs.replace(record_run(tmp_path), interrupted_by=15).write(tmp_path)
    shutil.rmtree(tmp_path / "fm01_database_connection_failure")

    report = judge_run(tmp_path, [scenario()])

    assert (report.exit_code, report.verdict) == (143, Verdict.UNKNOWN)
    assert {claim.reason for claim in report.scenarios[0].claims} == {"it had not begun when the run was interrupted"}


def test_an_interrupted_run_exits_with_its_signal(tmp_path: Path) -> None:
    msgspec.structs.replace(record_run(tmp_path), interrupted_by=2).write(tmp_path)
    append(tmp_path / "fm01_database_connection_failure", "journal.jsonl", {"event": "aborted", "signal": 2})

    assert judge_run(tmp_path, [scenario()]).exit_code == 130
