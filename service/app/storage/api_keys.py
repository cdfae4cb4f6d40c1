"""API keys in the database: written by the owner's command, read by the service."""

from datetime import datetime
from typing import Any, Final

import msgspec
import psycopg

from app.core.documents.identifiers import Principal
from app.storage.connection import Connection

INSERT: Final = """
    INSERT INTO api_keys (id, principal, digest, roles, expires_at) VALUES (%s, %s, %s, %s, %s)"""
FIND: Final = """
    SELECT principal, digest, roles, now() >= coalesce(expires_at, 'infinity'),
           revoked_at IS NOT NULL, coalesce(last_used_at < date_trunc('hour', now()), true)
    FROM api_keys WHERE id = %s"""
TOUCH: Final = "UPDATE api_keys SET last_used_at = date_trunc('hour', now()) WHERE id = %s"


class StoredKey(msgspec.Struct, frozen=True):
    """One row; `is_use_to_note`: its last use was noted in an earlier hour."""

    principal: Principal
    digest: bytes
    roles: frozenset[str]
    has_expired: bool
    is_revoked: bool
    is_use_to_note: bool


async def find(connection: Connection, key_id: str) -> StoredKey | None:
    """Return the key of that public id."""
    row = await (await connection.execute(FIND, [key_id])).fetchone()
    if row is None:
        return None
    principal, digest, roles, has_expired, is_revoked, is_use_to_note = row
    return StoredKey(
        principal=principal,
        digest=bytes(digest),
        roles=frozenset(roles),
        has_expired=has_expired,
        is_revoked=is_revoked,
        is_use_to_note=is_use_to_note,
    )


async def note_use(connection: Connection, key_id: str) -> None:
    """Note the hour of the last use: coarse, so that reading does not become writing."""
    await connection.execute(TOUCH, [key_id])


def insert(
    connection: psycopg.Connection[tuple[Any, ...]],
    *,
    key_id: str,
    principal: str,
    digest: bytes,
    roles: list[str],
    expires_at: datetime | None,
) -> None:
    """Store a new key (the owner's command only)."""
    connection.execute(INSERT, [key_id, principal, digest, roles, expires_at])
