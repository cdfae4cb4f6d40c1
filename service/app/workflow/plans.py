"""The plan of a proposal for who wants to look at it, recompute it, or sign it."""

from datetime import datetime

import msgspec

from app.core.documents.identifiers import ProposalId
from app.core.governed.shapes import Pin
from app.errors import NotFound, NotSimulated
from app.resilience.deadline import Deadline
from app.storage import proposals, simulations
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.simulations import Ballot, StoredSimulation


class Plan(msgspec.Struct, frozen=True):
    """What a proposal would do. `simulation`: the record whose digest is signed; `result`: the document after it.

    `inputs` are there when they were asked for: simulating them again must give the same record, byte for byte.
    """

    proposal: ProposalId
    epoch: int
    verdict: str
    simulation_digest: str
    simulation: msgspec.Raw
    result_digest: str | None
    result: msgspec.Raw | None
    policy_set: Pin
    validator_set: Pin
    corpus: Pin
    at: datetime
    inputs: msgspec.Raw | None


class Plans:
    """Reads simulations and ballots of the present epoch."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def simulation(self, proposal_id: ProposalId, *, with_inputs: bool, deadline: Deadline) -> Plan:
        """Return the plan of a proposal's present epoch.

        Raises:
            NotFound: there is no such proposal.
            NotSimulated: it has no plan in this epoch.
            DatabaseUnavailable, QueryTimeout: it could not be read.
        """

        async def work(connection: Connection) -> tuple[int, StoredSimulation]:
            epoch = await _epoch(connection, proposal_id)
            found = await simulations.get(connection, proposal_id, epoch)
            if found is None:
                raise NotSimulated
            return epoch, found

        epoch, found = await self._database.read("simulation_get", work, deadline=deadline)
        return Plan(
            proposal=proposal_id,
            epoch=epoch,
            verdict=found.verdict,
            simulation_digest=found.digest,
            simulation=msgspec.Raw(found.record),
            result_digest=found.result_digest,
            result=None if found.after is None else msgspec.Raw(found.after),
            policy_set=found.pins.policies,
            validator_set=found.pins.validators,
            corpus=found.pins.corpus,
            at=found.at,
            inputs=msgspec.Raw(found.inputs) if with_inputs else None,
        )

    async def ballot(self, proposal_id: ProposalId, *, deadline: Deadline) -> Ballot:
        """Return the ballot of a proposal's present epoch.

        Raises:
            NotFound: there is no such proposal.
            NotSimulated: it has no ballot in this epoch.
            DatabaseUnavailable, QueryTimeout: it could not be read.
        """

        async def work(connection: Connection) -> Ballot:
            found = await simulations.get_ballot(connection, proposal_id, await _epoch(connection, proposal_id))
            if found is None:
                raise NotSimulated
            return found

        return await self._database.read("ballot_get", work, deadline=deadline)


async def _epoch(connection: Connection, proposal_id: ProposalId) -> int:
    proposal = await proposals.get(connection, proposal_id)
    if proposal is None:
        raise NotFound
    return proposal.epoch
