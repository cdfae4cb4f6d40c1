"""A wrong configuration, rolled out by a real supervisor to the stand-in for the service."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from chaos.faults import InvalidConfiguration, from_record
from compose.replicas import STAGING, ReplicaSpec
from compose.settings import REPOSITORY
from tests.integration.chaos.supervised import supervised, until

if TYPE_CHECKING:
    from compose.stack import Stack

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.timeout(90)]

OLD, NEW = "replica-1", "replica-2"
STAND_IN = REPOSITORY / "tests" / "integration" / "compose" / "stand_in"
EXIT_CODE = "FIREWALL_STAND_IN_EXIT_CODE"
FAULT = InvalidConfiguration(
    values={EXIT_CODE: "78"}, missing=("FIREWALL_TO_LOSE",), secrets={"FIREWALL_KEY_FILE": "changeme"}
)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator["Stack"]:
    """A supervisor with one replica, ready: as much of a stack as the fault uses."""
    async with supervised(tmp_path, STAND_IN, {"FIREWALL_TO_LOSE": "x"}) as replicas:
        await replicas.add(OLD, ReplicaSpec(slot=1))
        await until(replicas, OLD)
        yield cast("Stack", SimpleNamespace(replicas=replicas, replica_names=lambda: (OLD,), secrets_folder=tmp_path))


async def test_it_bites_only_between_inject_and_undo_and_the_old_replica_is_left_alone(stack: "Stack") -> None:
    old = (await stack.replicas.status())[OLD].pid
    assert not (await FAULT.bites(stack)).ok
    assert (await FAULT.is_gone(stack)).ok

    await FAULT.inject(stack)
    await FAULT.inject(stack)
    bitten = await FAULT.bites(stack)
    assert bitten.ok, bitten.text
    assert not (await FAULT.is_gone(stack)).ok

    again = from_record(FAULT.kind, FAULT.parameters())
    await again.undo(stack)
    await again.undo(stack)
    gone = await FAULT.is_gone(stack)
    assert gone.ok, gone.text
    assert not (await FAULT.bites(stack)).ok
    assert (await stack.replicas.status())[OLD].pid == old
    assert not list(stack.secrets_folder.glob("unfit-*"))


async def test_it_bites_also_when_the_service_takes_the_wrong_configuration(stack: "Stack") -> None:
    swallowed = InvalidConfiguration(values={"FIREWALL_NOBODY_CARES": "x"})

    await swallowed.inject(stack)

    bitten = await swallowed.bites(stack)
    assert bitten.ok, bitten.text
    await swallowed.undo(stack)
    gone = await swallowed.is_gone(stack)
    assert gone.ok, gone.text


async def test_what_the_runbook_restored_heals_the_replica_at_its_next_start(stack: "Stack") -> None:
    await FAULT.inject(stack)

    await stack.replicas.configure({})
    await stack.replicas.restart(NEW)
    await until(stack.replicas, NEW)

    assert not (await FAULT.is_gone(stack)).ok  # the rolling update is not taken back yet
    await FAULT.undo(stack)
    assert (await FAULT.is_gone(stack)).ok


async def test_a_replica_of_staging_is_told_the_same_and_is_gone_with_it(stack: "Stack") -> None:
    fault = InvalidConfiguration(values={EXIT_CODE: "78"}, in_staging=True)

    await fault.inject(stack)
    staged = await until(stack.replicas, STAGING, ready=False)
    bitten = await fault.bites(stack)
    await fault.undo(stack)

    assert (staged.environment, staged.last_exit_code) == ("staging", 78)
    assert bitten.ok, bitten.text
    assert (await fault.is_gone(stack)).ok
