"""The simulation stage: leases, what follows from a verdict, and new epochs when the rules change."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from app.core.governance.policy_set import DEFAULT
from app.core.governed.lifecycle import State
from app.core.log.events import SERVICE
from app.errors import Overtaken
from app.sandbox.result import Inconclusive
from app.storage import proposals
from app.storage.proposals import Step
from app.workflow.simulation import ATTEMPTS_MAX, Lease
from tests.integration.service.gate import DOCUMENT, Founded, Party, policies
from tests.integration.service.running import EVENTS

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SECRET = [{"op": "add", "path": "/notes/secret", "value": "x"}]


async def leased(party: Party, proposal: str) -> Lease:
    """The lease of this proposal; those that wait before it are simulated."""
    while True:
        lease = await party.simulator.lease(deadline=party.deadline())
        assert lease is not None
        if str(lease.proposal.id) == proposal:
            return lease
        await party.simulator.conclude(lease, Inconclusive("nondeterministic"), deadline=party.deadline())


def lose(gate: Founded, proposal: str) -> None:
    with gate.server.connect() as connection:
        connection.execute("UPDATE proposals SET lease_until = now() - interval '1 s' WHERE id = %s", [proposal])


async def get(party: Party, path: str) -> httpx.Response:
    return await party.client.http.get(f"/api/v1/proposals/{path}", headers=party.headers("reader"))


async def test_an_allowed_change_opens_a_ballot_over_its_result(party: Party, gate: Founded) -> None:
    proposal = await party.simulated()

    plan = (await get(party, f"{proposal}/simulation?inputs=true")).json()
    ballot = await party.ballot(proposal)

    assert (plan["verdict"], plan["epoch"], plan["simulation"]["tier"]) == ("allow", 1, "medium")
    assert ballot.predicate.simulation_digest == plan["simulation_digest"]
    assert [f"sha256:{one.digest.sha256}" for one in ballot.subject][1] == plan["result_digest"]
    assert plan["inputs"]["base"] == DOCUMENT
    assert plan["result"]["notes"]
    shown = (await get(party, proposal)).json()
    assert (shown["state"], shown["tier"]) == ("simulated", "medium")
    assert shown["expires_at"] < shown["created_at"].replace(shown["created_at"][:4], "9999")
    assert gate.value("SELECT count(*) FROM ballots WHERE proposal_id = %s", proposal) == 1


async def test_a_rule_that_fires_denies_and_nobody_is_asked(party: Party, gate: Founded) -> None:
    proposal = await party.propose(patch=SECRET)

    await party.simulate(proposal)

    assert gate.events(proposal)[-2:] == ["simulation-started", "denied"]
    plan = (await get(party, f"{proposal}/simulation")).json()
    assert (plan["verdict"], plan["simulation"]["reasons"][0]["rule"], plan["inputs"]) == ("deny", "no-secrets", None)
    assert (await get(party, f"{proposal}/ballot")).json()["code"] == "not-simulated"


async def test_one_proposal_is_leased_to_one_worker(party: Party) -> None:
    proposal = await party.propose()

    leases = await asyncio.gather(*(party.simulator.lease(deadline=party.deadline()) for _ in range(5)))

    assert [str(one.proposal.id) for one in leases if one is not None] == [proposal]


async def test_a_worker_that_lost_its_lease_writes_nothing(party: Party, gate: Founded) -> None:
    proposal = await party.propose()
    stale = await leased(party, proposal)
    found = await party.client.service.sandbox.simulate_twice(stale.inputs, deadline_seconds=20)
    lose(gate, proposal)
    assert await party.janitor.once(deadline=party.deadline()) == 1
    await party.simulate(proposal)
    before = gate.events(proposal)

    with pytest.raises(Overtaken):
        await party.simulator.conclude(stale, found, deadline=party.deadline())

    assert gate.events(proposal) == before
    assert before == [
        "proposal-created",
        "simulation-started",
        "simulation-returned",
        "simulation-started",
        "simulated",
    ]


async def test_the_stale_worker_loses_also_while_the_second_is_at_work(party: Party, gate: Founded) -> None:
    proposal = await party.propose()
    stale = await leased(party, proposal)
    lose(gate, proposal)
    await party.janitor.once(deadline=party.deadline())
    second = await leased(party, proposal)
    found = await party.client.service.sandbox.simulate_twice(second.inputs, deadline_seconds=20)

    async def conclude(lease: Lease) -> bool:
        try:
            await party.simulator.conclude(lease, found, deadline=party.deadline())
        except Overtaken:
            return False
        return True

    assert list(await asyncio.gather(conclude(stale), conclude(second))) == [False, True]
    assert gate.events(proposal).count("simulated") == 1


async def test_processes_that_disagree_fail_the_proposal_at_once(party: Party, gate: Founded) -> None:
    proposal = await party.propose()

    await party.simulator.conclude(
        await leased(party, proposal), Inconclusive("nondeterministic"), deadline=party.deadline()
    )

    assert gate.events(proposal)[-1] == "simulation-failed"
    assert (await party.stored(proposal)).state is State.FAILED


async def test_a_simulation_that_never_ends_well_fails_after_three_attempts(party: Party, gate: Founded) -> None:
    proposal = await party.propose()

    for _ in range(ATTEMPTS_MAX):
        lease = await leased(party, proposal)
        await party.simulator.conclude(lease, Inconclusive("crashed"), deadline=party.deadline())

    assert gate.events(proposal) == [
        "proposal-created",
        *(["simulation-started", "simulation-returned"] * (ATTEMPTS_MAX - 1)),
        "simulation-started",
        "simulation-failed",
    ]


async def test_the_janitor_fails_what_lost_its_last_lease(party: Party, gate: Founded) -> None:
    proposal = await party.propose()

    for _ in range(ATTEMPTS_MAX):
        await leased(party, proposal)
        lose(gate, proposal)
        await party.janitor.once(deadline=party.deadline())

    assert (await party.stored(proposal)).state is State.FAILED


async def test_what_was_withdrawn_meanwhile_is_not_simulated(party: Party, gate: Founded) -> None:
    proposal = await party.propose()
    lease = await leased(party, proposal)
    step = Step(
        proposal_id=lease.proposal.id,
        state_from=State.SIMULATING,
        state_to=State.WITHDRAWN,
        principal=SERVICE,
        body={},
    )

    async def withdraw(connection: Any) -> None:
        await proposals.move(connection, EVENTS, step)

    await party.database.transact("proposal_create", withdraw, deadline=party.deadline())

    with pytest.raises(Overtaken):
        await party.simulator.conclude(lease, Inconclusive("crashed"), deadline=party.deadline())
    assert gate.events(proposal)[-1] == "withdrawn"


async def test_what_is_past_its_time_expires_whatever_it_was_waiting_for(party: Party, gate: Founded) -> None:
    simulated, simulating = await party.simulated(), await party.propose()
    await leased(party, simulating)
    with gate.server.connect() as connection:
        connection.execute(
            "UPDATE proposals SET expires_at = now() - interval '1 s' WHERE id = ANY(%s)", [[simulated, simulating]]
        )

    assert await party.janitor.once(deadline=party.deadline()) == 2
    assert await party.janitor.once(deadline=party.deadline()) == 0
    assert [gate.events(one)[-1] for one in (simulated, simulating)] == ["expired", "expired"]
    assert [gate.events(one).count("expired") for one in (simulated, simulating)] == [1, 1]


@pytest.mark.parametrize("target", ["governance/policies", "governance/corpus"])
async def test_new_rules_void_every_vote_and_open_another_ballot(party: Party, gate: Founded, target: str) -> None:
    proposal = await party.simulated()
    old = await party.ballot(proposal)
    await party.vote(proposal, "robot")
    late = party.signed(old, "olga")
    documents = {"governance/policies": policies(params={"changed": True}), "governance/corpus": {"v": 1, "cases": []}}

    gate.change_rules(target, documents[target])
    early = await party.send(proposal, "olga", late)
    taken = await party.janitor.once(deadline=party.deadline())
    waiting = await party.send(proposal, "olga", late)
    await party.simulate(proposal)
    replayed = await party.send(proposal, "olga", late)
    fresh = await party.vote(proposal, "olga")

    assert [one.json()["code"] for one in (early, waiting, replayed)] == ["ballot-superseded"] * 3
    assert taken >= 1
    assert (await party.stored(proposal)).epoch == 2
    assert gate.events(proposal)[-4:] == ["reopened", "simulation-started", "simulated", "vote-cast"]
    assert fresh.json()["state"] == "simulated"
    assert [one["validator"] for one in fresh.json()["tally"]["counted"]] == ["olga"]
    assert (await party.ballot(proposal)).predicate.nonce != old.predicate.nonce


async def test_an_approval_under_the_old_rules_is_reopened(party: Party, gate: Founded) -> None:
    proposal = await party.simulated()
    await party.vote(proposal, "robot")
    assert (await party.vote(proposal, "olga")).json()["state"] == "approved"

    gate.change_rules("governance/corpus", {"v": 1, "cases": []})
    await party.janitor.once(deadline=party.deadline())

    stored = await party.stored(proposal)
    assert (stored.state, stored.epoch, stored.approved_at, stored.attempts) == (State.PENDING, 2, None, 0)
    await party.simulate(proposal)


async def test_rules_that_change_during_a_simulation_send_it_back_uncounted(party: Party, gate: Founded) -> None:
    proposal = await party.propose()
    lease = await leased(party, proposal)
    found = await party.client.service.sandbox.simulate_twice(lease.inputs, deadline_seconds=20)

    gate.change_rules("governance/corpus", {"v": 1, "cases": []})
    await party.simulator.conclude(lease, found, deadline=party.deadline())

    stored = await party.stored(proposal)
    assert (stored.state, stored.attempts) == (State.PENDING, 0)
    assert gate.events(proposal)[-1] == "simulation-returned"
    await party.simulate(proposal)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/quorum/governance/weight_numerator", 0),
        ("/quorum/high/humans", 0),
        ("/quorum/governance/time_lock_seconds", 0),
        ("/quorum/critical/apply", "auto"),
    ],
)
async def test_no_proposal_lowers_what_the_constitution_guards(
    party: Party, gate: Founded, pointer: str, value: Any
) -> None:
    with gate.server.connect() as connection:
        version, digest = connection.execute(
            "SELECT version, digest FROM targets WHERE name = 'governance/policies'"
        ).fetchone() or (0, "")
    proposal = await party.propose(
        "governance/policies",
        base_version=version,
        base_digest=digest,
        kind="governance",
        patch=[{"op": "replace", "path": pointer, "value": value}],
    )

    await party.simulate(proposal)

    assert (await party.stored(proposal)).state is State.DENIED
    reasons = json.loads(gate.last(proposal))["simulation"]["reasons"]
    assert ("constitution", pointer) in [(one["code"], one["pointer"]) for one in reasons]
    assert gate.value("SELECT count(*) FROM ballots WHERE proposal_id = %s", proposal) == 0


async def test_a_change_of_the_rules_takes_the_tier_of_governance(party: Party, gate: Founded) -> None:
    with gate.server.connect() as connection:
        version, digest = connection.execute(
            "SELECT version, digest FROM targets WHERE name = 'governance/policies'"
        ).fetchone() or (0, "")
    proposal = await party.simulated(
        "governance/policies",
        base_version=version,
        base_digest=digest,
        kind="governance",
        declared_risk="low",
        patch=[{"op": "add", "path": "/params/limit", "value": 7}],
    )

    assert (await party.stored(proposal)).tier == "governance"
    first = await party.vote(proposal, "olga")
    assert first.json()["state"] == "simulated"
    assert (await party.vote(proposal, "sam")).json()["state"] == "approved"
    assert DEFAULT.quorum.governance.time_lock_seconds > 0
