"""What a bundle is made of, read from the log: a proposal's own entries, and those that they rest on. Reads only.

Everything that is read lies under one checkpoint, chosen first: entries have a number, never change and never go, so
several statements see one state.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from app.core.documents.identifiers import ProposalId
from app.core.governed.target import RESERVED_TARGETS
from app.core.log.entry import Raw
from app.storage.connection import Connection

OWN: Final = """
    SELECT l.index, e.leaf, e.body FROM events AS e LEFT JOIN log_entries AS l ON l.event_id = e.id
    WHERE e.proposal_id = %s ORDER BY e.ordinal LIMIT %s"""
# The genesis; the target's creation; revoked keys; who made the base; every change of the rules, whole.
CONTEXT: Final = """
    WITH wanted AS (
        SELECT id FROM events WHERE proposal_id IS NULL AND kind = 'genesis'
        UNION SELECT id FROM events WHERE proposal_id IS NULL AND target = %(target)s AND kind = 'target-created'
        UNION SELECT id FROM events
            WHERE proposal_id IS NULL AND target = 'governance/validators' AND kind = 'key-revoked'
        UNION SELECT e.id FROM events AS e JOIN snapshots AS s ON s.proposal_id = e.proposal_id
            WHERE s.target = %(target)s AND s.version = %(base_version)s AND e.kind = 'applying'
        UNION SELECT e.id FROM events AS e JOIN snapshots AS s ON s.proposal_id = e.proposal_id
            WHERE s.target = ANY(%(reserved)s)
    )
    SELECT l.index, e.leaf, e.body
    FROM wanted JOIN events AS e ON e.id = wanted.id JOIN log_entries AS l ON l.event_id = e.id
    WHERE l.index < %(before)s AND e.proposal_id IS DISTINCT FROM %(proposal)s
    ORDER BY l.index LIMIT %(limit)s"""
DOCUMENTS: Final = """
    SELECT
        (SELECT content FROM snapshots WHERE target = %(target)s AND version = %(base_version)s),
        (SELECT after FROM simulations WHERE proposal_id = %(proposal)s AND after IS NOT NULL
         ORDER BY epoch DESC LIMIT 1)"""
OBSERVED: Final = "SELECT observed_version, observed_digest FROM targets WHERE name = %s"


class Documents(msgspec.Struct, frozen=True):
    """Canonical bytes of what a proposal starts from and leads to."""

    base: bytes | None
    result: bytes | None


async def own(connection: Connection, proposal_id: ProposalId, *, limit: int) -> Sequence[Raw]:
    """Return at most `limit` events of a proposal in their order; those without a number have the index -1."""
    rows = await (await connection.execute(OWN, [proposal_id, limit])).fetchall()
    return [Raw(-1 if row[0] is None else row[0], bytes(row[1]), _bytes(row[2])) for row in rows]


async def context(
    connection: Connection, proposal_id: ProposalId, *, target: str, base_version: int, before: int, limit: int
) -> Sequence[Raw]:
    """Return at most `limit` entries below the index `before` that the proposal's own rest on, in log order."""
    told = {
        "proposal": proposal_id,
        "target": target,
        "base_version": base_version,
        "reserved": list(RESERVED_TARGETS),
        "before": before,
        "limit": limit,
    }
    rows = await (await connection.execute(CONTEXT, told)).fetchall()
    return [Raw(row[0], bytes(row[1]), _bytes(row[2])) for row in rows]


async def documents(connection: Connection, proposal_id: ProposalId, *, target: str, base_version: int) -> Documents:
    """Return the contents of base and result."""
    told = {"proposal": proposal_id, "target": target, "base_version": base_version}
    row = await (await connection.execute(DOCUMENTS, told)).fetchone()
    return Documents(None, None) if row is None else Documents(_bytes(row[0]), _bytes(row[1]))


async def observed(connection: Connection, target: str) -> tuple[int, str] | None:
    """Return the version and digest that the target's actuator says it runs."""
    row = await (await connection.execute(OBSERVED, [target])).fetchone()
    return None if row is None or row[0] is None or row[1] is None else (row[0], row[1])


def _bytes(content: bytes | None) -> bytes | None:
    return None if content is None else bytes(content)
