"""The checks of FM12: each accepts the history it should, and refuses those it must."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.checks.client_errors import (
    description_is_of_what_runs,
    first_clear_refusal,
    it_was_the_noise_it_claims,
    refusals_are_clear,
    refusals_are_logged,
    series_stay_as_they_are,
    share_is_seen,
)
from chaos.checks.findings import WindowCheck
from chaos.checks.listeners import only_known_listeners
from chaos.probes.client_errors import CLIENT_ERRORS, DESCRIPTIONS, counted, described
from chaos.probes.listeners import LISTENERS
from chaos.verdict import Verdict
from compose.listeners import known, listed, of
from compose.ports import Ports
from tests.contract.description import RELEASED
from tests.unit.chaos.recording import WINDOW, Recording

PATH = "/api/v1/proposals"
FLAW = {"pointer": "/patch/0/op", "code": "not-a-choice", "message": "Invalid value 'swap'"}
LINE = {
    "method": "POST",
    "route": PATH,
    "status": 422,
    "duration_ms": 1.5,
    "client_address": "127.0.0.1",
    "code": "invalid-proposal",
    "flaws": ["/patch/0/op not-a-choice"],
}
Change = dict[str, Any]


def refused(recording: Recording, t: float, *, line: Change | None = None, **completion: Any) -> None:
    """A proposal that is refused, and its line in the log; a fact of ``None`` is not there."""
    number = recording.operation(
        t,
        answer="fail",
        status=completion.pop("status", 422),
        principal=completion.pop("principal", "client-1"),
        invocation={
            "stream": "s",
            "why": "not_a_choice",
            "pointer": "/patch/0/op",
            "rule": "not-a-choice",
            "expected": 422,
            "method": "POST",
            "path": PATH,
            **completion.pop("invocation", {}),
        },
        replica="replica-1",
        request=f"request-{t}",
        **{"code": "invalid-proposal", "media_type": "application/problem+json", "flaws": [FLAW], **completion},
    )
    assert number
    if line is not None:
        facts = {name: value for name, value in {**LINE, **line}.items() if value is not None}
        recording.log("replica-1", [(t + 0.02, "request_finished", {"request_id": f"request-{t}", **facts})])


def instants(count: int) -> list[float]:
    return [11 + number * 0.5 for number in range(count)]


def judged(check: WindowCheck, tmp_path: Path, plant: Callable[[Recording], None]) -> Verdict:
    recording = Recording(tmp_path)
    plant(recording)
    return check(recording.case(), WINDOW).verdict


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"flaws": ["/patch/0/* not-a-choice"]}, Verdict.PASS),
        ({"flaws": []}, Verdict.FAIL),
        ({"flaws": None}, Verdict.FAIL),
        ({"flaws": ["/patch/1/op not-a-choice"]}, Verdict.FAIL),
        ({"flaws": ["/patch/0/op wrong-type"]}, Verdict.FAIL),
        ({"code": None}, Verdict.FAIL),
        ({"status": 400}, Verdict.FAIL),
        ({"route": None}, Verdict.FAIL),
        ({"client_address": None}, Verdict.FAIL),
        (None, Verdict.FAIL),
    ],
)
def test_each_refusal_has_its_line_in_the_log(line: Change | None, verdict: Verdict, tmp_path: Path) -> None:
    def plant(recording: Recording) -> None:
        for t in instants(6):
            refused(recording, t, line=line if t == 12 else {})

    assert judged(refusals_are_logged(refusals_min=5), tmp_path, plant) is verdict


def test_nothing_refused_is_nothing_known(tmp_path: Path) -> None:
    assert judged(refusals_are_logged(refusals_min=1), tmp_path, lambda _: None) is Verdict.UNKNOWN
    assert judged(refusals_are_clear(causes_min=1), tmp_path, lambda _: None) is Verdict.UNKNOWN
    assert judged(description_is_of_what_runs(answers_min=1), tmp_path, lambda _: None) is Verdict.UNKNOWN
    assert judged(series_stay_as_they_are(requests_min=1), tmp_path, lambda _: None) is Verdict.UNKNOWN
    assert judged(share_is_seen(above=0.1, within_seconds=9), tmp_path, lambda _: None) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"flaws": [{**FLAW, "pointer": ""}]}, Verdict.FAIL),
        ({"flaws": [{**FLAW, "code": "invalid-value"}]}, Verdict.FAIL),
        ({"flaws": [{**FLAW, "message": "No."}]}, Verdict.FAIL),
        ({"flaws": []}, Verdict.FAIL),
        ({"code": None}, Verdict.FAIL),
        ({"media_type": "text/html"}, Verdict.FAIL),
        ({"status": 400}, Verdict.FAIL),
        ({"status": 500}, Verdict.FAIL),
    ],
)
def test_a_refusal_names_the_field_and_the_rule(completion: Change, verdict: Verdict, tmp_path: Path) -> None:
    def plant(recording: Recording) -> None:
        refused(recording, 12.0)
        refused(recording, 13.0, **completion)

    assert judged(refusals_are_clear(causes_min=1), tmp_path, plant) is verdict
    assert judged(refusals_are_clear(causes_min=2), tmp_path, plant) is Verdict.UNKNOWN


DESCRIBED = {
    "digest": "d",
    "operations": {f"POST {PATH}": [201, 422], "GET /api/v1/proposals/{proposal_id}": [200, 404]},
    "demands": ["patch", "target"],
}


@pytest.mark.parametrize(
    ("invocation", "completion", "verdict"),
    [
        ({}, {}, Verdict.PASS),
        ({}, {"status": 409}, Verdict.FAIL),
        ({"method": "GET", "path": f"{PATH}/1"}, {"status": 404}, Verdict.PASS),
        ({"method": "GET", "path": f"{PATH}/1"}, {"status": 422}, Verdict.FAIL),
        ({"method": "GET", "path": f"{PATH}/1/x"}, {"status": 404}, Verdict.PASS),
        ({"method": "GET", "path": "/elsewhere"}, {"status": 422}, Verdict.FAIL),
        ({}, {"flaws": [{"pointer": "/patch", "code": "missing-field", "message": "required"}]}, Verdict.PASS),
        ({}, {"flaws": [{"pointer": "/ticket", "code": "missing-field", "message": "required"}]}, Verdict.FAIL),
    ],
)
def test_an_answer_is_in_the_description_that_its_replica_serves(
    invocation: Change, completion: Change, verdict: Verdict, tmp_path: Path
) -> None:
    def plant(recording: Recording) -> None:
        recording.row(DESCRIPTIONS, 12.0, replicas={"replica-1": DESCRIBED})
        refused(recording, 12.5)
        refused(recording, 13.0, invocation=invocation, **completion)

    assert judged(description_is_of_what_runs(answers_min=2), tmp_path, plant) is verdict


def counters(recording: Recording, *, share: float, from_t: float = 10.0, series: float = 0.0) -> None:
    answers = errors = 0.0
    for second in range(4, 30):
        answers += 50
        errors += 50 * share if second > from_t else 0
        counts = {"answers": answers, "refused": errors, "series": 500 + (series if second > 20 else 0)}
        recording.row(CLIENT_ERRORS, float(second), replicas={"replica-1": counts, "replica-2": counts})


@pytest.mark.parametrize(
    ("share", "from_t", "verdict"),
    [(0.3, 10, Verdict.PASS), (0.08, 10, Verdict.FAIL), (0.3, 25, Verdict.FAIL), (0.3, 3, Verdict.UNKNOWN)],
)
def test_the_counters_show_the_share_in_time_and_not_before(
    share: float, from_t: float, verdict: Verdict, tmp_path: Path
) -> None:
    check = share_is_seen(above=0.1, within_seconds=8)

    assert judged(check, tmp_path, lambda recording: counters(recording, share=share, from_t=from_t)) is verdict


@pytest.mark.parametrize(("series", "verdict"), [(0, Verdict.PASS), (1, Verdict.FAIL)])
def test_one_series_more_is_one_too_many(series: float, verdict: Verdict, tmp_path: Path) -> None:
    def plant(recording: Recording) -> None:
        counters(recording, share=0.3, series=series)
        for t in instants(20):
            refused(recording, t, status=404, invocation={"why": "unknown_path", "path": f"/api/x{t}"})

    assert judged(series_stay_as_they_are(requests_min=20), tmp_path, plant) is verdict
    assert judged(series_stay_as_they_are(requests_min=21), tmp_path, plant) is Verdict.UNKNOWN


def test_noise_is_only_believed_when_it_was_there(tmp_path: Path) -> None:
    def plant(recording: Recording) -> None:
        for t in instants(20):
            recording.operation(t)
        for t in instants(5):
            refused(recording, t + 0.1)

    assert judged(it_was_the_noise_it_claims(above=0.1, below=1, clients=1), tmp_path, plant) is Verdict.PASS
    assert judged(it_was_the_noise_it_claims(above=0.1, below=1, clients=2), tmp_path, plant) is Verdict.UNKNOWN
    assert judged(it_was_the_noise_it_claims(above=0.05, below=0.1), tmp_path, plant) is Verdict.UNKNOWN


def test_the_clock_of_mitigation_ends_with_the_first_refusal_that_points_somewhere(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    assert first_clear_refusal(recording.case(), WINDOW) == (None, ())
    refused(recording, 11.0, flaws=[])
    refused(recording, 12.0)
    took, evidence = first_clear_refusal(recording.case(), WINDOW)

    assert took == pytest.approx(2.0, abs=0.1)
    assert evidence


KNOWN = {f"{address}:{port}": name for name, (address, port) in known(Ports()).items()}
ALWAYS = [address for address, name in KNOWN.items() if listed()[of(name)].always]


@pytest.mark.parametrize(
    ("listening", "is_isolated", "verdict"),
    [
        (ALWAYS, True, Verdict.PASS),
        ([*KNOWN], True, Verdict.PASS),
        ([*ALWAYS, "127.0.0.1:6666"], True, Verdict.FAIL),
        ([*ALWAYS, "127.0.0.1:6666"], False, Verdict.PASS),
        ([*ALWAYS, "0.0.0.0:8080"], False, Verdict.FAIL),
        ([*ALWAYS, "0.0.0.0:8080"], True, Verdict.FAIL),
        (ALWAYS[1:], True, Verdict.FAIL),
        ([], True, Verdict.FAIL),
    ],
)
def test_nothing_listens_that_is_not_in_the_list(
    listening: list[str], verdict: Verdict, tmp_path: Path, *, is_isolated: bool
) -> None:
    recording = Recording(tmp_path)
    for t in (5.0, 10.0, 15.0):
        recording.row(LISTENERS, t, isolated=is_isolated, listening=listening, known=KNOWN)

    assert only_known_listeners(recording.case()).verdict is verdict


def test_two_looks_at_the_listeners_are_too_few(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.row(LISTENERS, 5.0, isolated=True, listening=ALWAYS, known=KNOWN)

    assert only_known_listeners(recording.case()).verdict is Verdict.UNKNOWN


def test_every_port_of_a_stack_is_in_the_list_and_the_list_has_no_other() -> None:
    assert {of(name) for name in Ports().listeners()} == {*listed()}


def test_counts_leave_out_the_probes_of_health() -> None:
    text = (
        "# HELP x y\n"
        'firewall_requests_total{route_class="api",status_class="2xx"} 8.0\n'
        'firewall_requests_total{route_class="api",status_class="4xx"} 2.0\n'
        'firewall_requests_total{route_class="health",status_class="4xx"} 90.0\n'
        "other 1.0\n"
    )

    assert counted(text) == {"answers": 10.0, "refused": 2.0, "series": 4}


def test_a_description_is_kept_as_its_operations_and_what_a_proposal_must_have() -> None:
    kept = described(RELEASED.read_bytes())

    assert kept["operations"]["GET /api/v1/proposals/{proposal_id}"][:2] == [200, 304]
    assert kept["demands"] == ["base_digest", "base_version", "patch", "rationale", "target"]
