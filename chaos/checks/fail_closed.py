"""No input, no decision: I10 of chaos.md section 7."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from chaos.checks import windows
from chaos.checks.findings import combine, failed, passed, unknown
from chaos.evidence import Evidence
from chaos.history import HISTORY, Kind, operations
from chaos.record import POLICIES, VALIDATORS, Event, Record, Snapshot, binary, columns
from chaos.scenario import Case, Check, Finding, Window
from chaos.verifier import canonical, envelope
from chaos.verifier.canonical import NotCanonical
from chaos.verifier.envelope import BadEnvelope

DECISIONS_MIN: Final = 5
_SHOWN_MAX: Final = 8
_EDGE_SECONDS: Final = 0.5  # a COMMIT may have been on its way when the way was cut
_ATTEMPTED = frozenset({Kind.PROPOSE, Kind.RETRY, Kind.VOTE, Kind.APPLY, Kind.ROLLBACK})
_TABLES = ("proposals", "events", "snapshots", "simulations", "votes", "decisions", "log_entries")


def fails_closed(*, decisions_min: int = DECISIONS_MIN, cuts: tuple[str, ...] = (), attempts_min: int = 10) -> Check:
    """Make the check of I10; ``cuts``: injections during which the database, hence every input, is out of reach."""

    def judge(case: Case) -> Finding:
        """I10: every decision had all its inputs; while an input is cut nothing is decided though it is tried."""
        record = Record.of(case)
        broken = record.unreadable(*_TABLES)
        applied = () if broken else record.applied
        if broken or len(applied) < decisions_min:
            return unknown(broken or f"{len(applied)} decisions, {decisions_min} needed")
        wrong = [(f"{one.target} v{one.version}: {why}", [one.row]) for one, why in _lacking(record)]
        if wrong:
            return combine([("", failed(why, rows)) for why, rows in wrong[:_SHOWN_MAX]])
        found = [("", passed(f"{len(applied)} decisions with all their inputs", [applied[0].row, applied[-1].row]))]
        found += [
            (one.injection, _cut(case, record, one, attempts_min)) for one in case.windows if one.injection in cuts
        ]
        return combine(found)

    return judge


def _cut(case: Case, record: Record, window: Window, attempts_min: int) -> Finding:
    begins, ends = windows.in_force(window)
    begins, ends = begins + _EDGE_SECONDS, ends - _EDGE_SECONDS
    tried = [
        one
        for one in operations(case.evidence.rows(HISTORY))
        if one.kind in _ATTEMPTED and begins <= one.invoked < ends
    ]
    if len(tried) < attempts_min:
        return unknown(f"{len(tried)} changes tried while it was cut, {attempts_min} needed")
    made = [event for event in record.events if begins <= _t(case.evidence, event.at) < ends]
    if made:
        return failed(f"{len(made)} events while no input could be read", [event.row for event in made])
    return passed(f"{len(tried)} changes tried, none made", tried[0].rows)


def _lacking(record: Record) -> Iterator[tuple[Snapshot, str]]:
    for snapshot in record.applied:
        try:
            for name in _absent(record, snapshot):
                yield snapshot, f"decided without {name}"
        except (BadEnvelope, NotCanonical, KeyError, TypeError, ValueError) as error:
            yield snapshot, f"decided on what cannot be read ({type(error).__name__}: {error})"


def _absent(record: Record, snapshot: Snapshot) -> list[str]:
    """Name the inputs that the decision on an applied snapshot did not have."""
    identity = str(snapshot.proposal)
    decided = _event(record, identity, "applying")
    row, decision = record.proposals.get(identity), record.decisions.get(identity)
    if decided is None or row is None or decision is None:
        parts = {"an event": decided, "a proposal": row, "a decision": decision}
        return [name for name, part in parts.items() if part is None]
    absent = []
    stored = columns(decision)["envelope"]
    said = envelope.parse(stored if isinstance(stored, dict) else binary(stored)).statement()["predicate"]
    for name, target in (("policy_set", POLICIES), ("validator_set", VALIDATORS)):
        current = record.in_force(target, decided)
        if current is None or said[name] != {"version": current.version, "digest": current.digest}:
            absent.append(f"the {name} in force")
    simulated = record.simulations.get((identity, int(columns(row)["epoch"])))
    if simulated is None or said["simulation_digest"] != canonical.digest(binary(columns(simulated)["record"])):
        absent.append("its simulation")
    if not any(vote.is_active(decided.at) for vote in record.votes_of.get(identity, ())):
        absent.append("votes")
    if said["result_digest"] != snapshot.digest or said["version"] != snapshot.version:
        absent.append("the content it decides on")
    return absent


def _event(record: Record, identity: str, kind: str) -> Event | None:
    return next((event for event in record.events_of.get(identity, ()) if event.kind == kind), None)


def _t(evidence: Evidence, at: datetime) -> float:
    return evidence.origin.of_wall(at.timestamp())
