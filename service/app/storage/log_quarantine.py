"""The mark that the log is not to be trusted, for all replicas to see (mode 15).

Set by whichever replica finds that the log in the database does not extend what was published; taken back by the
owner's recovery command only. Asked in the transaction of every apply, so that no replica applies on a log that another
one knows to be wrong.
"""

from typing import Final, Literal

import msgspec

from app.core.log.checkpoint import Checkpoint
from app.errors import LogQuarantined
from app.storage.connection import Connection

Reason = Literal["rewound", "forked", "damaged", "watermark-missing", "watermark-unreadable"]

OPEN: Final = "SELECT reason, size, watermark_size FROM log_quarantine WHERE lifted_at IS NULL"
SET: Final = """
    INSERT INTO log_quarantine (replica, reason, size, watermark_size, watermark_root)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT ((true)) WHERE lifted_at IS NULL DO NOTHING"""
LIFT: Final = "UPDATE log_quarantine SET lifted_at = clock_timestamp() WHERE lifted_at IS NULL"


class Quarantine(msgspec.Struct, frozen=True):
    """Why the log is in quarantine, how large it was found, how large it was published."""

    reason: Reason
    size: int
    watermark_size: int | None


async def find(connection: Connection) -> Quarantine | None:
    """Return the open quarantine."""
    row = await (await connection.execute(OPEN)).fetchone()
    return None if row is None else Quarantine(*row)


async def set_up(connection: Connection, why: Quarantine, *, replica: str, watermark: Checkpoint | None) -> None:
    """Open a quarantine, unless there is one."""
    root = None if watermark is None else watermark.root
    await connection.execute(SET, [replica, why.reason, why.size, why.watermark_size, root])


async def lift(connection: Connection) -> None:
    """Close the open quarantine; the owner's right alone."""
    await connection.execute(LIFT)


async def require_none(connection: Connection) -> None:
    """Refuse to go on while the log is in quarantine; for the transaction of an apply.

    Raises:
        LogQuarantined: if it is.
    """
    if await find(connection) is not None:
        raise LogQuarantined
