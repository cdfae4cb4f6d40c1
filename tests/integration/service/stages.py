"""A founded firewall without its worker: each stage is taken by hand, so a proposal can be kept where it is."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from app.core.documents import canonical
from app.sandbox.result import Inconclusive
from app.storage.governance import Documents
from app.workflow.janitor import Janitor
from app.workflow.simulation import Lease, Simulator
from app.workflow.worker import Loop
from tests.integration.service.applying import Life, governed, settings
from tests.integration.service.gate import DOCUMENT, PROPOSER, Founded, Party
from tests.integration.service.running import EVENTS, serving

UPDATE_EXPIRY = """
    SET session_replication_role = replica;
    UPDATE proposals SET expires_at = now() - interval '1 s' WHERE id = '{0}';
    UPDATE ballots SET expires_at = now() - interval '1 s' WHERE proposal_id = '{0}';
    SET session_replication_role = origin"""


@dataclass(frozen=True)
class Stages(Life):
    """A life whose every step is asked for."""

    async def simulate(self, proposal: str) -> None:
        await Party.simulate(self, proposal)

    async def lease(self, proposal: str) -> Lease:
        """Return the lease of this proposal; those that wait before it fail."""
        while True:
            lease = await self.simulator.lease(deadline=self.deadline())
            assert lease is not None
            if str(lease.proposal.id) == proposal:
                return lease
            await self.conclude(lease, Inconclusive("nondeterministic"))

    async def conclude(self, lease: Lease, found: Inconclusive | None = None) -> None:
        """Write what the simulation of a lease finds, or what it is said to have found."""
        said = found or await self.client.service.sandbox.simulate_twice(lease.inputs, deadline_seconds=10)
        await self.simulator.conclude(lease, said, deadline=self.deadline())

    async def tidy(self) -> int:
        return await self.janitor.once(deadline=self.deadline())

    async def work(self, name: str) -> bool:
        """Take one step of a loop of the service's worker; its errors are the test's."""
        return await self.loop(name).work(self.deadline())

    def loop(self, name: str) -> Loop:
        return next(one for one in self.client.service.worker._loops if one.name == name)

    async def withdraw(self, proposal: str, principal: str = PROPOSER) -> httpx.Response:
        path = f"/api/v1/proposals/{proposal}/withdrawal"
        return await self.client.http.post(path, json={}, headers=self.headers(principal))

    def expire(self, proposal: str) -> None:
        """Let the time of a proposal and of its ballot have passed."""
        with self.founded.server.connect() as connection:
            connection.execute(UPDATE_EXPIRY.format(proposal).encode())

    async def high(self, *voters: str, target: str | None = None) -> str:
        """Return a proposal of tier high with the approvals of these."""
        name = target or governed(self.founded, minimum_tier="high")
        proposal = await self.simulated(name, **await self.base(name))
        for voter in voters:
            answer = await self.vote(proposal, voter)
            assert answer.status_code == 201, answer.text
        return proposal

    async def ready(self, target: str | None = None) -> str:
        """Return an approved proposal of tier high."""
        return await self.high("robot", "olga", "sam", target=target)


@asynccontextmanager
async def by_hand(gate: Founded) -> AsyncIterator[Stages]:
    async with serving(settings(gate), simulates=True) as client:
        documents, service = Documents(), client.service
        simulator = Simulator(
            service.database, EVENTS, documents, service.sandbox, replica="replica-1", random=secrets.token_bytes
        )
        yield Stages(gate, client, simulator, Janitor(service.database, EVENTS, documents))


FIRST_DIGEST = canonical.digest(canonical.encode_value(DOCUMENT))

__all__ = ["FIRST_DIGEST", "Stages", "by_hand", "governed"]
