"""Simulations and ballots: written once, in the transaction of their event.

`simulation_pins` says under which rules a simulation was made, so that one query finds what a change of the rules
reopens (transition 10).
"""

from datetime import datetime
from typing import Final

import msgspec

from app.core.documents.identifiers import ProposalId
from app.core.governed.shapes import Pin
from app.storage.connection import Connection
from app.storage.governance import Pins

INSERT: Final = """
    INSERT INTO simulations (proposal_id, epoch, inputs, record, digest, verdict, after, result_digest, replica, at)
    VALUES (%(proposal_id)s, %(epoch)s, %(inputs)s, %(record)s, %(digest)s, %(verdict)s, %(after)s, %(result_digest)s,
            %(replica)s, %(at)s)"""
INSERT_PINS: Final = """
    INSERT INTO simulation_pins (proposal_id, epoch, policies_version, policies_digest, validators_version,
                                 validators_digest, corpus_version, corpus_digest, engine_revision)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
GET: Final = """
    SELECT s.inputs, s.record, s.digest, s.verdict, s.after, s.result_digest, s.replica, s.at,
           p.policies_version, p.policies_digest, p.validators_version, p.validators_digest,
           p.corpus_version, p.corpus_digest, p.engine_revision
    FROM simulations AS s JOIN simulation_pins AS p USING (proposal_id, epoch)
    WHERE proposal_id = %s AND epoch = %s"""
INSERT_BALLOT: Final = """
    INSERT INTO ballots (proposal_id, epoch, statement, nonce, opened_at, expires_at)
    VALUES (%(proposal_id)s, %(epoch)s, %(statement)s, %(nonce)s, %(opened_at)s, %(expires_at)s)"""
GET_BALLOT: Final = """
    SELECT proposal_id, epoch, statement, nonce, opened_at, expires_at FROM ballots
    WHERE proposal_id = %s AND epoch = %s"""


class RulePins(msgspec.Struct, frozen=True):
    """The rules a simulation was made under."""

    policies: Pin
    validators: Pin
    corpus: Pin
    engine_revision: int

    @classmethod
    def of(cls, pins: Pins, *, engine_revision: int) -> "RulePins":
        """Return the part of the rules in force that a simulation depends on."""
        return cls(pins.policies, pins.validators, pins.corpus, engine_revision)

    def changed_in(self, now: Pins) -> str | None:
        """Return the first of policies, validators and corpus that is another now; None if nothing is."""
        return next(
            (name for name in ("policies", "validators", "corpus") if getattr(self, name) != getattr(now, name)), None
        )


class StoredSimulation(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `after`: the canonical content of the snapshot that would follow."""

    inputs: bytes
    record: bytes
    digest: str
    verdict: str
    after: bytes | None
    result_digest: str | None
    replica: str
    at: datetime
    pins: RulePins


class Ballot(msgspec.Struct, frozen=True, kw_only=True):
    """The exact bytes that validators sign their decision about; one for each epoch."""

    proposal_id: ProposalId
    epoch: int
    statement: bytes
    nonce: str
    opened_at: datetime
    expires_at: datetime


async def insert(connection: Connection, proposal_id: ProposalId, epoch: int, simulation: StoredSimulation) -> None:
    """Store a simulation and the rules it was made under."""
    fields = {name: value for name, value in msgspec.structs.asdict(simulation).items() if name != "pins"}
    await connection.execute(INSERT, {"proposal_id": proposal_id, "epoch": epoch, **fields})
    pins = simulation.pins
    await connection.execute(
        INSERT_PINS,
        [
            proposal_id,
            epoch,
            pins.policies.version,
            pins.policies.digest,
            pins.validators.version,
            pins.validators.digest,
            pins.corpus.version,
            pins.corpus.digest,
            pins.engine_revision,
        ],
    )


async def get(connection: Connection, proposal_id: ProposalId, epoch: int) -> StoredSimulation | None:
    """Return the simulation of one epoch."""
    row = await (await connection.execute(GET, [proposal_id, epoch])).fetchone()
    if row is None:
        return None
    inputs, record, digest, verdict, after, result_digest, replica, at = row[:8]
    return StoredSimulation(
        inputs=bytes(inputs),
        record=bytes(record),
        digest=digest,
        verdict=verdict,
        after=None if after is None else bytes(after),
        result_digest=result_digest,
        replica=replica,
        at=at,
        pins=RulePins(Pin(*row[8:10]), Pin(*row[10:12]), Pin(*row[12:14]), row[14]),
    )


async def insert_ballot(connection: Connection, ballot: Ballot) -> None:
    """Open the ballot of an epoch."""
    await connection.execute(INSERT_BALLOT, msgspec.structs.asdict(ballot))


async def get_ballot(connection: Connection, proposal_id: ProposalId, epoch: int) -> Ballot | None:
    """Return the ballot of one epoch."""
    row = await (await connection.execute(GET_BALLOT, [proposal_id, epoch])).fetchone()
    if row is None:
        return None
    return Ballot(
        proposal_id=row[0],
        epoch=row[1],
        statement=bytes(row[2]),
        nonce=row[3],
        opened_at=row[4],
        expires_at=row[5],
    )
