"""Proposals: stored once as they came, moved only along the table of transitions, one event for each step.

The body is kept as it was received, byte for byte; `content` is its canonical form with every default, whose digest is
the proposal's name. `move` is the only way to another state.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import sql

from app.core.documents.identifiers import Principal, ProposalId
from app.core.governed import lifecycle
from app.core.governed.lifecycle import State
from app.core.log.events import Draft, Event
from app.errors import Overtaken
from app.storage.connection import Connection, Row
from app.storage.events import Events

NEWEST: Final = UUID(int=2**128 - 1)
"""The position before the first row: no id is larger."""
ONE_OPEN: Final = "proposals_one_open"
"""The unique index on what is open: (target, proposal_digest)."""
COLUMNS: Final = (
    "id, principal, kind, target, base_version, base_digest, body_digest, content, proposal_digest, created_at, state,"
    " revision, epoch, tier, quorum_rule, expires_at, attempts, lease_token, lease_until, approved_at, last_leaf"
)
INSERT: Final = f"""
    INSERT INTO proposals (id, principal, kind, target, base_version, base_digest, body, body_digest, content,
                           proposal_digest, created_at, state, tier, expires_at)
    VALUES (%(id)s, %(principal)s, %(kind)s, %(target)s, %(base_version)s, %(base_digest)s, %(body)s, %(body_digest)s,
            %(content)s, %(proposal_digest)s, %(created_at)s, %(state)s, %(tier)s, %(expires_at)s)
    RETURNING {COLUMNS}"""  # noqa: S608 - a constant
GET: Final = f"SELECT {COLUMNS} FROM proposals WHERE id = %s"  # noqa: S608 - a constant
LOCK: Final = GET + " FOR UPDATE"
LOCK_OPEN: Final = f"""
    SELECT {COLUMNS} FROM proposals
    WHERE target = %s AND base_version < %s AND state IN ('pending', 'simulating', 'simulated', 'approved')
    ORDER BY id LIMIT %s FOR UPDATE"""  # noqa: S608 - a constant
LOCK_APPLIED: Final = f"""
    SELECT {COLUMNS} FROM proposals
    WHERE state = 'applied' AND id IN (SELECT proposal_id FROM snapshots WHERE target = %s AND version > %s)
    ORDER BY id FOR UPDATE"""  # noqa: S608 - a constant
CHANGEABLE: Final = frozenset(
    {"epoch", "tier", "quorum_rule", "expires_at", "attempts", "lease_token", "lease_until", "approved_at"}
)


class NewProposal(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored when a proposal is accepted; none of it ever changes."""

    id: ProposalId
    principal: Principal
    kind: str
    target: str
    base_version: int
    base_digest: str
    body: bytes
    body_digest: str
    content: bytes
    proposal_digest: str
    created_at: datetime
    expires_at: datetime
    tier: str | None = None


class StoredProposal(msgspec.Struct, frozen=True):
    """One row."""

    id: ProposalId
    principal: Principal
    kind: str
    target: str
    base_version: int
    base_digest: str
    body_digest: str
    content: bytes
    proposal_digest: str
    created_at: datetime
    state: State
    revision: int
    epoch: int
    tier: str | None
    quorum_rule: bytes | None
    expires_at: datetime
    attempts: int
    lease_token: int
    lease_until: datetime | None
    approved_at: datetime | None
    last_leaf: str | None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step that somebody wants to take. `revision` and `lease_token`, where given, must still be the row's own."""

    proposal_id: ProposalId
    state_from: State
    state_to: State
    principal: Principal
    body: dict[str, Any]
    revision: int | None = None
    lease_token: int | None = None
    at: datetime | None = None
    request: str | None = None
    changes: Mapping[str, Any] = {}
    """Columns that change with the state, of `CHANGEABLE`."""


class Moved(msgspec.Struct, frozen=True):
    """The proposal after a step, and the event that tells it."""

    proposal: StoredProposal
    event: Event


async def insert(
    connection: Connection, events: Events, new: NewProposal, *, body: dict[str, Any], request: str | None = None
) -> StoredProposal:
    """Store a proposal and its first event (transition 1); `body` is the event's.

    Raises:
        psycopg.errors.UniqueViolation: `proposals_one_open`: an equal one is open for this target.
    """
    cursor = await connection.execute(INSERT, {**msgspec.structs.asdict(new), "state": State.PENDING})
    row = await cursor.fetchone()
    if row is None:
        raise AssertionError("what is inserted is returned")
    stored = from_row(row)
    draft = Draft(
        kind="proposal-created",
        principal=new.principal,
        body=body,
        target=new.target,
        proposal_id=new.id,
        state_to=State.PENDING,
        at=new.created_at,
        request=request,
    )
    event = await events.append_after(connection, draft, prev=stored.last_leaf)
    return msgspec.structs.replace(stored, last_leaf=event.leaf_digest)


async def move(connection: Connection, events: Events, step: Step) -> Moved:
    """Take one step: the row's state, one revision more, and the event, or nothing.

    Raises:
        Overtaken: the proposal is no longer where the step begins.
        ValueError: the table has no such step, or a column may not change.
    """
    transition = lifecycle.transition(step.state_from, step.state_to)
    if transition is None or not step.changes.keys() <= CHANGEABLE:
        raise ValueError(f"no step from {step.state_from} to {step.state_to}, or columns that never change")
    row = await (
        await connection.execute(
            _update(step),
            {
                **step.changes,
                "id": step.proposal_id,
                "state_from": step.state_from,
                "state_to": step.state_to,
                "expected_revision": step.revision,
                "expected_token": step.lease_token,
            },
        )
    ).fetchone()
    if row is None:
        raise Overtaken
    proposal = from_row(row)
    draft = Draft(
        kind=transition.event,
        principal=step.principal,
        body=step.body,
        target=proposal.target,
        proposal_id=proposal.id,
        state_from=step.state_from,
        state_to=step.state_to,
        epoch=proposal.epoch,
        at=step.at,
        request=step.request,
    )
    event = await events.append_after(connection, draft, prev=proposal.last_leaf)
    return Moved(msgspec.structs.replace(proposal, last_leaf=event.leaf_digest), event)


def _update(step: Step) -> sql.Composed:
    settings = [
        sql.SQL(", {} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in sorted(step.changes)
    ]
    where = [
        sql.SQL(condition)
        for value, condition in (
            (step.revision, " AND revision = %(expected_revision)s"),
            (step.lease_token, " AND lease_token = %(expected_token)s"),
        )
        if value is not None
    ]
    return sql.SQL(
        "UPDATE proposals SET state = %(state_to)s, revision = revision + 1{} "
        "WHERE id = %(id)s AND state = %(state_from)s{} RETURNING {}"
    ).format(sql.SQL("").join(settings), sql.SQL("").join(where), sql.SQL(COLUMNS))


async def get(connection: Connection, proposal_id: ProposalId) -> StoredProposal | None:
    """Return one proposal."""
    row = await (await connection.execute(GET, [proposal_id])).fetchone()
    return None if row is None else from_row(row)


async def lock(connection: Connection, proposal_id: ProposalId) -> StoredProposal | None:
    """Return one proposal that nobody else changes until the transaction ends. Targets are locked before proposals."""
    row = await (await connection.execute(LOCK, [proposal_id])).fetchone()
    return None if row is None else from_row(row)


async def lock_open_of(
    connection: Connection, target: str, *, before_version: int, limit: int
) -> Sequence[StoredProposal]:
    """Return at most `limit` open proposals for a locked target whose base is older, locked as well."""
    rows = await (await connection.execute(LOCK_OPEN.encode(), [target, before_version, limit])).fetchall()
    return [from_row(row) for row in rows]


async def lock_applied_after(connection: Connection, target: str, version: int) -> Sequence[StoredProposal]:
    """Return the applied proposals that made the versions of a locked target above one, locked as well."""
    rows = await (await connection.execute(LOCK_APPLIED.encode(), [target, version])).fetchall()
    return [from_row(row) for row in rows]


class Filter(msgspec.Struct, frozen=True):
    """Which proposals a list shows; None is all."""

    target: str | None = None
    state: State | None = None
    tier: str | None = None
    proposer: Principal | None = None

    def spelled(self) -> bytes:
        """Return the one spelling that a cursor is bound to."""
        return b"proposals;newest-first;" + msgspec.json.encode(self)


EVERYTHING: Final = Filter()


async def newest_before(
    connection: Connection, position: UUID, *, limit: int, chosen: Filter = EVERYTHING
) -> Sequence[StoredProposal]:
    """Return at most `limit` proposals with an id before `position`, newest first."""
    wanted = {"target": chosen.target, "state": chosen.state, "tier": chosen.tier, "principal": chosen.proposer}
    conditions = [
        sql.SQL(" AND {} = {}").format(sql.Identifier(name), sql.Placeholder(name))
        for name, value in wanted.items()
        if value is not None
    ]
    query = sql.SQL("SELECT {} FROM proposals WHERE id < %(position)s{} ORDER BY id DESC LIMIT %(limit)s").format(
        sql.SQL(COLUMNS), sql.SQL("").join(conditions)
    )
    rows = await (await connection.execute(query, {**wanted, "position": position, "limit": limit})).fetchall()
    return [from_row(row) for row in rows]


def from_row(row: Row) -> StoredProposal:
    """Return the proposal in a row of `COLUMNS`."""
    found = StoredProposal(*row)
    return msgspec.structs.replace(found, state=State(found.state))
