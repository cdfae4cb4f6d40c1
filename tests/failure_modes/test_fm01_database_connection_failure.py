"""FM01, whole, against the real stack: all five injections, all 13 claims, and each mitigation missed when broken."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from chaos.matrix import Claim, load_matrix
from chaos.outcome import EXIT_FAILED, EXIT_PASS
from chaos.report import schema
from chaos.result import Report
from chaos.verdict import Verdict
from compose import host
from tests.chaos.gameday import GameDay, ask, game_day, side_by_side
from tests.chaos.planted import FOLDER, plant

pytestmark = [pytest.mark.scenario, pytest.mark.anyio, pytest.mark.timeout(540)]

CLAIMS = load_matrix().mode("FM01").claims
INJECTIONS = ("brief_interruption", "proxy_down", "postgres_stopped", "silent_proxy", "packets_dropped")
RUN_SECONDS = 480.0
LOADS_SOMETHING = re.compile(
    rb"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import"""
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> GameDay:
    """Run all of it, once."""
    async with game_day(tmp_path_factory.mktemp("fm01")) as day:
        await day.ended(within_seconds=RUN_SECONDS)
    return day


def _can_drop_packets() -> bool:
    capabilities = host.detect()
    return all(capabilities[need].available for need in ("network_namespace", "packet_filter"))


async def test_the_run_passes(whole: GameDay) -> None:
    assert whole.process.returncode == EXIT_PASS, whole.output[-6000:]
    assert whole.report.verdict is Verdict.PASS
    assert re.fullmatch(r"\d+ passed, 0 failed, \d+ skipped", whole.output.splitlines()[-1])


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
async def test_documented_claim_holds(whole: GameDay, claim: Claim) -> None:
    (judged,) = [each for each in whole.report.scenarios[0].claims if each.id == claim.id]

    assert judged.text == claim.text
    assert judged.verdict is Verdict.PASS, judged.reason
    assert judged.evidence


async def test_every_invariant_holds(whole: GameDay) -> None:
    wrong = {each.id: each.reason for each in whole.report.scenarios[0].invariants if each.verdict is not Verdict.PASS}

    assert wrong == {}


@pytest.mark.parametrize("name", ["detect", "mitigate", "recover"])
async def test_clock_is_within_its_bound_for_every_fault(whole: GameDay, name: str) -> None:
    clock = getattr(whole.report.scenarios[0].clocks, name)

    assert clock.verdict is Verdict.PASS, clock.reason
    assert set(clock.by_injection) >= {"proxy_down", "postgres_stopped", "silent_proxy"}
    assert all(0 < seconds <= clock.bound for seconds in clock.by_injection.values()), clock.by_injection


@pytest.mark.parametrize("injection", INJECTIONS)
async def test_fault_is_proved_to_have_bitten_and_to_be_gone(whole: GameDay, injection: str) -> None:
    (fault,) = [each for each in whole.report.scenarios[0].faults if each.injection == injection]

    if injection == "packets_dropped" and not _can_drop_packets():
        assert fault.verdict is Verdict.SKIPPED
        assert fault.reason
        return
    assert fault.verdict is Verdict.PASS, fault.reason
    proved = [each.proves for each in fault.receipts if each.ok]
    assert proved[0] == "bite"
    assert proved[-1] == "undo"
    assert all(each.ok and each.evidence for each in fault.receipts)


async def test_report_meets_its_schema(whole: GameDay) -> None:
    schema.validate((whole.folder / "report.json").read_bytes())

    assert [each.id for each in whole.report.scenarios[0].claims] == [claim.id for claim in CLAIMS]


async def test_junit_has_a_test_case_for_each_claim_and_nothing_red(whole: GameDay) -> None:
    suites = ET.fromstring((whole.folder / "junit.xml").read_bytes())  # noqa: S314 - of our own making

    of_claims, *_ = suites.iter("testsuite")
    assert [case.get("name", "").split()[0] for case in of_claims.iter("testcase")] == [claim.id for claim in CLAIMS]
    assert not [*suites.iter("failure"), *suites.iter("error")]


async def test_page_loads_nothing_from_anywhere(whole: GameDay) -> None:
    page = (whole.folder / "report.html").read_bytes()

    assert not LOADS_SOMETHING.search(page)
    assert b"<script src" not in page
    assert b"</html>" in page


async def test_judging_the_recorded_run_again_gives_the_same_report(whole: GameDay) -> None:
    before = (whole.folder / "report.json").read_bytes()

    code, output = await ask("judge", whole.folder)

    assert code == whole.process.returncode, output
    after = (whole.folder / "report.json").read_bytes()
    assert _claims(after) == _claims(before)
    assert after == before


def _claims(report: bytes) -> list[str]:
    return [json.dumps(claim) for each in json.loads(report)["scenarios"] for claim in each["claims"]]


@dataclass(frozen=True)
class Defect:
    """What must catch a planted defect: a claim or an invariant of FM01, in these words, under this fault alone."""

    caught_by: str
    reason: str
    injection: str


DEFECTS: Mapping[str, Defect] = {
    "breaker_off": Defect("FM01.M3", "the circuit did not open", "proxy_down"),
    "backoff_fixed": Defect("FM01.M1", r"pause 2 was (0\.[89]|1\.[012])\d s", "postgres_stopped"),
    "acknowledge_before_commit": Defect("I1", r"\d+ of \d+ acknowledgements are for nothing", "proxy_down"),
}


@pytest.fixture(scope="module")
async def planted(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Report | BaseException]:
    """Run each defect under its fault, all side by side; an exception is what went wrong with one."""

    async def one(name: str, defect: Defect) -> Report:
        folder = tmp_path_factory.mktemp(name)
        async with game_day(folder / "runs", "--service", plant(name, folder), "--injection", defect.injection) as day:
            code = await day.ended(within_seconds=RUN_SECONDS / 2)
            assert code == EXIT_FAILED, day.output[-4000:]
            return day.report

    done = await side_by_side(one(*each) for each in DEFECTS.items())
    return dict(zip(DEFECTS, done, strict=True))


def test_there_is_a_trial_for_every_planted_defect() -> None:
    assert {path.stem for path in FOLDER.glob("*.patch")} == set(DEFECTS)


@pytest.mark.parametrize("name", DEFECTS)
def test_planted_defect_can_still_be_planted(name: str, tmp_path: Path) -> None:
    changed = plant(name, tmp_path)

    assert (changed / "app" / "__main__.py").is_file()


@pytest.mark.parametrize("name", DEFECTS)
async def test_planted_defect_turns_the_scenario_red_for_its_own_reason(
    planted: Mapping[str, Report | BaseException], name: str
) -> None:
    report = planted[name]
    if isinstance(report, BaseException):
        raise report
    (scenario,) = report.scenarios

    (found,) = [
        each for each in (*scenario.claims, *scenario.invariants) if each.id.split()[0] == DEFECTS[name].caught_by
    ]

    assert found.verdict is Verdict.FAIL, found.reason
    assert re.search(DEFECTS[name].reason, found.reason)
    assert found.evidence
