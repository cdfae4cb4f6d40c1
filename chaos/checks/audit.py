"""Effects and events come and go together: I9 of chaos.md section 7, over the whole life of proposals.

A bijection: every acknowledged request that changed something has one event that tells of it; every row that a
transition leaves has the event of its own transaction; no event tells of what is not there.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from chaos.checks.findings import combine, failed, passed, unknown
from chaos.evidence import Row
from chaos.history import HISTORY, Kind, Operation, Outcome, operations
from chaos.record import Event, Record, columns
from chaos.scenario import Case, Finding
from chaos.verifier import envelope

EFFECTS_MIN: Final = 50
_SHOWN_MAX: Final = 8
_TABLES = ("proposals", "events", "snapshots", "votes", "decisions", "log_entries")
# What a client's acknowledged request must have left in the log, by the kind of the operation.
EVENT_OF: Final[Mapping[Kind, str]] = {
    Kind.PROPOSE: "proposal-created",
    Kind.RETRY: "proposal-created",
    Kind.ROLLBACK: "proposal-created",
    Kind.VOTE: "vote-cast",
    Kind.REVOKE: "vote-revoked",
    Kind.WITHDRAW: "withdrawn",
    Kind.APPLY: "applying",
}
# The state a proposal is in after its events, whatever came between.
TRANSITIONS: Final[frozenset[tuple[str | None, str]]] = frozenset(
    {
        (None, "pending"),
        ("pending", "simulating"),
        ("simulating", "pending"),
        ("simulating", "failed"),
        ("simulating", "denied"),
        ("simulating", "simulated"),
        ("simulated", "approved"),
        ("simulated", "rejected"),
        ("approved", "simulated"),
        ("simulated", "pending"),
        ("approved", "pending"),
        *((state, end) for state in ("pending", "simulating", "simulated", "approved") for end in ("stale", "expired")),
        *((state, "withdrawn") for state in ("pending", "simulating", "simulated", "approved")),
        ("approved", "applying"),
        ("applying", "applied"),
        ("applying", "failed"),
        ("applied", "rolled_back"),
    }
)


def every_effect_is_logged(case: Case, *, effects_min: int = EFFECTS_MIN) -> Finding:
    """I9: effects and events correspond one to one, in one transaction, and the events make a legal life."""
    record = Record.of(case)
    broken = record.unreadable(*_TABLES)
    history = operations(case.evidence.rows(HISTORY))
    effects = [one for one in history if one.kind in EVENT_OF and one.outcome is Outcome.OK]
    if broken or len(effects) < effects_min:
        return unknown(broken or f"{len(effects)} requests acknowledged that change something, {effects_min} needed")
    wrong = [*_unlogged(record, effects), *_apart(record), *_illegal(record)]
    if wrong:
        return combine([("", failed(why, rows)) for why, rows in wrong[:_SHOWN_MAX]])
    kinds = Counter(event.kind for event in record.events)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return passed(
        f"{len(effects)} acknowledged effects, each logged; {told}",
        [*record.announcements(*_TABLES), *effects[0].rows],
    )


def _unlogged(record: Record, effects: list[Operation]) -> Iterator[tuple[str, list[Row]]]:
    """Yield acknowledged requests without exactly one event that tells of them."""
    told: dict[tuple[str, str | None, str | None], int] = Counter(
        (event.kind, event.proposal, _vote_of(event)) for event in record.events
    )
    for one in effects:
        kind = EVENT_OF[one.kind]
        count = told.get((kind, one.proposal, one.invocation.data.get("vote")), 0)
        if count != 1:
            yield f"a {one.kind.value} of {one.proposal} has {count} {kind} events", list(one.rows)


def _vote_of(event: Event) -> str | None:
    """Return the digest of the vote that an event tells of; ``None``: of none."""
    if event.kind == "vote-cast":
        return envelope.digest(event.content()["envelope"])
    if event.kind == "vote-revoked":
        statement = envelope.parse(event.content()["envelope"]).statement()
        return str(statement["predicate"]["vote"])
    return None


def _apart(record: Record) -> Iterator[tuple[str, list[Row]]]:
    """Yield rows that were written in another transaction than their event."""
    made = {(event.kind, event.proposal): event for event in record.events}
    for identity, row in record.proposals.items():
        if ("proposal-created", identity) not in made:
            yield f"{identity} has no event of its beginning", [row]
    for snapshot in record.applied:
        event = made.get(("applying", snapshot.proposal))
        if event is None or event.xid != snapshot.xid:
            yield f"{snapshot.target} v{snapshot.version} and its event are of two transactions", [snapshot.row]
    for identity, row in record.decisions.items():
        event = made.get(("applying", identity))
        if event is None or event.xid != str(row.data.get("xmin")):
            yield f"the decision on {identity} and its event are of two transactions", [row]
    cast = Counter(event.proposal for event in record.events if event.kind == "vote-cast")
    for voted in sorted({*record.votes_of, *(event for event in cast if event is not None)}):
        votes = record.votes_of.get(voted, ())
        if len(votes) != cast[voted]:
            rows = [vote.row for vote in votes] or record.announcements("votes")
            yield f"{voted} has {len(votes)} votes and {cast[voted]} events of votes", rows


def _illegal(record: Record) -> Iterator[tuple[str, list[Row]]]:
    """Yield proposals whose events are no walk through the documented transitions that ends in the stored state."""
    for identity, events in record.events_of.items():
        moves = [event for event in events if event.state_from != event.state_to]
        for event in moves:
            if (event.state_from, str(event.state_to)) not in TRANSITIONS:
                yield f"{identity} went from {event.state_from} to {event.state_to}", [event.row]
        for before, after in pairwise(moves):
            if before.state_to != after.state_from:
                yield f"{identity} left {after.state_from} and was in {before.state_to}", [before.row, after.row]
        row = record.proposals.get(identity)
        if row is None:
            yield f"{identity} has events and is not there", [events[0].row]
        elif moves and columns(row)["state"] != moves[-1].state_to:
            yield f"{identity} is {columns(row)['state']}, its events end in {moves[-1].state_to}", [row]
