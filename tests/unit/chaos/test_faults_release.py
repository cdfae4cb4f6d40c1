"""The release that breaks its clients is a copy of the service with one field more, or nothing at all."""

from pathlib import Path

import pytest

from chaos.faults import FaultFailed
from chaos.faults.release import AFTER, BEFORE, MODULE, next_release
from compose.settings import REPOSITORY


def test_the_copy_differs_from_the_service_in_that_one_line(tmp_path: Path) -> None:
    copy = next_release(REPOSITORY / "service", tmp_path / "next")

    before, after = (REPOSITORY / "service" / MODULE).read_text(), (copy / MODULE).read_text()
    assert after.replace(AFTER, BEFORE) == before
    assert after.count("ticket") == 1
    assert (copy / "app" / "__main__.py").is_file()


def test_a_service_that_says_it_otherwise_is_not_copied_in_silence(tmp_path: Path) -> None:
    module = tmp_path / "service" / MODULE
    module.parent.mkdir(parents=True)
    module.write_text("rationale: str\n")

    with pytest.raises(FaultFailed, match="does not have this line once"):
        next_release(tmp_path / "service", tmp_path / "next")
