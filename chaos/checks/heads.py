"""The head of every target: a chain without a gap, reads that never go back, roll-backs that restore: I5, I6, I11."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from chaos.checks.findings import combine, failed, passed, unknown
from chaos.evidence import Row
from chaos.history import HISTORY, Kind, Operation, Outcome, operations
from chaos.record import Record, Snapshot
from chaos.scenario import Case, Finding
from chaos.verifier import canonical

APPLIED_MIN: Final = 5
READS_MIN: Final = 50
_SHOWN_MAX: Final = 8
_TABLES = ("snapshots", "events", "log_entries", "targets")
_MOVED: Final = frozenset({"applying", "applied", "rolled_back"})


def heads_are_chains(case: Case, *, applied_min: int = APPLIED_MIN) -> Finding:
    """I5: versions of a target are 1..n, each the child of the one before, each applied once and logged once."""
    record = Record.of(case)
    broken = record.unreadable(*_TABLES)
    applied = () if broken else record.applied
    if broken or len(applied) < applied_min:
        return unknown(broken or f"{len(applied)} snapshots applied, {applied_min} needed")
    wrong = [*_broken_chains(record), *_wrong_heads(record), *_not_applied_once(record)]
    if wrong:
        return combine([("", failed(why, rows)) for why, rows in wrong[:_SHOWN_MAX]])
    longest = max(map(len, record.snapshots_of.values()))
    return passed(
        f"{len(record.snapshots_of)} targets, {len(applied)} versions applied, the longest chain {longest}",
        [applied[-1].row, *record.announcements("snapshots", "targets")],
    )


def head_reads_never_go_back(case: Case, *, reads_min: int = READS_MIN, moves_min: int = APPLIED_MIN) -> Finding:
    """I6: a read of the head shows no version older than was known before it began, none newer than could be.

    With M(t) the highest version acknowledged or read by an operation that ended before t, and F(t) the highest whose
    apply was asked for before t: M(invoke) <= version <= F(return), for every read, and its digest is that version's.
    A read that the service marks as stale may be older, never newer.
    """
    record = Record.of(case)
    broken = record.unreadable("snapshots")
    history = operations(case.evidence.rows(HISTORY))
    reads = [one for one in history if one.kind is Kind.CURRENT and one.outcome is Outcome.OK]
    applied = () if broken else record.applied
    if broken or len(reads) < reads_min or len(applied) < moves_min:
        return unknown(broken or f"{len(reads)} reads of {len(applied)} moves, {reads_min} of {moves_min} needed")
    wrong = _wrong_reads(record, history, reads)
    if wrong:
        return combine([("", failed(why, one.rows)) for why, one in wrong[:_SHOWN_MAX]])
    stale = sum(bool(one.answer("stale")) for one in reads)
    return passed(
        f"{len(reads)} reads of heads that moved {len(applied)} times, none out of order, {stale} marked stale",
        [*reads[0].rows, *reads[-1].rows, *record.announcements("snapshots")],
    )


def roll_backs_restore(case: Case, *, roll_backs_min: int = 1) -> Finding:
    """I11: the version that a roll-back makes has the digest of the one it names, and a higher number."""
    record = Record.of(case)
    broken = record.unreadable("snapshots")
    asked = {
        str(one.proposal): one
        for one in operations(case.evidence.rows(HISTORY))
        if one.kind is Kind.ROLLBACK and one.outcome is Outcome.OK and one.proposal
    }
    done = [] if broken else [one for one in record.applied if one.proposal in asked]
    if broken or len(done) < roll_backs_min:
        return unknown(broken or f"{len(done)} roll-backs applied, {roll_backs_min} needed")
    wrong = []
    for made in done:
        order = asked[str(made.proposal)]
        named = int(order.invocation.data["to_version"])
        old = next((one for one in record.snapshots_of[made.target] if one.version == named), None)
        if old is None or made.digest != old.digest or made.content != old.content:
            wrong.append(failed(f"{made.target} v{made.version} is not v{named} again", [made.row, *order.rows]))
        elif made.version <= named:
            wrong.append(failed(f"{made.target}: roll-back to v{named} gave v{made.version}", [made.row]))
    if wrong:
        return combine([("", finding) for finding in wrong[:_SHOWN_MAX]])
    return passed(f"{len(done)} roll-backs, each the old content under a new number", [one.row for one in done])


def _broken_chains(record: Record) -> Iterator[tuple[str, list[Row]]]:
    for target, chain in record.snapshots_of.items():
        versions = [one.version for one in chain]
        if versions != list(range(1, len(chain) + 1)):
            yield f"{target} has the versions {versions}", [chain[-1].row]
        if chain[0].parent_digest is not None:
            yield f"{target}: its first version has a parent", [chain[0].row]
        for one in chain:
            if canonical.digest(one.content) != one.digest:
                yield f"{target} v{one.version}: its digest is not that of its content", [one.row]
        for before, after in pairwise(chain):
            if after.parent_digest != before.digest:
                yield f"{target} v{after.version} is no child of v{before.version}", [before.row, after.row]
            if after.proposal is None:
                yield f"{target} v{after.version} came from no proposal", [after.row]


def _wrong_heads(record: Record) -> Iterator[tuple[str, list[Row]]]:
    rows = [row for row in record.dump if row.data.get("table") == "targets" and "row" in row.data]
    for row in rows:
        columns = row.data["row"]
        chain = record.snapshots_of.get(str(columns["name"]), ())
        head = (chain[-1].version, chain[-1].digest) if chain else None
        if head != (int(columns["version"]), columns["digest"]):
            yield f"the head of {columns['name']} is v{columns['version']}, its chain ends otherwise", [row]


def _not_applied_once(record: Record) -> Iterator[tuple[str, list[Row]]]:
    by_proposal = defaultdict(list)
    for one in record.applied:
        by_proposal[one.proposal].append(one)
    for proposal, made in by_proposal.items():
        if len(made) > 1:
            yield f"{proposal} was applied {len(made)} times", [one.row for one in made]
    told = defaultdict(list)
    for event in record.events:
        if event.kind == "applying":
            told[event.proposal].append(event)
    for one in record.applied:
        events = told.pop(one.proposal, [])
        if len(events) != 1:
            yield f"{one.target} v{one.version} has {len(events)} events", [one.row]
    for proposal, events in told.items():
        yield f"{proposal} was logged as applied and made no version", [event.row for event in events]


@dataclass(frozen=True)
class _Steps:
    """The highest version known at an instant: a staircase."""

    instants: Sequence[float]
    heights: Sequence[int]

    @classmethod
    def of(cls, points: Iterable[tuple[float, int]]) -> "_Steps":
        instants, heights, top = [], [], 0
        for instant, version in sorted(points):
            top = max(top, version)
            instants.append(instant)
            heights.append(top)
        return cls(instants, heights)

    def before(self, instant: float) -> int:
        """Return the highest version of the points up to and at that instant; 0: there is none."""
        index = bisect_right(self.instants, instant)
        return self.heights[index - 1] if index else 0


def _wrong_reads(
    record: Record, history: Sequence[Operation], reads: Sequence[Operation]
) -> list[tuple[str, Operation]]:
    asked = _first_asked(history)
    wrong = []
    of_target: dict[str, list[Operation]] = defaultdict(list)
    for one in reads:
        of_target[str(one.answer("target"))].append(one)
    for target, looked in of_target.items():
        chain = {one.version: one for one in record.snapshots_of.get(target, ())}
        known = _Steps.of(_known(history, target, chain.values()))
        possible = _Steps.of(_possible(chain.values(), asked))
        for one in looked:
            why = _fault(one, chain, known, possible)
            if why:
                wrong.append((f"{target}: {why}", one))
    return wrong


def _fault(one: Operation, chain: dict[int, Snapshot], known: _Steps, possible: _Steps) -> str | None:
    version = int(one.answer("version"))
    if version not in chain or chain[version].digest != one.answer("snapshot"):
        return f"a read showed v{version} with a digest that version never had"
    oldest = known.before(one.invoked)
    if version < oldest and not one.answer("stale"):
        return f"a read showed v{version} after v{oldest} was known"
    newest = possible.before(one.completed or one.invoked)
    if version > newest:
        return f"a read showed v{version} when v{newest} was the newest that could be"
    return None


def _known(history: Iterable[Operation], target: str, chain: Iterable[Snapshot]) -> Iterator[tuple[float, int]]:
    """Yield from when on each version is known: read as the head, or its proposal was answered to be past its apply."""
    made = {one.proposal: one.version for one in chain if one.proposal is not None}
    for one in history:
        if one.outcome is not Outcome.OK:
            continue
        if one.answer("target") == target and one.answer("version") is not None:
            yield one.completed or 0.0, int(one.answer("version"))
        elif one.proposal in made and (one.kind is Kind.APPLY or one.answer("state") in _MOVED):
            yield one.completed or 0.0, made[one.proposal]


def _possible(chain: Iterable[Snapshot], asked: dict[str, float]) -> Iterator[tuple[float, int]]:
    """Yield from when on each version may exist: the first always, others since the first vote on them was sent."""
    for one in chain:
        yield (float("-inf") if one.proposal is None else asked.get(one.proposal, float("-inf")), one.version)


def _first_asked(history: Iterable[Operation]) -> dict[str, float]:
    """Return when the first vote on each proposal was sent: nothing is applied before."""
    first: dict[str, float] = {}
    for one in history:
        if one.kind in {Kind.VOTE, Kind.FORBIDDEN_VOTE, Kind.APPLY} and one.proposal is not None:
            first[one.proposal] = min(one.invoked, first.get(one.proposal, one.invoked))
    return first
