"""What the processes beside a replay do: `python -m app.client.ahead_work read|verify`.

A frame on the input is a question, a frame on the output its answer, in the same order: four bytes of length, then
MessagePack. `read` is asked for a stretch of an export and answers with its entries, their bytes checked; `verify` is
asked for signatures and answers with a byte for each. Neither knows anything of the log beyond the question. The input
ends when the one who asked is gone, whatever became of it; so does the process then.
"""

import io
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from app.client import reading
from app.client.reading import NoEntry
from app.core.log import entry
from app.core.log.entry import Entry, EntryFlaw, Flawed
from app.core.replay.standing import Obligation
from app.core.replay.whole_log import Note
from app.ed25519 import verify

LENGTH_BYTES: Final = 4
FRAME_BYTES_MAX: Final = 256 * 1_048_576
"""A block of an export with one line of the longest kind is smaller, and so are the signatures of a round."""


class Stretch(msgspec.Struct, frozen=True, array_like=True):
    """Whole lines of a file."""

    file: str
    begin: int
    end: int


class Noted(msgspec.Struct, frozen=True, array_like=True, tag="note"):
    """A checkpoint."""

    note: bytes


class Misread(msgspec.Struct, frozen=True, array_like=True, tag="line"):
    """The `number`-th line of the stretch, from 0, is no entry. Nothing after it was read."""

    number: int
    reason: str


class Signed(msgspec.Struct, frozen=True, array_like=True):
    """A signature, and what it should be of."""

    public_key: bytes
    message: bytes
    signature: bytes


class Stretched(msgspec.Struct, frozen=True, array_like=True):
    """What stands in a stretch."""

    lines: int
    found: list[Entry | Flawed | Noted | Misread]


_stretch: Final = msgspec.msgpack.Decoder(Stretch)
_signed: Final = msgspec.msgpack.Decoder(list[Signed])
_pack: Final = msgspec.msgpack.Encoder()
stretched: Final = msgspec.msgpack.Decoder(Stretched)


def question_read(stretch: Stretch) -> bytes:
    """Return the frame that asks for a stretch."""
    return _pack.encode(stretch)


def question_verify(owed: Sequence[Obligation]) -> bytes:
    """Return the frame that asks for signatures."""
    return _pack.encode([Signed(one.public_key, one.message, one.signature) for one in owed])


def answer_read(question: bytes) -> bytes:
    """Read a stretch of an export."""
    asked = _stretch.decode(question)
    with Path(asked.file).open("rb") as file:
        file.seek(asked.begin)
        content = file.read(asked.end - asked.begin)
    found: list[Entry | Flawed | Noted | Misread] = []
    for number, line in enumerate(reading.lines_of(io.BytesIO(content))):
        try:
            found.append(_checked(line))
        except NoEntry as reason:
            found.append(Misread(number, str(reason)))
            break
    return _pack.encode(Stretched(len(found), found))


def _checked(line: bytes) -> Entry | Flawed | Noted:
    item = reading.item(line)
    if isinstance(item, Note):
        return Noted(item.note)
    try:
        return entry.read(item)
    except EntryFlaw as flaw:
        return Flawed(item.index, flaw.code, str(flaw))


def answer_verify(question: bytes) -> bytes:
    """Verify signatures."""
    return bytes(verify(one.public_key, one.message, one.signature) for one in _signed.decode(question))


WORK: Final[Mapping[str, Callable[[bytes], bytes]]] = {"read": answer_read, "verify": answer_verify}


def write_frame(pipe: BinaryIO, content: bytes) -> None:
    """Write one frame."""
    pipe.write(len(content).to_bytes(LENGTH_BYTES, "big"))
    pipe.write(content)
    pipe.flush()


def read_frame(pipe: BinaryIO) -> bytes | None:
    """Return the next frame; None when the other side is gone."""
    head = pipe.read(LENGTH_BYTES)
    length = int.from_bytes(head, "big")
    if len(head) < LENGTH_BYTES or length > FRAME_BYTES_MAX:
        return None
    content = pipe.read(length)
    return content if len(content) == length else None


def main(work: Callable[[bytes], bytes]) -> None:
    """Answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while (question := read_frame(sys.stdin.buffer)) is not None:
        write_frame(sys.stdout.buffer, work(question))


if __name__ == "__main__":
    try:
        main(WORK[sys.argv[1]])
    except BrokenPipeError:
        sys.stdout = None  # nobody is there to be told
