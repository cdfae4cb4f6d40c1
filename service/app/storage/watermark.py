"""The high-water mark: the newest published checkpoint, in a file outside the database (mode 15).

A database that was restored from a backup does not know what it has forgotten; this file does. It holds the signed note
as it is published, is replaced atomically (file and folder are synced before a checkpoint is served) and never goes
back. All replicas of a host share one file; a lock beside it keeps two of them from undoing each other's advance.

Refused: a note that is no checkpoint, another log's checkpoint, a step back.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.core.log import checkpoint as checkpoints
from app.core.log.checkpoint import NOTE_BYTES_MAX, Checkpoint, CheckpointFlaw

FILE_MODE: Final = 0o644


class WatermarkUnreadable(Exception):
    """The file is there and holds no checkpoint of this log."""


class WatermarkUnwritable(Exception):
    """The file cannot be replaced: nothing may be published."""


class Watermark:
    """Reads and advances the file. Every method blocks on the disk: call it from a thread."""

    def __init__(self, path: Path, *, origin: str) -> None:
        self.path = path
        self._origin = origin

    def read(self) -> tuple[Checkpoint, bytes] | None:
        """Return the highest published checkpoint with its note; None if nothing was published yet.

        Raises:
            WatermarkUnreadable: if the file cannot be read or is no checkpoint of this log.
        """
        try:
            with self.path.open("rb") as file:
                note = file.read(NOTE_BYTES_MAX + 1)
            checkpoint, _ = checkpoints.parsed(note)
        except FileNotFoundError:
            return None
        except (OSError, CheckpointFlaw):
            raise WatermarkUnreadable from None
        if checkpoint.origin != self._origin:
            raise WatermarkUnreadable
        return checkpoint, note

    def advance(self, note: bytes) -> None:
        """Remember a checkpoint unless a larger one is remembered; it is on the disk when this returns.

        Raises:
            WatermarkUnreadable: if what is there cannot be compared with it.
            WatermarkUnwritable: if the file cannot be replaced.
            CheckpointFlaw: if `note` is none.
        """
        checkpoint, _ = checkpoints.parsed(note)
        with self._locked():
            known = self.read()
            if known is None or known[0].size < checkpoint.size:
                self._write(note)

    def restart(self, note: bytes | None, *, keep_as: str) -> None:
        """Forget what was published, keeping a copy under the suffix `keep_as`: for the recovery command alone.

        Raises:
            WatermarkUnwritable: if the file cannot be replaced.
        """
        with self._locked():
            if self.path.exists():
                self.path.replace(self.path.with_name(f"{self.path.name}.{keep_as}"))
            if note is not None:
                self._write(note)
            self._sync_folder()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with self.path.with_name(self.path.name + ".lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError:
            raise WatermarkUnwritable("the high-water mark cannot be replaced") from None

    def _write(self, note: bytes) -> None:
        scratch = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(note)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        scratch.replace(self.path)
        self._sync_folder()

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
