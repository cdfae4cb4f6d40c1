"""The second stage: a lease, a simulation in two processes, and what follows from it (transitions 2 to 6).

Nothing is held while the simulation runs: the lease is a row with a token that every later write names, so a worker
that was thought dead and wakes up writes nothing. A verdict that did not come is never an approval: the proposal goes
back to pending, and after `ATTEMPTS_MAX` attempts it fails. Two processes that disagree fail it at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from app.core.documents import canonical, instants
from app.core.documents.identifiers import ProposalId
from app.core.governed.lifecycle import State
from app.core.governed.target import Tier
from app.core.log.events import SERVICE
from app.core.signing import statement
from app.core.simulation import engine
from app.core.simulation import plan as simulation
from app.errors import Overtaken, SimulationBusy, UnknownTarget
from app.resilience.deadline import Deadline
from app.sandbox.pool import SandboxPool
from app.sandbox.result import Inconclusive, SandboxResult
from app.storage import governance, proposals, simulations
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import Events, clock
from app.storage.governance import Documents, Pins, Rules
from app.storage.proposals import Step, StoredProposal
from app.storage.simulations import Ballot, RulePins, StoredSimulation
from app.workflow.ballot import ballot_of, flaw_of
from app.workflow.inputs import Parts, facts_of, read_base, told

LEASE_SECONDS: Final = 30
SIMULATION_SECONDS: Final = 10
"""Well inside the lease: both processes and the write that follows."""
ATTEMPTS_MAX: Final = 3
NONCE_BYTES: Final = 16
UNSTORED: Final = "00000000-0000-0000-0000-000000000000"
"""The proposal's id in the inputs of a dry run."""

NEXT: Final = """
    SELECT id, clock_timestamp() FROM proposals
    WHERE state = 'pending' AND base_digest IS NOT NULL AND expires_at > now()
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to conclude one simulation: everything that the simulation needs, and the token that proves it."""

    proposal: StoredProposal
    pins: Pins
    base: bytes
    inputs: bytes


class DryRun(msgspec.Struct, frozen=True):
    """What a proposal would do, had it been stored: a simulation, or the reason why there is none.

    `quorum_rule`: who would have to agree; null when it would be denied.
    """

    simulation: dict[str, Any] | None
    simulation_digest: str | None
    quorum_rule: dict[str, Any] | None
    inconclusive: str | None


class Simulator:
    """Simulates pending proposals, one at a time, wherever it runs."""

    def __init__(
        self,
        database: Database,
        events: Events,
        documents: Documents,
        pool: SandboxPool,
        *,
        replica: str,
        random: Callable[[int], bytes],
    ) -> None:
        self._database = database
        self._events = events
        self._documents = documents
        self._pool = pool
        self._replica = replica
        self._random = random

    async def once(self, *, deadline: Deadline) -> bool:
        """Take one pending proposal through its simulation; False if there was none to take.

        Raises:
            DatabaseUnavailable, QueryTimeout, OutcomeUnknown: the lease runs out and somebody else takes over.
        """
        lease = await self.lease(deadline=deadline)
        if lease is None:
            return False
        found = await self._simulate(lease.inputs)
        try:
            await self.conclude(lease, found, deadline=deadline)
        except Overtaken:
            return True  # It was withdrawn, expired, or leased to somebody else meanwhile.
        return True

    async def lease(self, *, deadline: Deadline) -> Lease | None:
        """Take the oldest pending proposal that nobody else is taking (transition 2)."""

        async def work(connection: Connection) -> tuple[StoredProposal, Parts] | None:
            pins = await governance.lock_pins(connection)
            row = await (await connection.execute(NEXT)).fetchone()
            if row is None:
                return None
            proposal = await proposals.lock(connection, ProposalId(row[0]))
            if proposal is None:
                raise AssertionError("a locked row is there")
            return await self._take(connection, proposal, pins, row[1])

        taken = await self._database.transact("simulation_lease", work, deadline=deadline)
        if taken is None:
            return None
        proposal, parts = taken
        inputs = await asyncio.to_thread(parts.inputs)
        return Lease(proposal=proposal, pins=parts.rules.pins, base=parts.base.content, inputs=inputs)

    async def conclude(self, lease: Lease, found: SandboxResult | Inconclusive, *, deadline: Deadline) -> None:
        """Write what a simulation found, in one transaction.

        Raises:
            Overtaken: the lease is no longer ours; nothing was written.
        """

        async def work(connection: Connection) -> None:
            pins = await governance.lock_pins(connection)
            proposal = await proposals.lock(connection, lease.proposal.id)
            if (
                proposal is None
                or proposal.state is not State.SIMULATING
                or proposal.lease_token != lease.proposal.lease_token
            ):
                raise Overtaken
            changed = RulePins.of(lease.pins, engine_revision=engine.REVISION).changed_in(pins)
            if changed is not None:
                await return_or_fail(connection, self._events, proposal, reason=f"{changed}-changed", counts=False)
            elif isinstance(found, Inconclusive):
                await return_or_fail(connection, self._events, proposal, reason=found.reason, is_final=found.is_final)
            else:
                await self._concluded(connection, lease, found, await self._documents.rules(connection, pins))

        await self._database.transact("simulation_conclude", work, deadline=deadline)

    async def dry_run(
        self, content: dict[str, Any], *, proposal_digest: str, proposer: str, deadline: Deadline
    ) -> DryRun:
        """Simulate a proposal that is not stored, and store nothing.

        Raises:
            UnknownTarget: there is no such target, or it never had that version.
            SimulationBusy: too many simulations wait already.
        """

        async def work(connection: Connection) -> Parts:
            rules = await self._documents.rules(connection, await governance.read_pins(connection))
            base = await read_base(connection, content["target"], content["base_version"])
            if base is None:
                raise UnknownTarget
            facts = facts_of(
                content, proposal_id=UNSTORED, proposal_digest=proposal_digest, proposer=proposer, at=base.now
            )
            return Parts(facts=facts, patch=content["patch"], base=base, rules=rules)

        parts = await self._database.read("simulation_inputs", work, deadline=deadline)
        inputs = await asyncio.to_thread(parts.inputs)
        found = await self._pool.simulate_twice(inputs, deadline_seconds=deadline.remaining_seconds())
        if isinstance(found, Inconclusive):
            return DryRun(simulation=None, simulation_digest=None, quorum_rule=None, inconclusive=found.reason)
        record = found.document()
        allowed = record["verdict"] == simulation.ALLOW
        rule = parts.rules.policies.quorum_rule_record(Tier(record["tier"])) if allowed else None
        return DryRun(simulation=record, simulation_digest=found.digest, quorum_rule=rule, inconclusive=None)

    async def _simulate(self, inputs: bytes) -> SandboxResult | Inconclusive:
        try:
            return await self._pool.simulate_twice(inputs, deadline_seconds=SIMULATION_SECONDS)
        except SimulationBusy:
            return Inconclusive("unavailable", "every worker is taken")

    async def _take(
        self, connection: Connection, proposal: StoredProposal, pins: Pins, now: datetime
    ) -> tuple[StoredProposal, Parts] | None:
        rules = await self._documents.rules(connection, pins)
        base = await read_base(connection, proposal.target, proposal.base_version)
        if base is None:
            await self._move(connection, proposal, State.STALE, {"winner": None, "version": 0})
            return None
        if base.current_version != proposal.base_version:
            await self._move(
                connection, proposal, State.STALE, {"winner": base.winner, "version": base.current_version}
            )
            return None
        attempt, token = proposal.attempts + 1, proposal.lease_token + 1
        moved = await self._move(
            connection,
            proposal,
            State.SIMULATING,
            {"attempt": attempt, "lease_token": token, "replica": self._replica},
            attempts=attempt,
            lease_token=token,
            lease_until=now + timedelta(seconds=LEASE_SECONDS),
        )
        content = msgspec.json.decode(proposal.content)
        facts = facts_of(
            content,
            proposal_id=str(proposal.id),
            proposal_digest=proposal.proposal_digest,
            proposer=proposal.principal,
            at=proposal.created_at,
        )
        return moved, Parts(facts=facts, patch=content["patch"], base=base, rules=rules)

    async def _concluded(self, connection: Connection, lease: Lease, found: SandboxResult, rules: Rules) -> None:
        proposal, record = lease.proposal, found.document()
        flaw = flaw_of(proposal, lease.base, found, rules)
        if flaw is not None:
            await return_or_fail(connection, self._events, proposal, reason=flaw, is_final=True, record=record)
            return
        now = await clock(connection)
        stored = StoredSimulation(
            inputs=lease.inputs,
            record=found.record,
            digest=found.digest,
            verdict=record["verdict"],
            after=found.after,
            result_digest=record["result_digest"],
            replica=self._replica,
            at=now,
            pins=RulePins.of(rules.pins, engine_revision=engine.REVISION),
        )
        await simulations.insert(connection, proposal.id, proposal.epoch, stored)
        body = {
            "simulation": msgspec.Raw(found.record),
            "simulation_digest": found.digest,
            "inputs": told(lease.inputs, rules),
        }
        if record["verdict"] == simulation.DENY:
            await self._move(connection, proposal, State.DENIED, body, at=now, tier=record["tier"], lease_until=None)
        else:
            await self._open_ballot(connection, proposal, stored, rules, tier=Tier(record["tier"]), body=body)

    async def _open_ballot(
        self,
        connection: Connection,
        proposal: StoredProposal,
        stored: StoredSimulation,
        rules: Rules,
        *,
        tier: Tier,
        body: dict[str, Any],
    ) -> None:
        """Open the votes: from here on the tier, its rule and the exact bytes to sign are fixed (transition 6)."""
        rule = rules.policies.quorum_of(tier)
        expires_at = min(proposal.expires_at, proposal.created_at + timedelta(seconds=rule.expiry_seconds))
        nonce = self._random(NONCE_BYTES).hex()
        ballot = ballot_of(proposal, stored, rules, tier=tier, nonce=nonce)
        await simulations.insert_ballot(
            connection,
            Ballot(
                proposal_id=proposal.id,
                epoch=proposal.epoch,
                statement=statement.encode(ballot),
                nonce=nonce,
                opened_at=stored.at,
                expires_at=expires_at,
            ),
        )
        record = rules.policies.quorum_rule_record(tier)
        body = {
            **body,
            "quorum_rule": record,
            "ballot": msgspec.to_builtins(ballot),
            "expires_at": instants.to_text(expires_at),
        }
        await self._move(
            connection,
            proposal,
            State.SIMULATED,
            body,
            at=stored.at,
            tier=tier.value,
            quorum_rule=canonical.encode_value(record),
            expires_at=expires_at,
            lease_until=None,
        )

    async def _move(
        self,
        connection: Connection,
        proposal: StoredProposal,
        state_to: State,
        body: dict[str, Any],
        *,
        at: datetime | None = None,
        **changes: Any,
    ) -> StoredProposal:
        step = Step(
            proposal_id=proposal.id,
            state_from=proposal.state,
            state_to=state_to,
            principal=SERVICE,
            body=body,
            lease_token=proposal.lease_token,
            at=at,
            changes=changes,
        )
        return (await proposals.move(connection, self._events, step)).proposal


async def return_or_fail(
    connection: Connection,
    events: Events,
    proposal: StoredProposal,
    *,
    reason: str,
    is_final: bool = False,
    counts: bool = True,
    record: dict[str, Any] | None = None,
) -> StoredProposal:
    """End a simulation that gave no verdict: back to pending (3), or failed (4) when the attempts are used up.

    `counts`: whether the attempt is one of `ATTEMPTS_MAX`; one that the rules overtook is not.
    """
    has_failed = is_final or (counts and proposal.attempts >= ATTEMPTS_MAX)
    body: dict[str, Any] = {"attempt": proposal.attempts, "reason": reason}
    if has_failed:
        body["simulation"] = record
    step = Step(
        proposal_id=proposal.id,
        state_from=State.SIMULATING,
        state_to=State.FAILED if has_failed else State.PENDING,
        principal=SERVICE,
        body=body,
        lease_token=proposal.lease_token,
        changes={"lease_until": None, "attempts": proposal.attempts - (0 if counts else 1)},
    )
    return (await proposals.move(connection, events, step)).proposal
