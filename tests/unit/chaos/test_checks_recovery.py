from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.checks.recovery import (
    RUNBOOK,
    nothing_restarts,
    reconnects_by_itself,
    recovered_after,
    runbook_step_ran,
    stays_alive,
    steady_again,
)
from chaos.scenario import Finding, Window
from chaos.verdict import Verdict
from tests.unit.chaos.recording import CLOSED, OPEN, REPLICA_NAMES, WINDOW, Recording

CHECKS = {
    "steady": steady_again(within_seconds=12),
    "reconnects": reconnects_by_itself(within_seconds=9),
    "restarts": nothing_restarts(),
    "alive": stays_alive(),
    "runbook": runbook_step_ran(2),
}
Plant = Callable[[Recording], object]


def recovered(recording: Recording) -> None:
    """The fault ends at 30.2 s, the replicas are connected again at 33 s; the rest is calm."""
    recording.health(0, 10)
    recording.health(10, 33, status=503, paths=["/health", "/health/ready"])
    recording.health(10, 33, paths=["/health/live"])
    recording.health(33, 41)
    recording.traffic(0, 10)
    recording.traffic(10, 33, answer="fail", ms=5)
    recording.traffic(33, 41)
    recording.metrics(0, 10, CLOSED)
    recording.metrics(10, 33, OPEN)
    recording.metrics(33, 41, CLOSED)
    recording.sessions(0, 10, 4)
    recording.sessions(10, 33, 0)
    recording.sessions(33, 41, 4)
    recording.restarts(0, 41, 0)
    recording.alerts(0, 41, DatabaseConnectionDown="active")
    for replica in REPLICA_NAMES:
        recording.log(replica, [(33, "database_reconnected", {}), (34, "request_finished", {})])
    step(recording, 2)


def step(recording: Recording, number: int, *, ok: bool = True, injection: str = "refused") -> None:
    recording.row(
        RUNBOOK,
        31,
        injection=injection,
        stage="recover",
        step=number,
        kind="check",
        command="pg_isready",
        exit_code=0 if ok else 2,
        seconds=0.2,
        ok=ok,
    )


def judged(name: str, folder: Path, *plants: Plant, window: Window = WINDOW) -> Finding:
    recording = Recording(folder)
    for plant in plants:
        plant(recording)
    return CHECKS[name](recording.case(window, pool_connections_min=2), window)


@pytest.mark.parametrize("name", CHECKS)
def test_a_recovery_is_accepted(name: str, tmp_path: Path) -> None:
    finding = judged(name, tmp_path, recovered)

    assert finding.verdict is Verdict.PASS, finding.reason


@pytest.mark.parametrize("name", CHECKS)
def test_an_empty_recording_is_unknown(name: str, tmp_path: Path) -> None:
    assert judged(name, tmp_path).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        pytest.param("steady", lambda r: r.traffic(30.5, 40, answer="fail", ms=5, per_second=1), id="still errors"),
        pytest.param("steady", lambda r: r.metrics(33, 40, OPEN, replicas=["replica-2"]), id="circuit still open"),
        pytest.param("steady", lambda r: r.health(33, 40, status=503), id="not ready"),
        pytest.param("alive", lambda r: r.health(20, 20.3, status=503), id="liveness red once"),
        pytest.param("alive", lambda r: r.health(20, 20.3, status=None), id="liveness silent once"),
        pytest.param("restarts", lambda r: r.restarts(20, 41, 1), id="counted restart"),
        pytest.param("restarts", lambda r: r.restarts(20, 41, 0, pid=101), id="another process"),
        pytest.param("runbook", lambda r: step(r, 2, ok=False), id="one command failed"),
    ],
)
def test_a_recovery_that_is_none_is_refused(name: str, plant: Plant, tmp_path: Path) -> None:
    finding = judged(name, tmp_path, recovered, plant)

    assert finding.verdict is Verdict.FAIL, finding.reason
    assert finding.evidence


def test_a_steady_state_that_comes_too_late_is_refused(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recovered(recording)

    finding = steady_again(within_seconds=2)(recording.case(pool_connections_min=2), WINDOW)

    assert finding.verdict is Verdict.FAIL
    assert "allowed" in finding.reason


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        pytest.param([(34, "request_finished", {})], Verdict.FAIL, id="never"),
        pytest.param(
            [(20, "database_reconnected", {}), (34, "request_finished", {})], Verdict.FAIL, id="during the fault"
        ),
        pytest.param([(39.9, "database_reconnected", {})], Verdict.FAIL, id="too late"),
        pytest.param([(30.1, "database_reconnected", {})], Verdict.PASS, id="before the receipt of undo was taken"),
    ],
)
def test_a_replica_must_say_in_time_that_it_is_connected_again(
    lines: list[tuple[float, str, dict[str, object]]], verdict: Verdict, tmp_path: Path
) -> None:
    def plant(recording: Recording) -> None:
        recording.health(0, 41)
        for replica in REPLICA_NAMES:
            recording.log(replica, lines)

    assert judged("reconnects", tmp_path, plant).verdict is verdict


def test_a_step_run_for_another_injection_does_not_count(tmp_path: Path) -> None:
    assert judged("runbook", tmp_path, lambda r: step(r, 2, injection="silent")).verdict is Verdict.UNKNOWN


def test_a_fault_that_was_not_seen_to_be_gone_cannot_be_recovered_from(tmp_path: Path) -> None:
    stuck = Window(injection="refused", baseline_steady=9.0, injected=10.0, undo_started=30.0)

    assert judged("steady", tmp_path, recovered, window=stuck).verdict is Verdict.UNKNOWN
    assert judged("reconnects", tmp_path, recovered, window=stuck).verdict is Verdict.UNKNOWN


def test_the_clock_of_recovery_runs_to_the_beginning_of_the_first_steady_stretch(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    assert recovered_after(recording.case(), WINDOW) == (None, ())

    recovered(recording)
    measured, evidence = recovered_after(recording.case(pool_connections_min=2), WINDOW)

    assert measured == pytest.approx(33 - 30.2, abs=0.3)
    assert evidence


def test_the_clock_of_recovery_tells_not_steady_from_not_looked(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.health(0, 41, status=503)

    measured, evidence = recovered_after(recording.case(), WINDOW)

    assert measured is None
    assert evidence


def test_the_stretch_the_engine_saw_is_found_again_when_nothing_followed_it(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.health(30, 32.1, status=503)
    recording.calm(32.1, 37.4)
    window = Window("refused", baseline_steady=9.0, injected=10.0, undo_started=30.0, undone=30.2, recovered=37.2)

    measured, _ = recovered_after(recording.case(window), window)

    assert measured == pytest.approx(2.0, abs=0.3)
