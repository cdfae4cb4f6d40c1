"""Proposals and their events. The body is kept as it was received, byte for byte."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.core.identifiers import EventId, Principal, ProposalId
from app.core.proposal import PENDING, Intake, Proposal
from app.storage.connection import Connection, Row

INSERT: Final = """
    WITH proposal AS (
        INSERT INTO proposals
            (id, principal, target, base_version, body_digest, proposal_digest, body, state, created_at)
        VALUES (%(id)s, %(principal)s, %(target)s, %(base_version)s, %(body_digest)s, %(proposal_digest)s, %(body)s,
                %(state)s, %(now)s)
    )
    INSERT INTO events (id, proposal_id, kind, principal, state_from, state_to, body_digest, at)
    VALUES (%(event_id)s, %(id)s, 'proposal_created', %(principal)s, NULL, %(state)s, %(body_digest)s, %(now)s)"""
COLUMNS: Final = "id, state, created_at, principal, proposal_digest, body_digest, body"
GET: Final = f"SELECT {COLUMNS} FROM proposals WHERE id = %s"  # noqa: S608 - a constant
LIST: Final = f"SELECT {COLUMNS} FROM proposals WHERE id < %s ORDER BY id DESC LIMIT %s"  # noqa: S608 - a constant
NEWEST: Final = UUID(int=2**128 - 1)
"""The position before the first row: no id is larger."""


class _AsReceived(msgspec.Struct):
    target: str
    base_version: int
    patch: list[Any]
    rationale: str


_as_received: Final = msgspec.json.Decoder(_AsReceived)


def assemble(
    intake_body: bytes,
    *,
    proposal_id: ProposalId,
    state: str,
    created_at: datetime,
    principal: Principal,
    proposal_digest: str,
    body_digest: str,
) -> Proposal:
    """Return the proposal with its fields as they were received."""
    received = _as_received.decode(intake_body)
    return Proposal(
        id=proposal_id,
        state=state,
        created_at=created_at,
        principal=principal,
        proposal_digest=proposal_digest,
        body_digest=body_digest,
        target=received.target,
        base_version=received.base_version,
        patch=received.patch,
        rationale=received.rationale,
    )


async def insert(
    connection: Connection,
    intake: Intake,
    *,
    proposal_id: ProposalId,
    event_id: EventId,
    principal: Principal,
    now: datetime,
) -> Proposal:
    """Store a proposal and its first event; return it as it will be answered."""
    await connection.execute(
        INSERT,
        {
            "id": proposal_id,
            "event_id": event_id,
            "principal": principal,
            "target": intake.content.target,
            "base_version": intake.content.base_version,
            "body_digest": intake.body_digest,
            "proposal_digest": intake.proposal_digest,
            "body": intake.body,
            "state": PENDING,
            "now": now,
        },
    )
    return assemble(
        intake.body,
        proposal_id=proposal_id,
        state=PENDING,
        created_at=now,
        principal=principal,
        proposal_digest=intake.proposal_digest,
        body_digest=intake.body_digest,
    )


async def get(connection: Connection, proposal_id: ProposalId) -> Proposal | None:
    """Return one proposal."""
    row = await (await connection.execute(GET, [proposal_id])).fetchone()
    return None if row is None else _from_row(row)


async def newest_before(connection: Connection, position: UUID, *, limit: int) -> Sequence[Proposal]:
    """Return at most `limit` proposals with an id before `position`, newest first."""
    rows = await (await connection.execute(LIST, [position, limit])).fetchall()
    return [_from_row(row) for row in rows]


def _from_row(row: Row) -> Proposal:
    proposal_id, state, created_at, principal, proposal_digest, body_digest, body = row
    return assemble(
        bytes(body),
        proposal_id=ProposalId(proposal_id),
        state=state,
        created_at=created_at,
        principal=principal,
        proposal_digest=proposal_digest,
        body_digest=body_digest,
    )
