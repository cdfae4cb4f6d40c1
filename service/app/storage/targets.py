"""Targets and their snapshots: one current version each, which only grows; what was once written stays.

A row of `targets` is the lock of its target. Who needs several locks takes the targets' first, in the order of their
names, then those of proposals.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal, cast

import msgspec

from app.core.documents.identifiers import Principal, ProposalId
from app.core.log.events import Draft
from app.storage.connection import Connection
from app.storage.events import Events

TargetState = Literal["active", "frozen", "degraded"]
COLUMNS: Final = (
    "name, state, frozen_reason, config, config_digest, version, digest, observed_version, observed_digest,"
    " observed_at, created_at"
)
INSERT: Final = """
    INSERT INTO targets (name, config, config_digest, version, digest, created_at)
    VALUES (%(name)s, %(config)s, %(config_digest)s, 1, %(digest)s, %(now)s)"""
GET: Final = f"SELECT {COLUMNS} FROM targets WHERE name = %s"  # noqa: S608 - a constant
# NO KEY: a proposal's second update in a transaction checks its foreign key again, so steps that hold only the proposal
# would wait for the target, and whoever holds the target for the proposal.
LOCK: Final = GET + " FOR NO KEY UPDATE"
SHARE: Final = GET + " FOR SHARE"
LIST: Final = f"SELECT {COLUMNS} FROM targets WHERE name > %s ORDER BY name LIMIT %s"  # noqa: S608 - a constant
SNAPSHOT_COLUMNS: Final = "target, version, digest, parent_digest, proposal_id, created_at"
ADD_SNAPSHOT: Final = """
    INSERT INTO snapshots (target, version, parent_version, digest, parent_digest, proposal_id, content, created_at)
    VALUES (%(target)s, %(version)s, %(parent_version)s, %(digest)s, %(parent_digest)s, %(proposal_id)s, %(content)s,
            %(created_at)s)"""
GET_SNAPSHOT: Final = f"SELECT {SNAPSHOT_COLUMNS}, content FROM snapshots WHERE target = %s AND version = %s"  # noqa: S608
CURRENT: Final = """
    SELECT s.target, s.version, s.digest, s.parent_digest, s.proposal_id, s.created_at, s.content
    FROM targets t JOIN snapshots s ON s.target = t.name AND s.version = t.version WHERE t.name = %s"""
LIST_SNAPSHOTS: Final = f"""
    SELECT {SNAPSHOT_COLUMNS} FROM snapshots WHERE target = %s AND version < %s ORDER BY version DESC LIMIT %s"""  # noqa: S608
ADVANCE: Final = "UPDATE targets SET version = %s, digest = %s WHERE name = %s AND version = %s"
SET_STATE: Final = "UPDATE targets SET state = %s, frozen_reason = %s WHERE name = %s"
OBSERVE: Final = "UPDATE targets SET observed_version = %s, observed_digest = %s, observed_at = %s WHERE name = %s"


WAS_APPLIED: Final = """
    SELECT s.version FROM snapshots s LEFT JOIN proposals p ON p.id = s.proposal_id
    WHERE s.target = %(target)s AND s.version BETWEEN %(from)s AND %(to)s
      AND (s.proposal_id IS NULL OR p.state IN ('applied', 'rolled_back'))
    ORDER BY s.version DESC LIMIT 1"""


class StoredTarget(msgspec.Struct, frozen=True):
    """One row."""

    name: str
    state: TargetState
    frozen_reason: str | None
    config: bytes
    config_digest: str
    version: int
    digest: str
    observed_version: int | None
    observed_digest: str | None
    observed_at: datetime | None
    created_at: datetime


class Snapshot(msgspec.Struct, frozen=True):
    """One version of a target, without its content. `proposal` is null for the first."""

    target: str
    version: int
    digest: str
    parent_digest: str | None
    proposal: ProposalId | None
    created_at: datetime


class Content(msgspec.Struct, frozen=True):
    """One version of a target, and its canonical bytes."""

    snapshot: Snapshot
    content: bytes


class NewTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A target as it begins; both are canonical bytes with their digests."""

    name: str
    config: bytes
    config_digest: str
    document: bytes
    digest: str


async def insert(
    connection: Connection,
    events: Events,
    new: NewTarget,
    *,
    principal: Principal,
    now: datetime,
    request: str | None = None,
) -> StoredTarget:
    """Create a target with its first snapshot.

    Raises:
        psycopg.errors.UniqueViolation: `targets_pkey`: the name is taken.
    """
    await insert_row(connection, new, now=now)
    draft = Draft(
        kind="target-created",
        principal=principal,
        body={
            "config": msgspec.Raw(new.config),
            "document": msgspec.Raw(new.document),
            "digest": new.digest,
        },
        target=new.name,
        at=now,
        request=request,
    )
    await events.append(connection, draft)
    stored = await get(connection, new.name)
    if stored is None:
        raise AssertionError("what was just inserted is there")
    return stored


async def insert_row(connection: Connection, new: NewTarget, *, now: datetime) -> None:
    """Create a target with its first snapshot and no event of its own: the genesis tells of its four."""
    await connection.execute(INSERT, {**msgspec.structs.asdict(new), "now": now})
    first = Snapshot(target=new.name, version=1, digest=new.digest, parent_digest=None, proposal=None, created_at=now)
    await _add_snapshot(connection, Content(first, new.document))


async def get(connection: Connection, name: str) -> StoredTarget | None:
    """Return one target."""
    return await _one(connection, GET, name)


async def lock(connection: Connection, name: str) -> StoredTarget | None:
    """Return one target that nobody else changes until the transaction ends."""
    return await _one(connection, LOCK, name)


async def share(connection: Connection, name: str) -> StoredTarget | None:
    """Return one target that stays as it is until the transaction ends; others may do the same."""
    return await _one(connection, SHARE, name)


async def listed(connection: Connection, *, after: str, limit: int) -> Sequence[StoredTarget]:
    """Return at most `limit` targets with a name after `after`, in the order of names."""
    rows = await (await connection.execute(LIST, [after, limit])).fetchall()
    return [StoredTarget(*row) for row in rows]


async def current(connection: Connection, name: str) -> Content | None:
    """Return the current version."""
    return _content(await (await connection.execute(CURRENT, [name])).fetchone())


async def snapshot(connection: Connection, name: str, version: int) -> Content | None:
    """Return one version."""
    return _content(await (await connection.execute(GET_SNAPSHOT, [name, version])).fetchone())


async def snapshots(connection: Connection, name: str, *, before: int, limit: int) -> Sequence[Snapshot]:
    """Return at most `limit` versions below `before`, newest first."""
    rows = await (await connection.execute(LIST_SNAPSHOTS, [name, before, limit])).fetchall()
    return [Snapshot(*row) for row in rows]


async def was_applied(connection: Connection, name: str, version: int) -> bool:
    """Say whether a version ever arrived: the first always did."""
    row = await (await connection.execute(WAS_APPLIED, {"target": name, "from": version, "to": version})).fetchone()
    return row is not None


async def last_applied(connection: Connection, name: str, *, before: int) -> int | None:
    """Return the newest version below one that ever arrived."""
    row = await (await connection.execute(WAS_APPLIED, {"target": name, "from": 1, "to": before - 1})).fetchone()
    return None if row is None else int(row[0])


async def advance(
    connection: Connection, held: StoredTarget, *, digest: str, content: bytes, proposal: ProposalId, now: datetime
) -> Snapshot:
    """Give a locked target its next version; return the snapshot.

    Raises:
        psycopg.errors.UniqueViolation: somebody else did, in spite of the lock.
        psycopg.errors.ForeignKeyViolation: the proposal was made for another base.
    """
    made = Snapshot(
        target=held.name,
        version=held.version + 1,
        digest=digest,
        parent_digest=held.digest,
        proposal=proposal,
        created_at=now,
    )
    await _add_snapshot(connection, Content(made, content))
    advanced = await connection.execute(ADVANCE, [made.version, made.digest, held.name, held.version])
    if advanced.rowcount != 1:
        raise AssertionError("a locked target has the version that was read with the lock")
    return made


async def set_state(connection: Connection, name: str, state: TargetState, *, reason: str | None = None) -> None:
    """Set the state of a locked target; only a frozen one has a reason."""
    await connection.execute(SET_STATE, [state, reason, name])


async def observe(connection: Connection, name: str, *, version: int, digest: str, now: datetime) -> None:
    """Note what runs, by the word of whoever looked."""
    await connection.execute(OBSERVE, [version, digest, now, name])


async def _add_snapshot(connection: Connection, made: Content) -> None:
    snapshot = made.snapshot
    await connection.execute(
        ADD_SNAPSHOT,
        {
            "target": snapshot.target,
            "version": snapshot.version,
            "parent_version": snapshot.version - 1 or None,
            "digest": snapshot.digest,
            "parent_digest": snapshot.parent_digest,
            "proposal_id": snapshot.proposal,
            "content": made.content,
            "created_at": snapshot.created_at,
        },
    )


async def _one(connection: Connection, query: str, name: str) -> StoredTarget | None:
    row = await (await connection.execute(query.encode(), [name])).fetchone()
    return None if row is None else StoredTarget(*row)


def _content(row: tuple[Any, ...] | None) -> Content | None:
    return None if row is None else Content(Snapshot(*row[:6]), cast("bytes", row[6]))
