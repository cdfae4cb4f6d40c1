"""I8 beside a log that goes on: what was shown after the copy was begun may be longer than the copy."""

from pathlib import Path

import pytest

from chaos.checks.log import log_is_append_only
from chaos.record import DATABASE
from chaos.scenario import Case
from chaos.verdict import Verdict
from chaos.verifier.merkle import EMPTY_ROOT
from tests.unit.chaos.governed import honest


def case(folder: Path, *, begun: float, shown: float) -> Case:
    """A longer checkpoint than the log in the copy, and the instants of the copy and of the look."""
    gate = honest()
    gate.checkpoints.append((gate.now + shown, "replica-1", gate.note(100_000, EMPTY_ROOT)))
    recorded = gate.case(folder)
    with (folder / DATABASE).open("a") as dump:
        dump.write(f'{{"t": {gate.now + begun}, "begun": true}}\n')
    return recorded


def test_a_checkpoint_shown_after_the_copy_was_begun_may_be_longer_than_it(tmp_path: Path) -> None:
    finding = log_is_append_only(case(tmp_path, begun=1.0, shown=1.5), entries_min=50)

    assert finding.verdict is Verdict.PASS, finding.reason


@pytest.mark.parametrize("shown", [-0.5, 0.9])
def test_a_checkpoint_shown_before_that_may_not(shown: float, tmp_path: Path) -> None:
    finding = log_is_append_only(case(tmp_path, begun=1.0, shown=shown), entries_min=50)

    assert finding.verdict is Verdict.FAIL
    assert "a checkpoint of 100000 entries, the log has" in finding.reason
