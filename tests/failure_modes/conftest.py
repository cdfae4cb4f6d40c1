"""One game day for all failure modes whose tests were asked for, and one run for each broken copy of the service."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from chaos.outcome import EXIT_UNKNOWN
from chaos.result import Report
from chaos.scenarios import SCENARIOS
from chaos.verdict import Verdict
from tests.chaos.gameday import GameDay, game_day, side_by_side
from tests.chaos.planted import plant
from tests.failure_modes.trials import FailureModeTests, Trial, parameters

RUN_SECONDS = 480.0
"""A whole failure mode, or a trial, on a busy machine."""


ATTEMPTS = 2
"""What could not be judged, because the machine was busy, is looked at once more. What failed has failed."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat the tests of a failure mode over its claims, injections, clocks and defects."""
    if metafunc.cls is None or not issubclass(metafunc.cls, FailureModeTests):
        return
    for argument, (values, names) in parameters(metafunc.cls.failure_mode, metafunc.cls.trials).items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, values, ids=names)


@pytest.fixture(scope="session")
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GameDay:
    """Run a game day once, one world after the other: what is measured is the service, not the neighbour."""
    modes = sorted(_asked_for(request.session, "whole")) or sorted(SCENARIOS)
    return asyncio.run(_run_whole(tmp_path_factory.mktemp("whole"), modes))


@pytest.fixture(scope="session")
def broken(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[Trial, Report | BaseException]:
    """Run every trial once, side by side where that may be; an exception is what went wrong with one."""
    trials = [(mode, trial) for mode, each in _asked_for(request.session, "broken").items() for trial in each]
    together = [(mode, trial) for mode, trial in trials if not trial.is_alone]
    alone = [(mode, trial) for mode, trial in trials if trial.is_alone]
    done: dict[Trial, Report | BaseException] = {}
    for group in (together, *([each] for each in alone)):
        works = [_run_trial(tmp_path_factory.mktemp(mode), mode, trial) for mode, trial in group]
        results = asyncio.run(side_by_side(works))
        done |= {trial: result for (_, trial), result in zip(group, results, strict=True)}
    return done


def _asked_for(session: pytest.Session, fixture: str) -> dict[str, tuple[Trial, ...]]:
    """Return the modes, and their trials, of the collected tests that need a fixture."""
    classes = (
        item.cls
        for item in session.items
        if isinstance(item, pytest.Function) and item.cls is not None and fixture in item.fixturenames
    )
    return {each.failure_mode: each.trials for each in classes if issubclass(each, FailureModeTests)}


async def _run_whole(runs: Path, modes: list[str]) -> GameDay:
    for _ in range(ATTEMPTS):
        async with game_day(runs, modes=modes) as day:
            code = await day.ended(within_seconds=RUN_SECONDS * len(modes))
        if code != EXIT_UNKNOWN:
            break
    return day


async def _run_trial(folder: Path, mode: str, trial: Trial) -> Report:
    service = plant(trial.defects, folder)
    only = [word for name in trial.injections for word in ("--injection", name)]
    for _ in range(ATTEMPTS):
        async with game_day(folder / "runs", "--service", service, "--no-runbook", *only, modes=[mode]) as day:
            await day.ended(within_seconds=RUN_SECONDS)
            report = day.report
        if not any(trial.finding(report, name).verdict is Verdict.UNKNOWN for name in trial.defects):
            break
    return report
