"""The checks of the invariants accept the service as it is and refuse each planted defect, by what really happened.

Every run rehearses the service as it is and a few of the defects; `./justw rehearse` all of them, two side by side.
"""

import asyncio
import contextlib
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from chaos.arrivals import stream
from chaos.lives.plot import Course, Plot, Trespass, draw
from chaos.scenario import Finding
from chaos.verdict import Verdict
from compose.gate import MOVING_TARGETS
from compose.processes import PartFailed
from tests.chaos.planted import plant
from tests.integration.invariants.defects import DEFECTS, PATCHES, Defect
from tests.integration.invariants.rehearsal import (
    CHECKS,
    LIVES_BEGIN_SECONDS,
    LOAD,
    SEED,
    SERVICE,
    Stage,
    rehearse,
    stage,
)

pytestmark = pytest.mark.integration

SIDE_BY_SIDE = 2
ATTEMPTS_MAX = 3
"""On a busy machine so little may happen that nothing can be said, and a port may be taken before it is used."""
DEFECTS_OF_ONE_MIN = 2
PEOPLE = 5
HONEST = "honest"

Found = Mapping[str, Mapping[str, Finding] | BaseException]
"""What the checks found, by the name of the patch."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat over the invariants, over all patches, and over the defects that were asked for."""
    if "invariant" in metafunc.fixturenames:
        metafunc.parametrize("invariant", CHECKS)
    if "defect" in metafunc.fixturenames:
        asked = _asked_for(metafunc.config)
        metafunc.parametrize("defect", asked, ids=[one.patch for one in asked])


def _asked_for(config: pytest.Config) -> list[Defect]:
    everything = config.getoption("--defects") == "all"
    return [one for one in DEFECTS if everything or one.is_of_every_run]


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Rehearse whatever the selected tests ask for, on one stage."""
    selected = [item for item in request.session.items if isinstance(item, pytest.Function)]
    wanted = {item.callspec.params.get("defect") for item in selected if "found" in item.fixturenames}
    honest: list[Defect | None] = [None] if None in wanted else []
    defects = [*honest, *(one for one in DEFECTS if one in wanted)]
    return asyncio.run(_rehearse_all(defects, tmp_path_factory.mktemp("rehearsals")))


async def _rehearse_all(defects: list[Defect | None], folder: Path) -> Found:
    results: dict[str, Mapping[str, Finding] | BaseException] = {}
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(on: Stage, defect: Defect | None) -> None:
        name = HONEST if defect is None else defect.patch
        async with places:
            try:
                results[name] = await _until_known(on, name, defect)
            except Exception as error:  # noqa: BLE001 - the test of this one raises it again
                results[name] = error

    async with stage(folder) as on, asyncio.TaskGroup() as tasks:
        for defect in defects:
            tasks.create_task(one(on, defect))
    return results


async def _until_known(on: Stage, name: str, defect: Defect | None) -> Mapping[str, Finding]:
    service = SERVICE if defect is None else plant([defect.patch], on.folder / f"copy-{name}", PATCHES)
    judged = tuple(CHECKS) if defect is None else (defect.invariant,)
    sql = "" if defect is None else defect.sql
    for attempt in range(1, ATTEMPTS_MAX):
        with contextlib.suppress(PartFailed):
            findings = await rehearse(on, f"{name}_{attempt}", service, sql=sql, judged=judged)
            if all(finding.verdict is not Verdict.UNKNOWN for finding in findings.values()):
                return findings
    return await rehearse(on, f"{name}_{ATTEMPTS_MAX}", service, sql=sql, judged=judged)


def _of(found: Found, name: str, invariant: str) -> Finding:
    findings = found[name]
    if isinstance(findings, BaseException):
        raise findings
    return findings[invariant]


@pytest.mark.timeout(0)
def test_the_service_as_it_is_keeps_every_invariant(found: Found, invariant: str) -> None:
    finding = _of(found, HONEST, invariant)

    assert finding.verdict is Verdict.PASS, finding.reason
    assert finding.evidence


@pytest.mark.timeout(0)
def test_a_planted_defect_is_refused_by_its_own_invariant_for_its_own_reason(found: Found, defect: Defect) -> None:
    finding = _of(found, defect.patch, defect.invariant)

    assert finding.verdict is Verdict.FAIL, finding.reason
    assert re.search(defect.reason, finding.reason), finding.reason
    assert finding.evidence


@pytest.mark.parametrize("patch", [one.patch for one in DEFECTS])
def test_every_planted_defect_can_still_be_planted(patch: str) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("there is no git here, which applies the patches of planted defects")

    done = subprocess.run(
        [git, "apply", "--check", "--directory=service", str(PATCHES / f"{patch}.patch")],
        cwd=SERVICE.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_every_invariant_has_planted_defects_and_every_run_rehearses_some() -> None:
    count = Counter(one.invariant for one in DEFECTS)

    assert {path.stem for path in PATCHES.glob("*.patch")} == {one.patch for one in DEFECTS}
    assert set(count) == set(CHECKS)
    assert min(count.values()) >= DEFECTS_OF_ONE_MIN
    assert len({one.invariant for one in DEFECTS if one.is_of_every_run}) == sum(one.is_of_every_run for one in DEFECTS)


def test_the_lives_of_a_rehearsal_are_of_every_kind() -> None:
    chance = stream(SEED, "lives")
    due, plots = chance.expovariate(LOAD.lives_per_second), list[Plot]()
    while due < LIVES_BEGIN_SECONDS:
        plots.append(draw(len(plots) + 1, chance, targets=MOVING_TARGETS, people=PEOPLE))
        due += chance.expovariate(LOAD.lives_per_second)

    assert {one.course for one in plots} == set(Course)
    assert {one.trespass for one in plots} == {None, *Trespass}
    assert sum(one.rolls_back for one in plots) >= len(Course) // 2
