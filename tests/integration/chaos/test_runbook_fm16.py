"""FM16's runbook against a real supervisor and the real service: it points at what is wrong, and takes it back."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos import runbook
from chaos.runbook import Kind, Stage
from compose.postgres import write_secret
from compose.replicas import STAGING, Replicas, ReplicaSpec
from compose.settings import REPOSITORY
from tests.integration.chaos.supervised import supervised, until

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.timeout(90)]

FM16 = runbook.load("fm16_invalid_configuration")
NEW = "replica-3"
STAGING_STEP = 3
STAND_IN = REPOSITORY / "tests" / "integration" / "compose" / "stand_in"
WRONG = {
    "FIREWALL_POOL_CONNECTIONS_MAX": "many",
    "FIREWALL_REQUEST_DEADLINE_SECOND": "3",
    "FIREWALL_DATABASE_HOST": None,
}


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    write_secret(tmp_path / "password", "a-password-of-this-test")
    write_secret(tmp_path / "pepper", "a-pepper-of-this-test-that-is-long-enough")
    settings = {
        "FIREWALL_ENVIRONMENT": "production",
        "FIREWALL_DATABASE_HOST": "127.0.0.1",
        "FIREWALL_DATABASE_PASSWORD_FILE": str(tmp_path / "password"),
        "FIREWALL_API_KEY_PEPPER_FILE": str(tmp_path / "pepper"),
    }
    async with supervised(tmp_path, REPOSITORY / "service", settings) as running:
        yield running


async def run(replicas: Replicas, stage: Stage, number: int) -> list[runbook.StepResult]:
    given = {"AMGF_PYTHON": sys.executable, "AMGF_CONTROL": replicas.address}
    steps = [step for step in FM16.at(stage, frozenset({number})) if step.number == number]
    if number == STAGING_STEP:
        steps = [step for step in steps if step.kind is Kind.CHECK]  # there is no database to start with here
    return [await runbook.run_step(step, stage=stage, environment=given) for step in steps]


async def diagnosed(replicas: Replicas) -> str | None:
    results = [*await run(replicas, Stage.DURING, 1), *await run(replicas, Stage.DURING, 3)]
    assert all(result.ok for result in results), [result.output for result in results]
    return FM16.localise({result.step.number: result.outcome for result in results})


async def test_wrong_settings_are_found_taken_back_and_accepted(replicas: Replicas) -> None:
    await replicas.configure(WRONG)
    await replicas.add(NEW, ReplicaSpec(slot=3))
    state = await until(replicas, NEW, ready=False)

    concluded = await diagnosed(replicas)
    (restored,) = await run(replicas, Stage.REPAIR, 1)
    (again,) = await run(replicas, Stage.REPAIR, 1)
    verified = await run(replicas, Stage.REPAIR, 3)

    assert state.last_exit_code == 78
    assert concluded is not None
    assert concluded.startswith("the configuration: ")
    assert restored.ok
    assert all(name in restored.output for name in WRONG)
    assert again.output == "restored: []\n"
    assert (await replicas.configuration()).changes == {}
    assert [result.ok for result in verified] == [True, True], [result.output for result in verified]


async def test_what_only_production_refuses_is_told_from_what_is_wrong_everywhere(replicas: Replicas) -> None:
    await replicas.configure({"FIREWALL_LOG_LEVEL": "debug"})
    await replicas.add(NEW, ReplicaSpec(slot=3))
    await until(replicas, NEW, ready=False)

    concluded = await diagnosed(replicas)

    assert concluded is not None
    assert "only production refuses" in concluded


async def test_staging_says_no_to_a_configuration_that_is_still_wrong(replicas: Replicas) -> None:
    await replicas.configure(WRONG)

    verified = await run(replicas, Stage.REPAIR, 3)

    assert [result.ok for result in verified] == [False, False]
    assert "FIREWALL_DATABASE_HOST: missing" in verified[0].output


async def test_staging_starts_with_what_was_refused_taken_back_and_production_is_left_as_it_is(tmp_path: Path) -> None:
    setting = "FIREWALL_STAND_IN_EXIT_CODE"
    words = {"FIREWALL_STAND_IN_LAST_WORDS": f"{setting}: not acceptable; accepted: none\n"}
    (step,) = [one for one in FM16.at(Stage.REPAIR) if one.number == STAGING_STEP and one.kind is Kind.ACT]
    async with supervised(tmp_path, STAND_IN, words) as replicas:
        await replicas.configure({setting: "78"})
        await replicas.add(NEW, ReplicaSpec(slot=3))
        await replicas.stage()
        await until(replicas, NEW, ready=False)
        staged = await until(replicas, STAGING, ready=False)

        given = {"AMGF_PYTHON": sys.executable, "AMGF_CONTROL": replicas.address}
        result = await runbook.run_step(step, stage=Stage.REPAIR, environment=given)

        assert (staged.environment, staged.last_exit_code) == ("staging", 78)
        assert result.ok, result.output
        states = await replicas.status()
        assert (states[STAGING].ready, states[NEW].ready) == (True, False)
        assert (await replicas.configuration()).changes == {setting: "78"}
