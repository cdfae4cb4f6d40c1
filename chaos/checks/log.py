"""The log: append-only, verifiable, and never forked. I8 of chaos.md section 7.

The harness is the witness: every checkpoint it was shown, through the proxy in front and by each replica, must be a
prefix of the log that the database holds at the end, recomputed from the leaves.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from chaos.checks.findings import combine, failed, passed, unknown
from chaos.evidence import Row
from chaos.probes.checkpoints import CHECKPOINTS
from chaos.record import Event, Record, binary, columns
from chaos.scenario import Case, Finding
from chaos.verifier import canonical, merkle, note
from chaos.verifier.canonical import NotCanonical
from chaos.verifier.envelope import BadEnvelope, public_key_of

ENTRIES_MIN: Final = 100
WITNESSED_MIN: Final = 3
LEAF_BYTES_MAX: Final = 4096
_SHOWN_MAX: Final = 8


def log_is_append_only(case: Case, *, entries_min: int = ENTRIES_MIN, witnessed_min: int = WITNESSED_MIN) -> Finding:
    """I8: each event is one leaf, chained to its proposal's last; each checkpoint ever shown is a prefix of the log."""
    record = Record.of(case)
    broken = record.unreadable("events", "log_entries", "log_checkpoints")
    witnessed = [row for row in case.evidence.rows(CHECKPOINTS) if "note" in row.data]
    sizes = {row.data["note"].split("\n")[1] for row in witnessed}
    if broken or len(record.log) < entries_min or len(sizes) < witnessed_min:
        short = f"{len(sizes)} checkpoints of {len(record.log)} entries, {witnessed_min} of {entries_min} needed"
        return unknown(broken or short)
    log = _log_of(case)
    if log is None:
        return unknown("the run did not record the log's origin and key")
    wrong = [*_wrong_entries(record), *_broken_chains(record), *_wrong_checkpoints(record, witnessed, *log)]
    if wrong:
        return combine([("", failed(why, [row])) for why, row in wrong[:_SHOWN_MAX]])
    behind = sum(event.index is None for event in record.events)
    return passed(
        f"{len(record.log)} entries, {len(record.checkpoints)} checkpoints signed, {len(witnessed)} looks of the "
        f"witness at {len(sizes)} sizes, each a prefix; {behind} events not sequenced at the end",
        [*record.announcements("log_entries", "log_checkpoints"), witnessed[0], witnessed[-1]],
    )


def _log_of(case: Case) -> tuple[str, bytes] | None:
    gate = case.evidence.environment.get("gate") or {}
    try:
        return str(gate["origin"]), public_key_of(gate["log_key"])
    except (KeyError, BadEnvelope):
        return None


def _wrong_entries(record: Record) -> Iterator[tuple[str, Row]]:
    events = {event.id: event for event in record.events}
    seen = Counter(str(columns(row)["event_id"]) for row in record.log)
    for place, row in enumerate(record.log):
        entry = columns(row)
        event = events.get(str(entry["event_id"]))
        if int(entry["index"]) != place:
            yield f"the log has no entry {place}", row
            return
        if event is None:
            yield f"entry {place} is of an event that is not there", row
        elif merkle.leaf_hash(event.leaf).hex() != str(entry["leaf_hash"]).removeprefix("\\x"):
            yield f"entry {place} is not the hash of its leaf", row
        elif seen[event.id] > 1:
            yield f"the event of entry {place} is logged {seen[event.id]} times", row


def _broken_chains(record: Record) -> Iterator[tuple[str, Row]]:
    """Yield the events whose leaf does not say what the row says, or does not follow its predecessor."""
    last: dict[tuple[str, str | None], str] = {}
    for event in record.events:
        chain = ("proposal", event.proposal) if event.proposal is not None else ("target", event.target)
        try:
            leaf = canonical.decode(event.leaf)
        except NotCanonical as error:
            yield f"the leaf of {event.kind} is {error}", event.row
            continue
        wrong = _differences(event, leaf)
        if leaf.get("prev") != last.get(chain):
            wrong.append("prev")
        if wrong:
            yield f"the leaf of a {event.kind} is wrong in {', '.join(wrong)}", event.row
        last[chain] = canonical.digest(event.leaf)


def _differences(event: Event, leaf: dict[str, Any]) -> list[str]:
    said = {
        "id": event.id,
        "kind": event.kind,
        "proposal": event.proposal,
        "target": event.target,
        "state_from": event.state_from,
        "state_to": event.state_to,
        "epoch": event.epoch,
        "body": canonical.digest(event.body),
    }
    wrong = sorted(name for name, value in said.items() if leaf.get(name) != value)
    return [*wrong, "length"] if len(event.leaf) > LEAF_BYTES_MAX else wrong


def _wrong_checkpoints(
    record: Record, witnessed: Sequence[Row], origin: str, log_key: bytes
) -> Iterator[tuple[str, Row]]:
    hashes = [bytes.fromhex(str(columns(row)["leaf_hash"]).removeprefix("\\x")) for row in record.log]
    roots = list(merkle.roots(hashes))
    notes = [(row, str(row.data["note"])) for row in witnessed]
    notes += [(row, binary(columns(row)["note"]).decode()) for row in record.checkpoints]
    newest: dict[str, int] = {}
    for row, text in notes:
        try:
            checkpoint = note.read(text, origin=origin, log_key=log_key)
        except note.BadNote as error:
            yield f"a checkpoint is {error}", row
            continue
        if checkpoint.size >= len(roots):
            if row.file == CHECKPOINTS and row.t > record.begun_at:
                continue  # the log went on while it was copied
            yield f"a checkpoint of {checkpoint.size} entries, the log has {len(roots) - 1}", row
        elif checkpoint.root != roots[checkpoint.size]:
            yield f"a checkpoint of {checkpoint.size} entries is no prefix of the log", row
        replica = row.data.get("replica")
        if replica is not None:
            if checkpoint.size < newest.get(replica, 0):
                yield f"{replica} showed {checkpoint.size} entries after {newest[replica]}", row
            newest[replica] = max(checkpoint.size, newest.get(replica, 0))
