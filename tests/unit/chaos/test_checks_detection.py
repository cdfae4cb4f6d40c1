from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.checks.detection import (
    alert_fires,
    alert_goes_only_to,
    alert_is_delivered,
    counter_increases,
    first_active,
    health_turns_red,
    log_event_appears,
    nothing_else_pages,
)
from chaos.checks.findings import WindowCheck
from chaos.probes.notifications import NOTIFICATIONS
from chaos.scenario import ExpectedAlerts, Finding, Window
from chaos.verdict import Verdict
from tests.unit.chaos.recording import REPLICA_NAMES, WINDOW, Recording

ALERT = "DatabaseConnectionDown"
ERRORS = 'firewall_db_errors_total{error_type="connection"}'
EXPECTED = ExpectedAlerts(firing=frozenset({ALERT}), suppressed=frozenset({"HighServerErrorRate"}))
CHECKS = {
    "health": health_turns_red(within_seconds=5),
    "log": log_event_appears("database_unreachable", within_seconds=5, facts={"error_type": {"refused", "timeout"}}),
    "counter": counter_increases(ERRORS, within_seconds=5),
    "alert": alert_fires(ALERT, within_seconds=8),
    "delivery": alert_is_delivered(ALERT, within_seconds=15),
    "others": nothing_else_pages(EXPECTED, settle_seconds=4),
}
Plant = Callable[[Recording], object]


def detected(recording: Recording) -> None:
    """The fault comes at 10 s: health turns red at 11 s, the alert is active at 13 s and delivered at 17 s."""
    recording.health(0, 11)
    recording.health(11, 30, status=503, paths=["/health", "/health/ready"])
    recording.health(11, 30, paths=["/health/live"])
    recording.metrics(0, 11, {ERRORS: 3})
    recording.metrics(11, 30, {ERRORS: 9})
    for replica in REPLICA_NAMES:
        recording.log(replica, [(t, "request_finished", {}) for t in range(1, 10)])
        recording.log(replica, [(10.5, "database_unreachable", {"error_type": "refused"})])
    recording.alerts(0, 12)
    recording.alerts(12, 13, HighServerErrorRate="active")
    recording.alerts(13, 41, HighServerErrorRate="suppressed", DatabaseConnectionDown="active")
    deliver(recording, 1, "Watchdog")
    deliver(recording, 17, ALERT)


def deliver(recording: Recording, t: float, *names: str, status: str = "firing") -> None:
    alerts = [{"name": name, "status": status, "labels": {}} for name in names]
    recording.row(NOTIFICATIONS, t, receiver="page", status=status, alerts=alerts)


def of_env(recording: Recording, t: float, env: str, receiver: str) -> None:
    alerts = [{"name": ALERT, "status": "firing", "labels": {"env": env}}]
    recording.row(NOTIFICATIONS, t, receiver=receiver, status="firing", alerts=alerts)


def judged(check: WindowCheck, folder: Path, *plants: Plant) -> Finding:
    recording = Recording(folder)
    for plant in plants:
        plant(recording)
    return check(recording.case(), WINDOW)


@pytest.mark.parametrize("name", CHECKS)
def test_a_detected_fault_is_accepted(name: str, tmp_path: Path) -> None:
    finding = judged(CHECKS[name], tmp_path, detected)

    assert finding.verdict is Verdict.PASS, finding.reason
    assert finding.evidence


@pytest.mark.parametrize("name", CHECKS)
def test_an_empty_recording_is_unknown(name: str, tmp_path: Path) -> None:
    assert judged(CHECKS[name], tmp_path).verdict is Verdict.UNKNOWN


def test_an_alert_of_another_environment_is_none_of_this_one(tmp_path: Path) -> None:
    def plant(recording: Recording) -> None:
        detected(recording)
        of_env(recording, 18, "staging", "team")

    assert judged(alert_is_delivered(ALERT, within_seconds=15, env="staging"), tmp_path, plant).verdict is Verdict.PASS
    elsewhere = judged(alert_is_delivered(ALERT, within_seconds=15, env="production"), tmp_path)
    assert elsewhere.verdict is Verdict.FAIL
    assert judged(alert_fires(ALERT, within_seconds=8, env="production"), tmp_path).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("deliveries", "verdict"),
    [
        pytest.param([(17, "staging", "team"), (17, "production", "page")], Verdict.PASS, id="to the team"),
        pytest.param([(17, "staging", "team"), (18, "staging", "page")], Verdict.FAIL, id="to the pager too"),
        pytest.param([(17, "production", "team")], Verdict.FAIL, id="another environment's"),
        pytest.param([(26, "staging", "team")], Verdict.FAIL, id="too late"),
        pytest.param([], Verdict.FAIL, id="to nobody"),
    ],
)
def test_who_is_told_of_a_lower_environment(
    deliveries: list[tuple[float, str, str]], verdict: Verdict, tmp_path: Path
) -> None:
    def plant(recording: Recording) -> None:
        deliver(recording, 1, "Watchdog")
        for t, env, receiver in deliveries:
            of_env(recording, t, env, receiver)

    check = alert_goes_only_to("team", ALERT, env="staging", within_seconds=15)

    assert judged(check, tmp_path).verdict is Verdict.UNKNOWN
    assert judged(check, tmp_path, plant).verdict is verdict


def calm_throughout(recording: Recording) -> None:
    recording.calm(0, 41)
    recording.metrics(0, 41, {ERRORS: 3})
    for replica in REPLICA_NAMES:
        recording.log(replica, [(t, "request_finished", {}) for t in range(1, 41)])
    deliver(recording, 1, "Watchdog")


@pytest.mark.parametrize("name", ["health", "log", "counter", "alert", "delivery"])
def test_a_fault_nobody_noticed_is_refused(name: str, tmp_path: Path) -> None:
    assert judged(CHECKS[name], tmp_path, calm_throughout).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(health_turns_red(within_seconds=0.5), id="health"),
        pytest.param(log_event_appears("database_unreachable", within_seconds=0.4), id="log"),
        pytest.param(counter_increases(ERRORS, within_seconds=0.5), id="counter"),
        pytest.param(alert_fires(ALERT, within_seconds=2.5), id="alert"),
        pytest.param(alert_is_delivered(ALERT, within_seconds=6), id="delivery"),
    ],
)
def test_a_detection_that_comes_too_late_is_refused(check: WindowCheck, tmp_path: Path) -> None:
    finding = judged(check, tmp_path, detected)

    assert finding.verdict is Verdict.FAIL
    assert "allowed" in finding.reason


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        pytest.param("health", lambda r: r.health(8, 9, status=503), id="red before"),
        pytest.param(
            "log",
            lambda r: r.log("replica-2", [(8, "database_unreachable", {"error_type": "refused"})]),
            id="logged before",
        ),
        pytest.param("alert", lambda r: r.alerts(8, 9, DatabaseConnectionDown="active"), id="active before"),
    ],
)
def test_a_signal_that_was_there_before_the_fault_detects_nothing(name: str, plant: Plant, tmp_path: Path) -> None:
    assert judged(CHECKS[name], tmp_path, detected, plant).verdict is Verdict.UNKNOWN


def test_a_counter_that_moved_before_the_fault_detects_nothing(tmp_path: Path) -> None:
    def moving(recording: Recording) -> None:
        recording.health(0, 30)
        recording.metrics(4, 8, {ERRORS: 2})
        recording.metrics(8, 10, {ERRORS: 3})
        recording.metrics(11, 30, {ERRORS: 9})

    assert judged(CHECKS["counter"], tmp_path, moving).verdict is Verdict.UNKNOWN


def test_one_replica_that_notices_nothing_spoils_the_claim(tmp_path: Path) -> None:
    def half_detected(recording: Recording) -> None:
        recording.health(0, 30, replicas=["replica-2"])
        recording.health(0, 11, replicas=["replica-1"])
        recording.health(11, 30, status=503, replicas=["replica-1"])

    finding = judged(CHECKS["health"], tmp_path, half_detected)

    assert finding.verdict is Verdict.FAIL
    assert finding.reason.startswith("replica-2")


def test_a_health_check_that_only_hangs_does_not_answer_503(tmp_path: Path) -> None:
    def hanging(recording: Recording) -> None:
        recording.health(0, 11)
        recording.health(11, 30, status=None)

    assert judged(CHECKS["health"], tmp_path, hanging).verdict is Verdict.FAIL


def test_an_error_of_another_kind_in_the_log_is_not_the_one(tmp_path: Path) -> None:
    def other(recording: Recording) -> None:
        recording.health(0, 30)
        for replica in REPLICA_NAMES:
            recording.log(replica, [(t, "request_finished", {}) for t in range(1, 10)])
            recording.log(replica, [(11, "database_unreachable", {"error_type": "authentication"})])

    assert judged(CHECKS["log"], tmp_path, other).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(lambda r: r.alerts(20, 21, HighMemoryUsage="active"), id="an alert of another mode"),
        pytest.param(lambda r: r.alerts(20, 21, HighServerErrorRate="active"), id="the symptom, no longer inhibited"),
        pytest.param(lambda r: deliver(r, 20, "HighServerErrorRate"), id="the symptom was delivered"),
        pytest.param(lambda r: deliver(r, 20, ALERT, "HighMemoryUsage"), id="delivered along with the right one"),
    ],
)
def test_any_other_page_is_refused(plant: Plant, tmp_path: Path) -> None:
    assert judged(CHECKS["others"], tmp_path, detected, plant).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(lambda r: r.alerts(20, 21, HighMemoryUsage="suppressed"), id="suppressed"),
        pytest.param(lambda r: deliver(r, 20, "HighMemoryUsage", status="resolved"), id="resolved"),
        pytest.param(lambda r: r.alerts(5, 9, HighMemoryUsage="active"), id="before the fault"),
    ],
)
def test_what_pages_nobody_because_of_the_fault_is_accepted(plant: Plant, tmp_path: Path) -> None:
    assert judged(CHECKS["others"], tmp_path, detected, plant).verdict is Verdict.PASS


def test_a_symptom_without_its_cause_pages_after_the_settling_time(tmp_path: Path) -> None:
    def symptom_only(recording: Recording) -> None:
        recording.alerts(0, 12)
        recording.alerts(12, 30, HighServerErrorRate="active")

    assert judged(CHECKS["others"], tmp_path, symptom_only).verdict is Verdict.FAIL


def test_the_clock_of_detection_tells_not_seen_from_not_looked(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    assert first_active(recording.case(), WINDOW, ALERT) == (None, ())

    recording.alerts(0, 13)
    measured, evidence = first_active(recording.case(), WINDOW, ALERT)
    assert measured is None
    assert evidence

    recording.alerts(13, 20, DatabaseConnectionDown="active")
    measured, evidence = first_active(recording.case(), WINDOW, ALERT)
    assert measured == pytest.approx(3.0)
    assert evidence


def test_what_happens_while_the_act_is_under_way_counts_and_takes_no_time(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    detected(recording)
    slow = Window("stop", baseline_steady=9.0, injection_started=10.0, injected=12.0, undo_started=30.0, drained=41.0)

    finding = health_turns_red(within_seconds=0)(recording.case(slow), slow)

    assert finding.verdict is Verdict.PASS, finding.reason
    assert first_active(recording.case(slow), slow, ALERT)[0] == pytest.approx(1.0)
