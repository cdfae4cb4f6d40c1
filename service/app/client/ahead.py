"""A replay on more than one processor: what does not depend on the order of the log is done by processes beside it.

One reads the export ahead and checks the bytes of leaves and bodies, one or two verify signatures; this process follows
the log. Nothing waits for ever: a reader is asked in a few bytes and answers in many, a verifier is asked in many and
answers in a few, so that no two of them can wait for each other to read. What is on its way is bounded by
`STRETCHES_AHEAD` and by the replay's own rounds. A process that is lost costs time only: its questions are answered
here, and so are all that follow. Leaving the `with` block leaves no process, and if this one is killed, their input
ends and they end.
"""

import contextlib
import fcntl
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, Self

import app
from app.client import reading
from app.client.ahead_work import (
    WORK,
    Misread,
    Noted,
    Stretch,
    Stretched,
    question_read,
    question_verify,
    read_frame,
    stretched,
    write_frame,
)
from app.core.log.entry import Entry, Flawed
from app.core.replay.standing import Obligation
from app.core.replay.whole_log import Note

FILE_BYTES_MIN: Final = 16 * 1_048_576
"""Smaller exports, of some thousand entries, are followed before the processes have started."""
CORES_MIN: Final = 2
CORES_FOR_TWO_VERIFIERS: Final = 4
STRETCH_BYTES: Final = 524_288
STRETCHES_AHEAD: Final = 8
PIPE_BYTES: Final = 1_048_576
"""What Linux allows everybody. A stretch read is half as much, the signatures of a block a third."""
SIGNATURES: Final = 64
"""For one question."""

COMMAND: Final = (sys.executable, "-P", "-s", "-m", "app.client.ahead_work")


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_worth_it(file: Path) -> bool:
    """Whether processes beside the replay of an export pay: it is large, can be read twice, and there are two cores."""
    return cores() >= CORES_MIN and file.is_file() and file.stat().st_size >= FILE_BYTES_MIN


class Question:
    """What a process was asked. `answer` is None until it was read."""

    __slots__ = ("answer", "content")

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.answer: bytes | None = None


class Beside:
    """One process beside this one."""

    def __init__(self, work: str, *, on_lost: Callable[[str], None]) -> None:
        self._name = work
        self._work = WORK[work]
        self._on_lost = on_lost
        self._asked: deque[Question] = deque()
        self._process: subprocess.Popen[bytes] | None = self._started()

    def _started(self) -> subprocess.Popen[bytes] | None:
        environment = {"LC_ALL": "C.UTF-8", "PYTHONPATH": str(Path(app.__file__).parent.parent)}
        try:
            process = subprocess.Popen(
                [*COMMAND, self._name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                cwd="/",
                start_new_session=True,  # the terminal's ^C is for us, not for it
            )
        except OSError as error:
            self._on_lost(f"no process to {self._name} could be started ({error.strerror}): one does it all")
            return None
        _widen(process.stdin)
        _widen(process.stdout)
        return process

    @property
    def pid(self) -> int | None:
        """The process's id, as long as there is one."""
        return None if self._process is None else self._process.pid

    def ask(self, content: bytes) -> Question:
        """Hand over a question; `answer` waits for the answer."""
        question = Question(content)
        if self._process is not None and self._process.stdin is not None:
            try:
                write_frame(self._process.stdin, content)  # type: ignore[arg-type]
                self._asked.append(question)
            except OSError:
                self._lose()
        return question

    def answer(self, question: Question) -> bytes:
        """Return the answer: from the process, or made here if that is lost."""
        while question.answer is None and self._process is not None and self._process.stdout is not None:
            found = read_frame(self._process.stdout)  # type: ignore[arg-type]
            if found is None:
                self._lose()
            else:
                self._asked.popleft().answer = found
        if question.answer is None:
            question.answer = self._work(question.content)
        return question.answer

    def _lose(self) -> None:
        self.close()
        self._on_lost(f"the process that should {self._name} has ended: one does it all")

    def close(self) -> None:
        """End the process, whatever it does."""
        process, self._process = self._process, None
        self._asked.clear()
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()


class Ahead:
    """The processes of a replay: `items` reads ahead, and it is itself the replay's `verify_all`."""

    def __init__(self, *, verifiers: int | None = None, on_lost: Callable[[str], None] = lambda _what: None) -> None:
        count = verifiers or (2 if cores() >= CORES_FOR_TWO_VERIFIERS else 1)
        self._all: list[Beside] = []
        try:
            for work in ("read", *("verify",) * count):
                self._all.append(Beside(work, on_lost=on_lost))
        except BaseException:
            self.close()
            raise
        self._turn = 0

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_unused: object) -> None:
        """Leave no process."""
        self.close()

    def close(self) -> None:
        """End all processes."""
        for one in self._all:
            one.close()

    @property
    def pids(self) -> list[int]:
        """The processes that live."""
        return [one.pid for one in self._all if one.pid is not None]

    def __call__(self, owed: Sequence[Obligation]) -> Iterator[bool]:
        """Hand signatures over; whoever iterates waits."""
        verifiers = self._all[1:]
        asked: list[tuple[Beside, Question]] = []
        for start in range(0, len(owed), SIGNATURES):
            self._turn += 1
            one = verifiers[self._turn % len(verifiers)]
            asked.append((one, one.ask(question_verify(owed[start : start + SIGNATURES]))))
        return (is_good == 1 for one, question in asked for is_good in one.answer(question))

    def items(self, file: Path) -> Iterator[Entry | Flawed | Note]:
        """Yield what stands in an export, as `reading.items` does, with the bytes of entries checked already.

        Raises:
            Stop: it cannot be read, or a line is no entry.
        """
        reader, lines = self._all[0], 0
        try:
            for answer in _in_order(reader, stretches(file)):
                for one in answer.found:
                    if isinstance(one, Misread):
                        raise reading.no_entry(lines + one.number + 1, one.reason)
                    yield Note(one.note) if isinstance(one, Noted) else one
                lines += answer.lines
        except OSError as error:
            raise reading.unreadable(file, error) from None


def _widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold a whole question or answer, so that neither side waits while the other works.

    Where the system does not allow it, the pipe stays as it is: slower, nothing else.
    """
    if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _in_order(reader: Beside, asked: Iterator[Stretch]) -> Iterator[Stretched]:
    waiting: deque[Question] = deque()
    for stretch in asked:
        waiting.append(reader.ask(question_read(stretch)))
        if len(waiting) >= STRETCHES_AHEAD:
            yield stretched.decode(reader.answer(waiting.popleft()))
    while waiting:
        yield stretched.decode(reader.answer(waiting.popleft()))


def stretches(file: Path) -> Iterator[Stretch]:
    """Yield stretches that end with a line, or within one that is too long for an entry."""
    name, begin = str(file.absolute()), 0
    with file.open("rb") as lines:
        while True:
            lines.seek(begin + STRETCH_BYTES)
            rest = lines.readline(reading.LINE_BYTES_MAX + 1)
            end = lines.tell() if rest else min(begin + STRETCH_BYTES, lines.seek(0, os.SEEK_END))
            if end <= begin:
                return
            yield Stretch(name, begin, end)
            begin = end
