"""Votes and what takes them away again. A vote's content never changes; that it stopped counting is set once.

The database keeps two rules of its own: one active vote of a principal, and one of a key, for each epoch.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NewType
from uuid import UUID

import msgspec

from app.core.documents.identifiers import Principal, ProposalId
from app.storage.connection import Connection, Row

VoteId = NewType("VoteId", UUID)

COLUMNS: Final = (
    "id, proposal_id, epoch, principal, validator, role, keyid, decision, recomputed, envelope, digest, issued_at,"
    " expires_at, at, superseded_at, revoked_at"
)
INSERT: Final = """
    INSERT INTO votes (id, proposal_id, epoch, principal, validator, role, keyid, decision, recomputed, envelope,
                       digest, issued_at, expires_at, at)
    VALUES (%(id)s, %(proposal_id)s, %(epoch)s, %(principal)s, %(validator)s, %(role)s, %(keyid)s, %(decision)s,
            %(recomputed)s, %(envelope)s, %(digest)s, %(issued_at)s, %(expires_at)s, %(at)s)"""
SUPERSEDE: Final = """
    UPDATE votes SET superseded_at = %s
    WHERE proposal_id = %s AND epoch = %s AND principal = %s AND superseded_at IS NULL AND revoked_at IS NULL"""
REVOKE: Final = "UPDATE votes SET revoked_at = %s WHERE id = %s AND revoked_at IS NULL AND superseded_at IS NULL"
INSERT_REVOCATION: Final = """
    INSERT INTO vote_revocations (vote_id, principal, envelope, digest, at) VALUES (%s, %s, %s, %s, %s)"""
BY_DIGEST: Final = f"SELECT {COLUMNS} FROM votes WHERE digest = %s"  # noqa: S608 - a constant
BY_ID: Final = f"SELECT {COLUMNS} FROM votes WHERE proposal_id = %s AND id = %s"  # noqa: S608 - a constant
OF_EPOCH: Final = f"SELECT {COLUMNS} FROM votes WHERE proposal_id = %s AND epoch = %s ORDER BY at, id"  # noqa: S608
OF_PROPOSAL: Final = f"SELECT {COLUMNS} FROM votes WHERE proposal_id = %s AND id > %s ORDER BY id LIMIT %s"  # noqa: S608 - a constant
REVOCATION: Final = "SELECT digest FROM vote_revocations WHERE vote_id = %s"
INSERT_KEY_REVOCATION: Final = """
    INSERT INTO key_revocations (keyid, validator, principal, reason, at) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (keyid) DO NOTHING"""
REVOKED_KEYS: Final = "SELECT keyid, at FROM key_revocations WHERE keyid = ANY(%s)"
VOTES_OF_PRINCIPAL: Final = "SELECT count(*) FROM votes WHERE proposal_id = %s AND epoch = %s AND principal = %s"
APPROVED_WITH_KEY: Final = """
    SELECT DISTINCT p.id FROM proposals AS p JOIN votes AS v ON v.proposal_id = p.id AND v.epoch = p.epoch
    WHERE p.state = 'approved' AND v.keyid = %s AND v.superseded_at IS NULL AND v.revoked_at IS NULL
    ORDER BY p.id LIMIT %s"""


class StoredVote(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    id: VoteId
    proposal_id: ProposalId
    epoch: int
    principal: Principal
    validator: str
    role: str
    keyid: str
    decision: str
    recomputed: bool
    envelope: bytes
    digest: str
    issued_at: datetime
    expires_at: datetime
    at: datetime
    superseded_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Whether it was neither superseded nor revoked."""
        return self.superseded_at is None and self.revoked_at is None


async def insert(connection: Connection, vote: StoredVote) -> None:
    """Store a vote; an earlier active one of the same principal in that epoch is superseded.

    Raises:
        psycopg.errors.UniqueViolation: the same envelope, or another active vote with that key, is there already.
    """
    await connection.execute(SUPERSEDE, [vote.at, vote.proposal_id, vote.epoch, vote.principal])
    await connection.execute(INSERT, msgspec.structs.asdict(vote))


async def by_digest(connection: Connection, digest: str) -> StoredVote | None:
    """Return the vote with that envelope."""
    row = await (await connection.execute(BY_DIGEST, [digest])).fetchone()
    return None if row is None else _from_row(row)


async def by_id(connection: Connection, proposal_id: ProposalId, vote_id: UUID) -> StoredVote | None:
    """Return one vote of a proposal."""
    row = await (await connection.execute(BY_ID, [proposal_id, vote_id])).fetchone()
    return None if row is None else _from_row(row)


async def of_epoch(connection: Connection, proposal_id: ProposalId, epoch: int) -> Sequence[StoredVote]:
    """Return every vote of one epoch in the order of acceptance, also those that no longer count."""
    rows = await (await connection.execute(OF_EPOCH, [proposal_id, epoch])).fetchall()
    return [_from_row(row) for row in rows]


async def of_proposal(
    connection: Connection, proposal_id: ProposalId, *, after: UUID, limit: int
) -> Sequence[StoredVote]:
    """Return at most `limit` votes of all epochs with an id above `after`, oldest first."""
    rows = await (await connection.execute(OF_PROPOSAL, [proposal_id, after, limit])).fetchall()
    return [_from_row(row) for row in rows]


async def revoke(
    connection: Connection, vote: StoredVote, *, principal: Principal, envelope: bytes, digest: str, at: datetime
) -> bool:
    """Take a vote out of the count; False if it was not active."""
    if (await connection.execute(REVOKE, [at, vote.id])).rowcount != 1:
        return False
    await connection.execute(INSERT_REVOCATION, [vote.id, principal, envelope, digest, at])
    return True


async def revocation_digest(connection: Connection, vote_id: VoteId) -> str | None:
    """Return the digest of the envelope that revoked a vote, or None."""
    row = await (await connection.execute(REVOCATION, [vote_id])).fetchone()
    return None if row is None else str(row[0])


async def revoke_key(
    connection: Connection, *, keyid: str, validator: str, principal: Principal, reason: str, at: datetime
) -> bool:
    """Note that a key counts no longer, from now on and for every open vote; False if it was noted before."""
    done = await connection.execute(INSERT_KEY_REVOCATION, [keyid, validator, principal, reason, at])
    return done.rowcount == 1


async def revoked_keys(connection: Connection, keyids: Sequence[str]) -> dict[str, datetime]:
    """Return those of the keys that were revoked, and when."""
    rows = await (await connection.execute(REVOKED_KEYS, [list(keyids)])).fetchall()
    return dict(rows)


async def count_of(connection: Connection, proposal_id: ProposalId, epoch: int, principal: Principal) -> int:
    """Return how many votes a principal has sent in one epoch, those that no longer count included."""
    row = await (await connection.execute(VOTES_OF_PRINCIPAL, [proposal_id, epoch, principal])).fetchone()
    return 0 if row is None else int(row[0])


async def approved_with_key(connection: Connection, keyid: str, *, limit: int) -> Sequence[ProposalId]:
    """Return at most `limit` approved proposals that an active vote with this key speaks for."""
    rows = await (await connection.execute(APPROVED_WITH_KEY, [keyid, limit])).fetchall()
    return [ProposalId(row[0]) for row in rows]


def _from_row(row: Row) -> StoredVote:
    found = StoredVote(**dict(zip(StoredVote.__struct_fields__, row, strict=True)))
    return msgspec.structs.replace(found, envelope=bytes(found.envelope))
