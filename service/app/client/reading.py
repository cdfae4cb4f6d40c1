"""Reading an export of the log: JSON lines, each an entry in base64 or a checkpoint, in the order of the log.

A line is bounded, also while it is being read. What is wrong with a line is told when the lines before it were
followed: whoever reads ahead hands it on as a value.
"""

import base64
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from app.client.exits import bad_input
from app.core.log.entry import BODY_BYTES_MAX, Raw
from app.core.replay.whole_log import Note

LINE_BYTES_MAX: Final = 2 * BODY_BYTES_MAX


class _Line(msgspec.Struct, frozen=True):
    """One line of an export: an entry, or a checkpoint."""

    index: int = -1
    leaf: str = ""
    body: str | None = None
    checkpoint: str | None = None


class _QuickLine(msgspec.Struct, frozen=True):
    """The same line, its base64 read with the JSON: a third of the time, and nothing is taken that `_Line` refuses."""

    index: int = -1
    leaf: bytes = b""
    body: bytes | None = None
    checkpoint: str | None = None


_line: Final = msgspec.json.Decoder(_Line)
_quick_line: Final = msgspec.json.Decoder(_QuickLine)


class NoEntry(Exception):
    """A line is neither an entry nor a checkpoint; the message says why."""


def items(file: Path) -> Iterator[Raw | Note]:
    """Yield what stands in an export.

    Raises:
        Stop: it cannot be read, or a line is no entry.
    """
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines_of(lines), start=1):
                try:
                    yield item(line)
                except NoEntry as reason:
                    raise no_entry(number, str(reason)) from None
    except OSError as error:
        raise unreadable(file, error) from None


def lines_of(file: io.BufferedIOBase) -> Iterator[bytes]:
    """Yield lines; of one that is too long only so much that `item` sees it."""
    return iter(lambda: file.readline(LINE_BYTES_MAX + 1), b"")


def item(line: bytes) -> Raw | Note:
    """Return what a line says.

    Raises:
        NoEntry: it is neither an entry nor a checkpoint.
    """
    if len(line) > LINE_BYTES_MAX:
        raise NoEntry(f"it has more than {LINE_BYTES_MAX} bytes")
    with contextlib.suppress(msgspec.DecodeError, ValueError):
        quick = _quick_line.decode(line)
        if quick.checkpoint is None:
            return Raw(quick.index, quick.leaf, quick.body)
    return _item(line)


def _item(line: bytes) -> Raw | Note:
    """Return what a line says, or the reason why it says nothing."""
    try:
        told = _line.decode(line)
        if told.checkpoint is not None:
            return Note(told.checkpoint.encode())
        body = None if told.body is None else base64.b64decode(told.body, validate=True)
        return Raw(told.index, base64.b64decode(told.leaf, validate=True), body)
    except (msgspec.DecodeError, ValueError) as error:
        raise NoEntry(str(error)) from None


def no_entry(number: int, reason: str) -> Exception:
    """Return the refusal of a line."""
    return bad_input(f"line {number} is no entry: {reason}")


def unreadable(file: Path, error: OSError) -> Exception:
    """Return the refusal of a file."""
    return bad_input(f"{file} cannot be read: {error.strerror}")
