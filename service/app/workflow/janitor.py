"""What follows from time and from changed rules, whoever is awake (transitions 3, 4, 9, 10 and 13), and old records.

Every replica runs one; an advisory lock lets one at a time do each step, and the row's lock decides again whether the
step is still due, so running it twice or never on one replica changes nothing. Apply does not rely on it: it checks
rules, votes and expiry by itself.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

from app import log
from app.core.documents.identifiers import ProposalId
from app.core.governed.lifecycle import OPEN, State
from app.core.log.events import SERVICE
from app.core.simulation import engine
from app.errors import BallotSuperseded, NotFounded
from app.resilience.deadline import Deadline
from app.storage import governance, idempotency, proposals, simulations
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import Events, clock
from app.storage.governance import Documents
from app.storage.proposals import Step, StoredProposal
from app.workflow import quorum
from app.workflow.simulation import return_or_fail

BATCH: Final = 50
"""Steps of one kind in one pass; what is left waits for the next."""
FORGOTTEN_AT_ONCE_MAX: Final = 1_000
"""Idempotency records in one pass: as many as a replica is to take in within a second."""
LOCK_KEY: Final = 0x616D67660002

TRY: Final = "SELECT pg_try_advisory_xact_lock(%s)"
EXPIRED: Final = """
    SELECT id FROM proposals WHERE state IN ('pending', 'simulating', 'simulated', 'approved')
      AND expires_at <= clock_timestamp() AND id > %(after)s ORDER BY id LIMIT %(limit)s"""
LEASES_LOST: Final = """
    SELECT id FROM proposals WHERE state = 'simulating' AND lease_until <= clock_timestamp() AND id > %(after)s
    ORDER BY id LIMIT %(limit)s"""
OVERTAKEN: Final = """
    SELECT p.id FROM proposals AS p JOIN simulation_pins AS s ON s.proposal_id = p.id AND s.epoch = p.epoch
    WHERE p.state IN ('simulated', 'approved') AND p.id > %(after)s
      AND (s.engine_revision < %(engine_revision)s OR NOT EXISTS (
        SELECT FROM targets AS policies, targets AS validators, targets AS corpus
        WHERE policies.name = 'governance/policies' AND policies.version = s.policies_version
          AND validators.name = 'governance/validators' AND validators.version = s.validators_version
          AND corpus.name = 'governance/corpus' AND corpus.version = s.corpus_version))
    ORDER BY p.id LIMIT %(limit)s"""
DOUBTFUL: Final = """
    SELECT p.id FROM proposals AS p
    WHERE p.state = 'approved' AND p.id > %(after)s AND EXISTS (
        SELECT FROM votes AS v WHERE v.proposal_id = p.id AND v.epoch = p.epoch
          AND v.superseded_at IS NULL AND v.revoked_at IS NULL
          AND (v.expires_at <= clock_timestamp() OR EXISTS (SELECT FROM key_revocations AS k WHERE k.keyid = v.keyid)))
    ORDER BY p.id LIMIT %(limit)s"""

Duty = Callable[[Connection, StoredProposal], Awaitable[bool]]
FIRST: Final = UUID(int=0)


class Janitor:
    """Takes the steps that nobody asks for."""

    def __init__(
        self,
        database: Database,
        events: Events,
        documents: Documents,
        *,
        idempotency_kept_seconds: float = idempotency.KEPT_SECONDS,
    ) -> None:
        self._database = database
        self._idempotency_kept_seconds = idempotency_kept_seconds
        self._events = events
        self._documents = documents
        self._after: dict[str, UUID] = {}

    async def once(self, *, deadline: Deadline) -> int:
        """Do what is due, at most `BATCH` steps of each kind; return how many were taken and records forgotten.

        Raises:
            DatabaseUnavailable, QueryTimeout, OutcomeUnknown: the rest stays due.
        """
        duties: tuple[tuple[str, str, Duty], ...] = (
            ("expired", EXPIRED, self._expire),
            ("lease_lost", LEASES_LOST, self._take_back),
            ("reopened", OVERTAKEN, self._reopen),
            ("approval_lost", DOUBTFUL, self._count_again),
        )
        taken = 0
        for name, query, duty in duties:
            for proposal_id in await self._due(name, query, deadline):
                if await self._perform(proposal_id, duty, deadline):
                    taken += 1
                    log.get().info("janitor_step", step=name, proposal=str(proposal_id))
        forgotten = await self._database.transact("janitor_forget", self._forget, deadline=deadline)
        if forgotten:
            log.get().info("idempotency_records_forgotten", records=forgotten)
        return taken + forgotten

    async def _due(self, name: str, query: str, deadline: Deadline) -> Sequence[ProposalId]:
        """Return the next batch; after the last one it starts again from the first."""
        parameters: dict[str, Any] = {
            "after": self._after.get(name, FIRST),
            "limit": BATCH,
            "engine_revision": engine.REVISION,
        }

        async def work(connection: Connection) -> Sequence[ProposalId]:
            rows = await (await connection.execute(query, parameters)).fetchall()
            return [ProposalId(row[0]) for row in rows]

        found = await self._database.read("janitor_look", work, deadline=deadline)
        self._after[name] = found[-1] if len(found) == BATCH else FIRST
        return found

    async def _perform(self, proposal_id: ProposalId, duty: Duty, deadline: Deadline) -> bool:
        async def work(connection: Connection) -> bool:
            if not await _is_alone(connection):
                return False
            await governance.lock_pins(connection)
            proposal = await proposals.lock(connection, proposal_id)
            return proposal is not None and await duty(connection, proposal)

        try:
            return await self._database.transact("janitor_step", work, deadline=deadline)
        except NotFounded:
            return False

    async def _forget(self, connection: Connection) -> int:
        if not await _is_alone(connection):
            return 0
        return await idempotency.forget(
            connection, kept_seconds=self._idempotency_kept_seconds, limit=FORGOTTEN_AT_ONCE_MAX
        )

    async def _expire(self, connection: Connection, proposal: StoredProposal) -> bool:
        now = await clock(connection)
        if proposal.state not in OPEN or proposal.expires_at > now:
            return False
        await self._move(connection, proposal, State.EXPIRED, {})
        return True

    async def _take_back(self, connection: Connection, proposal: StoredProposal) -> bool:
        now = await clock(connection)
        if proposal.state is not State.SIMULATING or proposal.lease_until is None or proposal.lease_until > now:
            return False
        await return_or_fail(connection, self._events, proposal, reason="lease-lost")
        return True

    async def _reopen(self, connection: Connection, proposal: StoredProposal) -> bool:
        simulation = await simulations.get(connection, proposal.id, proposal.epoch)
        if proposal.state not in {State.SIMULATED, State.APPROVED} or simulation is None:
            return False
        cause = simulation.pins.changed_in(await governance.read_pins(connection))
        if cause is None and simulation.pins.engine_revision < engine.REVISION:
            cause = "engine"
        if cause is None:
            return False
        epoch = proposal.epoch + 1
        changes = {"epoch": epoch, "attempts": 0, "approved_at": None, "lease_until": None}
        await self._move(connection, proposal, State.PENDING, {"cause": cause, "epoch": epoch}, **changes)
        return True

    async def _count_again(self, connection: Connection, proposal: StoredProposal) -> bool:
        if proposal.state is not State.APPROVED:
            return False
        rules = await self._documents.rules(connection, await governance.read_pins(connection))
        try:
            poll = await quorum.open_poll(connection, rules, proposal)
        except BallotSuperseded:
            return False  # It is reopened first.
        tally = await quorum.recount(connection, poll, now=await clock(connection))
        moved = await quorum.decide(connection, self._events, proposal, tally)
        return moved.state is not proposal.state

    async def _move(
        self, connection: Connection, proposal: StoredProposal, state_to: State, body: dict[str, Any], **changes: Any
    ) -> None:
        step = Step(
            proposal_id=proposal.id,
            state_from=proposal.state,
            state_to=state_to,
            principal=SERVICE,
            body=body,
            changes=changes,
        )
        await proposals.move(connection, self._events, step)


async def _is_alone(connection: Connection) -> bool:
    """Take the lock until the transaction ends; False if another replica is at it."""
    row = await (await connection.execute(TRY, [LOCK_KEY])).fetchone()
    return row is not None and bool(row[0])
