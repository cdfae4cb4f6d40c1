"""Each rule of the judge, with a history it must accept and the spoilt one it must refuse."""

import dataclasses
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from chaos.evidence import Evidence
from chaos.judge import judge_scenario
from chaos.ledger import Waiver
from chaos.matrix import load_matrix
from chaos.result import ClaimResult, EvidenceReference, FaultResult, ScenarioResult
from chaos.scenario import Case, Finding, Scenario
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import alert, append, edit, record, scenario

MATRIX = load_matrix()
CLAIMS = [claim.id for claim in MATRIX.mode("FM01").claims]
ON = date(2026, 11, 23)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("recorded") / "fm01_database_connection_failure").folder


@pytest.fixture
def folder(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / recorded.name))


def judge(folder: Path, subject: Scenario | None = None, waivers: dict[str, Waiver] | None = None) -> ScenarioResult:
    return judge_scenario(subject or scenario(), folder, matrix=MATRIX, waivers=waivers or {}, on=ON)


def claim(result: ScenarioResult, claim_id: str) -> ClaimResult:
    return next(each for each in result.claims if each.id == claim_id)


def fault(result: ScenarioResult, injection: str) -> FaultResult:
    return next(each for each in result.faults if each.injection == injection)


def verdicts(result: ScenarioResult) -> set[Verdict]:
    return {each.verdict for each in (*result.claims, *result.invariants)}


def drop(file: str, **fields: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        edit(folder, file, lambda row: None if all(row.get(key) == value for key, value in fields.items()) else row)

    return spoil


def change(file: str, match: dict[str, Any], **fields: Any) -> Callable[[Path], None]:
    def changed(row: dict[str, Any]) -> dict[str, Any]:
        return row | fields if all(row.get(key) == value for key, value in match.items()) else row

    return lambda folder: edit(folder, file, changed)


def quiet(folder: Path, *, until: float = 1000.0) -> None:
    """Take the alerts out, as if nothing had been wrong: an alert without a fault is a failure of its own."""
    for file in ("samples/alerts.jsonl", "notifications.jsonl"):
        edit(folder, file, lambda row: row | {"alerts": []} if row["t"] < until else row)


def test_a_run_in_which_everything_held_passes(recorded: Path) -> None:
    result = judge(recorded)

    assert [each.id for each in result.claims] == CLAIMS
    assert [each.text for each in result.claims] == [each.text for each in MATRIX.mode("FM01").claims]
    assert verdicts(result) == {Verdict.PASS}
    assert result.verdict is Verdict.PASS
    assert result.reason == "14 claims and invariants hold"
    assert result.residue == ()


def test_every_passed_claim_cites_a_line_that_exists(recorded: Path) -> None:
    for each in judge(recorded).claims:
        for reference in each.evidence:
            number = int(reference.place.removeprefix("line "))
            assert number <= len((recorded / reference.file).read_text().splitlines())


def test_clocks_are_the_worst_injection_against_their_bounds(recorded: Path) -> None:
    clocks = judge(recorded).clocks

    assert clocks is not None
    assert clocks.detect.by_injection == {"proxy_down": 5.0, "silent_proxy": 5.0}
    assert (clocks.detect.measured, clocks.detect.bound, clocks.detect.verdict) == (5.0, 8.0, Verdict.PASS)
    assert clocks.recover.measured == pytest.approx(9.2)


def test_judging_twice_gives_the_same_bytes(recorded: Path) -> None:
    assert judge(recorded) == judge(recorded)


# What a fault must have shown before anything rests on it.


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (drop("receipts.jsonl", injection="proxy_down", proves="bite"), "not proved to bite, there is no receipt"),
        (
            change("receipts.jsonl", {"injection": "proxy_down", "proves": "bite"}, ok=False, observation="connected"),
            "not proved to bite: connected",
        ),
        (
            change("receipts.jsonl", {"injection": "proxy_down", "proves": "bite"}, t=13.0),
            "not proved to bite, there is no receipt",
        ),
        (
            lambda folder: append(
                folder,
                "receipts.jsonl",
                {"t": 30.0, "injection": "proxy_down", "proves": "bite", "ok": False, "observation": "connected"},
            ),
            "stopped biting while it was held: connected",
        ),
        (
            change("journal.jsonl", {"event": "baseline_steady", "injection": "proxy_down"}, event="baseline_failed"),
            "the baseline was not steady",
        ),
        (
            drop("journal.jsonl", event="baseline_steady", injection="proxy_down"),
            "no steady baseline was recorded before it",
        ),
        (drop("journal.jsonl", event="injected", injection="proxy_down"), "was not injected"),
        (drop("journal.jsonl", injection="proxy_down"), "no steady baseline"),
    ],
)
def test_nothing_rests_on_a_fault_that_is_not_proved(folder: Path, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(folder)
    quiet(folder, until=60)  # before the other fault

    result = judge(folder)

    assert fault(result, "proxy_down").verdict is Verdict.UNKNOWN
    assert reason in fault(result, "proxy_down").reason
    assert verdicts(result) == {Verdict.UNKNOWN}
    assert result.clocks is not None
    assert result.clocks.detect.verdict is Verdict.UNKNOWN
    assert result.clocks.detect.measured is None
    assert result.verdict is Verdict.UNKNOWN


def test_a_claim_that_rests_on_the_other_fault_is_still_judged(folder: Path) -> None:
    drop("receipts.jsonl", injection="proxy_down", proves="bite")(folder)
    subject = dataclasses.replace(scenario(), rests_on={"FM01.D1": ("silent_proxy",)})

    result = judge(folder, subject)

    assert claim(result, "FM01.D1").verdict is Verdict.PASS
    assert claim(result, "FM01.D2").verdict is Verdict.UNKNOWN


def test_a_failure_shown_under_a_proved_fault_outranks_the_doubt_about_another(folder: Path) -> None:
    drop("receipts.jsonl", injection="proxy_down", proves="bite")(folder)
    change("samples/health.jsonl", {"status": 503}, status=200)(folder)

    assert claim(judge(folder), "FM01.D1").verdict is Verdict.FAIL


def test_no_fault_at_all_is_unknown_and_never_a_pass(folder: Path) -> None:
    for event in ("injection_started", "injected", "bitten", "undo_started", "undone"):
        drop("journal.jsonl", event=event)(folder)
    (folder / "receipts.jsonl").unlink()
    quiet(folder)

    result = judge(folder)

    assert verdicts(result) == {Verdict.UNKNOWN}
    assert result.verdict is Verdict.UNKNOWN


def test_no_baseline_anywhere_is_unknown_throughout(folder: Path) -> None:
    change("journal.jsonl", {"event": "baseline_steady"}, event="baseline_failed", reason="p99 1.3 s")(folder)

    result = judge(folder)

    assert verdicts(result) == {Verdict.UNKNOWN}
    assert "p99 1.3 s" in claim(result, "FM01.M1").reason


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (drop("receipts.jsonl", injection="silent_proxy", proves="undo"), "not proved to be undone"),
        (
            change("receipts.jsonl", {"injection": "silent_proxy", "proves": "undo"}, ok=False, observation="hangs"),
            "not undone: hangs",
        ),
    ],
)
def test_a_fault_not_proved_to_be_undone_is_a_failure_and_residue(
    folder: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(folder)

    result = judge(folder)

    assert fault(result, "silent_proxy").verdict is Verdict.FAIL
    assert result.verdict is Verdict.FAIL
    assert len(result.residue) == 1
    assert reason in result.residue[0]


def test_a_fault_half_made_must_be_proved_undone_too(folder: Path) -> None:
    drop("journal.jsonl", event="injected", injection="silent_proxy")(folder)
    drop("receipts.jsonl", injection="silent_proxy")(folder)

    assert judge(folder).residue == ("FM01 silent_proxy: not proved to be undone, there is no receipt",)


# What this host cannot do.


def test_an_injection_this_host_cannot_make_leaves_the_rest_judged(folder: Path) -> None:
    drop("journal.jsonl", injection="silent_proxy")(folder)
    drop("receipts.jsonl", injection="silent_proxy")(folder)
    for file in ("samples/alerts.jsonl", "notifications.jsonl"):  # as if its fault had never been there
        edit(folder, file, lambda row: row if row["t"] < 60 else None)
    append(
        folder,
        "journal.jsonl",
        {"t": 1.0, "event": "injection_skipped", "injection": "silent_proxy", "reason": "no packet filter"},
    )

    result = judge(folder)

    assert fault(result, "silent_proxy").verdict is Verdict.SKIPPED
    assert claim(result, "FM01.D1").verdict is Verdict.PASS
    assert "not tried: silent_proxy (no packet filter)" in claim(result, "FM01.D1").reason
    assert result.verdict is Verdict.PASS


def test_a_claim_left_with_no_injection_is_skipped_with_the_reason(folder: Path) -> None:
    drop("journal.jsonl", injection="silent_proxy")(folder)
    row = {"t": 1.0, "event": "injection_skipped", "injection": "silent_proxy", "reason": "no packet filter"}
    append(folder, "journal.jsonl", row)
    subject = dataclasses.replace(scenario(), rests_on={"FM01.M2": ("silent_proxy",)})

    skipped = claim(judge(folder, subject), "FM01.M2")

    assert skipped.verdict is Verdict.SKIPPED
    assert "no packet filter" in skipped.reason


def test_a_claim_skipped_by_the_engine_is_skipped_with_its_reason(folder: Path) -> None:
    append(folder, "journal.jsonl", {"t": 1.0, "event": "claim_skipped", "claim": "FM01.M2", "reason": "no cgroups"})

    assert claim(judge(folder), "FM01.M2") == ClaimResult(
        "FM01.M2", "Connection pool maintains minimum connections", Verdict.SKIPPED, "no cgroups"
    )


def test_a_scenario_of_which_nothing_can_be_made_is_skipped(folder: Path) -> None:
    (folder / "receipts.jsonl").unlink()
    edit(folder, "journal.jsonl", lambda row: None if "injection" in row else row)
    for file in ("samples/alerts.jsonl", "notifications.jsonl"):
        (folder / file).unlink()
    for name in ("proxy_down", "silent_proxy"):
        row = {"t": 1.0, "event": "injection_skipped", "injection": name, "reason": "no Toxiproxy"}
        append(folder, "journal.jsonl", row)

    result = judge(folder)

    assert verdicts(result) == {Verdict.SKIPPED}
    assert result.verdict is Verdict.SKIPPED
    assert result.clocks is not None
    assert result.clocks.recover.verdict is Verdict.SKIPPED


# Checks.


def with_check(check: Callable[[Case], Finding]) -> Scenario:
    return dataclasses.replace(scenario(), checks={**scenario().checks, "FM01.M2": check})


def test_a_check_that_raises_is_unknown_by_class_and_hides_no_other(recorded: Path) -> None:
    def raises(_case: Case) -> Finding:
        raise LookupError("password=hunter2")

    result = judge(recorded, with_check(raises))

    assert claim(result, "FM01.M2").verdict is Verdict.UNKNOWN
    assert "LookupError" in claim(result, "FM01.M2").reason
    assert "hunter2" not in claim(result, "FM01.M2").reason
    assert claim(result, "FM01.M3").verdict is Verdict.PASS


def test_a_pass_without_evidence_is_unknown(recorded: Path) -> None:
    result = judge(recorded, with_check(lambda _case: Finding(Verdict.PASS, "trust me")))

    assert claim(result, "FM01.M2").verdict is Verdict.UNKNOWN
    assert "cites no evidence" in claim(result, "FM01.M2").reason


@pytest.mark.parametrize("file", ["logs/absent.log", "../elsewhere.jsonl", "/etc/passwd"])
def test_a_pass_that_cites_what_is_not_in_the_folder_is_unknown(recorded: Path, file: str) -> None:
    finding = Finding(Verdict.PASS, "seen", (EvidenceReference(file, "line 1"),))

    result = judge(recorded, with_check(lambda _case: finding))

    assert claim(result, "FM01.M2").verdict is Verdict.UNKNOWN


def test_one_failed_claim_fails_the_scenario_and_the_others_are_still_judged(folder: Path) -> None:
    change("runbook.jsonl", {"step": 5}, ok=False)(folder)

    result = judge(folder)

    assert claim(result, "FM01.R5").verdict is Verdict.FAIL
    assert [each.verdict for each in result.claims].count(Verdict.PASS) == 12
    assert (result.verdict, result.reason) == (Verdict.FAIL, "fail: FM01.R5")


def test_a_broken_invariant_fails_the_scenario(folder: Path) -> None:
    edit(folder, "database.jsonl", lambda row: None if row["row"]["id"].startswith("00000001") else row)
    edit(folder, "database.jsonl", lambda row: row if int(row["row"]["id"][:8], 16) % 100 else None)

    result = judge(folder)

    assert result.invariants[0].verdict is Verdict.FAIL
    assert (result.verdict, result.reason) == (Verdict.FAIL, "fail: I1")


def test_an_invariant_that_breaks_in_the_calm_is_broken_though_no_fault_was_made(folder: Path) -> None:
    change("journal.jsonl", {"event": "baseline_steady"}, event="baseline_failed", reason="p99 1.3 s")(folder)
    assert judge(folder).invariants[0].verdict is Verdict.UNKNOWN

    edit(folder, "database.jsonl", lambda row: None if row["row"]["id"].startswith("00000001") else row)
    edit(folder, "database.jsonl", lambda row: row if int(row["row"]["id"][:8], 16) % 100 else None)
    result = judge(folder)

    assert result.invariants[0].verdict is Verdict.FAIL
    assert result.invariants[0].reason.endswith("the baseline was not steady: p99 1.3 s")
    assert result.verdict is Verdict.FAIL


def test_a_probe_that_saw_nothing_is_unknown(folder: Path) -> None:
    (folder / "samples" / "health.jsonl").unlink()

    assert claim(judge(folder), "FM01.D1").verdict is Verdict.UNKNOWN


# Waivers.

WAIVER = Waiver(kind="human", reason="Only a person can call.", granted=date(2026, 1, 1), until=date(2026, 12, 31))


def without_check() -> Scenario:
    return dataclasses.replace(
        scenario(), checks={key: check for key, check in scenario().checks.items() if key != "FM01.R3"}
    )


def test_a_waived_claim_is_listed_with_reason_and_end(recorded: Path) -> None:
    result = judge(recorded, without_check(), {"FM01.R3": WAIVER})

    assert claim(result, "FM01.R3").verdict is Verdict.WAIVED
    assert claim(result, "FM01.R3").reason == "Only a person can call. (until 2026-12-31)"
    assert result.verdict is Verdict.PASS


def test_an_expired_waiver_waives_nothing(recorded: Path) -> None:
    expired = Waiver(kind="human", reason="Was.", granted=date(2026, 1, 1), until=date(2026, 11, 22))

    assert claim(judge(recorded, without_check(), {"FM01.R3": expired}), "FM01.R3").verdict is Verdict.UNKNOWN


def test_a_claim_neither_checked_nor_waived_is_unknown(recorded: Path) -> None:
    assert claim(judge(recorded, without_check()), "FM01.R3").verdict is Verdict.UNKNOWN


# Clocks.


def test_a_clock_over_its_bound_fails(folder: Path) -> None:
    edit(
        folder,
        "samples/alerts.jsonl",
        lambda row: row if not 70 < row["t"] < 79 else row | {"alerts": row["alerts"][:1]},
    )

    result = judge(folder)

    assert result.clocks is not None
    assert result.clocks.detect.by_injection == {"proxy_down": 5.0, "silent_proxy": 9.0}
    assert result.clocks.detect.verdict is Verdict.FAIL
    assert result.clocks.detect.reason == "silent_proxy: 9.0 s exceeds the bound of 8 s"
    assert result.verdict is Verdict.FAIL


def test_what_never_happened_while_someone_looked_fails_its_clock(folder: Path) -> None:
    edit(folder, "samples/alerts.jsonl", lambda row: row | {"alerts": row["alerts"][:1]})

    clocks = judge(folder).clocks

    assert clocks is not None
    assert (clocks.detect.verdict, clocks.detect.measured) == (Verdict.FAIL, None)


def test_a_clock_that_nobody_could_read_is_unknown(folder: Path) -> None:
    (folder / "samples" / "alerts.jsonl").unlink()

    clocks = judge(folder).clocks

    assert clocks is not None
    assert (clocks.detect.verdict, clocks.detect.measured) == (Verdict.UNKNOWN, None)


def test_a_scenario_that_did_not_recover_fails_its_clock(folder: Path) -> None:
    change("journal.jsonl", {"event": "recovered", "injection": "proxy_down"}, event="not_recovered")(folder)

    clocks = judge(folder).clocks

    assert clocks is not None
    assert clocks.recover.verdict is Verdict.FAIL


@pytest.mark.parametrize("reading", [(-0.5, ()), (float("nan"), ())])
def test_a_signal_older_than_its_fault_is_no_measurement(recorded: Path, reading: tuple[float, tuple[()]]) -> None:
    clocks = dataclasses.replace(scenario().clocks, detect=lambda _case, _window: reading)

    result = judge(recorded, dataclasses.replace(scenario(), clocks=clocks))

    assert result.clocks is not None
    assert (result.clocks.detect.verdict, result.clocks.detect.measured) == (Verdict.UNKNOWN, None)


def test_a_clock_without_a_bound_is_unknown(folder: Path) -> None:
    path = folder / "environment.json"
    path.write_text(path.read_text().replace("detect_seconds", "detect_secs"))

    clocks = judge(folder).clocks

    assert clocks is not None
    assert (clocks.detect.verdict, clocks.detect.bound) == (Verdict.UNKNOWN, None)


# Alert precision.


def noise(name: str, t: float, state: str = "active") -> Callable[[Path], None]:
    return lasting(name, t, t, state)


def lasting(name: str, start: float, end: float, state: str = "active") -> Callable[[Path], None]:
    def noisy(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"alerts": [*row["alerts"], alert(name, state)]} if start <= row["t"] <= end else row

    return lambda folder: edit(folder, "samples/alerts.jsonl", noisy)


def page(name: str, t: float) -> Callable[[Path], None]:
    delivered = {"status": "firing", "labels": {"alertname": name, "severity": "high"}}
    row = {"t": t, "receiver": "page", "status": "firing", "alerts": [delivered]}
    return lambda folder: append(folder, "notifications.jsonl", row)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (noise("HighCPUUsage", 20.0), "HighCPUUsage was active because of proxy_down (t=20.0 s)"),
        (page("HighCPUUsage", 75.0), "HighCPUUsage was delivered because of silent_proxy (t=75.0 s)"),
        (lasting("HighServerErrorRate", 16.0, 22.0), "HighServerErrorRate was active because of proxy_down"),
        (page("HighServerErrorRate", 16.0), "HighServerErrorRate was delivered because of proxy_down"),
        (noise("HighMemoryUsage", 20.0, "suppressed"), "HighMemoryUsage was suppressed because of proxy_down"),
        (noise("DatabaseConnectionDown", 5.0), "DatabaseConnectionDown was active before any fault"),
        (page("DatabaseConnectionDown", 5.0), "DatabaseConnectionDown was delivered before any fault"),
    ],
)
def test_any_other_page_fails_the_claim_that_names_the_alert(
    folder: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(folder)

    result = judge(folder)

    assert claim(result, "FM01.D4").verdict is Verdict.FAIL
    assert reason in claim(result, "FM01.D4").reason
    assert result.verdict is Verdict.FAIL
    assert [each.id for each in result.claims if each.verdict is Verdict.FAIL] == ["FM01.D4"]


def test_a_fault_below_detection_must_not_page(recorded: Path) -> None:
    brief = dataclasses.replace(scenario().injections[0], judged_by_clocks=False)
    subject = dataclasses.replace(scenario(), injections=(brief, scenario().injections[1]))

    result = judge(recorded, subject)

    assert "DatabaseConnectionDown was active because of proxy_down" in claim(result, "FM01.D4").reason
    assert result.clocks is not None
    assert set(result.clocks.detect.by_injection) == {"silent_proxy"}


def test_a_co_alert_may_page(folder: Path) -> None:
    page("HighServerErrorRate", 16.0)(folder)

    result = judge(folder, dataclasses.replace(scenario(), co_alerts=frozenset({"HighServerErrorRate"})))

    assert claim(result, "FM01.D4").verdict is Verdict.PASS


def test_a_symptom_seen_just_before_its_cause_pages_nobody_and_is_forgiven(folder: Path) -> None:
    noise("HighServerErrorRate", 16.0)(folder)

    assert claim(judge(folder), "FM01.D4").verdict is Verdict.PASS


def test_an_alert_slow_to_resolve_blames_the_fault_that_raised_it(folder: Path) -> None:
    edit(
        folder,
        "samples/alerts.jsonl",
        lambda row: row | {"alerts": [alert("DatabaseConnectionDown", "active")]} if 19 <= row["t"] < 72 else row,
    )

    assert claim(judge(folder), "FM01.D4").verdict is Verdict.PASS


def test_alert_samples_nobody_can_read_leave_precision_unknown(folder: Path) -> None:
    edit(folder, "notifications.jsonl", lambda row: row | {"alerts": 7})

    assert claim(judge(folder), "FM01.D4").verdict is Verdict.UNKNOWN


# Runs that ended early.


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (drop("journal.jsonl", event="scenario_finished"), "the run did not finish"),
        (
            change("journal.jsonl", {"event": "scenario_finished"}, event="aborted", reason="Ctrl-C"),
            "the run was aborted: Ctrl-C",
        ),
        (
            change("journal.jsonl", {"event": "scenario_finished"}, event="harness_error", exception="OSError"),
            "the harness failed: OSError",
        ),
    ],
)
def test_a_run_cut_short_passes_nothing(folder: Path, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(folder)

    result = judge(folder)

    assert verdicts(result) == {Verdict.UNKNOWN}
    assert reason in result.reason
    assert result.verdict is Verdict.UNKNOWN


def test_a_harness_at_fault_is_said_so(folder: Path) -> None:
    change("journal.jsonl", {"event": "scenario_finished"}, event="harness_error", exception="OSError", message="x")(
        folder
    )

    assert judge(folder).harness_error == "OSError: x"


def spoil_environment(folder: Path) -> None:
    (folder / "environment.json").write_text("{}")


def spoil_journal(folder: Path) -> None:
    (folder / "journal.jsonl").write_text('{"t": 0.0, "event":\n{}\n')


def spoil_everything(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("spoil", [spoil_environment, spoil_journal, spoil_everything])
def test_evidence_that_cannot_be_read_is_unknown_throughout(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder)

    result = judge(folder)

    assert verdicts(result) == {Verdict.UNKNOWN}
    assert result.verdict is Verdict.UNKNOWN
    assert result.harness_error is not None
    assert len(result.claims) == 13


def test_history_torn_by_a_kill_is_read_to_its_last_whole_line(folder: Path) -> None:
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"t": 127.0, "op": 99')

    assert len(Evidence(folder).rows("history.jsonl")) > 500
    assert judge(folder).invariants[0].verdict is Verdict.PASS


def test_figures_count_what_clients_saw(recorded: Path) -> None:
    figures = judge(recorded).figures

    assert figures["requests"] == figures["requests_ok"] + figures["requests_fail"] + figures["requests_info"]
    assert 0 < figures["p99_before_seconds"] < 0.2
    assert 0.5 < figures["error_share_during_faults"] < 1
    assert 0.01 < figures["budget_share_spent"] < 0.05
