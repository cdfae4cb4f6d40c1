"""The log alone gives the state: I12 of chaos.md section 7."""

from collections.abc import Sequence
from typing import Any, Final

from chaos.checks.findings import failed, passed, unknown
from chaos.evidence import Row
from chaos.probes.replay import REPLAY
from chaos.record import Record
from chaos.scenario import Case, Finding

ENTRIES_MIN: Final = 100


def replay_gives_the_same_heads(case: Case, *, entries_min: int = ENTRIES_MIN) -> Finding:
    """I12: folding the log from genesis, in fresh processes and with other hash seeds, ends at the heads there are."""
    record = Record.of(case)
    broken = record.unreadable("events", "snapshots", "log_entries")
    rows = case.evidence.rows(REPLAY)
    answers = [row for row in rows if row.data.get("answer") is not None]
    if broken or len(answers) < 2 or len(answers) < len(rows):  # noqa: PLR2004 - two hash seeds at least
        return unknown(broken or f"{len(answers)} of {len(rows)} replays answered, two are needed", rows)
    if len(record.log) < entries_min:
        return unknown(f"{len(record.log)} entries in the log, {entries_min} needed")
    wrong = _wrong(record, answers)
    if wrong:
        return failed(wrong, answers)
    seconds = max(float(row.data["seconds"]) for row in answers)
    heads = len(answers[0].data["answer"]["heads"])
    return passed(
        f"{len(record.log)} entries folded {len(answers)} times in at most {seconds:.1f} s, the same {heads} heads",
        [*answers, *record.announcements("snapshots", "log_entries")],
    )


def _wrong(record: Record, answers: Sequence[Row]) -> str | None:
    for row in answers:
        answer: dict[str, Any] = row.data["answer"]
        if row.data["exit_code"] != 0 or answer.get("failure"):
            return f"hash seed {row.data['hash_seed']}: entry {answer.get('failure')} does not follow"
        if answer["entries"] != len(record.log):
            return f"{answer['entries']} entries were folded, the log has {len(record.log)}"
        heads = {target: (head["version"], head["digest"]) for target, head in answer["heads"].items()}
        stored = {target: (chain[-1].version, chain[-1].digest) for target, chain in record.snapshots_of.items()}
        different = sorted(name for name in {*heads, *stored} if heads.get(name) != stored.get(name))
        if different:
            return f"the fold ends elsewhere for {', '.join(different[:5])}"
    if len({_without_time(row) for row in answers}) > 1:
        return "two hash seeds gave two answers"
    return None


def _without_time(row: Row) -> str:
    return str(sorted((name, str(value)) for name, value in row.data["answer"].items() if name != "seconds"))
