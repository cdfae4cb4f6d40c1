"""Profiles scale durations and nothing else; expectations are one flat mapping a mode."""

import json
from pathlib import Path

import msgspec
import pytest

from slo import alerts as alert_specification
from slo import expectations, files, profiles, rules
from slo.files import InvalidSpecificationError


def test_there_are_two_profiles_and_no_other() -> None:
    assert profiles.names() == ("documented", "fast")
    with pytest.raises(InvalidSpecificationError, match="no profile 'doc'"):
        profiles.load("doc")


def test_both_profiles_name_the_same_durations() -> None:
    assert set(profiles.load("documented").durations) == set(profiles.load("fast").durations)


def test_the_documented_profile_has_the_decided_patience_and_leaves_the_service_alone() -> None:
    documented = profiles.load("documented")

    patience = [documented.seconds(f"for_{level}") for level in ("critical", "high", "medium")]
    assert patience == [30, 120, 300]  # decision 13
    assert documented.service == {}


def test_the_fast_profile_shows_doubling_and_cap_of_the_backoff_within_25_seconds() -> None:
    fast = profiles.load("fast")
    sequence = expectations.load("FM01", fast)["backoff_sequence_seconds"]

    assert fast.service == {"FIREWALL_DATABASE_BACKOFF_MAX_SECONDS": "8"}
    assert sequence == [1, 2, 4, 8, 8]
    assert sum(sequence) <= 25


def test_an_unknown_duration_is_an_error() -> None:
    with pytest.raises(InvalidSpecificationError, match="no duration 'windw'"):
        profiles.load("fast").seconds("windw")


def test_expressions_differ_between_the_profiles_only_in_durations() -> None:
    specified = alert_specification.load()
    documented, fast = profiles.load("documented"), profiles.load("fast")

    for alert in specified.alerts:
        one, other = (rules.rule(alert, specified, profile)["expr"] for profile in (documented, fast))
        template = alert.expression.strip()
        for name in sorted(documented.durations, key=len, reverse=True):
            place = "${" + name + "}"
            if place in template:
                template = template.replace(place, "\0")
        pieces = template.split("\0")
        assert all(piece in one and piece in other for piece in pieces)


def test_a_literal_range_would_not_follow_the_profile() -> None:
    specified = alert_specification.load()
    alert = msgspec.structs.replace(specified.named("DatabaseSlowQueries"), expression="rate(x_total[5m]) > 1")

    with pytest.raises(InvalidSpecificationError, match="named duration"):
        rules.rule(alert, specified, profiles.load("fast"))


@pytest.mark.parametrize("name", profiles.names())
def test_what_fm01_is_held_to(name: str) -> None:
    expected = expectations.load("FM01", profiles.load(name))

    assert json.loads(json.dumps(expected)) == expected
    assert expected["alert"] == "DatabaseConnectionDown"
    assert expected["detect_seconds"] == {"documented": 73, "fast": 8}[name]
    assert expected["mitigate_seconds"] == 5
    assert expected["recover_seconds"] <= 33
    assert expected["budget_share_max"] == {"documented": 0.05, "fast": 0.024}[name]
    assert expected["response_time_seconds"] == 300
    # Target: detection uses about a quarter of the time a person has to respond.
    assert expected["detect_seconds"] <= 0.25 * expected["response_time_seconds"]


@pytest.mark.parametrize("name", profiles.names())
def test_the_backoff_sequence_follows_from_its_constants(name: str) -> None:
    """Decision 4: 1, 2, 4, 8, 16, 30, 30 ..."""
    expected = expectations.load("FM01", profiles.load(name))
    cap = expected["backoff_cap_seconds"]
    length = len(expected["backoff_sequence_seconds"])

    computed = [
        min(cap, expected["backoff_initial_seconds"] * expected["backoff_factor"] ** step) for step in range(length)
    ]
    assert expected["backoff_sequence_seconds"] == computed
    assert computed[-2:] == [cap, cap]
    latest = cap * (1 + expected["backoff_jitter_share"]) + expected["recover_after_attempt_seconds"]
    assert expected["recover_seconds"] <= latest + 1


def test_a_mode_without_expectations_says_so() -> None:
    with pytest.raises(InvalidSpecificationError, match=r"fm99\.yaml"):
        expectations.load("FM99", profiles.load("fast"))


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "objectives.yaml"
    path.write_text("bad: 1\n")

    class Kind(msgspec.Struct, forbid_unknown_fields=True):
        good: int = 0

    with pytest.raises(InvalidSpecificationError, match=r"objectives\.yaml"):
        files.read(path, Kind)
