"""What the checks of the gate doubt: a gate that did nothing, torn copies, what nobody tried.

What they accept and what they refuse is in ``test_invariants.py``.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.verdict import Verdict
from tests.unit.chaos.governed import Governed, honest
from tests.unit.chaos.recording import Recording
from tests.unit.chaos.spoiled import CHECKS, during_a_cut, searched

GATE = ("I3", "I4", "I5", "I6", "I8", "I9", "I10", "I11", "I12")


@pytest.mark.parametrize("name", GATE)
def test_a_gate_that_did_nothing_is_unknown(name: str, tmp_path: Path) -> None:
    assert CHECKS[name](Governed().case(tmp_path)).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("name", sorted(set(GATE) - {"I6", "I11"}))
def test_a_torn_copy_is_unknown(name: str, tmp_path: Path) -> None:
    case = honest().case(tmp_path)
    whole = (tmp_path / "database.jsonl").read_text().splitlines(keepends=True)
    cut = [line for line in whole if '"table": "events"' not in line or '"kind": "applied"' not in line]
    (tmp_path / "database.jsonl").write_text("".join(cut))

    assert CHECKS[name](case).verdict is Verdict.UNKNOWN


def no_trespass(gate: Governed) -> None:
    gate.operations = [one for one in gate.operations if one["kind"] != "forbidden_vote"]


def never_rolled_back(gate: Governed) -> None:
    gate.operations = [one for one in gate.operations if one["kind"] != "rollback"]


def did_not_fold(gate: Governed) -> None:
    gate.replays = [gate.replayed("1"), {"hash_seed": "2", "error": "timeout"}]


@pytest.mark.parametrize(("name", "spoil"), [("I4", no_trespass), ("I11", never_rolled_back), ("I12", did_not_fold)])
def test_what_was_never_tried_is_unknown(name: str, spoil: Callable[[Governed], None], tmp_path: Path) -> None:
    gate = honest()
    spoil(gate)

    assert CHECKS[name](gate.case(tmp_path)).verdict is Verdict.UNKNOWN


def test_a_read_that_says_it_may_be_old_may_be_old_and_never_of_the_future(tmp_path: Path) -> None:
    gate = honest()
    first = next(row for row in gate.rows["snapshots"] if row["target"] == "a")
    gate.read("a", version=1, snapshot=first["digest"], stale=True)

    assert CHECKS["I6"](gate.case(tmp_path)).verdict is Verdict.PASS


def test_a_cut_during_which_nobody_tried_says_nothing(tmp_path: Path) -> None:
    assert CHECKS["I10"](during_a_cut(honest(), tmp_path, attempts=0)).verdict is Verdict.UNKNOWN


def blind(recording: Recording) -> None:
    recording.row("canaries.jsonl", 3, place="metrics of replica-2", error="refused")


def deaf(recording: Recording) -> None:
    path = recording.folder / "canaries.jsonl"
    path.write_text(path.read_text().replace('"seen": 9', '"seen": 8'))


def nowhere(recording: Recording) -> None:
    path = recording.folder / "canaries.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "errors" not in line))


@pytest.mark.parametrize("spoil", [blind, deaf, nowhere])
def test_a_search_that_could_not_see_is_unknown(spoil: Callable[[Recording], None], tmp_path: Path) -> None:
    recording = searched(tmp_path)
    spoil(recording)

    assert CHECKS["I15"](recording.case()).verdict is Verdict.UNKNOWN
