"""What all replicas are told: changed, restored, read at every start, and judged by the service itself."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from litestar.exceptions import NotFoundException

from compose import processes
from compose.limits import Limits
from compose.pod import BackOff, Launch, Pod
from compose.ports import Ports
from compose.postgres import write_secret
from compose.replicas import ReplicaSpec
from compose.settings import REPOSITORY
from compose.supervisor import Configuration, Supervisor
from tests.eventually import eventually

CANARY = "canary-of-the-supervisors-test"


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    for name, secret in (("password", f"first-{CANARY}"), ("pepper", f"second-{CANARY}-long-enough")):
        write_secret(tmp_path / name, secret)
    return Supervisor(
        Configuration(
            ports=Ports.free(),
            world="test",
            service_path=str(REPOSITORY / "service"),
            settings={
                "FIREWALL_ENVIRONMENT": "production",
                "FIREWALL_DATABASE_HOST": "127.0.0.1",
                "FIREWALL_DATABASE_PASSWORD_FILE": str(tmp_path / "password"),
                "FIREWALL_API_KEY_PEPPER_FILE": str(tmp_path / "pepper"),
            },
            logs=str(tmp_path / "logs"),
            targets_file=str(tmp_path / "targets.json"),
            environment="production",
        )
    )


@pytest.mark.anyio
async def test_a_good_configuration_is_accepted_and_shown_without_its_secrets(supervisor: Supervisor) -> None:
    trial = await supervisor.try_configuration({})

    assert trial.exit_code == 0, trial.output
    assert '"FIREWALL_BREAKER_FAILURES"' in trial.output
    assert CANARY not in trial.output
    assert os.listdir(supervisor.configuration.logs) == []  # noqa: PTH208 - nothing waits for it


@pytest.mark.anyio
async def test_a_trial_sees_what_is_shared_and_its_own_changes_over_it(supervisor: Supervisor) -> None:
    supervisor.configure({"FIREWALL_PORT": "x", "FIREWALL_DATABASE_HOST": None})

    wrong = await supervisor.try_configuration({})
    mended = await supervisor.try_configuration({"FIREWALL_PORT": "15001", "FIREWALL_DATABASE_HOST": "127.0.0.1"})

    assert (wrong.exit_code, mended.exit_code) == (78, 0)
    assert [line.partition(";")[0] for line in wrong.output.splitlines()] == [
        "FIREWALL_DATABASE_HOST: missing",
        "FIREWALL_PORT: not acceptable",
    ]


def test_every_change_of_what_is_shared_is_another_revision(supervisor: Supervisor) -> None:
    supervisor.configure({"FIREWALL_PORT": "x"})
    supervisor.configure({})

    assert (supervisor.shared.revision, supervisor.shared.changes) == (2, {})


def test_the_log_of_a_replica_that_does_not_exist_is_not_found(supervisor: Supervisor) -> None:
    with pytest.raises(NotFoundException):
        supervisor.log_of("../../etc/passwd")


@pytest.mark.anyio
async def test_a_replica_is_told_anew_at_every_start_and_its_newest_lives_are_kept_apart(tmp_path: Path) -> None:
    told = iter(range(1, 1000))
    log = tmp_path / "replica-1.log"

    def launch() -> Launch:
        number = next(told)
        program = f"import os; print('life', os.environ['NUMBER']); raise SystemExit({78 if number < 3 else 65})"
        return Launch(
            argv=(sys.executable, "-c", program),
            environment=processes.plain_environment(NUMBER=str(number)),
            address="http://127.0.0.1:9",
            log=log,
            revision=number,
        )

    pod = Pod(
        "replica-1",
        ReplicaSpec(slot=1),
        group_name=f"test-{os.getpid()}",
        bounds=Limits(),
        back_off=BackOff(initial_seconds=0.01, max_seconds=0.01),
    )
    life = asyncio.get_running_loop().create_task(pod.live(launch))
    try:
        await eventually(lambda: pod.status().last_exit_code == 65, seconds=20)
    finally:
        life.cancel()
        await asyncio.wait([life])
        pod.discard()

    status = pod.status()
    assert status.restarts >= 2
    assert status.revision >= 3
    assert status.last_seconds is not None
    assert 0 < status.last_seconds < 20
    assert log.read_text().splitlines()[:3] == ["life 1", "life 2", "life 3"]
    assert log.read_bytes()[pod.log_begun[0] :].startswith(f"life {status.revision - 1}\n".encode())
