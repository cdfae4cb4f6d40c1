"""A recorded rolling update to a wrong configuration: the one that went as documented, and those that did not."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chaos.checks.configuration import (
    SETTINGS,
    defaults_are_sensible,
    ends_with,
    fails_fast,
    log_keeps_to_lines,
    never_serves,
    refused_after,
    settings_are_refused,
    staging_starts_first,
    starts_after_repair,
)
from chaos.probes.replicas import REPLICAS
from chaos.scenario import Finding, Window
from chaos.verdict import Verdict
from tests.unit.chaos.recording import REPLICA_NAMES, WINDOW, Recording

NEW = "replica-3"
PASTED = "a-secret-in-the-wrong-place"
PROBLEMS = {"FIREWALL_PORT": "not acceptable", "FIREWALL_DATABASE_HOST": "missing"}
CHECKS = {
    "ends": ends_with(exit_code=78, ends_min=2),
    "serves": never_serves(),
    "fast": fails_fast(exit_code=78, within_seconds=2),
    "named": settings_are_refused({"FIREWALL_PORT": None, "FIREWALL_DATABASE_HOST": "missing"}, within_seconds=8),
    "lines": log_keeps_to_lines(never=[PASTED]),
    "defaults": defaults_are_sensible(
        defaults=[["FIREWALL_BREAKER_FAILURES", "5"], ["FIREWALL_PORT", "8000"]],
        never_defaulted=["FIREWALL_API_KEY_PEPPER_FILE"],
    ),
    "repaired": starts_after_repair(),
    "staging": staging_starts_first(),
}
Plant = Callable[[Recording], object]


def looks(recording: Recording, start: float, end: float, *, staged: bool = False, **state: Any) -> None:
    """What runs the replicas says of the new one, twice a second; staging's is ready, or not."""
    staging = {"ready": staged, "restarts": 9, "last_exit_code": 1, "environment": "staging"}
    for step in range(round((end - start) * 2)):
        old = {name: {"pid": 1, "ready": True, "restarts": 0} for name in REPLICA_NAMES}
        recording.row(
            REPLICAS,
            start + step / 2,
            replicas={**old, NEW: {"ready": False, "restarts": 0, **state}, "staging": staging},
        )


def ended(recording: Recording, start: float, end: float, restarts: int, **state: Any) -> None:
    looks(recording, start, end, **{"last_exit_code": 78, "last_seconds": 0.7, "restarts": restarts, **state})


def refusals(recording: Recording, t: float, problems: Mapping[str, str] = PROBLEMS, *, lines: bool = True) -> None:
    """A line of the log and a line for people, for each problem."""
    for name, problem in problems.items():
        facts = {"setting": name, "problem": problem, "accepted": "something else"}
        recording.log(NEW, [(t, "setting_refused", facts)])
        if lines:
            said(recording, f"{name}: {problem}; accepted: something else")


def said(recording: Recording, line: str) -> None:
    with (recording.folder / "logs" / f"{NEW}.log").open("a") as log:
        log.write(line + "\n")


def effective(recording: Recording, **changes: dict[str, str]) -> None:
    settings = {
        "FIREWALL_BREAKER_FAILURES": {"value": "5", "source": "default"},
        "FIREWALL_PORT": {"value": "15001", "source": "environment"},
        "FIREWALL_API_KEY_PEPPER_FILE": {"value": "(secret, from /x)", "source": "environment"},
    }
    recording.row(SETTINGS, 5, exit_code=0, settings=settings | changes)


def refused(recording: Recording) -> None:
    """The new replica comes at 10.5 s, ends at 11.5 and 13 s and so on, and is ready once the repair was made."""
    recording.health(0, 41)
    recording.restarts(0, 10, 0)
    effective(recording)
    looks(recording, 10.5, 11.5)
    ended(recording, 11.5, 13, 1)
    ended(recording, 13, 16, 2)
    ended(recording, 16, 30, 3)
    refusals(recording, 11.2)
    refusals(recording, 12.9)
    ended(recording, 30, 30.5, 3, staged=True)
    ended(recording, 30.1, 30.6, 3, ready=True, staged=True)


def judged(name: str, folder: Path, *plants: Plant, window: Window = WINDOW) -> Finding:
    recording = Recording(folder)
    for plant in plants:
        plant(recording)
    return CHECKS[name](recording.case(window), window)


@pytest.mark.parametrize("name", CHECKS)
def test_a_configuration_that_is_refused_as_documented_is_accepted(name: str, tmp_path: Path) -> None:
    finding = judged(name, tmp_path, refused)

    assert finding.verdict is Verdict.PASS, finding.reason
    assert finding.evidence


@pytest.mark.parametrize("name", CHECKS)
def test_an_empty_recording_is_unknown(name: str, tmp_path: Path) -> None:
    assert judged(name, tmp_path).verdict is Verdict.UNKNOWN


def calm(recording: Recording) -> None:
    """No new replica came at all."""
    recording.health(0, 41)
    recording.restarts(0, 41, 0)


@pytest.mark.parametrize("name", ["ends", "serves", "fast", "named", "lines", "repaired", "staging"])
def test_nothing_is_concluded_without_a_new_replica(name: str, tmp_path: Path) -> None:
    assert judged(name, tmp_path, calm).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        pytest.param("ends", lambda r: ended(r, 16, 20, 4, last_exit_code=1), id="another exit code, once"),
        pytest.param("serves", lambda r: ended(r, 16, 17, 4, ready=True), id="ready once"),
        pytest.param("serves", lambda r: r.log(NEW, [(16, "service_started", {})]), id="says it has started"),
        pytest.param("fast", lambda r: ended(r, 20, 22, 4, last_seconds=2.1), id="one life too long"),
        pytest.param("fast", lambda r: ended(r, 20, 22, 4, last_exit_code=1), id="one life ended otherwise"),
        pytest.param("lines", lambda r: said(r, f"cannot connect to {PASTED}"), id="a value that may be a secret"),
        pytest.param("lines", lambda r: said(r, "Traceback (most recent call last):"), id="a traceback"),
        pytest.param(
            "lines", lambda r: refusals(r, 14, {"FIREWALL_HOST": "blank"}, lines=False), id="a problem without a line"
        ),
        pytest.param(
            "defaults",
            lambda r: effective(r, FIREWALL_BREAKER_FAILURES={"value": "500", "source": "default"}),
            id="another default",
        ),
        pytest.param(
            "defaults",
            lambda r: effective(r, FIREWALL_API_KEY_PEPPER_FILE={"value": "(secret)", "source": "default"}),
            id="a secret that is guessed",
        ),
    ],
)
def test_a_configuration_that_is_not_refused_as_documented_is_refused(name: str, plant: Plant, tmp_path: Path) -> None:
    finding = judged(name, tmp_path, refused, plant)

    assert finding.verdict is Verdict.FAIL, finding.reason
    assert finding.evidence


@pytest.mark.parametrize("name", ["ends", "fast", "named", "lines"])
def test_a_replica_that_goes_on_running_is_refused(name: str, tmp_path: Path) -> None:
    def runs(recording: Recording) -> None:
        recording.health(0, 41)
        looks(recording, 10.5, 30, ready=True)

    assert judged(name, tmp_path, runs).verdict is Verdict.FAIL


def test_one_end_is_no_crash_loop(tmp_path: Path) -> None:
    def once(recording: Recording) -> None:
        recording.health(0, 41)
        ended(recording, 11, 30, 1)

    assert judged("ends", tmp_path, once).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("t", "problems", "why"),
    [
        pytest.param(
            11, {"FIREWALL_PORT": "not acceptable"}, "not refused: FIREWALL_DATABASE_HOST", id="one is not named"
        ),
        pytest.param(11, {**PROBLEMS, "FIREWALL_DATABASE_HOST": "blank"}, "not refused", id="in other words"),
        pytest.param(19, PROBLEMS, "8.00 s allowed", id="too late"),
        pytest.param(9, PROBLEMS, "logged nothing", id="before the fault"),
    ],
)
def test_every_wrong_setting_must_be_named_in_time(
    t: float, problems: Mapping[str, str], why: str, tmp_path: Path
) -> None:
    def plant(recording: Recording) -> None:
        recording.health(0, 41)
        ended(recording, 11, 30, 2)
        refusals(recording, t, problems)

    finding = judged("named", tmp_path, plant)

    assert finding.verdict is Verdict.FAIL
    assert why in finding.reason


def test_a_replica_that_is_not_ready_after_the_repair_is_refused(tmp_path: Path) -> None:
    def plant(recording: Recording) -> None:
        recording.health(0, 41)
        ended(recording, 11, 31, 3)

    assert judged("repaired", tmp_path, plant).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, {"ready": True}, id="staging never"),
        pytest.param({"ready": True}, {"ready": True, "staged": True}, id="staging later"),
        pytest.param({"ready": True, "staged": True}, {"ready": True, "staged": True}, id="both at once"),
        pytest.param({"staged": True}, {"staged": True}, id="production never"),
    ],
)
def test_production_must_not_start_before_staging_did(
    before: dict[str, bool], after: dict[str, bool], tmp_path: Path
) -> None:
    def plant(recording: Recording) -> None:
        recording.health(0, 41)
        ended(recording, 11, 30, 3)
        ended(recording, 30, 30.5, 3, **before)
        ended(recording, 30.1, 30.6, 3, **after)

    finding = judged("staging", tmp_path, plant)

    assert finding.verdict is Verdict.FAIL
    assert finding.evidence


def test_defaults_that_were_all_given_show_nothing(tmp_path: Path) -> None:
    given = {"value": "5", "source": "environment"}

    assert (
        judged("defaults", tmp_path, lambda r: effective(r, FIREWALL_BREAKER_FAILURES=given)).verdict is Verdict.UNKNOWN
    )


def test_the_clock_of_mitigation_runs_to_the_first_end_of_the_new_replica(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    assert refused_after(recording.case(), WINDOW) == (None, ())

    refused(recording)
    measured, evidence = refused_after(recording.case(), WINDOW)

    assert measured == pytest.approx(1.5)
    assert evidence


def test_the_clock_of_mitigation_tells_not_ended_from_not_looked(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.health(0, 41)
    looks(recording, 10.5, 30)

    measured, evidence = refused_after(recording.case(), WINDOW)

    assert measured is None
    assert evidence
