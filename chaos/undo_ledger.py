"""The undo ledger: what was about to be changed is on disk before it is changed, so that nothing stays changed.

One line of ``undo.jsonl`` is ``{t, entry, event, ...}``; every line is synced to disk before the next step:

| event | further facts | written |
|---|---|---|
| ``intent`` | ``injection, kind, parameters`` | before ``inject`` |
| ``injected`` | | after it returned |
| ``inject_failed`` | ``error`` | after it raised, or was cancelled half-way |
| ``undo_started`` | | before ``undo`` |
| ``undone`` | ``notes``: last resorts taken | after ``undo`` returned; it reads back what it changed |
| ``undo_failed`` | ``error, notes`` | after it raised; the entry stays open |
| ``abandoned_with_world`` | ``reason`` | by the sweep: the kernel removed the world that held the change |

An entry is open from its intent until ``undone`` or ``abandoned_with_world``. While a process has the ledger open it
holds a lock on the file, which the kernel releases with the process: so the sweep tells a run from its remains.
"""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from chaos.evidence import EvidenceWriter, Origin
from chaos.faults import FaultError, from_record
from chaos.faults.base import noting, within
from chaos.scenario import Fault

if TYPE_CHECKING:
    from compose.stack import Stack

_T = TypeVar("_T")

LEDGER = "undo.jsonl"
UNDO_DEADLINE_SECONDS = 90.0  # the net below the faults' own, shorter deadlines
GONE_DEADLINE_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.1


class Event(StrEnum):
    """What may stand in the ledger about an entry."""

    INTENT = "intent"
    INJECTED = "injected"
    INJECT_FAILED = "inject_failed"
    UNDO_STARTED = "undo_started"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"
    ABANDONED = "abandoned_with_world"


_CLOSING = frozenset({Event.UNDONE, Event.ABANDONED})


class LedgerUnreadable(Exception):
    """A line of the ledger, other than a torn last one, is not what the ledger writes."""


class LedgerInUse(Exception):
    """Another process has the ledger open: its run is alive."""


class UndoFailed(FaultError):
    """A fault is still in the world, or not known to be gone; its entry stays open."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One change that was intended."""

    entry: int
    injection: str
    kind: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NotUndone:
    """An entry that could not be undone, and why."""

    entry: Entry
    reason: str


class UndoLedger:
    """The ledger of one scenario's folder, open for writing."""

    def __init__(self, evidence: EvidenceWriter) -> None:
        self.folder = evidence.folder
        self._origin = evidence.origin
        self._descriptor: int | None = None
        self._next_entry = 1

    @classmethod
    def reopen(cls, folder: Path) -> Self:
        """Open the ledger of a run that ended, to close its entries.

        Raises:
            LedgerInUse: the run has not ended.
            LedgerUnreadable: it says something that we cannot read.
        """
        ledger = cls(EvidenceWriter(folder, _origin_of(folder)))
        ledger._open()
        return ledger

    def open_entries(self) -> tuple[Entry, ...]:
        """Return what is still to be undone, in the order it was intended."""
        return open_entries(self.folder)

    @asynccontextmanager
    async def injected(self, fault: Fault, stack: "Stack", *, injection: str) -> AsyncIterator[Entry]:
        """Inject the fault for the body; undo it always, also when the body or ``inject`` is cancelled.

        A cancellation waits for the undo, which has deadlines. What the body raised is what the caller sees; an
        undo that failed on top of it is noted on that exception and leaves the entry open.

        Raises:
            UndoFailed: the body was fine and the undo was not.
        """
        entry = self.intend(fault, injection=injection)
        try:
            await self._inject(entry, fault, stack)
            yield entry
        except BaseException as error:
            failure = await to_its_end(self._undo(entry, fault, stack))
            if failure is not None:
                error.add_note(f"and its undo failed: {failure}")
            raise
        failure = await to_its_end(self._undo(entry, fault, stack))
        if failure is not None:
            raise UndoFailed(failure)

    def intend(self, fault: Fault, *, injection: str) -> Entry:
        """Write down what is about to be changed; when this returns it is on disk.

        Raises:
            OSError: it is not, so nothing may be changed.
        """
        self._open()
        entry = Entry(entry=self._next_entry, injection=injection, kind=fault.kind, parameters=fault.parameters())
        self._next_entry += 1
        facts = {"injection": injection, "kind": entry.kind, "parameters": entry.parameters}
        self._write(entry, Event.INTENT, **facts)
        return entry

    async def undo_open(self, stack: "Stack") -> tuple[NotUndone, ...]:
        """Undo every open entry, the latest first, each seen to be gone; go on after a failure; return the failures."""
        failures = []
        for entry in reversed(self.open_entries()):
            failure = await to_its_end(self._undo_recorded(entry, stack))
            if failure is not None:
                failures.append(NotUndone(entry=entry, reason=failure))
        return tuple(failures)

    def abandon(self, entry: Entry, reason: str) -> None:
        """Close an entry whose world is gone, and the change with it."""
        self._write(entry, Event.ABANDONED, reason=reason)

    def close(self) -> None:
        """Close the file and release its lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    async def _inject(self, entry: Entry, fault: Fault, stack: "Stack") -> None:
        try:
            await fault.inject(stack)
        except BaseException as error:
            with contextlib.suppress(OSError):  # what went wrong first is what the caller must see
                self._write(entry, Event.INJECT_FAILED, error=_in_words(error))
            raise
        self._write(entry, Event.INJECTED)

    async def _undo(self, entry: Entry, fault: Fault, stack: "Stack", *, verify: bool = False) -> str | None:
        """Undo one entry and write down how it went; return why it failed, if it did."""
        with noting() as notes:
            try:
                self._write(entry, Event.UNDO_STARTED)
            except OSError as error:  # a full disk must not keep a fault in the world
                notes.append(f"the ledger could not be written: {_in_words(error)}")
            try:
                async with within(UNDO_DEADLINE_SECONDS, f"undo of {entry.kind}"):
                    await fault.undo(stack)
                    if verify:
                        await _see_it_gone(fault, stack)
            except Exception as error:  # noqa: BLE001 - whatever it is, the entry stays open and the others go on
                return self._failed(entry, error, notes)
        try:
            self._write(entry, Event.UNDONE, notes=notes)
        except OSError as error:
            return _in_words(error)
        return None

    async def _undo_recorded(self, entry: Entry, stack: "Stack") -> str | None:
        try:
            fault = from_record(entry.kind, entry.parameters)
        except FaultError as error:
            return self._failed(entry, error, [])
        return await self._undo(entry, fault, stack, verify=True)

    def _failed(self, entry: Entry, error: Exception, notes: list[str]) -> str:
        failure = _in_words(error)
        with contextlib.suppress(OSError):  # unwritten, the entry stays open just the same
            self._write(entry, Event.UNDO_FAILED, error=failure, notes=notes)
        return failure

    def _write(self, entry: Entry, event: Event, **facts: Any) -> None:
        """Append one line and wait until it is on disk.

        Raises:
            OSError: it is not, so what it announces must not be done.
        """
        descriptor = self._open()
        row = {"t": round(self._origin.elapsed(), 6), "entry": entry.entry, "event": event.value, **facts}
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        if os.write(descriptor, line) != len(line):
            raise OSError(f"{self.folder / LEDGER}: the line could not be written in full")
        os.fsync(descriptor)

    def _open(self) -> int:
        if self._descriptor is not None:
            return self._descriptor
        path = self.folder / LEDGER
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LedgerInUse(f"{path} is in use by a run that is alive") from error
            os.ftruncate(descriptor, _whole_bytes(path))  # a torn line announces nothing: its act was never begun
            self._next_entry = max((entry.entry for entry, _ in _entries(self.folder)), default=0) + 1
            _sync_folder(self.folder)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return descriptor


def open_entries(folder: Path) -> tuple[Entry, ...]:
    """Return what the ledger of ``folder`` says is still to be undone, in the order it was intended.

    Raises:
        LedgerUnreadable: a line other than a torn last one cannot be read.
    """
    return tuple(entry for entry, is_open in _entries(folder) if is_open)


def _entries(folder: Path) -> list[tuple[Entry, bool]]:
    """Return every entry and whether it is open."""
    path = folder / LEDGER
    entries: dict[int, Entry] = {}
    closed: set[int] = set()
    content = path.read_bytes()[: _whole_bytes(path)] if path.exists() else b""
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = json.loads(line)
            event = Event(row["event"])
            if event is Event.INTENT:
                entries[row["entry"]] = Entry(
                    entry=int(row["entry"]),
                    injection=str(row["injection"]),
                    kind=str(row["kind"]),
                    parameters=dict(row["parameters"]),
                )
            elif event in _CLOSING:
                closed.add(entries[row["entry"]].entry)
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerUnreadable(f"{path}, line {number}: {type(error).__name__}") from error
    return [(entry, entry.entry not in closed) for entry in entries.values()]


def _whole_bytes(path: Path) -> int:
    """Return the length of the ledger without a torn last line."""
    return path.read_bytes().rfind(b"\n") + 1


async def _see_it_gone(fault: Fault, stack: "Stack") -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + GONE_DEADLINE_SECONDS
    while not (seen := await fault.is_gone(stack)).ok:
        if loop.time() >= deadline:
            raise UndoFailed(f"undone, and yet not gone: {seen.text}")
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


async def to_its_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Do bounded work whole, however often we are cancelled meanwhile; then let the cancellation through."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen: the work has recorded it
        raise cancelled
    return task.result()


def _origin_of(folder: Path) -> Origin:
    """Return the origin of a recorded scenario; now, when it recorded none."""
    try:
        environment = json.loads((folder / "environment.json").read_bytes())
        return Origin(monotonic_ns=environment["origin_monotonic_ns"], wall_ns=environment["origin_wall_ns"])
    except (OSError, ValueError, KeyError):
        return Origin.now()


def _sync_folder(folder: Path) -> None:
    """Make the file's name as durable as its content."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
