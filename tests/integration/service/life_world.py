"""The real service under the machine: does what an operation says, and looks at what is stored, without the service."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg

from app.core.signing import envelope
from app.core.signing.envelope import Envelope
from app.core.signing.keys import keyid
from app.core.signing.statement import Ballot
from app.errors import Overtaken
from app.security.signatures import generate
from app.workflow.simulation import Lease
from tests.integration.service.applying import address
from tests.integration.service.life_model import RULES
from tests.integration.service.stages import Stages, governed
from tests.unit.service import electorate
from tests.unit.service.electorate import private_key

LOOPS = ("deliver", "tidy")
DUE = """
    SELECT proposal_id::text FROM applications WHERE state IN ('waiting', 'delivered') ORDER BY next_attempt_at"""
NOWHERE = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Op:
    """One thing that somebody does. `arguments`: of the model's method of that name."""

    name: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


Request = Callable[[], Awaitable[str]]


@dataclass
class World:
    """One example's targets and proposals on a service that serves many examples."""

    stages: Stages
    database: psycopg.Connection[Any]
    ids: dict[int, str] = field(default_factory=dict)
    envelopes: dict[int, Envelope] = field(default_factory=dict)
    receipts: dict[int, dict[str, Any]] = field(default_factory=dict)
    ballots: dict[int, Ballot] = field(default_factory=dict)
    leases: dict[tuple[int, int], Lease] = field(default_factory=dict)

    def add_target(self, minimum_tier: str) -> str:
        return governed(self.stages.founded, minimum_tier=minimum_tier)

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.database.execute(query.encode(), parameters).fetchall()

    def versions(self, target: str) -> list[tuple[str, Any]]:
        found = self.rows("SELECT digest, content FROM snapshots WHERE target = %s ORDER BY version", target)
        return [(row[0], json.loads(row[1])) for row in found]

    def longest_waiting(self) -> int:
        """Return whose application is delivered next, or 0."""
        numbers = {proposal: number for number, proposal in self.ids.items()}
        return next((numbers[row[0]] for row in self.rows(DUE)), 0)

    async def prepare(self, op: Op) -> Request:
        """Return what sends an operation, ready to be sent at the same time as others."""
        if op.name in LOOPS:
            return self._loop(op.name)
        made: Request = await getattr(self, f"_{op.name}")(**op.arguments)
        return made

    # Proposers --------------------------------------------------------------------------------------------------------

    async def _propose(
        self, *, number: int, target: str, proposer: str, key: str, base: int, declared: str, note: tuple[str, int]
    ) -> Request:
        versions = self.versions(target)
        body = {
            "target": target,
            "base_version": base,
            "base_digest": versions[base - 1][0] if 0 < base <= len(versions) else NOWHERE,
            "patch": [
                {"op": "add", "path": ("/params/" if target == RULES else "/notes/") + note[0], "value": note[1]}
            ],
            "rationale": "because",
            "declared_risk": declared,
            "kind": "governance" if target == RULES else "mutation",
        }
        headers = self.stages.headers(proposer, key=key)
        return self._creating(number, lambda: self._http.post("/api/v1/proposals", json=body, headers=headers))

    async def _roll_back(self, number: int, target: str, to: int, who: str) -> Request:
        return self._creating(number, lambda: self.stages.roll_back(target, to, who))

    def _creating(self, number: int, send: Callable[[], Awaitable[httpx.Response]]) -> Request:
        async def request() -> str:
            answer = await send()
            if answer.is_error:
                return code(answer)
            known = {one: number for number, one in self.ids.items()}
            made = answer.json()["id"]
            if "idempotency-replayed" not in answer.headers:
                assert made not in known, "made twice"
                self.ids[number] = made
                known[made] = number
            return f"created {known.get(made, 'by a twin')}"

        return request

    async def _withdraw(self, number: int, who: str) -> Request:
        return _told(lambda: self.stages.withdraw(self.ids[number], who), "withdrawn")

    # The simulator ----------------------------------------------------------------------------------------------------

    async def _lease(self, **_: int) -> Request:
        """Whichever is the oldest is leased."""

        async def request() -> str:
            lease = await self.stages.simulator.lease(deadline=self.stages.deadline())
            if lease is None:
                return "nothing"
            taken = next(one for one, known in self.ids.items() if known == str(lease.proposal.id))
            self.leases[taken, lease.proposal.lease_token] = lease
            return f"leased {taken}"

        return request

    async def _conclude(self, number: int, token: int) -> Request:
        async def request() -> str:
            try:
                await self.stages.conclude(self.leases[number, token])
            except Overtaken:
                return "overtaken"
            return "concluded"

        return request

    # Voters -----------------------------------------------------------------------------------------------------------

    async def _vote(self, *, number: int, label: int, by: str, decision: str, how: str, epoch: int) -> Request:
        proposal = self.ids[number]
        signed = self.envelopes.get(label)
        if signed is None:
            ballot = await self._ballot(number, epoch)
            signed = self.envelopes[label] = self._signed(ballot, by, decision, how)

        async def request() -> str:
            answer = await self.stages.send(proposal, by, signed)
            if answer.is_error:
                return code(answer)
            told = answer.json()
            self.receipts[label] = told
            return "known" if answer.status_code == 200 else f"voted {told['state']}"

        return request

    async def _ballot(self, number: int, epoch: int) -> Ballot:
        """Return the ballot of an epoch: as it was read when it was open, or one that nobody ever issued."""
        path = f"/api/v1/proposals/{self.ids[number]}/ballot"
        answer = await self._http.get(path, headers=self.stages.headers("reader"))
        if answer.is_success:
            self.ballots[number] = await self.stages.ballot(self.ids[number])
        known = self.ballots.get(number)
        if known is not None and known.predicate.epoch == epoch:
            return known
        return electorate.ballot(proposal=self.ids[number], epoch=epoch)

    def _signed(self, ballot: Ballot, by: str, decision: str, how: str) -> Envelope:
        if how == "stranger":
            return self.stages.signed(ballot, by, decision, by=generate())
        if how == "borrowed":
            return self.stages.signed(ballot, by, decision, by=private_key("zoe" if by != "zoe" else "olga"))
        if how == "altered":
            ballot = electorate.ballot(proposal=ballot.predicate.proposal, epoch=ballot.predicate.epoch)
        signed = self.stages.signed(ballot, by, decision)
        if how == "tampered":
            said = self.stages.signed(ballot, by, decision, reason="something else")
            return envelope.from_value({**said.document(), "signatures": signed.document()["signatures"]})
        return signed

    async def _revoke(self, number: int, label: int, by: str) -> Request:
        async def request() -> str:
            answer = await self.stages.revoke(self.ids[number], by, self.receipts[label])
            return code(answer) if answer.is_error else f"revoked {answer.json()['state']}"

        return request

    async def _revoke_key(self, validator: str, who: str) -> Request:
        path = f"/api/v1/validators/{validator}/keys/{keyid(private_key(validator).public_key)}/revocation"
        headers = self.stages.headers(who)
        return _told(lambda: self._http.post(path, json={"reason": "lost"}, headers=headers), "key-revoked")

    # Appliers ---------------------------------------------------------------------------------------------------------

    async def _apply(self, number: int, who: str, match: str) -> Request:
        if not who:
            return self._loop("apply")
        etag = {"If-Match": '"0"'} if match == "old" else {}

        async def request() -> str:
            answer = await self.stages.apply(self.ids[number], who, **etag)
            return code(answer) if answer.is_error else f"applied {answer.json()['version']}"

        return request

    async def _observe(self, target: str, version: int, *, is_right: bool) -> Request:
        versions = self.versions(target)
        digest = versions[version - 1][0] if is_right and version <= len(versions) else NOWHERE

        async def request() -> str:
            answer = await self.stages.observe(target, version, digest)
            return code(answer) if answer.is_error else f"observed {answer.json()['state']}"

        return request

    async def _freeze(self, target: str) -> Request:
        return _told(lambda: self.stages.freeze(target), "frozen")

    async def _unfreeze(self, target: str, number: int) -> Request:
        path, headers = f"{address(target)}/freeze", self.stages.headers("breaker")
        return _told(lambda: self._http.delete(path, params={"proposal": self.ids[number]}, headers=headers), "thawed")

    def _loop(self, name: str) -> Request:
        async def request() -> str:
            await self.stages.work(name)
            return ""

        return request

    # By who may do anything -------------------------------------------------------------------------------------------

    def expire(self, number: int) -> None:
        self.stages.expire(self.ids[number])

    def lose_lease(self, number: int) -> None:
        self.database.execute(
            "UPDATE proposals SET lease_until = now() - interval '1 s' WHERE id = %s", [self.ids[number]]
        )

    async def end(self) -> None:
        """Leave nothing behind that another example would meet."""
        self.database.execute(
            "SET session_replication_role = replica;"
            "UPDATE proposals SET state = 'withdrawn', revision = revision + 1"
            " WHERE state IN ('pending', 'simulating', 'simulated', 'approved');"
            "DELETE FROM key_revocations;"
            "UPDATE targets SET state = 'active', frozen_reason = NULL WHERE name LIKE 'governance/%';"
            "SET session_replication_role = origin"
        )
        while await self.stages.work("deliver"):
            pass

    @property
    def _http(self) -> httpx.AsyncClient:
        return self.stages.client.http


def _told(send: Callable[[], Awaitable[httpx.Response]], word: str) -> Request:
    async def request() -> str:
        answer = await send()
        return code(answer) if answer.is_error else word

    return request


def code(answer: httpx.Response) -> str:
    """Return the stable code of a problem; one that is the service's own fault with everything that it says."""
    told: str = answer.json()["code"]
    return told if answer.status_code < 500 else f"{told}: {answer.text}"
