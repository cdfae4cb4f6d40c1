"""The game day as a whole: its exit code, its reports, and that its evidence gives the same verdict again."""

import asyncio
import json
import re
from collections import Counter
from xml.etree import ElementTree as ET

import pytest

from chaos.outcome import EXIT_PASS
from chaos.report import schema
from chaos.verdict import Verdict
from tests.chaos.gameday import GameDay, ask
from tests.chaos.planted import FOLDER
from tests.failure_modes.trials import FailureModeTests, claims_of

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(3_600)]

LOADS_SOMETHING = re.compile(
    rb"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import"""
)


def test_the_run_passes(whole: GameDay) -> None:
    assert whole.process.returncode == EXIT_PASS, whole.output[-6000:]
    assert whole.report.verdict is Verdict.PASS
    assert re.fullmatch(r"\d+ passed, 0 failed, \d+ skipped", whole.output.splitlines()[-1])


def test_report_meets_its_schema_and_has_every_documented_claim_of_its_modes(whole: GameDay) -> None:
    schema.validate((whole.folder / "report.json").read_bytes())

    for scenario in whole.report.scenarios:
        assert [each.id for each in scenario.claims] == [claim.id for claim in claims_of(scenario.failure_mode)]


def test_junit_has_a_test_case_for_each_claim_and_nothing_red(whole: GameDay) -> None:
    suites = ET.fromstring((whole.folder / "junit.xml").read_bytes())  # noqa: S314 - of our own making

    cases = Counter(case.get("name", "").split()[0] for case in suites.iter("testcase"))
    documented = [claim.id for each in whole.report.scenarios for claim in claims_of(each.failure_mode)]
    assert {name: cases[name] for name in documented} == dict.fromkeys(documented, 1)
    assert not [*suites.iter("failure"), *suites.iter("error")]


def test_page_loads_nothing_from_anywhere(whole: GameDay) -> None:
    page = (whole.folder / "report.html").read_bytes()

    assert not LOADS_SOMETHING.search(page)
    assert b"<script src" not in page
    assert b"</html>" in page


def test_judging_the_recorded_run_again_gives_the_same_report(whole: GameDay) -> None:
    before = (whole.folder / "report.json").read_bytes()

    code, output = asyncio.run(ask("judge", whole.folder))

    assert code == whole.process.returncode, output
    after = (whole.folder / "report.json").read_bytes()
    assert _claims(after) == _claims(before)
    assert after == before


def test_there_is_a_trial_for_every_planted_defect(request: pytest.FixtureRequest) -> None:
    modes = {one for one in FailureModeTests.__subclasses__() if one.__module__ in _collected(request.session)}
    if len(modes) < len({*_test_files(request)}):
        pytest.skip("not all failure modes were collected")

    planted = [name for each in modes for trial in each.trials for name in trial.defects]
    assert sorted(planted) == sorted(path.stem for path in FOLDER.glob("*.patch"))


def _collected(session: pytest.Session) -> set[str]:
    return {item.module.__name__ for item in session.items if isinstance(item, pytest.Function)}


def _test_files(request: pytest.FixtureRequest) -> list[str]:
    return [path.name for path in request.path.parent.glob("test_fm*.py")]


def _claims(report: bytes) -> list[str]:
    return [json.dumps(claim) for each in json.loads(report)["scenarios"] for claim in each["claims"]]
