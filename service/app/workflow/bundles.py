"""Making a bundle, and judging one for who has no verifier of their own.

A bundle is made only when all of the proposal's entries are under a published checkpoint: what is not published proves
nothing. It is made of the log, not of the tables beside it; a stranger finds out if the two disagree.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from app.core.documents.identifiers import ProposalId
from app.core.governance import genesis
from app.core.governance.genesis import Genesis
from app.core.governed.lifecycle import State
from app.core.governed.shapes import Pin
from app.core.log import merkle
from app.core.log.entry import Raw
from app.core.signing.keys import to_base64
from app.core.verification import bundle as bundles
from app.core.verification import judging as verification
from app.core.verification.bundle import ENTRIES_MAX, Bundle, Consistency
from app.core.verification.judging import Report, Resimulated
from app.errors import BodyErased, BundleTooLarge, InvalidRequest, NotFound, NotFounded, NotPublishedYet
from app.resilience.deadline import Deadline
from app.sandbox.pool import SandboxPool
from app.sandbox.result import SandboxResult
from app.security.signatures import verify
from app.storage import bundles as stored
from app.storage import log_tree, proposals
from app.storage.bundles import Documents
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import clock
from app.storage.log_tree import StoredCheckpoint
from app.workflow.attestation import Attestations

MADE: Final = frozenset({State.APPLYING, State.APPLIED, State.ROLLED_BACK})
"""States in which a version of the proposal's making is, or was, current."""
FIRST: Final = "SELECT body FROM events WHERE kind = 'genesis'"
GENESIS_KEY: Final = "genesis"


@dataclass(frozen=True, slots=True)
class _Parts:
    """What was read for a bundle."""

    target: str
    state: State
    checkpoint: StoredCheckpoint
    own: list[Raw]
    context: list[Raw]
    proofs: list[list[bytes]]
    consistency: list[bytes] | None
    documents: Documents
    observed: tuple[int, str] | None


class Bundles:
    """Makes bundles and judges them."""

    def __init__(self, database: Database, attestations: Attestations, pool: SandboxPool) -> None:
        self._database = database
        self._attestations = attestations
        self._pool = pool

    async def of(self, proposal_id: ProposalId, *, since: int | None, deadline: Deadline) -> bytes:
        """Return the canonical bytes of a proposal's bundle; `since`: with the proof from that size of the log.

        Raises:
            NotFound: there is no such proposal.
            NotPublishedYet: not all of its entries are under a checkpoint.
            BodyErased: something that it says was erased.
            BundleTooLarge: more than `ENTRIES_MAX` entries.
            InvalidRequest: the log never had that size.
            DatabaseUnavailable, QueryTimeout: it could not be read.
        """

        async def work(connection: Connection) -> _Parts:
            return await self._read(connection, proposal_id, since)

        parts = await self._database.read("bundle_get", work, deadline=deadline)
        attestation = None
        if parts.state in MADE:
            attestation = await self._attestations.best(parts.target, deadline=deadline)
        return await asyncio.to_thread(_made, proposal_id, parts, since, attestation)

    async def judge(self, body: bytes, *, deadline: Deadline) -> Report:
        """Return what the fourteen checks say of a bundle, trusting the genesis of this service.

        Raises:
            NotFounded: the service has no genesis yet.
            InvalidBundle: the body is not one.
            SimulationBusy: too many simulations wait already.
            DatabaseUnavailable, QueryTimeout: the genesis could not be read.
        """

        async def work(connection: Connection) -> tuple[Genesis, datetime]:
            row = await (await connection.execute(FIRST)).fetchone()
            if row is None or row[0] is None:
                raise NotFounded
            return genesis.from_value(msgspec.json.decode(bytes(row[0]))[GENESIS_KEY]), await clock(connection)

        trust, now = await self._database.read("genesis_get", work, deadline=deadline)
        parsed = await asyncio.to_thread(bundles.decode, body)
        wanted: list[bytes] = []

        def gather(inputs: bytes) -> Resimulated:
            wanted.append(inputs)
            return Resimulated(None, "not run yet")

        await asyncio.to_thread(_judge, parsed, trust, now, gather)
        again = {inputs: await self._resimulated(inputs, deadline) for inputs in wanted}
        return await asyncio.to_thread(_judge, parsed, trust, now, again.__getitem__)

    async def _resimulated(self, inputs: bytes, deadline: Deadline) -> Resimulated:
        found = await self._pool.simulate(inputs, deadline_seconds=deadline.remaining_seconds())
        return Resimulated(found.record) if isinstance(found, SandboxResult) else Resimulated(None, found.reason)

    async def _read(self, connection: Connection, proposal_id: ProposalId, since: int | None) -> _Parts:
        proposal = await proposals.get(connection, proposal_id)
        if proposal is None:
            raise NotFound
        checkpoint = await log_tree.newest_checkpoint(connection)
        own = list(await stored.own(connection, proposal_id, limit=ENTRIES_MAX + 1))
        if checkpoint is None or any(not 0 <= one.index < checkpoint.size for one in own):
            raise NotPublishedYet
        about = {"target": proposal.target, "base_version": proposal.base_version}
        before = max(one.index for one in own)
        context = list(
            await stored.context(connection, proposal_id, **about, before=before, limit=ENTRIES_MAX + 1)  # type: ignore[arg-type]
        )
        if max(len(own), len(context)) > ENTRIES_MAX:
            raise BundleTooLarge
        return _Parts(
            target=proposal.target,
            state=proposal.state,
            checkpoint=checkpoint,
            own=own,
            context=context,
            proofs=await _proofs(connection, [*context, *own], checkpoint.size),
            consistency=await _consistency(connection, since, checkpoint.size),
            documents=await stored.documents(connection, proposal_id, **about),  # type: ignore[arg-type]
            observed=await stored.observed(connection, proposal.target),
        )


async def _proofs(connection: Connection, entries: list[Raw], size: int) -> list[list[bytes]]:
    """Return the inclusion proof of each entry, in one round trip."""
    ranges = [merkle.inclusion_ranges(one.index, size) for one in entries]
    found = iter(await log_tree.proof(connection, [one for each in ranges for one in each]))
    return [[next(found) for _ in each] for each in ranges]


async def _consistency(connection: Connection, since: int | None, size: int) -> list[bytes] | None:
    if since is None:
        return None
    if not 0 < since <= size:
        raise InvalidRequest("`from` is a size that the published log had.", code="invalid-parameter")
    return await log_tree.proof(connection, merkle.consistency_ranges(since, size))


def _made(proposal_id: ProposalId, parts: _Parts, since: int | None, attestation: dict[str, Any] | None) -> bytes:
    entries = [*parts.context, *parts.own]
    if any(one.body is None for one in entries):
        raise BodyErased
    proven = [bundles.proven(one, proof) for one, proof in zip(entries, parts.proofs, strict=True)]
    consistency = None
    if since is not None and parts.consistency is not None:
        consistency = Consistency(from_size=since, proof=tuple(map(to_base64, parts.consistency)))
    is_observed = parts.observed is not None and parts.state in MADE
    made = Bundle(
        proposal=str(proposal_id),
        events=tuple(proven[len(parts.context) :]),
        context=tuple(proven[: len(parts.context)]),
        base=_value(parts.documents.base),
        result=_value(parts.documents.result),
        checkpoint=parts.checkpoint.note.decode(),
        consistency=consistency,
        attestation=attestation,
        observation=Pin(*parts.observed) if is_observed and parts.observed is not None else None,
    )
    return made.encode()


def _value(content: bytes | None) -> Any:
    return None if content is None else msgspec.json.decode(content)


def _judge(parsed: Bundle, trust: Genesis, now: datetime, resimulate: verification.Resimulate) -> Report:
    return verification.verify_bundle(parsed, trust=trust, verify=verify, resimulate=resimulate, now=now)
