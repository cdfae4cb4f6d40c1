"""A replay with processes beside it finds what a replay alone finds, and leaves no process."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.client import ahead, ahead_work, reading
from app.client.ahead import Ahead
from app.client.exits import Stop
from app.core.log.entry import Raw
from app.core.replay import whole_log
from app.core.replay.whole_log import Replayed, replay
from app.ed25519 import verify
from tests.unit.service.book import Alter, Book
from tests.unit.service.test_client_offline import exported
from tests.unit.service.test_replay import (
    CHANGED,
    DEFECTS,
    DISHONEST,
    at,
    book_with,
    forged,
    of_more,
    of_other_root,
    signature,
    verify_all,
    whole_life,
)


@pytest.fixture(scope="module")
def beside() -> Iterator[Ahead]:
    with Ahead(verifiers=2) as processes:
        yield processes


@pytest.fixture(params=[whole_log.BLOCK, 2], ids=["one round", "rounds of two entries"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_log, "BLOCK", request.param)


def both(file: Path, beside: Ahead) -> Replayed:
    """Return what is found, after seeing that both ways find the same."""
    found = [
        replay(beside.items(file), verify=verify, verify_all=beside),
        replay(reading.items(file), verify=verify, verify_all=verify_all),
    ]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.usefixtures("block")
def test_an_honest_log_follows_both_ways(tmp_path: Path, beside: Ahead) -> None:
    book = whole_life()

    found = both(exported(tmp_path / "log", book.entries, book.note(3), book.note()), beside)

    assert (found.failure, found.entries, found.checkpoints) == (None, len(book.entries), 2)


@pytest.mark.parametrize(("code", "alter"), DEFECTS.values(), ids=DEFECTS)
def test_an_entry_that_does_not_follow_is_named_both_ways(
    tmp_path: Path, beside: Ahead, code: str, alter: Alter
) -> None:
    book = whole_life(alter)

    found = both(exported(tmp_path / "log", book.entries), beside)

    assert found.failure is not None
    assert (found.failure.code, found.failure.index) == (code, book.altered[0])


@pytest.mark.parametrize(("code", "change"), CHANGED.values(), ids=CHANGED)
def test_a_tampered_log_is_refused_both_ways(
    tmp_path: Path, beside: Ahead, code: str, change: Callable[[list[Raw]], list[Raw]]
) -> None:
    found = both(exported(tmp_path / "log", change(whole_life().entries)), beside)

    assert found.failure is not None
    assert found.failure.code == code


@pytest.mark.parametrize(("code", "write"), DISHONEST.values(), ids=DISHONEST)
def test_a_dishonest_log_is_refused_both_ways(
    tmp_path: Path, beside: Ahead, code: str, write: Callable[[Book], None]
) -> None:
    book = book_with()
    write(book)

    found = both(exported(tmp_path / "log", book.entries), beside)

    assert found.failure is not None
    assert found.failure.code == code


@pytest.mark.parametrize("note", [forged, of_other_root, of_more])
def test_a_false_checkpoint_is_refused_both_ways(tmp_path: Path, beside: Ahead, note: Callable[[Book], bytes]) -> None:
    book = whole_life()

    found = both(exported(tmp_path / "log", book.entries, note(book)), beside)

    assert found.failure is not None
    assert found.failure.code == "checkpoint"


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("later", ["a leaf that is none", "a wrong signature"])
def test_the_lowest_failure_is_named_though_its_answer_comes_later(tmp_path: Path, beside: Ahead, later: str) -> None:
    alters = [at("vote-cast", signature("envelope"))]
    if later == "a wrong signature":
        alters.append(at("vote-cast", signature("envelope"), nth=2))

    def alter(kind: str, leaf: dict[str, Any], body: dict[str, Any]) -> None:
        for one in alters:
            one(kind, leaf, body)

    book = whole_life(alter)
    entries = book.entries
    if later == "a leaf that is none":
        entries = [*entries[:-1], replace(entries[-1], leaf=b"{}")]

    found = both(exported(tmp_path / "log", entries), beside)

    assert found.failure is not None
    assert (found.failure.code, found.failure.index) == ("vote-signature", book.altered[0])


def test_a_line_that_is_no_entry_is_told_after_the_lines_before_it(tmp_path: Path, beside: Ahead) -> None:
    book = whole_life()
    good = exported(tmp_path / "log", book.entries[:9]).read_bytes()
    (tmp_path / "log").write_bytes(good + b"[]\n" + good)

    for items in (beside.items(tmp_path / "log"), reading.items(tmp_path / "log")):
        assert [next(items).index for _ in range(9)] == list(range(9))  # type: ignore[union-attr]
        with pytest.raises(Stop, match="line 10 is no entry"):
            next(items)


def test_a_line_without_end_is_refused_before_it_is_all_in_memory(
    tmp_path: Path, beside: Ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(b" " * (reading.LINE_BYTES_MAX + 2))

    with pytest.raises(Stop, match="line 1 is no entry: it has more than"):
        next(beside.items(tmp_path / "log"))
    monkeypatch.setattr(reading, "LINE_BYTES_MAX", 100)
    with (tmp_path / "log").open("rb") as file:
        assert len(next(reading.lines_of(file))) == 101


def test_stretches_are_whole_lines_and_make_up_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"".join(b"%d" % number + b" " * (number * 7 % 40) + b"\n" for number in range(200)) + b"no end"
    (tmp_path / "log").write_bytes(content)
    monkeypatch.setattr(ahead, "STRETCH_BYTES", 64)

    found = [content[one.begin : one.end] for one in ahead.stretches(tmp_path / "log")]

    assert b"".join(found) == content
    assert len(found) > 20
    assert all(one.endswith(b"\n") for one in found[:-1])


def test_what_a_lost_process_should_have_done_is_done_here(tmp_path: Path) -> None:
    book = whole_life()
    file = exported(tmp_path / "log", book.entries, book.note())
    told: list[str] = []
    with Ahead(verifiers=1, on_lost=told.append) as processes:
        for pid in processes.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

        found = both(file, processes)

        assert processes.pids == []
    assert found.failure is None
    assert len(told) == 2


def test_no_process_is_left_when_the_replay_is_interrupted(tmp_path: Path) -> None:
    file = exported(tmp_path / "log", whole_life().entries)

    def interrupted() -> None:
        with Ahead(verifiers=1) as processes:
            pids.extend(processes.pids)
            next(processes.items(file))
            raise KeyboardInterrupt

    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_small_export_starts_no_process(tmp_path: Path) -> None:
    file = exported(tmp_path / "log", whole_life().entries)

    assert not ahead.is_worth_it(file)
    with file.open("ab") as grown:
        grown.truncate(ahead.FILE_BYTES_MIN)
    assert ahead.is_worth_it(file) == (ahead.cores() >= ahead.CORES_MIN)


def test_a_frame_that_is_cut_short_is_none(tmp_path: Path) -> None:
    (tmp_path / "frame").write_bytes((5).to_bytes(4, "big") + b"four")

    with (tmp_path / "frame").open("rb") as pipe:
        assert ahead_work.read_frame(pipe) is None
