"""Keys whose possession was proven to this service: kept so that a proposal can carry them into the validator set."""

from datetime import datetime
from typing import Final

import msgspec

from app.core.documents.identifiers import Principal
from app.storage.connection import Connection

INSERT: Final = """
    INSERT INTO proven_keys (keyid, validator, principal, public_key, possession, proven_at)
    VALUES (%(keyid)s, %(validator)s, %(principal)s, %(public_key)s, %(possession)s, %(proven_at)s)
    ON CONFLICT (keyid) DO NOTHING"""
GET: Final = "SELECT keyid, validator, principal, public_key, possession, proven_at FROM proven_keys WHERE keyid = %s"


class ProvenKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key, and the canonical envelope that proves it."""

    keyid: str
    validator: str
    principal: Principal
    public_key: bytes
    possession: bytes
    proven_at: datetime


async def insert(connection: Connection, key: ProvenKey) -> ProvenKey:
    """Store a proven key; return what is stored, the earlier one if there is one."""
    await connection.execute(INSERT, msgspec.structs.asdict(key))
    row = await (await connection.execute(GET, [key.keyid])).fetchone()
    if row is None:
        raise AssertionError("what was just inserted is there")
    keyid, validator, principal, public_key, possession, proven_at = row
    return ProvenKey(
        keyid=keyid,
        validator=validator,
        principal=principal,
        public_key=bytes(public_key),
        possession=bytes(possession),
        proven_at=proven_at,
    )
