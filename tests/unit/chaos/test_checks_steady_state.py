import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.evidence import Evidence, EvidenceWriter, Origin
from chaos.history import HISTORY
from chaos.probes.health import HEALTH
from chaos.probes.metrics import METRICS
from chaos.probes.sessions import SESSIONS
from chaos.steady_state import SteadyState, departures, recent, steady_from, wait
from chaos.timeline import Growing, Recorded
from tests.unit.chaos.recording import OPEN, REPLICA_NAMES, Recording

EXPECTED = SteadyState(replicas=REPLICA_NAMES, seconds=5, sessions_min=2)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


def reasons(recording: Recording, *, end: float = 10.0) -> str:
    return "; ".join(departures(Recorded(Evidence(recording.folder)), EXPECTED, end))


def test_a_calm_world_is_steady(recording: Recording) -> None:
    recording.calm(0, 10)

    assert reasons(recording) == ""
    assert steady_from(Recorded(Evidence(recording.folder)), EXPECTED, start=0, end=10) == 0


def test_nothing_recorded_is_not_steady_and_every_silent_probe_is_named(recording: Recording) -> None:
    found = reasons(recording)

    for word in ("readiness", "metrics", "database sessions", "alerts"):
        assert f"{word} not seen throughout (0 looks)" in found
    assert "requests not sent throughout" in found
    assert "only 0 requests answered" in found


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        pytest.param(
            lambda r: r.health(7, 8, status=503, paths=["/health/ready"], replicas=["replica-2"]),
            "replica-2: not ready (503)",
            id="one replica not ready for a moment",
        ),
        pytest.param(
            lambda r: r.health(7, 8, status=None, paths=["/health/ready"]), "not ready (timeout)", id="no answer"
        ),
        pytest.param(lambda r: r.operation(8, answer="fail"), "1 of 101 requests failed", id="one 503"),
        pytest.param(lambda r: r.operation(8, answer="info"), "1 of 101 requests failed", id="one open write"),
        pytest.param(lambda r: r.operation(8, answer="fail", status=401), "requests failed", id="a wrong refusal"),
        pytest.param(
            lambda r: r.operation(8, kind="vote", answer="fail", status=503, invocation={"life": 7}),
            "requests failed",
            id="a life that met an error",
        ),
        pytest.param(
            lambda r: r.operation(1, answer="fail", ms=5000), "requests failed", id="begun before, failed within"
        ),
        pytest.param(lambda r: r.traffic(9, 9.5, ms=300), "p99 is 300 ms", id="slow answers"),
        pytest.param(lambda r: r.traffic(9, 9.5, answer=None), "p99 is", id="answers still owed"),
        pytest.param(lambda r: r.metrics(8, 8.5, OPEN), "circuit not closed throughout", id="breaker opened"),
        pytest.param(lambda r: r.sessions(9.6, 10.1, 1), "replica-1: 1 database sessions", id="pool too small"),
        pytest.param(
            lambda r: r.alerts(8, 9, HighServerErrorRate="active"), "alerts active: HighServerErrorRate", id="alert"
        ),
    ],
)
def test_every_departure_is_seen_and_said(
    recording: Recording, plant: Callable[[Recording], None], reason: str
) -> None:
    recording.calm(0, 10)
    plant(recording)

    assert reason in reasons(recording)


def test_refusals_that_are_right_and_suppressed_alerts_do_not_count(recording: Recording) -> None:
    recording.calm(0, 10)
    recording.operation(8, kind="reuse", answer="fail", status=422)
    recording.operation(8, kind="retry", answer="fail", status=409)
    recording.operation(8, kind="propose", answer="fail", status=409)
    recording.operation(8, kind="vote", answer="fail", status=409, invocation={"life": 7})
    recording.alerts(8, 9, HighServerErrorRate="suppressed")

    assert reasons(recording) == ""


@pytest.mark.parametrize(
    ("start", "end"),
    [pytest.param(6.6, 10, id="at the start"), pytest.param(0, 8.4, id="at the end")],
)
def test_a_probe_that_was_silent_for_a_while_is_a_departure(recording: Recording, start: float, end: float) -> None:
    recording.calm(start, end)

    found = reasons(recording)

    for word in ("readiness not seen", "metrics not seen", "sessions not seen", "alerts not seen", "requests not sent"):
        assert word in found


def test_a_gap_in_the_middle_is_a_departure(recording: Recording) -> None:
    recording.calm(0, 6)
    recording.calm(8, 10)

    assert "readiness not seen throughout" in reasons(recording)


def test_steadiness_begins_when_the_last_departure_has_left_the_stretch(recording: Recording) -> None:
    recording.calm(0, 20)
    recording.operation(3.0, answer="info", ms=1000)

    assert steady_from(Recorded(Evidence(recording.folder)), EXPECTED, start=0, end=20) == pytest.approx(4.25)
    assert steady_from(Recorded(Evidence(recording.folder)), EXPECTED, start=0, end=8) is None


def test_a_growing_folder_answers_like_the_finished_one(recording: Recording) -> None:
    growing = Growing(recording.folder, keep_seconds=30)
    for second in range(10):
        recording.calm(second, second + 1)
        growing.between(HISTORY, 0, 0)
    finished = Recorded(Evidence(recording.folder))

    for name in (HISTORY, HEALTH, METRICS, SESSIONS):
        assert list(growing.between(name, 2, 8)) == list(finished.between(name, 2, 8))
        assert finished.between(name, 2, 8)


@pytest.mark.anyio
async def test_waiting_ends_at_its_deadline_and_says_what_is_missing(tmp_path: Path) -> None:
    writer = EvidenceWriter(tmp_path, Origin.now())
    quick = SteadyState(replicas=("replica-1",), seconds=0.1)

    async with asyncio.timeout(5):
        observation = await wait(writer, recent(tmp_path, {}), quick, deadline_seconds=0.3)

    assert not observation.ok
    assert "replica-1: readiness not seen" in observation.text


@pytest.mark.anyio
async def test_the_load_generator_goes_on_while_a_stretch_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    went_on = threading.Event()

    def judged(*_: object) -> tuple[str, ...]:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).add_done_callback(lambda _: went_on.set())
        return () if went_on.wait(5.0) else ("the event loop stood still",)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr("chaos.steady_state.departures", judged)
    writer = EvidenceWriter(tmp_path, Origin.now())

    observation = await wait(writer, recent(tmp_path, {}), SteadyState(replicas=(), seconds=0.0), deadline_seconds=0.0)

    assert observation.ok, observation.text
