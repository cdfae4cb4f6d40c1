"""Decisions and their deliveries: the outbox that an apply fills and the dispatcher empties.

A row is written with the decision, in one transaction, so nothing is applied that is not going to be delivered. Taking
a delivery moves its next attempt ahead by a lease: whoever takes it and dies loses time, not the delivery.
"""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from app.core.documents.identifiers import ProposalId
from app.storage.connection import Connection

ApplicationState = Literal["waiting", "delivered", "acknowledged", "dead"]
COLUMNS: Final = (
    "proposal_id, target, version, digest, state, attempts, next_attempt_at, observed_digest, failure, created_at,"
    " settled_at"
)
INSERT_DECISION: Final = """
    INSERT INTO decisions (proposal_id, target, version, envelope, digest, tally, at)
    VALUES (%(proposal_id)s, %(target)s, %(version)s, %(envelope)s, %(digest)s, %(tally)s, %(at)s)"""
INSERT: Final = """
    INSERT INTO applications (proposal_id, target, version, digest, next_attempt_at, created_at)
    VALUES (%s, %s, %s, %s, %s, %s)"""
GET: Final = f"""
    SELECT {COLUMNS}, (SELECT envelope FROM decisions d WHERE d.proposal_id = a.proposal_id)
    FROM applications a WHERE proposal_id = %s"""  # noqa: S608 - a constant
TAKE: Final = f"""
    UPDATE applications SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => %s)
    WHERE proposal_id = (
        SELECT proposal_id FROM applications WHERE state IN ('waiting', 'delivered') AND next_attempt_at <= now()
        ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING {COLUMNS}"""  # noqa: S608 - a constant
OF_VERSION: Final = f"SELECT {COLUMNS} FROM applications WHERE target = %s AND version = %s FOR UPDATE"  # noqa: S608
POSTPONE: Final = """
    UPDATE applications SET state = %s, failure = %s, next_attempt_at = now() + make_interval(secs => %s)
    WHERE proposal_id = %s AND state IN ('waiting', 'delivered')"""
SETTLE: Final = """
    UPDATE applications SET state = %s, observed_digest = %s, failure = %s, settled_at = %s WHERE proposal_id = %s"""


DUE: Final = """
    SELECT p.id FROM proposals p
    JOIN targets t ON t.name = p.target AND t.version = p.base_version AND t.state <> 'frozen'
    CROSS JOIN LATERAL (SELECT convert_from(p.quorum_rule, 'UTF8')::jsonb) AS rule (said)
    WHERE p.state = 'approved' AND p.expires_at > now() AND rule.said ->> 'apply' = 'auto'
      AND p.approved_at + make_interval(secs => (rule.said ->> 'time_lock_seconds')::int) <= now()
      AND NOT EXISTS (SELECT FROM proposals o WHERE o.target = p.target AND o.state = 'applying')
    ORDER BY p.approved_at LIMIT %s"""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as it is kept. `envelope`: canonical DSSE by the service's key; `tally`: the record it rests on."""

    proposal_id: ProposalId
    target: str
    version: int
    envelope: bytes
    digest: str
    tally: bytes
    at: datetime


class Application(msgspec.Struct, frozen=True):
    """One delivery. `failure`: the stable code of what went wrong last."""

    proposal_id: ProposalId
    target: str
    version: int
    digest: str
    state: ApplicationState
    attempts: int
    next_attempt_at: datetime
    observed_digest: str | None
    failure: str | None
    created_at: datetime
    settled_at: datetime | None


async def insert(connection: Connection, decision: Decision, *, result_digest: str) -> Application:
    """Store a decision and put it into the outbox, due at once."""
    await connection.execute(INSERT_DECISION, msgspec.structs.asdict(decision))
    row: list[Any] = [decision.proposal_id, decision.target, decision.version, result_digest, decision.at, decision.at]
    await connection.execute(INSERT, row)
    return Application(
        proposal_id=decision.proposal_id,
        target=decision.target,
        version=decision.version,
        digest=result_digest,
        state="waiting",
        attempts=0,
        next_attempt_at=decision.at,
        observed_digest=None,
        failure=None,
        created_at=decision.at,
        settled_at=None,
    )


async def get(connection: Connection, proposal_id: ProposalId) -> tuple[Application, bytes] | None:
    """Return a proposal's application and the envelope of its decision."""
    row = await (await connection.execute(GET, [proposal_id])).fetchone()
    return None if row is None else (Application(*row[:-1]), bytes(row[-1]))


async def due(connection: Connection, *, limit: int) -> list[ProposalId]:
    """Return approved proposals, longest first, that their rule lets apply by themselves and nothing seems to hold."""
    return [ProposalId(row[0]) for row in await (await connection.execute(DUE, [limit])).fetchall()]


async def take(connection: Connection, *, lease_seconds: float) -> Application | None:
    """Return the delivery that is due longest, and nobody else's for a while; None if none is due."""
    row = await (await connection.execute(TAKE, [lease_seconds])).fetchone()
    return None if row is None else Application(*row)


async def of_version(connection: Connection, target: str, version: int) -> Application | None:
    """Return the application that made a version, locked."""
    row = await (await connection.execute(OF_VERSION, [target, version])).fetchone()
    return None if row is None else Application(*row)


async def postpone(
    connection: Connection,
    proposal_id: ProposalId,
    *,
    state: Literal["waiting", "delivered"],
    failure: str | None,
    seconds: float,
) -> None:
    """Let a delivery that is not settled be due again in a while."""
    await connection.execute(POSTPONE, [state, failure, seconds, proposal_id])


async def settle(
    connection: Connection,
    proposal_id: ProposalId,
    *,
    state: Literal["acknowledged", "dead"],
    observed_digest: str | None,
    failure: str | None,
    now: datetime,
) -> None:
    """End a delivery: nothing is sent any more."""
    await connection.execute(SETTLE, [state, observed_digest, failure, now, proposal_id])
