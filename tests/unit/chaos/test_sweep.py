"""The sweep closes what dead runs left open, and leaves the living alone."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chaos import undo_ledger
from chaos.evidence import EvidenceWriter, Origin
from chaos.faults import ProxyDown
from chaos.sweep import sweep
from chaos.undo_ledger import LEDGER, Event, UndoLedger, open_entries

_INTENT = {"t": 1.0, "entry": 1, "event": "intent", "injection": "proxy down", "kind": "proxy_down", "parameters": {}}


def scenario(runs: Path, run: str, *lines: str) -> Path:
    folder = runs / run / "fm01_database_connection_failure"
    folder.mkdir(parents=True)
    (folder / LEDGER).write_text("".join(line + "\n" for line in lines))
    return folder


@dataclass
class Worlds:
    """What the host's worlds left, and how much of it cannot be removed."""

    found: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)

    def sweep(self) -> list[str]:
        return self.found

    def leftovers(self) -> list[str]:
        return self.stuck


def swept(runs: Path) -> list[str]:
    return sweep(runs, worlds=Worlds())


def test_nothing_recorded_is_clean(tmp_path: Path) -> None:
    assert swept(tmp_path / "never made") == []


def test_open_entries_of_a_dead_run_are_closed_once_and_are_no_residue(tmp_path: Path) -> None:
    folder = scenario(tmp_path, "one", json.dumps(_INTENT), json.dumps({"t": 2.0, "entry": 1, "event": "injected"}))
    (tmp_path / "latest").symlink_to("one")

    assert swept(tmp_path) == []
    assert swept(tmp_path) == []

    events = [json.loads(line)["event"] for line in (folder / LEDGER).read_text().splitlines()]
    assert events == ["intent", "injected", "abandoned_with_world"]
    assert open_entries(folder) == ()


def test_a_finished_ledger_is_not_written_to(tmp_path: Path) -> None:
    folder = scenario(tmp_path, "one", json.dumps(_INTENT), json.dumps({"t": 2.0, "entry": 1, "event": "undone"}))
    before = (folder / LEDGER).read_bytes()

    assert swept(tmp_path) == []

    assert (folder / LEDGER).read_bytes() == before


@pytest.mark.anyio
async def test_a_run_that_is_alive_is_left_alone(tmp_path: Path) -> None:
    folder = scenario(tmp_path, "alive")
    ledger = UndoLedger(EvidenceWriter(folder, Origin.now()))
    entry = ledger.intend(ProxyDown(), injection="proxy down")

    assert swept(tmp_path) == []
    assert open_entries(folder) == (entry,)

    ledger.close()
    assert swept(tmp_path) == []
    assert open_entries(folder) == ()


def test_a_ledger_that_cannot_be_read_is_residue(tmp_path: Path) -> None:
    scenario(tmp_path, "one", "not JSON")
    folder = scenario(tmp_path, "two", json.dumps(_INTENT))

    residue = swept(tmp_path)

    assert len(residue) == 1
    assert "undo ledger" in residue[0]
    assert f"{LEDGER}, line 1" in residue[0]
    assert open_entries(folder) == ()


def test_what_the_worlds_left_is_residue_and_ledgers_stay_open_until_it_is_gone(tmp_path: Path) -> None:
    folder = scenario(tmp_path, "one", json.dumps(_INTENT))

    found = sweep(tmp_path, worlds=Worlds(found=["process 12", "folder a"], stuck=["process 12", "process 13"]))
    assert found == ["process 12 (could not be removed)", "folder a", "process 13 (could not be removed)"]
    assert len(open_entries(folder)) == 1

    assert sweep(tmp_path, worlds=Worlds(found=["process 12"])) == ["process 12"]
    assert open_entries(folder) == ()


def test_every_event_of_the_ledger_is_in_its_table() -> None:
    assert all(f"``{event.value}``" in (undo_ledger.__doc__ or "") for event in Event)
