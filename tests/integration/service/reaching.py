"""Ways to each state of a proposal, by the service itself: a proposal for a target of its own, tier high."""

from collections.abc import Awaitable, Callable
from uuid import uuid4

from app.sandbox.result import Inconclusive
from tests.integration.service.stages import Stages, governed

SECRET = [{"op": "add", "path": "/notes/secret", "value": "x"}]


async def pending(stages: Stages) -> str:
    return await stages.propose(governed(stages.founded, minimum_tier="high"))


async def simulating(stages: Stages) -> str:
    proposal = await pending(stages)
    await stages.lease(proposal)
    return proposal


async def reopened(stages: Stages) -> str:
    proposal = await stages.ready()
    shown = await stages.client.http.get("/api/v1/policies", headers=stages.headers("reader"))
    stages.founded.change_rules("governance/policies", {**shown.json()["document"], "params": {"n": str(uuid4())}})
    while await stages.tidy():
        pass
    return proposal


async def simulated(stages: Stages) -> str:
    return await stages.high("robot", "olga")


async def applying(stages: Stages) -> str:
    proposal = await stages.ready()
    assert (await stages.apply(proposal)).status_code == 202
    return proposal


async def applied(stages: Stages) -> str:
    proposal = await applying(stages)
    while await stages.work("deliver"):
        pass
    return proposal


async def denied(stages: Stages) -> str:
    proposal = await stages.propose(governed(stages.founded, minimum_tier="high"), patch=SECRET)
    await stages.simulate(proposal)
    return proposal


async def rejected(stages: Stages) -> str:
    proposal = await stages.high("olga")
    assert (await stages.vote(proposal, "sam", "reject")).json()["state"] == "rejected"
    return proposal


async def expired(stages: Stages) -> str:
    proposal = await simulated(stages)
    stages.expire(proposal)
    await stages.tidy()
    return proposal


async def withdrawn(stages: Stages) -> str:
    proposal = await simulated(stages)
    assert (await stages.withdraw(proposal)).status_code == 200
    return proposal


async def stale(stages: Stages) -> str:
    target = governed(stages.founded, minimum_tier="high")
    proposal, winner = await stages.ready(target), await stages.ready(target)
    assert (await stages.apply(winner)).status_code == 202
    while await stages.work("deliver"):
        pass
    return proposal


async def failed_in_simulation(stages: Stages) -> str:
    proposal = await pending(stages)
    await stages.conclude(await stages.lease(proposal), Inconclusive("nondeterministic"))
    return proposal


async def failed_to_apply(stages: Stages) -> str:
    proposal = await applying(stages)
    target = (await stages.stored(proposal)).target
    assert (await stages.observe(target, 2, "sha256:" + "0" * 64)).json()["state"] == "degraded"
    return proposal


async def rolled_back(stages: Stages) -> str:
    proposal = await applied(stages)
    back = (await stages.roll_back((await stages.stored(proposal)).target, 1)).json()["id"]
    await stages.simulate(back)
    for voter in ("robot", "olga", "sam"):
        await stages.vote(back, voter)
    assert (await stages.apply(back)).status_code == 202
    return proposal


WAYS: dict[str, Callable[[Stages], Awaitable[str]]] = {
    "pending": pending,
    "pending/reopened": reopened,
    "simulating": simulating,
    "simulated": simulated,
    "approved": Stages.ready,
    "applying": applying,
    "applied": applied,
    "denied": denied,
    "rejected": rejected,
    "expired": expired,
    "withdrawn": withdrawn,
    "stale": stale,
    "failed/simulation": failed_in_simulation,
    "failed/delivery": failed_to_apply,
    "rolled_back": rolled_back,
}
"""By state; after the stroke which of several ways."""
