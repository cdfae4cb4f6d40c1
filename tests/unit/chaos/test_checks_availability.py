from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.checks.availability import ACTUATOR, budget_is_kept, client_and_proxy_agree, generator_kept_up, served
from chaos.history import HISTORY, operations
from chaos.probes.metrics import FRONT_METRICS
from chaos.scenario import Finding, Window
from chaos.verdict import Verdict
from tests.unit.chaos.recording import WINDOW, Recording


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


def test_service_is_counted_by_the_instants_at_which_requests_were_due(recording: Recording) -> None:
    recording.traffic(0, 10)
    recording.traffic(10, 12, answer="fail", ms=5)
    recording.traffic(12, 13, answer="info", ms=5000, error="timeout")
    recording.traffic(13, 14, kind="reuse", answer="fail", status=422)

    found = served(operations(recording.case().evidence.rows(HISTORY)), 5, 20)

    assert (found.valid, found.bad, found.bad_seconds) == (160, 60, 3)
    assert found.p99_seconds == pytest.approx(0.02)


def test_a_full_outage_of_a_minute_costs_as_much_as_the_budget_says(recording: Recording) -> None:
    recording.traffic(0, 10)
    recording.traffic(10, 70, answer="fail")

    def judged(share_max: float) -> Finding:
        return budget_is_kept(share_max=share_max)(recording.case(), Window("refused", injected=10.0))

    assert judged(0.0235).verdict is Verdict.PASS
    assert judged(0.0225).verdict is Verdict.FAIL
    assert "2.3" in judged(0.0225).reason


@pytest.mark.parametrize("answer", ["fail", "info", None])
def test_errors_that_cost_too_much_are_refused_whatever_they_look_like(
    recording: Recording, answer: str | None
) -> None:
    recording.traffic(10, 40, answer=answer)

    assert budget_is_kept(share_max=0.01)(recording.case(), WINDOW).verdict is Verdict.FAIL


def test_refusals_that_are_the_clients_doing_cost_nothing(recording: Recording) -> None:
    recording.traffic(10, 40)
    recording.traffic(10, 40, kind="reuse", answer="fail", status=422)

    finding = budget_is_kept(share_max=0.0)(recording.case(), WINDOW)

    assert finding.verdict is Verdict.PASS
    assert finding.evidence  # without a reference a proof counts for nothing


def test_without_traffic_the_budget_is_unknown(recording: Recording) -> None:
    assert budget_is_kept(share_max=1)(recording.case(), WINDOW).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("plant", "verdict"),
    [
        pytest.param(lambda r: r.traffic(0, 20, lag=0.005), Verdict.PASS, id="on time"),
        pytest.param(lambda _: None, Verdict.UNKNOWN, id="nothing sent"),
        pytest.param(lambda r: r.traffic(0, 20, lag=0.2), Verdict.UNKNOWN, id="starved"),
        pytest.param(
            lambda r: (r.traffic(0, 20), r.row(HISTORY, 5, type="dropped", kind="propose", intended=5)),
            Verdict.UNKNOWN,
            id="one dropped",
        ),
    ],
)
def test_a_generator_that_did_not_keep_up_makes_the_run_unknown_and_never_failed(
    recording: Recording, plant: Callable[[Recording], object], verdict: Verdict
) -> None:
    plant(recording)

    assert generator_kept_up()(recording.case()).verdict is verdict


def proxy_counts(recording: Recording, t: float, **counts: float) -> None:
    series = {
        f'haproxy_frontend_http_responses_total{{code="{name.removeprefix("c")}",proxy="firewall"}}': value
        for name, value in counts.items()
    }
    recording.row(FRONT_METRICS, t, series=series)


def counted(recording: Recording, *, c5xx: float) -> Finding:
    """300 answers between the proxy's samples, 100 of the answers 503."""
    recording.traffic(0, 10)
    recording.traffic(10, 15, answer="fail")
    proxy_counts(recording, 0.0, c2xx=7, c4xx=0, c5xx=0)
    proxy_counts(recording, 16.0, c2xx=207, c4xx=0, c5xx=c5xx)
    return client_and_proxy_agree()(recording.case())


def test_clients_and_proxy_that_saw_the_same_agree(recording: Recording) -> None:
    finding = counted(recording, c5xx=100)

    assert finding.verdict is Verdict.PASS, finding.reason


@pytest.mark.parametrize(
    "c5xx", [pytest.param(60, id="the proxy lost errors"), pytest.param(150, id="errors no client saw")]
)
def test_clients_and_proxy_that_disagree_are_refused(recording: Recording, c5xx: float) -> None:
    assert counted(recording, c5xx=c5xx).verdict is Verdict.FAIL


def test_what_the_actuator_was_answered_is_counted_too(recording: Recording) -> None:
    recording.log(ACTUATOR, [(10.0, "observed", {"status": 503})] * 50)

    assert counted(recording, c5xx=150).verdict is Verdict.PASS
    assert counted(recording, c5xx=100).verdict is Verdict.FAIL


def test_without_the_proxys_counters_agreement_is_unknown(recording: Recording) -> None:
    recording.traffic(0, 20)

    assert client_and_proxy_agree()(recording.case()).verdict is Verdict.UNKNOWN
