"""Every state of a proposal against every route that could change it: the documented step, or a problem and no trace.

The states are reached for real. A state or a route that is not in the table fails the first two tests.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.core.governed.lifecycle import State
from tests.integration.service.applying import address as address_of
from tests.integration.service.applying import unlocked
from tests.integration.service.gate import Founded
from tests.integration.service.reaching import WAYS
from tests.integration.service.stages import FIRST_DIGEST, Stages, by_hand
from tests.unit.service import electorate

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

__all__ = ["unlocked"]

OF_PROPOSALS = """
state              vote               revocation         withdrawal   application
pending            not-simulated      not-found          ->withdrawn  not-approved
pending/reopened   ballot-superseded  ballot-superseded  ->withdrawn  not-approved
simulating         not-simulated      not-found          ->withdrawn  not-approved
simulated          ->approved         ->simulated        ->withdrawn  not-approved
approved           ballot-closed      ->simulated        ->withdrawn  ->applying
applying           ballot-closed      already-applying   not-open     already-applying
applied            ballot-closed      already-applying   not-open     already-applying
denied             ballot-closed      not-found          not-open     not-approved
rejected           ballot-closed      ballot-closed      not-open     not-approved
expired            ballot-closed      ballot-closed      not-open     not-approved
withdrawn          ballot-closed      ballot-closed      not-open     not-approved
stale              ballot-closed      ballot-closed      not-open     not-approved
failed/simulation  ballot-closed      not-found          not-open     not-approved
failed/delivery    ballot-closed      ballot-closed      not-open     already-applying
rolled_back        ballot-closed      already-applying   not-open     already-applying
"""
OF_TARGETS = """
state              rollback         observation      freeze  unfreeze
pending            already-current  unknown-version  kept    not-approved
pending/reopened   already-current  unknown-version  kept    not-approved
simulating         already-current  unknown-version  kept    not-approved
simulated          already-current  unknown-version  kept    not-approved
approved           already-current  unknown-version  kept    kept
applying           kept             ->applied        kept    not-approved
applied            kept             kept             kept    not-approved
denied             already-current  unknown-version  kept    not-approved
rejected           already-current  unknown-version  kept    not-approved
expired            already-current  unknown-version  kept    not-approved
withdrawn          already-current  unknown-version  kept    not-approved
stale              kept             kept             kept    not-approved
failed/simulation  already-current  unknown-version  kept    not-approved
failed/delivery    kept             kept             kept    not-approved
rolled_back        already-current  kept             kept    not-approved
"""
"""`->`: the step that is taken. `kept`: answered with success, nothing of the proposal changes. Else the problem."""


@pytest.fixture
async def stages(unlocked: Founded) -> AsyncIterator[Stages]:
    async with by_hand(unlocked) as made:
        yield made


async def vote(stages: Stages, proposal: str) -> httpx.Response:
    """Cast the approval that would make a quorum, on the newest ballot that there is."""
    stored = await stages.stored(proposal)
    shown = await stages.client.http.get(f"/api/v1/proposals/{proposal}/ballot", headers=stages.headers("reader"))
    ballot = await stages.ballot(proposal) if shown.is_success else None
    epoch = max(1, stored.epoch - 1)
    return await stages.send(
        proposal, "sam", stages.signed(ballot or electorate.ballot(proposal=proposal, epoch=epoch), "sam")
    )


async def revoke(stages: Stages, proposal: str) -> httpx.Response:
    """Take olga's vote back; that of a proposal without one is just not there."""
    listed = await stages.client.http.get(f"/api/v1/proposals/{proposal}/votes", headers=stages.headers("reader"))
    none = {"id": str(uuid4()), "envelope": electorate.signed("olga").document()}
    votes = [one for one in listed.json()["items"] if one["validator"] == "olga"]
    return await stages.revoke(proposal, "olga", {"vote": votes[-1] if votes else none})


async def withdraw(stages: Stages, proposal: str) -> httpx.Response:
    return await stages.withdraw(proposal)


async def apply(stages: Stages, proposal: str) -> httpx.Response:
    return await stages.apply(proposal)


async def roll_back(stages: Stages, proposal: str) -> httpx.Response:
    return await stages.roll_back((await stages.stored(proposal)).target, 1)


async def observe(stages: Stages, proposal: str) -> httpx.Response:
    """Say that the version after the first runs, as it was decided where it was."""
    target = (await stages.stored(proposal)).target
    shown = await stages.get(target, "/snapshots/2")
    return await stages.observe(target, 2, shown.json()["digest"] if shown.is_success else FIRST_DIGEST)


async def freeze(stages: Stages, proposal: str) -> httpx.Response:
    return await stages.freeze((await stages.stored(proposal)).target)


async def unfreeze(stages: Stages, proposal: str) -> httpx.Response:
    target = (await stages.stored(proposal)).target
    assert (await stages.freeze(target)).is_success
    return await stages.client.http.delete(
        f"{address_of(target)}/freeze", params={"proposal": proposal}, headers=stages.headers("breaker")
    )


ROUTES: dict[str, tuple[str, Callable[[Stages, str], Awaitable[httpx.Response]]]] = {
    "vote": ("POST /api/v1/proposals/{proposal_id}/votes", vote),
    "revocation": ("POST /api/v1/proposals/{proposal_id}/votes/{vote_id}/revocation", revoke),
    "withdrawal": ("POST /api/v1/proposals/{proposal_id}/withdrawal", withdraw),
    "application": ("POST /api/v1/proposals/{proposal_id}/application", apply),
    "rollback": ("POST /api/v1/targets/{target}/rollbacks", roll_back),
    "observation": ("POST /api/v1/targets/{target}/observations", observe),
    "freeze": ("PUT /api/v1/targets/{target}/freeze", freeze),
    "unfreeze": ("DELETE /api/v1/targets/{target}/freeze", unfreeze),
}


def rows_of(text: str) -> dict[str, dict[str, str]]:
    head, *lines = [line.split() for line in text.strip().splitlines()]
    return {line[0]: dict(zip(head[1:], line[1:], strict=True)) for line in lines}


TABLE = {state: {**row, **rows_of(OF_TARGETS)[state]} for state, row in rows_of(OF_PROPOSALS).items()}


def state_of(case: str) -> str:
    return case.partition("/")[0]


def test_every_state_has_its_row() -> None:
    assert {state_of(case) for case in TABLE} == {state.value for state in State}
    assert TABLE.keys() == WAYS.keys()
    assert all(row.keys() == ROUTES.keys() for row in TABLE.values())


async def test_every_route_that_changes_something_of_a_proposal_or_target_has_its_column(stages: Stages) -> None:
    routes = {
        f"{method.upper()} {path}"
        for path, item in stages.client.service.schema_document["paths"].items()
        for method in item
        if method != "get" and path.startswith(("/api/v1/proposals/{", "/api/v1/targets/{"))
    }

    assert routes == {route for route, _ in ROUTES.values()}


@pytest.mark.parametrize("case", TABLE)
async def test_a_state_takes_the_documented_steps_and_no_other(stages: Stages, case: str) -> None:
    moving = {name: step.removeprefix("->") for name, step in TABLE[case].items() if step.startswith("->")}

    proposal = await WAYS[case](stages)
    assert (await stages.stored(proposal)).state == state_of(case)
    for name, expected in TABLE[case].items():
        if name in moving:
            continue
        before = trace(stages, proposal)
        answer = await ROUTES[name][1](stages, proposal)
        assert (name, "kept" if answer.is_success else answer.json()["code"]) == (name, expected), answer.text
        assert trace(stages, proposal) == before, name
    for name, state in moving.items():
        proposal = await WAYS[case](stages)
        answer = await ROUTES[name][1](stages, proposal)
        assert (name, answer.is_success, (await stages.stored(proposal)).state) == (name, True, state), answer.text
    while await stages.work("deliver"):
        pass


ROWS = (
    "SELECT * FROM proposals WHERE id = %s",
    "SELECT id, kind FROM events WHERE proposal_id = %s ORDER BY ordinal",
    "SELECT * FROM votes WHERE proposal_id = %s ORDER BY id",
    "SELECT r.* FROM vote_revocations r JOIN votes v ON v.id = vote_id WHERE v.proposal_id = %s ORDER BY vote_id",
    "SELECT * FROM decisions WHERE proposal_id = %s",
    "SELECT * FROM applications WHERE proposal_id = %s",
    "SELECT s.* FROM snapshots s JOIN proposals p ON p.target = s.target WHERE p.id = %s ORDER BY version",
)


def trace(stages: Stages, proposal: str) -> list[Any]:
    """Return everything that is stored of a proposal and of the versions of its target."""
    with stages.founded.server.connect() as connection:
        return [connection.execute(query.encode(), [proposal]).fetchall() for query in ROWS]
