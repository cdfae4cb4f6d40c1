"""Replaying a log of whole lives, all of it verified (P7): with processes beside it, alone, and the floor.

With processes beside it the work is two halves: this process follows the log, the others read and verify. For 20,000
entries a second on two cores each half has 50 us of CPU an entry; the clock shows also how they wait for each other.
The floor is what nobody can leave out: the lines and bodies decoded, the leaves hashed, the signatures of votes and
decisions verified. It follows nothing.
"""

import atexit
import base64
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from app.client import reading
from app.client.ahead import SIGNATURES, Ahead, stretches
from app.client.ahead_work import (
    Misread,
    Noted,
    answer_read,
    answer_verify,
    question_read,
    question_verify,
    stretched,
)
from app.client.verifying import Verifiers
from app.core.log.entry import Entry, Flawed, Raw
from app.core.replay.standing import Obligation
from app.core.replay.whole_log import Note, VerifyAll, replay
from app.ed25519 import verify
from benchmarks.measure import Goal, Pair, Side
from tests.unit.service.book import Book, digest_of

ENTRIES: Final = 20_000
TARGETS: Final = 16
REPLAY_MICROSECONDS_MAX: Final = 50.0
"""20,000 entries a second; and of CPU, for each half."""


def pairs() -> list[Pair]:
    """Return the pairs of this topic."""
    folder = Path(tempfile.mkdtemp(prefix="replay-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    book = lives(ENTRIES)
    file = export(book, folder / "log.jsonl")
    owed: list[Obligation] = []

    def put_down(some: Sequence[Obligation]) -> list[bool]:
        owed.extend(some)
        return [True] * len(some)

    _follow(file, put_down)
    beside = Ahead()
    atexit.register(beside.close)
    alone, units = Verifiers(), len(book.entries)

    def pooled() -> bool:
        found = replay(beside.items(file), verify=verify, verify_all=beside)
        return found.failure is None and found.entries == units

    ours = Side("replay", lambda: _follow(file, alone), units=units)
    halves = Halves(file)
    return [
        Pair(
            name=f"replay of {units:,} entries, on the clock",
            ours=Side("with processes beside it", pooled, units=units),
            theirs=Side("alone", ours.work, units=units),
            goal=Goal(microseconds_max=REPLAY_MICROSECONDS_MAX),
            agree=lambda: pooled() and _follow(file, alone),
            is_elsewhere=True,
        ),
        Pair(
            name="the half that follows the log, CPU",
            ours=Side("unpacked and folded", halves.follow, units=units),
            goal=Goal(microseconds_max=REPLAY_MICROSECONDS_MAX),
            agree=halves.follow,
        ),
        Pair(
            name=f"the half beside it with {len(owed):,} signatures, CPU",
            ours=Side("read and verified", lambda: halves.read() and halves.verify(), units=units),
            theirs=Side("of that, verified", halves.verify, units=units),
            goal=Goal(microseconds_max=REPLAY_MICROSECONDS_MAX),
            agree=lambda: halves.read() and halves.verify(),
        ),
        Pair(
            name=f"replay of {units:,} entries alone, CPU",
            ours=ours,
            theirs=Side(f"floor with {len(owed):,} signatures", lambda: _floor(file, owed), units=units),
        ),
    ]


class Halves:
    """What each process does of a replay, done here by itself."""

    def __init__(self, file: Path) -> None:
        self._questions = [question_read(one) for one in stretches(file)]
        self._answers = [answer_read(one) for one in self._questions]
        self._owed: list[bytes] = []
        self.follow()

    def follow(self) -> bool:
        """Unpack what was read, follow it, pack what is to be verified."""
        self._owed.clear()
        found = replay(self._items(), verify=verify, verify_all=self._pack)
        return found.failure is None

    def read(self) -> bool:
        """Read the export, check its bytes, pack its entries."""
        return [answer_read(one) for one in self._questions] == self._answers

    def verify(self) -> bool:
        """Verify every signature."""
        return all(all(answer_verify(one)) for one in self._owed)

    def _items(self) -> Iterator[Entry | Flawed | Note]:
        for answer in self._answers:
            for one in stretched.decode(answer).found:
                if isinstance(one, Misread):
                    raise TypeError(one.reason)
                yield Note(one.note) if isinstance(one, Noted) else one

    def _pack(self, owed: Sequence[Obligation]) -> list[bool]:
        self._owed += [question_verify(owed[start : start + SIGNATURES]) for start in range(0, len(owed), SIGNATURES)]
        return [True] * len(owed)


def lives(entries: int) -> Book:
    """Return a log of so many entries: most proposals applied with two or three votes, some taken back, some not."""
    book = Book()
    names = [f"agents/agent-{number}" for number in range(TARGETS)]
    for name in names:
        book.create(name)
    number = 0
    while len(book.entries) < entries:
        _live(book, names[number % TARGETS], number)
        number += 1
    return book


def _live(book: Book, name: str, number: int) -> None:
    before = book.targets[name]
    change = book.propose([{"op": "replace", "path": "/budgets/tokens_per_day", "value": 1_000 + number}], target=name)
    if number % 10 == 7:  # noqa: PLR2004 - one in ten
        book.end(change, "expired", at=change.expires_at)
        return
    if number % 20 == 13:  # noqa: PLR2004 - one in twenty
        book.deny(change)
        return
    book.carry(change, *("robot", "olga", "sam")[: 2 + number % 2])
    if number % 10 == 9:  # noqa: PLR2004 - one in ten
        tokens = before.document["budgets"]["tokens_per_day"]
        back = book.propose(
            [{"op": "replace", "path": "/budgets/tokens_per_day", "value": tokens}],
            target=name,
            kind="rollback",
            restores={"version": before.version, "digest": digest_of(before.document)},
        )
        book.carry(back, "robot", "olga")
        book.roll_back(change, back)


def export(book: Book, file: Path) -> Path:
    """Write a log as `amgf log export` does."""
    with file.open("w") as lines:
        for one in book.entries:
            lines.write(json.dumps({"index": one.index, "leaf": _base64(one.leaf), "body": _base64(one.body or b"")}))
            lines.write("\n")
        lines.write(json.dumps({"checkpoint": book.note().decode()}) + "\n")
    return file


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _follow(file: Path, verify_all: VerifyAll) -> bool:
    return replay(reading.items(file), verify=verify, verify_all=verify_all).failure is None


def _floor(file: Path, owed: list[Obligation]) -> bool:
    hashes = 0
    for item in reading.items(file):
        if isinstance(item, Note):
            continue
        hashes += _hashed(item)
    return all(verify(one.public_key, one.message, one.signature) for one in owed) and hashes > 0


def _hashed(item: Raw) -> int:
    leaf, body = json.loads(item.leaf), json.loads(item.body or b"{}")
    hashlib.sha256(b"\0" + item.leaf).digest()
    is_named = leaf["body"] == f"sha256:{hashlib.sha256(item.body or b'').hexdigest()}"
    return int(is_named and isinstance(body, dict))
