from pathlib import Path

import pytest

from chaos.evidence import Evidence, EvidenceWriter, Origin
from chaos.journal import JOURNAL, PHASE_OF, Event, Journal, read_account, read_windows
from chaos.scenario import Window


@pytest.fixture
def writer(tmp_path: Path) -> EvidenceWriter:
    return EvidenceWriter(tmp_path, Origin(monotonic_ns=0, wall_ns=0))


def test_every_event_has_a_phase() -> None:
    assert set(PHASE_OF) == set(Event)


def test_windows_are_read_back_as_they_were_written(writer: EvidenceWriter, tmp_path: Path) -> None:
    journal = Journal(writer)
    journal.write(Event.SCENARIO_STARTED, t=0.0, failure_mode="FM01")
    for t, event in enumerate(
        (Event.BASELINE_STARTED, Event.BASELINE_STEADY, Event.INJECTION_STARTED, Event.INJECTED, Event.BITTEN), start=1
    ):
        journal.write(event, injection="proxy_down", t=float(t))
    journal.write(Event.INJECTION_SKIPPED, injection="packets_dropped", t=9.0, reason="no packet filter")

    windows = read_windows(Evidence(tmp_path))

    assert windows == (
        Window(
            "proxy_down", baseline_started=1.0, baseline_steady=2.0, injection_started=3.0, injected=4.0, bitten=5.0
        ),
    )
    assert read_account(Evidence(tmp_path)).skipped_injections == {"packets_dropped": "no packet filter"}


def test_an_event_of_an_injection_must_name_it(writer: EvidenceWriter) -> None:
    with pytest.raises(ValueError, match="injected"):
        Journal(writer).write(Event.INJECTED)


def test_an_event_of_the_scenario_must_not_name_an_injection(writer: EvidenceWriter) -> None:
    with pytest.raises(ValueError, match="world_up"):
        Journal(writer).write(Event.WORLD_UP, injection="proxy_down")


def test_every_line_is_echoed_as_it_was_written(writer: EvidenceWriter) -> None:
    echoed: list[dict[str, object]] = []

    Journal(writer, echo=echoed.append).write(Event.BITTEN, injection="proxy_down", t=2.0, observation="refused")

    assert echoed == [
        {"t": 2.0, "event": "bitten", "phase": "inject", "injection": "proxy_down", "observation": "refused"}
    ]


def test_a_line_torn_by_a_kill_is_left_out(writer: EvidenceWriter, tmp_path: Path) -> None:
    Journal(writer).write(Event.INJECTED, injection="proxy_down", t=3.0)
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"t": 4.0, "event": "bit')

    assert read_windows(Evidence(tmp_path)) == (Window("proxy_down", injected=3.0),)


def test_without_a_journal_there_are_no_windows(tmp_path: Path) -> None:
    assert read_windows(Evidence(tmp_path)) == ()
