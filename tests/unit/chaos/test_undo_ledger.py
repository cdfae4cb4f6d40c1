"""Whatever happens between intent and undo, the ledger knows what is still changed, and undo is never skipped.

The world is a folder, and a fault makes a file in it; what faults do to real programs is in the integration tests.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest

from chaos import faults, undo_ledger
from chaos.evidence import EvidenceWriter, Origin
from chaos.faults.base import FaultFailed, FaultTimedOut, Recorded, note
from chaos.scenario import Observation
from chaos.undo_ledger import LEDGER, LedgerInUse, LedgerUnreadable, UndoFailed, UndoLedger, open_entries
from compose.settings import REPOSITORY

if TYPE_CHECKING:
    from compose.stack import Stack

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

STACK = cast("Stack", None)


@dataclass(frozen=True, slots=True)
class FileThere(Recorded):
    """The change is a file; ``how`` says what goes wrong."""

    kind: ClassVar[str] = "file_there"
    needs: ClassVar[frozenset[str]] = frozenset()

    path: str
    how: str = "well"

    @property
    def file(self) -> Path:
        return Path(self.path)

    async def inject(self, stack: "Stack") -> None:
        del stack
        self.file.touch()
        if self.how == "fails half-way":
            raise FaultFailed("half-way")
        if self.how == "hangs half-way":
            await asyncio.Event().wait()

    async def bites(self, stack: "Stack") -> Observation:
        del stack
        return Observation(ok=self.file.exists(), text="a file")

    async def undo(self, stack: "Stack") -> None:
        del stack
        if self.how == "cannot be undone":
            raise FaultFailed("the file is ours no more")
        if self.how == "undo hangs":
            await asyncio.Event().wait()
        if self.how == "slow undo":
            await asyncio.sleep(0.1)
        if self.how == "last resort":
            note("last resort: the folder was shaken")
        if self.how != "undo lies":
            self.file.unlink(missing_ok=True)

    async def is_gone(self, stack: "Stack") -> Observation:
        del stack
        return Observation(ok=not self.file.exists(), text="no file")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "KINDS", {**faults.KINDS, FileThere.kind: FileThere})
    monkeypatch.setattr(undo_ledger, "UNDO_DEADLINE_SECONDS", 0.5)
    monkeypatch.setattr(undo_ledger, "GONE_DEADLINE_SECONDS", 0.2)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[UndoLedger]:
    opened = UndoLedger(EvidenceWriter(tmp_path, Origin.now()))
    yield opened
    opened.close()


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LEDGER).read_text().splitlines()]


def events(folder: Path) -> list[str]:
    return [row["event"] for row in rows(folder)]


def fault(folder: Path, name: str = "changed", how: str = "well") -> FileThere:
    return FileThere(path=str(folder / name), how=how)


async def test_the_intent_is_on_disk_before_the_act_and_the_end_after_it(ledger: UndoLedger, tmp_path: Path) -> None:
    async with ledger.injected(fault(tmp_path), STACK, injection="one"):
        assert events(tmp_path) == ["intent", "injected"]
        assert [entry.injection for entry in open_entries(tmp_path)] == ["one"]
        assert (tmp_path / "changed").exists()

    assert events(tmp_path) == ["intent", "injected", "undo_started", "undone"]
    assert all(isinstance(row["t"], float) for row in rows(tmp_path))
    assert open_entries(tmp_path) == ()
    assert not (tmp_path / "changed").exists()


async def test_without_a_durable_intent_nothing_is_injected(
    ledger: UndoLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="no space"):
        async with ledger.injected(fault(tmp_path), STACK, injection="one"):
            pytest.fail("the body must not run")

    assert not (tmp_path / "changed").exists()


async def test_a_disk_that_fills_up_after_the_intent_does_not_keep_the_fault_in_the_world(
    ledger: UndoLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "no space left")

    with pytest.raises(UndoFailed, match="no space"):
        async with ledger.injected(fault(tmp_path), STACK, injection="one"):
            monkeypatch.setattr(os, "fsync", full)

    assert not (tmp_path / "changed").exists()


@pytest.mark.parametrize("how", ["fails half-way", "hangs half-way"])
async def test_half_an_inject_is_undone(how: str, ledger: UndoLedger, tmp_path: Path) -> None:
    with pytest.raises((FaultFailed, TimeoutError)):
        async with asyncio.timeout(0.1), ledger.injected(fault(tmp_path, how=how), STACK, injection="one"):
            pytest.fail("the body must not run")

    assert events(tmp_path) == ["intent", "inject_failed", "undo_started", "undone"]
    assert not (tmp_path / "changed").exists()


async def test_an_error_of_the_body_is_what_the_caller_sees_after_the_undo(ledger: UndoLedger, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the body's"):
        async with ledger.injected(fault(tmp_path), STACK, injection="one"):
            raise ValueError("the body's")

    assert events(tmp_path)[-1] == "undone"


async def test_a_cancelled_body_is_undone_however_often_it_is_cancelled(ledger: UndoLedger, tmp_path: Path) -> None:
    injected = asyncio.Event()

    async def body() -> None:
        async with ledger.injected(fault(tmp_path, how="slow undo"), STACK, injection="one"):
            injected.set()
            await asyncio.Event().wait()

    running = asyncio.ensure_future(body())
    await injected.wait()
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await running

    assert events(tmp_path)[-1] == "undone"
    assert not (tmp_path / "changed").exists()


@pytest.mark.parametrize(("how", "said"), [("cannot be undone", "ours no more"), ("undo hangs", "no end within 0.5 s")])
async def test_a_failing_undo_is_said_and_stays_open(how: str, said: str, ledger: UndoLedger, tmp_path: Path) -> None:
    with pytest.raises(UndoFailed, match=said):
        async with ledger.injected(fault(tmp_path, how=how), STACK, injection="one"):
            pass

    assert events(tmp_path)[-1] == "undo_failed"
    assert len(open_entries(tmp_path)) == 1


async def test_a_failing_undo_does_not_hide_the_bodys_error(ledger: UndoLedger, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the body's") as raised:
        async with ledger.injected(fault(tmp_path, how="cannot be undone"), STACK, injection="one"):
            raise ValueError("the body's")

    assert "ours no more" in raised.value.__notes__[0]
    assert len(open_entries(tmp_path)) == 1


async def test_a_last_resort_is_in_the_ledger(ledger: UndoLedger, tmp_path: Path) -> None:
    async with ledger.injected(fault(tmp_path, how="last resort"), STACK, injection="one"):
        pass

    assert rows(tmp_path)[-1]["notes"] == ["last resort: the folder was shaken"]


def write(folder: Path, *lines: str) -> None:
    (folder / LEDGER).write_text("".join(lines))


def intent(number: int, folder: Path, name: str, how: str = "well", kind: str = "file_there") -> str:
    parameters = {"path": str(folder / name), "how": how}
    (folder / name).touch()
    row = {"t": 1.0, "entry": number, "event": "intent", "injection": name, "kind": kind, "parameters": parameters}
    return json.dumps(row) + "\n"


def event(number: int, name: str) -> str:
    return json.dumps({"t": 2.0, "entry": number, "event": name}) + "\n"


async def test_another_process_undoes_in_reverse_order_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    write(
        tmp_path,
        intent(1, tmp_path, "first.a"),
        event(1, "injected"),
        intent(2, tmp_path, "second.a", how="cannot be undone"),
        event(2, "injected"),
        intent(3, tmp_path, "third.a", kind="of_another_version"),
        intent(4, tmp_path, "fourth.a", how="undo lies"),
        intent(5, tmp_path, "fifth.a"),  # the process ended between intent and inject, or before it could say
        intent(6, tmp_path, "sixth.a"),
        event(6, "undo_started"),
        event(6, "undone"),
    )
    ledger = UndoLedger.reopen(tmp_path)

    left = await ledger.undo_open(STACK)
    ledger.close()

    assert [(each.entry.injection, each.reason.split(":")[0]) for each in left] == [
        ("fourth.a", "UndoFailed"),
        ("third.a", "InvalidFault"),
        ("second.a", "FaultFailed"),
    ]
    assert [entry.injection for entry in open_entries(tmp_path)] == ["second.a", "third.a", "fourth.a"]
    order = [row["entry"] for row in rows(tmp_path) if row["event"] in {"undone", "undo_failed"}]
    assert order == [6, 5, 4, 3, 2, 1]
    assert not (tmp_path / "first.a").exists()


async def test_a_torn_last_line_is_no_entry_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    write(tmp_path, intent(1, tmp_path, "first.a"), intent(2, tmp_path, "second.a")[:40])
    assert [entry.injection for entry in open_entries(tmp_path)] == ["first.a"]

    ledger = UndoLedger.reopen(tmp_path)
    assert await ledger.undo_open(STACK) == ()
    async with ledger.injected(fault(tmp_path), STACK, injection="third"):
        assert [entry.entry for entry in open_entries(tmp_path)] == [2]
    ledger.close()

    assert open_entries(tmp_path) == ()


@pytest.mark.parametrize(
    "line", ["{]\n", "[]\n", '{"t": 1, "entry": 9, "event": "undone"}\n', '{"t": 1, "entry": 1, "event": "gone"}\n']
)
async def test_a_ledger_that_makes_no_sense_is_not_taken_for_clean(line: str, tmp_path: Path) -> None:
    write(tmp_path, line)

    with pytest.raises(LedgerUnreadable, match="line 1"):
        open_entries(tmp_path)


async def test_a_ledger_in_use_is_left_alone(ledger: UndoLedger, tmp_path: Path) -> None:
    async with ledger.injected(fault(tmp_path), STACK, injection="one"):
        with pytest.raises(LedgerInUse):
            UndoLedger.reopen(tmp_path)


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from chaos.evidence import EvidenceWriter, Origin
from chaos.undo_ledger import UndoLedger
from tests.unit.chaos.test_undo_ledger import FileThere

async def main(folder, when):
    ledger = UndoLedger(EvidenceWriter(folder, Origin.now()))
    fault = FileThere(path=str(folder / "changed"), how="hangs half-way" if when == "inject" else "well")
    async def announce():
        while not (folder / "changed").exists():
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await asyncio.Event().wait()
    async with asyncio.TaskGroup() as group:
        group.create_task(announce())
        async with ledger.injected(fault, None, injection="one"):
            await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.parametrize("when", ["inject", "hold"])
async def test_a_killed_harness_leaves_a_ledger_from_which_another_process_undoes(when: str, tmp_path: Path) -> None:
    killed = subprocess.Popen(  # noqa: ASYNC220 - its first line is all that is waited for
        [sys.executable, "-c", _KILLED, str(tmp_path), when], cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    try:
        assert killed.stdout is not None
        assert await asyncio.to_thread(killed.stdout.readline) == b"ready\n"
        with pytest.raises(LedgerInUse):
            UndoLedger.reopen(tmp_path)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait(timeout=10)
    assert (tmp_path / "changed").exists()

    ledger = UndoLedger.reopen(tmp_path)
    left = await ledger.undo_open(STACK)
    ledger.close()

    assert left == ()
    assert not (tmp_path / "changed").exists()
    assert open_entries(tmp_path) == ()


async def test_a_deadline_that_passed_says_what_and_how_long() -> None:
    error = FaultTimedOut("proxy_down: undo", 15)

    assert str(error) == "proxy_down: undo: no end within 15 s"
    assert isinstance(error, TimeoutError)
