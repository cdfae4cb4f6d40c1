"""The database's account of the gate, typed: what was proposed, simulated, voted, decided, applied and logged.

Read from ``database.jsonl`` alone. Column names stand here and nowhere else in the harness. A table that is missing
or torn makes the record unreadable, which is unknown and never an empty table.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from chaos.evidence import Row
from chaos.scenario import Case

DATABASE: Final = "database.jsonl"
POLICIES: Final = "governance/policies"
VALIDATORS: Final = "governance/validators"
TABLES: Final = (
    "proposals",
    "events",
    "snapshots",
    "simulations",
    "ballots",
    "votes",
    "decisions",
    "targets",
    "key_revocations",
    "log_entries",
    "log_checkpoints",
)
_BYTEA: Final = "\\x"


@dataclass(frozen=True, slots=True)
class Event:
    """One transition as it was logged. ``index``: its place in the log, ``None``: not sequenced yet."""

    id: str
    index: int | None
    kind: str
    proposal: str | None
    target: str | None
    state_from: str | None
    state_to: str | None
    epoch: int
    at: datetime
    request: str | None
    leaf: bytes
    body: bytes
    xid: str
    row: Row

    def content(self) -> Any:
        """Return the body's value."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a governed document."""

    target: str
    version: int
    digest: str
    parent_digest: str | None
    proposal: str | None
    content: bytes
    xid: str
    row: Row


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote as it was stored."""

    proposal: str
    epoch: int
    principal: str
    validator: str
    keyid: str
    decision: str
    envelope: Any
    digest: str
    at: datetime
    superseded_at: datetime | None
    revoked_at: datetime | None
    xid: str
    row: Row

    def is_active(self, instant: datetime) -> bool:
        """Say whether it stood at that time: cast, and neither replaced nor revoked yet."""
        ends = [end for end in (self.superseded_at, self.revoked_at) if end is not None]
        return self.at <= instant and all(end > instant for end in ends)


@dataclass(frozen=True)
class Record:
    """All that the database held at the end."""

    dump: tuple[Row, ...]

    @classmethod
    def of(cls, case: Case) -> "Record":
        """Read it."""
        return cls(case.evidence.rows(DATABASE))

    def unreadable(self, *tables: str) -> str | None:
        """Say why it cannot be used; ``None`` when it can. ``tables``: those needed, by default all."""
        for table in tables or TABLES:
            found, announced = len(self._rows.get(table, ())), self._announced.get(table)
            if announced is None or announced.data["rows"] != found:
                told = "nothing" if announced is None else announced.data["rows"]
                return f"the copy of {table} is not complete ({found} rows, {told} announced)"
        return None

    @property
    def begun_at(self) -> float:
        """When the copy was begun: what was shown later may be newer than it. For ever, if nobody noted it."""
        return next((row.t for row in self.dump if row.data.get("begun")), math.inf)

    def announcements(self, *tables: str) -> list[Row]:
        """Return the lines that say how many rows a table had: what to cite of an empty place."""
        return [row for name, row in self._announced.items() if name in tables]

    @cached_property
    def proposals(self) -> Mapping[str, Row]:
        """Stored proposals by identity; ``row.data["row"]`` are the columns."""
        return {str(row.data["row"]["id"]): row for row in self._rows["proposals"]}

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """All events in the log's order; those not sequenced yet at the end, by time."""
        index = {str(row.data["row"]["event_id"]): int(row.data["row"]["index"]) for row in self._rows["log_entries"]}
        found = [_event(row, index.get(str(row.data["row"]["id"]))) for row in self._rows["events"]]
        return tuple(sorted(found, key=lambda one: (one.index is None, one.index or 0, one.at, one.id)))

    @cached_property
    def events_of(self) -> Mapping[str, tuple[Event, ...]]:
        """Each proposal's events, in order."""
        return _grouped((one.proposal, one) for one in self.events if one.proposal is not None)

    @cached_property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """All versions of all targets, by target and version."""
        return tuple(sorted(map(_snapshot, self._rows["snapshots"]), key=lambda one: (one.target, one.version)))

    @cached_property
    def snapshots_of(self) -> Mapping[str, tuple[Snapshot, ...]]:
        """Each target's versions, in order."""
        return _grouped((one.target, one) for one in self.snapshots)

    @cached_property
    def applied(self) -> tuple[Snapshot, ...]:
        """Snapshots that a proposal made."""
        return tuple(one for one in self.snapshots if one.proposal is not None)

    @cached_property
    def votes_of(self) -> Mapping[str, tuple[Vote, ...]]:
        """Each proposal's votes in order of time, those replaced or revoked included."""
        votes = sorted(map(_vote, self._rows["votes"]), key=lambda one: (one.at, one.digest))
        return _grouped((one.proposal, one) for one in votes)

    @cached_property
    def decisions(self) -> Mapping[str, Row]:
        """The decision's row by proposal."""
        return {str(row.data["row"]["proposal_id"]): row for row in self._rows["decisions"]}

    @cached_property
    def simulations(self) -> Mapping[tuple[str, int], Row]:
        """The simulation's row by proposal and epoch."""
        return {(str(r.data["row"]["proposal_id"]), int(r.data["row"]["epoch"])): r for r in self._rows["simulations"]}

    @cached_property
    def ballots(self) -> Mapping[tuple[str, int], Row]:
        """The ballot's row by proposal and epoch."""
        return {
            (str(row.data["row"]["proposal_id"]), int(row.data["row"]["epoch"])): row for row in self._rows["ballots"]
        }

    @cached_property
    def log(self) -> tuple[Row, ...]:
        """The log's entries, in order of their index."""
        return tuple(sorted(self._rows["log_entries"], key=lambda row: int(row.data["row"]["index"])))

    @cached_property
    def checkpoints(self) -> tuple[Row, ...]:
        """The checkpoints that the service remembers to have signed."""
        return self._rows["log_checkpoints"]

    def revoked_keys(self, instant: datetime) -> set[str]:
        """Return the ids of the keys that were revoked until then."""
        rows = (row.data["row"] for row in self._rows["key_revocations"])
        return {str(row["keyid"]) for row in rows if moment(row["at"]) <= instant}

    def in_force(self, target: str, before: Event) -> Snapshot | None:
        """Return the version of a governing document that was current when an event was logged."""
        made = {one.proposal: one for one in self.events if one.kind == "applying"}
        current = None
        for snapshot in self.snapshots_of.get(target, ()):
            cause = made.get(snapshot.proposal) if snapshot.proposal else None
            if snapshot.proposal is None or (cause is not None and _place(cause) < _place(before)):
                current = snapshot
        return current

    @cached_property
    def _rows(self) -> Mapping[str, tuple[Row, ...]]:
        return defaultdict(tuple, _grouped((str(row.data["table"]), row) for row in self.dump if "row" in row.data))

    @cached_property
    def _announced(self) -> Mapping[str, Row]:
        return {str(row.data["table"]): row for row in self.dump if "rows" in row.data}


def columns(row: Row) -> dict[str, Any]:
    """Return a dumped row's columns."""
    value: dict[str, Any] = row.data["row"]
    return value


def binary(value: Any) -> bytes:
    """Return the bytes of a column of type bytea, or of text."""
    text = str(value)
    return bytes.fromhex(text.removeprefix(_BYTEA)) if text.startswith(_BYTEA) else text.encode()


def moment(text: Any) -> datetime:
    """Return a time as PostgreSQL's JSON spells it."""
    return datetime.fromisoformat(str(text))


def _event(row: Row, index: int | None) -> Event:
    columns = row.data["row"]
    return Event(
        id=str(columns["id"]),
        index=index,
        kind=str(columns["kind"]),
        proposal=columns["proposal_id"],
        target=columns["target"],
        state_from=columns["state_from"],
        state_to=columns["state_to"],
        epoch=int(columns["epoch"] or 0),
        at=moment(columns["at"]),
        request=columns.get("request"),
        leaf=binary(columns["leaf"]),
        body=binary(columns["body"]),
        xid=str(row.data.get("xmin")),
        row=row,
    )


def _snapshot(row: Row) -> Snapshot:
    columns = row.data["row"]
    return Snapshot(
        target=str(columns["target"]),
        version=int(columns["version"]),
        digest=str(columns["digest"]),
        parent_digest=columns["parent_digest"],
        proposal=columns["proposal_id"],
        content=binary(columns["content"]),
        xid=str(row.data.get("xmin")),
        row=row,
    )


def _vote(row: Row) -> Vote:
    columns = row.data["row"]
    envelope = columns["envelope"]
    return Vote(
        proposal=str(columns["proposal_id"]),
        epoch=int(columns["epoch"]),
        principal=str(columns["principal"]),
        validator=str(columns["validator"]),
        keyid=str(columns["keyid"]),
        decision=str(columns["decision"]),
        envelope=envelope if isinstance(envelope, dict) else json.loads(binary(envelope)),
        digest=str(columns["digest"]),
        at=moment(columns["at"]),
        superseded_at=None if columns["superseded_at"] is None else moment(columns["superseded_at"]),
        revoked_at=None if columns["revoked_at"] is None else moment(columns["revoked_at"]),
        xid=str(row.data.get("xmin")),
        row=row,
    )


def _place(event: Event) -> tuple[bool, int, datetime]:
    return (event.index is None, event.index or 0, event.at)


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, tuple[Any, ...]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return {key: tuple(values) for key, values in groups.items()}
