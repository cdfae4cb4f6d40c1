"""What proposers were promised, held against what the database holds: I1, I2, I7 of chaos.md section 7.

``history.jsonl`` says what was asked and acknowledged, ``database.jsonl`` what was there at the end. An operation whose
outcome is open (``info``) may have happened or not: either is right, but not something else.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chaos.checks.findings import combine, failed, passed, unknown
from chaos.evidence import Row
from chaos.history import HISTORY, Kind, Operation, Outcome, operations
from chaos.probes.database_dump import TABLES
from chaos.record import DATABASE
from chaos.scenario import Case, Finding

ACKNOWLEDGED_MIN = 50
_NOT_FOUND = 404
_CREATED = "created"
_MUTATION = "mutation"
_KEY_REUSED = "idempotency-key-reused"
_BYTEA_PREFIX = "\\x"


@dataclass(frozen=True)
class Books:
    """The two accounts of one scenario: the clients' and the database's."""

    operations: tuple[Operation, ...]
    dump: tuple[Row, ...]

    @classmethod
    def of(cls, case: Case) -> "Books":
        """Read them."""
        return cls(operations(case.evidence.rows(HISTORY)), case.evidence.rows(DATABASE))

    def unreadable(self) -> str | None:
        """Say why the database's account cannot be used: it is missing, or torn; ``None`` when it can."""
        counts = {row.data["table"]: row.data["rows"] for row in self.dump if "rows" in row.data}
        for table in TABLES:
            found = len(self.table(table))
            if counts.get(table) != found:
                return f"the copy of {table} is not complete ({found} rows, {counts.get(table)} announced)"
        return None

    def too_little(self, acknowledged_min: int) -> str | None:
        """Say why nothing can be concluded; ``None`` when it can."""
        if len(self.acknowledged) < acknowledged_min:
            return f"{len(self.acknowledged)} proposals acknowledged, {acknowledged_min} needed"
        return self.unreadable()

    def table(self, name: str) -> list[Row]:
        """Return the rows of a table."""
        return [row for row in self.dump if row.data.get("table") == name and "row" in row.data]

    @cached_property
    def announcements(self) -> list[Row]:
        """The lines that say how many rows of each table were copied: where to begin to look."""
        return [row for row in self.dump if "rows" in row.data]

    @cached_property
    def writes(self) -> tuple[Operation, ...]:
        """All operations that may leave something behind."""
        return tuple(one for one in self.operations if one.kind.writes)

    @cached_property
    def submissions(self) -> tuple[Operation, ...]:
        """Writes that ask for a proposal in their own bytes."""
        return tuple(one for one in self.operations if one.kind.proposes)

    @cached_property
    def acknowledged(self) -> tuple[Operation, ...]:
        """Requests for a proposal that were answered with success; a roll-back is one too."""
        asked = (one for one in self.operations if one.kind.proposes or one.kind is Kind.ROLLBACK)
        return tuple(one for one in asked if one.outcome is Outcome.OK)

    @cached_property
    def proposals(self) -> dict[str, Row]:
        """Stored proposals by identity."""
        return {str(row.data["row"]["id"]): row for row in self.table("proposals")}


def no_acknowledged_proposal_lost(case: Case, *, acknowledged_min: int = ACKNOWLEDGED_MIN) -> Finding:
    """I1: whatever was acknowledged is in the database, and in every read that began after the acknowledgement.

    Jepsen's set-full: *lost* is acknowledged and gone, *stale* is there but missing from a later read, *never read*
    is there but in no read at all (told, not counted against the service: the copy of the database read it).
    """
    books = Books.of(case)
    too_little = books.too_little(acknowledged_min)
    if too_little:
        return unknown(too_little)
    lost = [one for one in books.acknowledged if one.proposal not in books.proposals]
    if lost:  # one acknowledged without an identity included
        return failed(f"{len(lost)} of {len(books.acknowledged)} acknowledgements are for nothing", _cited(lost))
    acknowledged_at = _acknowledged_at(books.acknowledged)
    stale = [*_stale_gets(books.operations, acknowledged_at), *_stale_pages(books.operations, acknowledged_at)]
    if stale:
        return failed(f"{len(stale)} reads missed a proposal acknowledged before they began", _cited(stale))
    reads = [one for one in books.operations if not one.kind.writes and one.outcome is Outcome.OK]
    if not reads:
        return unknown("no read succeeded, so nothing was read back")
    read = {one.proposal for one in reads} | {identity for one in reads for identity in one.answer("ids") or ()}
    never = len(set(acknowledged_at) - read)
    applied, absent = _resolved(books)
    return passed(
        f"{len(acknowledged_at)} acknowledged proposals are all there; {len(reads)} reads agree, {never} never read; "
        f"of the open writes {applied} happened and {absent} did not",
        [*books.announcements, *_cited([books.acknowledged[0], books.acknowledged[-1], reads[-1]])],
    )


def no_ghost_or_altered_proposal(case: Case, *, acknowledged_min: int = ACKNOWLEDGED_MIN) -> Finding:
    """I2: every stored proposal was asked for, in these bytes, by somebody who was not told that nothing was done."""
    books = Books.of(case)
    too_little = books.too_little(acknowledged_min)
    if too_little:
        return unknown(too_little)
    findings = [*_ghosts(books), *_altered(books)]
    if findings:
        return combine([("", finding) for finding in findings[:8]])
    return passed(f"{len(books.proposals)} stored proposals, each asked for in these bytes", books.announcements)


def retries_are_idempotent(case: Case, *, repeated_min: int = 10) -> Finding:
    """I7: for one key of one principal there is at most one proposal and one answer, however often it is asked.

    The same key with another body is refused and leaves nothing, unless it came first. What others do under the same
    key is nothing to a principal.
    """
    books = Books.of(case)
    broken = books.unreadable()
    groups = _by_key(books.writes)
    repeated = [group for group in groups.values() if sum(one.outcome is Outcome.OK for one in group) > 1]
    if broken or len(repeated) < repeated_min:
        return unknown(broken or f"{len(repeated)} keys were acknowledged more than once, {repeated_min} needed")
    by_digest = defaultdict(list)
    for row in books.proposals.values():
        if row.data["row"].get("kind", _MUTATION) == _MUTATION:
            by_digest[row.data["row"]["body_digest"]].append(row)
    findings = [finding for group in groups.values() for finding in _faults_of_key(group, by_digest)]
    records = Counter(
        (row.data["row"]["principal"], row.data["row"]["key"]) for row in books.table("idempotency_records")
    )
    findings += [failed(f"{count} records of one key") for count in records.values() if count > 1]
    recorded = {key for _, key in records}
    findings += [
        failed(f"key {key} was acknowledged and has no record, so a retry would do it again", _cited(group))
        for (_, key), group in groups.items()
        if key not in recorded and any(one.outcome is Outcome.OK for one in group)
    ]
    if findings:
        return combine([("", finding) for finding in findings[:8]])
    reused = sum(one.kind is Kind.REUSE and one.outcome is Outcome.FAIL for one in books.submissions)
    return passed(
        f"{len(repeated)} keys asked again with one answer each; {reused} reuses with another body refused",
        [*_cited(repeated[0]), *books.announcements],
    )


def every_proposal_has_one_event(case: Case, *, proposals_min: int = ACKNOWLEDGED_MIN) -> Finding:
    """Proposal and ``created`` event come and go together: one of each, whatever cut the transaction short."""
    books = Books.of(case)
    broken = books.unreadable()
    if broken or len(books.proposals) < proposals_min:
        return unknown(broken or f"{len(books.proposals)} proposals stored, {proposals_min} needed")
    begun = [row for row in books.table("events") if str(row.data["row"]["kind"]).endswith(_CREATED)]
    created = [row for row in begun if row.data["row"]["proposal_id"] is not None]  # targets are created too
    counts = Counter(str(row.data["row"]["proposal_id"]) for row in created)
    wrong = [row for identity, row in books.proposals.items() if counts[identity] != 1]
    if wrong:
        return failed(f"{len(wrong)} proposals without exactly one {_CREATED} event", wrong)
    orphans = [row for row in created if str(row.data["row"]["proposal_id"]) not in books.proposals]
    if orphans:
        return failed(f"{len(orphans)} {_CREATED} events without their proposal", orphans)
    return passed(f"{len(books.proposals)} proposals, one {_CREATED} event each", books.announcements)


def _ghosts(books: Books) -> list[Finding]:
    """Refuse stored proposals that nobody asked for, or only those who were told that nothing was done."""
    asked = defaultdict(list)
    for one in books.submissions:
        asked[one.body_sha256].append(one)
    roll_backs = [one for one in books.operations if one.kind is Kind.ROLLBACK]
    findings = []
    for identity, row in books.proposals.items():
        stored = row.data["row"]
        if stored.get("kind", _MUTATION) != _MUTATION:  # the service writes the content; I11 says whether it is right
            findings += _ghost_of_a_roll_back(row, roll_backs)
            continue
        askers = asked.get(stored["body_digest"], [])
        if not askers:
            findings.append(failed(f"{identity} was never asked for", [row]))
        elif all(one.outcome is Outcome.FAIL for one in askers):
            findings.append(failed(f"{identity} is there although it was refused", [row, *askers[0].rows]))
        if _stored_digest(stored) not in {None, stored["body_digest"]}:
            findings.append(failed(f"{identity}: the stored body is not the one its digest names", [row]))
    return findings


def _altered(books: Books) -> list[Finding]:
    """Refuse acknowledgements whose proposal holds other bytes than were sent."""
    findings = []
    for one in books.submissions:
        kept = books.proposals.get(str(one.proposal)) if one.outcome is Outcome.OK else None
        if kept is not None and kept.data["row"]["body_digest"] != one.body_sha256:
            findings.append(failed(f"{one.proposal} is not what was acknowledged", [kept, *one.rows]))
    return findings


def _ghost_of_a_roll_back(row: Row, roll_backs: Iterable[Operation]) -> list[Finding]:
    """Refuse a roll-back that nobody asked for on that target, or that was refused to all who did."""
    stored = row.data["row"]
    askers = [one for one in roll_backs if one.invocation.data.get("target") == stored["target"]]
    if any(one.proposal == str(stored["id"]) or one.outcome is Outcome.INFO for one in askers):
        return []
    return [failed(f"{stored['id']} is a {stored['kind']} that nobody was promised", [row])]


def _by_key(writes: Iterable[Operation]) -> dict[tuple[str, str | None], list[Operation]]:
    groups = defaultdict(list)
    for one in writes:
        groups[one.principal, one.key].append(one)
    return groups


def _faults_of_key(group: Sequence[Operation], by_digest: dict[str, list[Row]]) -> list[Finding]:
    faults = []
    bodies = {one.body_sha256 for one in group if one.body_sha256 is not None}
    stored = [row for body in sorted(bodies) for row in by_digest.get(body, ())]
    if len(stored) > 1:
        faults.append(failed(f"key {group[0].key} left {len(stored)} proposals", [*stored, *group[0].rows]))
    answered = [one for one in group if one.outcome is Outcome.OK]
    if len({one.answer("digest") for one in answered}) > 1:
        faults.append(failed(f"key {group[0].key} was answered in different ways", _cited(answered)))
    if len({one.body_sha256 for one in answered}) > 1:
        faults.append(failed(f"key {group[0].key} was accepted with two bodies", _cited(answered)))
    refused = [one for one in group if one.answer("code") == _KEY_REUSED]
    if refused and len(bodies) == 1:
        principal = group[0].principal
        faults.append(
            failed(f"key {group[0].key} was refused to {principal}, who used it for nothing else", _cited(refused))
        )
    return faults


def _acknowledged_at(acknowledged: Iterable[Operation]) -> dict[str, float]:
    """Return when each proposal was first acknowledged."""
    first: dict[str, float] = {}
    for one in acknowledged:
        identity, at = str(one.proposal), one.completed or 0.0
        first[identity] = min(at, first.get(identity, at))
    return first


def _stale_gets(history: Iterable[Operation], acknowledged_at: dict[str, float]) -> list[Operation]:
    return [
        one
        for one in history
        if one.kind is Kind.GET
        and one.status == _NOT_FOUND
        and acknowledged_at.get(str(one.proposal), float("inf")) < one.invoked
    ]


def _stale_pages(history: Sequence[Operation], acknowledged_at: dict[str, float]) -> list[Operation]:
    """Return list reads whose page skips a proposal that was acknowledged before they began.

    A page covers all identities between the end of the page before it and its own end, or to the end of the list when
    it gave no further cursor; identities are ordered (UUIDv7), upwards or downwards.
    """
    pages = [one for one in history if one.kind is Kind.LIST and one.outcome is Outcome.OK]
    long_pages = (one.answer("ids") for one in pages if len(one.answer("ids") or ()) > 1)
    downwards = next((ids[0] > ids[-1] for ids in long_pages), False)
    known = sorted(acknowledged_at)
    return [one for one in pages if _missing_from_page(one, known, acknowledged_at, downwards=downwards)]


def _missing_from_page(
    page: Operation, known: Sequence[str], acknowledged_at: dict[str, float], *, downwards: bool
) -> bool:
    ids = page.answer("ids") or []
    after = page.invocation.data.get("after")
    end = ids[-1] if page.answer("more") else None
    low, high = (end, after) if downwards else (after, end)
    covered = known[0 if low is None else bisect_right(known, low) : None if high is None else bisect_left(known, high)]
    shown = set(ids)
    return any(acknowledged_at[identity] < page.invoked and identity not in shown for identity in covered)


def _resolved(books: Books) -> tuple[int, int]:
    """Return how many keys with an open write and no acknowledgement are in the database, and how many are not."""
    stored = {row.data["row"]["body_digest"] for row in books.proposals.values()}
    open_bodies = {one.body_sha256 for one in books.submissions if one.outcome is Outcome.INFO} - {
        one.body_sha256 for one in books.acknowledged
    }
    return len(open_bodies & stored), len(open_bodies - stored)


def _stored_digest(stored: dict[str, Any]) -> str | None:
    """Recompute the digest of the body as stored; ``None`` when the dump does not hold its bytes."""
    body = stored.get("body")
    if not isinstance(body, str) or not body.startswith(_BYTEA_PREFIX):
        return None
    return hashlib.sha256(bytes.fromhex(body.removeprefix(_BYTEA_PREFIX))).hexdigest()


def _cited(found: Iterable[Operation]) -> list[Row]:
    return [row for one in found for row in one.rows]
