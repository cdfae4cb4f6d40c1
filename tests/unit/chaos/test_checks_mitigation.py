from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import pytest

from chaos.checks.attempts import Schedule, schedule_of
from chaos.checks.findings import WindowCheck
from chaos.checks.mitigation import (
    attempts_are_bounded,
    attempts_follow_backoff,
    circuit_opens,
    mitigated_after,
    pool_fills_unasked,
    pool_keeps_its_minimum,
    refusals_are_fast,
    requests_are_queued,
    waiting_is_bounded,
)
from chaos.scenario import Finding, Window
from chaos.verdict import Verdict
from tests.unit.chaos.recording import CLOSED, OPEN, REPLICA_NAMES, WINDOW, Recording

DOCUMENTED = Schedule(sequence=(1, 2, 4, 8, 16, 30, 30), jitter_share=0.1)
BLIP = Window(injection="blip", baseline_steady=9.0, injected=10.0, undo_started=11.0, undone=11.1, drained=20.0)
CHECKS: dict[str, tuple[WindowCheck, Window]] = {
    "backoff": (attempts_follow_backoff(DOCUMENTED, seen_from_outside=True), WINDOW),
    "bounded": (attempts_are_bounded(per_replica_max=8), WINDOW),
    "circuit": (circuit_opens(within_seconds=5), WINDOW),
    "refusals": (refusals_are_fast(answer_seconds=0.1), WINDOW),
    "queue": (requests_are_queued(wait_seconds_max=2.5), BLIP),
    "waiting": (waiting_is_bounded(wait_seconds_max=3, waiters_max=64), WINDOW),
    "pool": (pool_keeps_its_minimum(connections_min=2, within_seconds=5), WINDOW),
}
REFUSED = {"status": 503, "code": "database-unavailable", "retry_after": "4", "ms": 4.0}
Plant = Callable[[Recording], object]


def doing(*plants: Plant) -> Plant:
    """Plant several things after each other."""

    def plant(recording: Recording) -> None:
        for one in plants:
            one(recording)

    return plant


def attempts(
    recording: Recording,
    pauses: Sequence[float],
    *,
    logged: bool = True,
    seen: bool = True,
    replicas: Sequence[str] = REPLICA_NAMES,
    duration: float = 0.01,
) -> None:
    """Attempts from 10.1 s on; each takes ``duration`` and the next follows after its pause."""
    for replica in replicas:
        began = list(accumulate((pause + duration for pause in pauses), initial=10.1))
        if logged:
            facts = {"error_type": "refused", "attempt_seconds": duration}
            recording.log(replica, [(at + duration, "database_unreachable", facts) for at in began])
        if seen:
            recording.attempts(int(replica[-1]), began)


def mitigated(recording: Recording) -> None:
    """Requests wait at first; the circuits open at 12 s and from then on refuse at once; all is well after 32 s."""
    recording.health(0, 41)
    recording.traffic(0, 10)
    recording.traffic(10, 12, answer="fail", ms=1900, code="database-unavailable", retry_after="1", replica="replica-1")
    recording.traffic(12, 30, answer="fail", ms=4, code="database-unavailable", retry_after="4", replica="replica-1")
    waiting = {"firewall_waiting_room_waiters": 12.0}
    recording.metrics(0, 12, CLOSED | waiting)
    recording.metrics(12, 30, OPEN | {"firewall_waiting_room_waiters": 0.0})
    recording.metrics(30, 41, CLOSED)
    recording.direct(12.5, 30, **REFUSED)
    recording.sessions(0, 10, 4)
    recording.sessions(10, 32, 0)
    recording.sessions(32, 41, 2)
    attempts(recording, [1.05, 1.9, 4.2, 7.5])


def short_interruption(recording: Recording) -> None:
    """The database is away from 10 s to 11 s; writes of that second are answered when it is back."""
    recording.traffic(0, 10)
    for step in range(20):
        due = 10 + step / 20
        recording.operation(due, ms=(11.3 - due) * 1000, proposal=f"p{step}")
    recording.traffic(11.4, 20)


def judged(name: str, folder: Path, *plants: Plant) -> Finding:
    recording = Recording(folder)
    for plant in plants:
        plant(recording)
    check, window = CHECKS[name]
    return check(recording.case(window), window)


@pytest.mark.parametrize("name", CHECKS)
def test_a_mitigated_fault_is_accepted(name: str, tmp_path: Path) -> None:
    finding = judged(name, tmp_path, short_interruption if name == "queue" else mitigated)

    assert finding.verdict is Verdict.PASS, finding.reason
    assert finding.evidence


@pytest.mark.parametrize("name", CHECKS)
def test_an_empty_recording_is_unknown(name: str, tmp_path: Path) -> None:
    assert judged(name, tmp_path).verdict is Verdict.UNKNOWN


def looked_at(recording: Recording) -> None:
    recording.health(0, 41)


def without_first(pauses: Sequence[float]) -> Plant:
    def plant(recording: Recording) -> None:
        looked_at(recording)
        attempts(recording, pauses, replicas=["replica-1"])
        attempts(recording, [1, 2, 4, 8], replicas=["replica-2"])

    return plant


def log_hides_attempts(recording: Recording) -> None:
    looked_at(recording)
    attempts(recording, [1, 2, 4, 8], seen=False)
    for number in (1, 2):
        recording.attempts(number, [10.1 + step / 2 for step in range(31)])


def log_invents_attempts(recording: Recording) -> None:
    looked_at(recording)
    attempts(recording, [1, 2, 4, 8], seen=False)
    for number in (1, 2):
        recording.attempts(number, [10.1])


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        pytest.param(without_first([1, 1, 1, 1, 1]), "pause 2 was 1.00 s", id="fixed at one second"),
        pytest.param(without_first([0, 0, 0, 0, 0]), "pause 1 was 0.00 s", id="no pause at all"),
        pytest.param(without_first([1, 2, 4, 12]), "pause 4 was 12.00 s", id="too long"),
        pytest.param(without_first([1, 2, 5, 8]), "pause 3 was 5.00 s", id="more jitter than documented"),
        pytest.param(log_hides_attempts, "the log does not tell of", id="attempts the log hides"),
        pytest.param(log_invents_attempts, "Toxiproxy did not see", id="attempts that never arrived"),
    ],
)
def test_a_backoff_that_is_not_the_documented_one_is_refused(plant: Plant, reason: str, tmp_path: Path) -> None:
    finding = judged("backoff", tmp_path, plant)

    assert finding.verdict is Verdict.FAIL
    assert reason in finding.reason


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(without_first([1]), id="too few attempts to tell"),
        pytest.param(doing(looked_at, lambda r: attempts(r, [1, 2, 4], seen=False)), id="nobody outside saw them"),
    ],
)
def test_a_backoff_that_cannot_be_told_is_unknown(plant: Plant, tmp_path: Path) -> None:
    assert judged("backoff", tmp_path, plant).verdict is Verdict.UNKNOWN


def test_a_connection_of_the_harness_before_its_receipt_is_not_held_against_the_service(tmp_path: Path) -> None:
    assert judged("backoff", tmp_path, mitigated, lambda r: r.attempts(1, [10.15, 29.9])).verdict is Verdict.PASS


def test_attempts_that_hang_until_their_deadline_do_not_count_as_pauses(tmp_path: Path) -> None:
    def hanging(recording: Recording) -> None:
        looked_at(recording)
        attempts(recording, [1, 2, 4], duration=2.0)

    assert judged("backoff", tmp_path, hanging).verdict is Verdict.PASS


def test_the_schedule_is_read_from_the_expectations_and_its_last_step_repeats() -> None:
    schedule = schedule_of({"backoff_sequence_seconds": [1, 2, 4, 8, 8], "backoff_jitter_share": 0.1})

    assert schedule.allowed(0) == pytest.approx((0.75, 1.25))
    assert schedule.allowed(9) == schedule.allowed(4) == pytest.approx((7.05, 8.95))


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        pytest.param(
            "bounded", doing(mitigated, lambda r: r.attempts(1, [13 + n / 10 for n in range(100)])), id="storm"
        ),
        pytest.param(
            "bounded",
            doing(looked_at, lambda r: r.traffic(10, 30, per_second=5.5), lambda r: attempts(r, [0.5] * 35)),
            id="as many attempts as requests",
        ),
        pytest.param("circuit", doing(looked_at, lambda r: r.metrics(0, 41, CLOSED)), id="stayed closed"),
        pytest.param(
            "circuit",
            doing(looked_at, lambda r: r.metrics(0, 16, CLOSED), lambda r: r.metrics(16, 30, OPEN)),
            id="opened too late",
        ),
        pytest.param(
            "circuit",
            doing(
                looked_at,
                lambda r: r.metrics(0, 10, CLOSED),
                lambda r: r.metrics(10, 30, OPEN, replicas=["replica-1"]),
                lambda r: r.metrics(10, 30, CLOSED, replicas=["replica-2"]),
            ),
            id="only one opened",
        ),
        pytest.param(
            "refusals",
            doing(mitigated, lambda r: r.direct(15, 16, **(REFUSED | {"retry_after": None}))),
            id="no Retry-After",
        ),
        pytest.param(
            "refusals",
            doing(mitigated, lambda r: r.direct(15, 20, **(REFUSED | {"ms": 2000.0}))),
            id="refused slowly",
        ),
        pytest.param(
            "refusals", doing(mitigated, lambda r: r.direct(15, 25, error="timeout", ms=5000.0)), id="never answered"
        ),
        pytest.param(
            "refusals", doing(mitigated, lambda r: r.direct(15, 20, status=200, ms=4.0)), id="served as if nothing were"
        ),
        pytest.param(
            "waiting", doing(mitigated, lambda r: r.operation(15, answer="fail", ms=3500)), id="waited too long"
        ),
        pytest.param(
            "waiting",
            doing(mitigated, lambda r: r.metrics(15, 16, {"firewall_waiting_room_waiters": 65.0})),
            id="too many waited",
        ),
        pytest.param("pool", doing(looked_at, lambda r: r.sessions(0, 41, 1)), id="never had its minimum"),
        pytest.param(
            "pool", doing(looked_at, lambda r: r.sessions(0, 10, 4), lambda r: r.sessions(10, 41, 1)), id="not again"
        ),
        pytest.param(
            "pool",
            doing(
                looked_at,
                lambda r: r.sessions(0, 10, 4),
                lambda r: r.sessions(10, 36, 0),
                lambda r: r.sessions(36, 41, 2),
            ),
            id="again, but late",
        ),
        pytest.param("pool", doing(mitigated, lambda r: r.sessions(35.1, 36, 0)), id="lost again"),
        pytest.param(
            "pool",
            doing(
                looked_at,
                lambda r: r.sessions(0, 10, 4),
                lambda r: r.sessions(10, 31, 0),
                lambda r: r.sessions(31, 32, 2),
                lambda r: r.sessions(32, 33, 0),
                lambda r: r.sessions(33, 41, 2),
            ),
            id="made, lost and made again within the bound",
        ),
        pytest.param("pool", doing(looked_at, lambda r: r.sessions(0, 41, 4)), id="only what the fault left behind"),
        pytest.param(
            "pool",
            doing(looked_at, lambda r: r.sessions(0, 10, 4), lambda r: r.sessions(30, 41, 2, replicas=["replica-1"])),
            id="one replica stayed without",
        ),
    ],
)
def test_a_mitigation_that_is_not_there_is_refused(name: str, plant: Plant, tmp_path: Path) -> None:
    finding = judged(name, tmp_path, plant)

    assert finding.verdict is Verdict.FAIL, finding.reason


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        pytest.param(
            lambda r: r.traffic(10, 11, answer="fail", ms=3), "0 of 20 writes were kept", id="refused, never queued"
        ),
        pytest.param(
            lambda r: r.traffic(10.1, 10.8, ms=20), "acknowledged while the database was away", id="ack of a queued one"
        ),
        pytest.param(
            lambda r: [r.operation(10 + n / 20, ms=4000, proposal="p") for n in range(20)],
            "allowed",
            id="waited too long",
        ),
    ],
)
def test_queueing_that_is_not_temporary_queueing_is_refused(plant: Plant, reason: str, tmp_path: Path) -> None:
    finding = judged("queue", tmp_path, plant)

    assert finding.verdict is Verdict.FAIL
    assert reason in finding.reason


def test_a_circuit_that_was_open_before_the_fault_proves_nothing(tmp_path: Path) -> None:
    def open_before(recording: Recording) -> None:
        looked_at(recording)
        recording.metrics(0, 30, OPEN)

    assert judged("circuit", tmp_path, open_before).verdict is Verdict.UNKNOWN


def test_refusals_of_a_circuit_nobody_looked_at_are_unknown(tmp_path: Path) -> None:
    def without_metrics(recording: Recording) -> None:
        looked_at(recording)
        recording.direct(0, 30, status=503, retry_after="1", ms=4)

    assert judged("refusals", tmp_path, without_metrics).verdict is Verdict.UNKNOWN


def test_the_clock_of_mitigation_tells_not_seen_from_not_looked(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    assert mitigated_after(recording.case(), WINDOW) == (None, ())

    recording.metrics(0, 14, CLOSED)
    measured, evidence = mitigated_after(recording.case(), WINDOW)
    assert measured is None
    assert evidence

    recording.metrics(14, 20, OPEN)
    measured, _ = mitigated_after(recording.case(), WINDOW)
    assert measured == pytest.approx(4.0)


def test_sessions_that_a_fault_left_behind_neither_count_nor_are_they_lost(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    check, window = CHECKS["pool"]
    looked_at(recording)
    recording.sessions(0, 32, 4)  # WINDOW is undone at 30.2: what the database has not noticed yet
    recording.sessions(32, 33, 0)
    recording.sessions(33, 41, 2)

    finding = check(recording.case(), window)

    assert finding.verdict is Verdict.PASS, finding.reason
    assert "2.8" in finding.reason


UNASKED = pool_fills_unasked(connections_min=5, within_seconds=3, in_flight_max=2)


def test_a_pool_that_fills_while_nobody_asks_keeps_a_minimum(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    looked_at(recording)
    recording.sessions(9, 12, 5)  # the old ones, which do not count
    recording.sessions(12.01, 20, 5)
    recording.operation(13, ms=20)

    finding = UNASKED(recording.case(), WINDOW)

    assert finding.verdict is Verdict.PASS, finding.reason
    assert "1 asked at once" in finding.reason


@pytest.mark.parametrize(
    ("begun", "count", "reason"),
    [
        pytest.param(12.01, 4, "4 sessions without being asked, 5 are its minimum", id="only what was needed"),
        pytest.param(14.01, 5, "3.00 s allowed", id="too late"),
    ],
)
def test_a_pool_that_fills_late_or_by_demand_is_refused(begun: float, count: int, reason: str, tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    looked_at(recording)
    recording.sessions(9, 10, 5)
    recording.sessions(begun, 20, count)

    finding = UNASKED(recording.case(), WINDOW)

    assert finding.verdict is Verdict.FAIL, finding.reason
    assert reason in finding.reason


def test_a_pool_that_was_asked_or_not_looked_at_says_nothing_of_a_minimum(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    assert UNASKED(recording.case(), WINDOW).verdict is Verdict.UNKNOWN

    recording.sessions(12.01, 20, 9)
    for each in range(3):
        recording.operation(13 + each / 100, ms=500)

    finding = UNASKED(recording.case(), WINDOW)

    assert finding.verdict is Verdict.UNKNOWN
    assert "3 requests at once" in finding.reason
