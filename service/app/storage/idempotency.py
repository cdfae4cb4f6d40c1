"""Records that make a retry safe: written in the transaction of the effect they stand for (firewall.md section 4).

A record is kept for a while, a day unless told otherwise; after that its key means nothing, and may be used again.
"""

import hashlib
from datetime import datetime
from typing import Final

import msgspec

from app.core.documents.identifiers import Principal
from app.storage.connection import Connection

KEPT_SECONDS: Final = 86_400.0
BEGIN: Final = """
    SELECT pg_try_advisory_xact_lock(%(lock)s), now(), fingerprint, status, location, response
    FROM (SELECT) AS one_row LEFT JOIN idempotency_records
      ON principal = %(principal)s AND method = %(method)s AND route = %(route)s AND key = %(key)s"""
INSERT: Final = """
    INSERT INTO idempotency_records
        (principal, method, route, key, fingerprint, status, location, response, created_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
# Rows of this table are never updated, so a row stays where it was seen.
FORGET: Final = """
    DELETE FROM idempotency_records WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM idempotency_records WHERE created_at < now() - make_interval(secs => %s)
        ORDER BY created_at LIMIT %s))"""


class Scope(msgspec.Struct, frozen=True):
    """Whose key it is and for what: one key means one thing to one principal on one route."""

    principal: Principal
    method: str
    route: str
    key: str

    def lock(self) -> int:
        """Return the 64-bit number that stands for this scope among advisory locks."""
        text = f"{self.principal}\0{self.method}\0{self.route}\0{self.key}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


class Answer(msgspec.Struct, frozen=True):
    """What was answered the first time, and is answered again."""

    fingerprint: str
    status: int
    location: str | None
    response: bytes


class Beginning(msgspec.Struct, frozen=True):
    """What a request finds when it begins: whether it is the only one, the database's time, an earlier answer."""

    is_alone: bool
    now: datetime
    earlier: Answer | None


async def begin(connection: Connection, scope: Scope) -> Beginning:
    """Take the scope's lock until the transaction ends, without waiting, and look for an earlier answer."""
    cursor = await connection.execute(BEGIN, {"lock": scope.lock(), **msgspec.structs.asdict(scope)})
    row = await cursor.fetchone()
    if row is None:
        raise AssertionError("a left join of one row has one row")
    is_alone, now, fingerprint, status, location, response = row
    earlier = None if fingerprint is None else Answer(fingerprint, status, location, bytes(response))
    return Beginning(is_alone=is_alone, now=now, earlier=earlier)


async def record(connection: Connection, scope: Scope, answer: Answer, *, now: datetime) -> None:
    """Store the answer.

    Raises:
        psycopg.errors.UniqueViolation: if another request finished between our look and now.
    """
    await connection.execute(
        INSERT,
        [
            scope.principal,
            scope.method,
            scope.route,
            scope.key,
            answer.fingerprint,
            answer.status,
            answer.location,
            answer.response,
            now,
        ],
    )


async def forget(connection: Connection, *, kept_seconds: float, limit: int) -> int:
    """Delete at most `limit` records that are older than that, oldest first; return how many there were."""
    return (await connection.execute(FORGET, [kept_seconds, limit])).rowcount
