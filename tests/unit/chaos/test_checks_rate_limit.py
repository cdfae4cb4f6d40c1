"""The checks of failure mode 6: each has a recorded history it accepts, and those it must refuse."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.arrivals import stream as random_of
from chaos.checks.findings import WindowCheck
from chaos.checks.rate_limit import (
    bucket_is_exact,
    nobody_is_paged_for_a_few,
    only_the_flood_is_refused,
    others_are_unharmed,
    refusals_say_when,
    refused_after,
    refused_are_named,
    too_many_are_refused,
)
from chaos.scenario import Finding, Stream
from chaos.streams import KINDS, Means, Occasion
from chaos.verdict import Verdict
from tests.unit.chaos.floods import flood
from tests.unit.chaos.recording import REPLICA_NAMES, WINDOW, Recording

FLOOD = {"flood"}
CHECKS: dict[str, WindowCheck] = {
    "refused": too_many_are_refused(streams=FLOOD, within_seconds=6),
    "bucket": bucket_is_exact(streams=FLOOD, rate_per_minute=250, burst=250),
    "told": refusals_say_when(streams=FLOOD, seconds_max=1),
    "others": others_are_unharmed(streams=FLOOD, added_seconds_max=0.1, waits_max=3),
    "apart": only_the_flood_is_refused(streams=FLOOD),
    "named": refused_are_named(facts={"principal": "greedy", "scope": "principal"}),
    "few": nobody_is_paged_for_a_few(stream="flood"),
}
Plant = Callable[[Recording], object]


def others(recording: Recording, *, ms: float = 20.0, status: int = 201) -> None:
    recording.traffic(4, 10)
    recording.traffic(10, 30, ms=ms, status=status, answer="ok" if status == 201 else "fail")


def named(recording: Recording, *, principal: str | None = "greedy", scope: str = "principal") -> None:
    recording.health(4, 30)
    for replica in REPLICA_NAMES:
        recording.log(replica, [(15.0, "rate_limited", {"principal": principal, "scope": scope})])


def calm(recording: Recording) -> None:
    flood(recording)
    others(recording)
    named(recording)


def judged(check: str, folder: Path, *plants: Plant) -> Finding:
    recording = Recording(folder)
    for plant in plants:
        plant(recording)
    return CHECKS[check](recording.case(), WINDOW)


@pytest.mark.parametrize("name", CHECKS)
def test_a_flood_that_meets_the_documented_bucket_is_accepted(name: str, tmp_path: Path) -> None:
    found = judged(name, tmp_path, calm)

    assert found.verdict is Verdict.PASS, found.reason
    assert found.evidence


@pytest.mark.parametrize("name", sorted(CHECKS.keys() - {"named"}))
def test_an_empty_recording_is_unknown(name: str, tmp_path: Path) -> None:
    assert judged(name, tmp_path).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("name", "plants", "reason"),
    [
        ("refused", [others, lambda one: flood(one, burst=2000)], "0 of 800 .* were refused"),
        ("refused", [others, lambda one: flood(one, status=503)], "no answer of ours"),
        ("refused", [others, lambda one: flood(one, burst=600)], r"the first after 7\.\d"),
        ("bucket", [lambda one: flood(one, rate=500)], "more were admitted than a bucket of 250"),
        ("bucket", [lambda one: flood(one, burst=252)], r"2\.0 more were admitted"),
        ("bucket", [lambda one: flood(one, burst=100)], "a burst of 250 was due"),
        ("bucket", [lambda one: flood(one, admits=lambda number: number < 300)], "were due"),
        ("bucket", [lambda one: flood(one, burst=2000, rate=1)], "more were admitted"),
        ("told", [lambda one: flood(one, retry_after="0")], "no usable wait"),
        ("told", [lambda one: flood(one, retry_after="0.24")], "no usable wait"),
        ("told", [lambda one: flood(one, retry_after="60")], "no usable wait"),
        ("others", [flood, lambda one: others(one, ms=400)], "others took over 0.12 s"),
        ("others", [flood, lambda one: others(one, status=429)], "others were refused or failed"),
        ("others", [flood, lambda one: others(one, status=503)], "others were refused or failed"),
        ("apart", [flood, lambda one: others(one, status=429)], "others were refused"),
        ("named", [flood, lambda one: one.health(4, 30)], "no refusal was logged"),
        ("named", [flood, lambda one: named(one, principal="polite")], "name somebody else: polite"),
        ("named", [flood, lambda one: named(one, principal=None, scope="address")], "name somebody else"),
    ],
)
def test_what_the_document_does_not_allow_is_refused(
    name: str, plants: list[Plant], reason: str, tmp_path: Path
) -> None:
    found = judged(name, tmp_path, *plants)

    assert found.verdict is Verdict.FAIL, found.reason
    assert re.search(reason, found.reason), found.reason


def test_a_second_bucket_is_allowed_only_where_valkey_is_lost(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    flood(recording, burst=500)
    two = bucket_is_exact(streams=FLOOD, rate_per_minute=250, burst=250, buckets=2)

    assert two(recording.case(), WINDOW).verdict is Verdict.PASS
    assert CHECKS["bucket"](recording.case(), WINDOW).verdict is Verdict.FAIL


def test_too_many_while_a_replica_counted_alone_prove_nothing_about_the_shared_bucket(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    flood(recording, burst=300)
    recording.metrics(20, 21, {"firewall_rate_limit_local_total": 5.0})

    assert CHECKS["bucket"](recording.case(), WINDOW).verdict is Verdict.UNKNOWN


def test_mitigation_counts_from_the_flood_to_its_first_refusal(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    calm(recording)

    after, evidence = refused_after(recording.case(), WINDOW)

    assert after == pytest.approx(250 / (80 - 250 / 60), abs=0.1)
    assert evidence


def test_a_flood_that_nobody_refuses_was_never_mitigated(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    flood(recording, burst=2000)

    after, evidence = refused_after(recording.case(), WINDOW)

    assert after is None
    assert evidence


def test_who_reads_shows_the_key_of_its_principal_or_none() -> None:
    means = Means(api_keys={"greedy": "a-key"})

    def made(**parameters: str) -> Any:
        stream = Stream("flood", "reading_as", 1.0, parameters)
        return KINDS["reading_as"](Occasion(stream, 0, 0.0, random_of(1, "choices"), means))

    assert made(principal="greedy").headers == {"X-API-Key": "a-key"}
    assert made(principal="greedy").facts["stream"] == "flood"
    assert made().headers == {}
