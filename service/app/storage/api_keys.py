"""API keys in the database: made by the owner's command or by an administrator, read at every authentication."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import psycopg

from app.core.documents.identifiers import Principal
from app.storage.connection import Connection

INSERT: Final = """
    INSERT INTO api_keys (id, principal, digest, roles, expires_at, created_by) VALUES (%s, %s, %s, %s, %s, %s)
    RETURNING created_at, expires_at"""
PROOF: Final = """
    SELECT coalesce(digest, decode(repeat('00', 32), 'hex')),
           id IS NOT NULL AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    FROM (SELECT) AS one_row LEFT JOIN api_keys ON id = %s"""
"""One row of one size in any case: what there is of an id takes no time of its own (FM04)."""
HOLDER: Final = """
    SELECT principal, roles, extract(epoch FROM expires_at - now())::double precision,
           coalesce(last_used_at < date_trunc('hour', now()), true)
    FROM api_keys WHERE id = %s"""
TOUCH: Final = "UPDATE api_keys SET last_used_at = date_trunc('hour', now()) WHERE id = %s"
LIST: Final = """
    SELECT id, principal, roles, created_at, created_by, expires_at, revoked_at, revoked_by, last_used_at
    FROM api_keys WHERE id > %s ORDER BY id LIMIT %s"""
REVOKE: Final = """
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()), revoked_by = coalesce(revoked_by, %s) WHERE id = %s"""
OWNER: Final = "owner"
"""Who is written down for what the owner's command did; no principal of that name is meant."""
LIST_MAX: Final = 100_000


class Proof(msgspec.Struct, frozen=True):
    """What a presented key is judged by; of a key that does not exist a digest that no key has.

    `is_good`: it exists, and is neither revoked nor expired.
    """

    digest: bytes
    is_good: bool


class Holder(msgspec.Struct, frozen=True):
    """Whose key it is. `seconds_left`: None is for ever; `is_use_to_note`: last noted in an earlier hour."""

    principal: Principal
    roles: frozenset[str]
    seconds_left: float | None
    is_use_to_note: bool


class KeyRow(msgspec.Struct, frozen=True):
    """What may be told of a key, and never its digest. `last_used_at` is an hour: the one in which it was last used."""

    id: str
    principal: Principal
    roles: list[str]
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    last_used_at: datetime | None


class NewKey(msgspec.Struct, frozen=True):
    """A key to be stored."""

    id: str
    principal: Principal
    digest: bytes
    roles: list[str]
    expires_at: datetime | None
    created_by: str


async def proof(connection: Connection, key_id: str) -> Proof:
    """Return what a key of that public id is judged by, or what stands for none, at the same cost."""
    row = await (await connection.execute(PROOF, [key_id])).fetchone()
    if row is None:
        raise AssertionError("a LEFT JOIN from one row returns a row")
    digest, is_good = row
    return Proof(digest=bytes(digest), is_good=is_good)


async def holder(connection: Connection, key_id: str) -> Holder | None:
    """Return whose key it is, if it exists."""
    row = await (await connection.execute(HOLDER, [key_id])).fetchone()
    if row is None:
        return None
    principal, roles, seconds_left, is_use_to_note = row
    return Holder(principal, frozenset(roles), seconds_left, is_use_to_note)


async def note_use(connection: Connection, key_id: str) -> None:
    """Note the hour of the last use: coarse, so that reading does not become writing."""
    await connection.execute(TOUCH, [key_id])


async def insert(connection: Connection, new: NewKey) -> KeyRow:
    """Store a new key; return what may be told of it."""
    row = await (await connection.execute(INSERT, _values(new))).fetchone()
    if row is None:
        raise AssertionError("INSERT ... RETURNING returns a row")
    created_at, expires_at = row
    return KeyRow(
        id=new.id,
        principal=new.principal,
        roles=new.roles,
        created_at=created_at,
        created_by=new.created_by,
        expires_at=expires_at,
        revoked_at=None,
        revoked_by=None,
        last_used_at=None,
    )


async def listed(connection: Connection, *, after: str, limit: int) -> Sequence[KeyRow]:
    """Return keys in the order of their ids."""
    return [KeyRow(*row) for row in await (await connection.execute(LIST, [after, limit])).fetchall()]


async def revoke(connection: Connection, key_id: str, *, by: str) -> bool:
    """Revoke a key, once; return whether there is such a key."""
    return (await connection.execute(REVOKE, [by, key_id])).rowcount == 1


def insert_by_owner(connection: psycopg.Connection[tuple[Any, ...]], new: NewKey) -> None:
    """Store a new key (the owner's command)."""
    connection.execute(INSERT, _values(new))


def listed_by_owner(connection: psycopg.Connection[tuple[Any, ...]]) -> Sequence[KeyRow]:
    """Return all keys (the owner's command)."""
    return [KeyRow(*row) for row in connection.execute(LIST, ["", LIST_MAX]).fetchall()]


def revoke_by_owner(connection: psycopg.Connection[tuple[Any, ...]], key_id: str) -> bool:
    """Revoke a key (the owner's command)."""
    return connection.execute(REVOKE, [OWNER, key_id]).rowcount == 1


def _values(new: NewKey) -> list[Any]:
    return [new.id, new.principal, new.digest, new.roles, new.expires_at, new.created_by]
