"""What every failure mode's test says of it: its part of one game day, and what breaking its mitigations turns red.

A mode's file has a class that names the mode and its planted defects; everything general is here, once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from chaos.matrix import Claim, load_matrix
from chaos.result import ClaimResult, Report, ScenarioResult
from chaos.scenario import Injection
from chaos.scenarios import SCENARIOS
from chaos.verdict import Verdict
from compose import host
from tests.chaos.gameday import GameDay
from tests.chaos.planted import plant

CLOCKS = ("detect", "mitigate", "recover")


@dataclass(frozen=True, kw_only=True)
class Caught:
    """What must catch a planted defect: a claim or an invariant, in words that match ``reason``."""

    by: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One copy of the service, broken in ways that do not hide each other, run under some of the injections."""

    injections: tuple[str, ...]
    defects: Mapping[str, Caught]
    """By the name of the patch in ``tests/chaos/defects``."""
    is_alone: bool = False
    """Nothing else runs meanwhile: with a second world beside it, the defect is not what is measured."""

    def finding(self, report: Report, name: str) -> ClaimResult:
        """Return what a run of this copy says of the claim that must catch a defect."""
        (scenario,) = report.scenarios
        judged = (*scenario.claims, *scenario.invariants)
        (found,) = [each for each in judged if each.id.split()[0] == self.defects[name].by]
        return found


class FailureModeTests:
    """Subclass it as ``TestFmNN`` with the mode's id and its trials; add what only this mode has to say."""

    failure_mode: ClassVar[str]
    trials: ClassVar[tuple[Trial, ...]]

    @pytest.fixture
    def scenario(self, whole: GameDay) -> ScenarioResult:
        """Return what the game day says of this mode."""
        (found,) = [each for each in whole.report.scenarios if each.failure_mode == self.failure_mode]
        return found

    def test_scenario_passes(self, scenario: ScenarioResult) -> None:
        assert scenario.verdict is Verdict.PASS, scenario.reason

    def test_documented_claim_holds(self, scenario: ScenarioResult, claim: Claim) -> None:
        (judged,) = [each for each in scenario.claims if each.id == claim.id]

        assert judged.text == claim.text
        assert judged.verdict in {Verdict.PASS, Verdict.WAIVED}, judged.reason
        assert judged.evidence or judged.verdict is Verdict.WAIVED

    def test_every_invariant_holds(self, scenario: ScenarioResult) -> None:
        wrong = {each.id: each.reason for each in scenario.invariants if each.verdict is not Verdict.PASS}

        assert wrong == {}

    def test_clock_is_within_its_bound_for_every_fault_it_judges(self, scenario: ScenarioResult, clock: str) -> None:
        judged = getattr(scenario.clocks, clock)

        assert judged.verdict is Verdict.PASS, judged.reason
        expected = {each.name for each in _injections(self.failure_mode) if each.judged_by_clocks and _can(each)}
        assert set(judged.by_injection) >= expected
        assert all(0 <= seconds <= judged.bound for seconds in judged.by_injection.values()), judged.by_injection

    def test_fault_is_proved_to_have_bitten_and_to_be_gone(
        self, scenario: ScenarioResult, injection: Injection
    ) -> None:
        (fault,) = [each for each in scenario.faults if each.injection == injection.name]

        if not _can(injection):
            assert fault.verdict is Verdict.SKIPPED
            assert fault.reason
            return
        assert fault.verdict is Verdict.PASS, fault.reason
        proved = [each.proves for each in fault.receipts if each.ok]
        assert proved[0] == "bite"
        assert proved[-1] == "undo"
        assert all(each.ok and each.evidence for each in fault.receipts)

    def test_planted_defect_turns_the_scenario_red_for_its_own_reason(
        self, broken: Mapping[Trial, Report | BaseException], defect: tuple[Trial, str]
    ) -> None:
        trial, name = defect
        report = broken[trial]
        if isinstance(report, BaseException):
            raise report
        found, caught = trial.finding(report, name), trial.defects[name]

        assert found.verdict is Verdict.FAIL, found.reason
        assert re.search(caught.reason, found.reason), found.reason
        assert found.evidence

    def test_planted_defects_can_still_be_planted(self, trial: Trial, tmp_path: Path) -> None:
        changed = plant(trial.defects, tmp_path)

        assert (changed / "app" / "__main__.py").is_file()

    def test_every_mitigation_has_a_planted_defect(self) -> None:
        caught = {each.by for trial in self.trials for each in trial.defects.values()}

        mitigations = {claim.id for claim in claims_of(self.failure_mode) if ".M" in claim.id}
        assert mitigations <= caught


def parameters(failure_mode: str, trials: tuple[Trial, ...]) -> Mapping[str, tuple[list[object], list[str]]]:
    """Return what the tests of a mode are repeated over, by argument: values and their names."""
    claims, injections = claims_of(failure_mode), _injections(failure_mode)
    defects = [(trial, name) for trial in trials for name in trial.defects]
    return {
        "claim": ([*claims], [claim.id for claim in claims]),
        "injection": ([*injections], [each.name for each in injections]),
        "clock": ([*CLOCKS], [*CLOCKS]),
        "trial": ([*trials], ["+".join(trial.injections) for trial in trials]),
        "defect": ([*defects], [name for _, name in defects]),
    }


def claims_of(failure_mode: str) -> tuple[Claim, ...]:
    """Return the document's claims of a mode."""
    return load_matrix().mode(failure_mode).claims


def _injections(failure_mode: str) -> tuple[Injection, ...]:
    return SCENARIOS[failure_mode].injections


def _can(injection: Injection) -> bool:
    capabilities = host.detect()
    return all(capabilities[need].available for need in injection.fault.needs)
