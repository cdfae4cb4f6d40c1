"""The versions this code was written for, and how they compare with what a database has applied (FM03, FM11).

Pure but for reading our own SQL files. A version's checksum covers what applies it and what takes it back, so a file
edited after it was applied is noticed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

VERSIONS_FOLDER: Final = Path(__file__).parent / "versions"
ROLLBACK_SUFFIX: Final = ".rollback.sql"

Kind = Literal["compatible", "missing", "behind", "ahead", "edited"]


@dataclass(frozen=True, slots=True)
class Version:
    """One migration: its file's stem, and SHA-256 over both of its files, in hex."""

    id: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a database has, seen from this code."""

    kind: Kind
    detail: str

    @property
    def is_compatible(self) -> bool:
        """Whether this code may work on that database."""
        return self.kind == "compatible"


@cache
def expected(folder: Path = VERSIONS_FOLDER) -> tuple[Version, ...]:
    """Return the versions in `folder`, in the order they apply."""
    files = sorted(path for path in folder.glob("*.sql") if not path.name.endswith(ROLLBACK_SUFFIX))
    return tuple(Version(id=path.stem, checksum=_checksum(path)) for path in files)


def _checksum(path: Path) -> str:
    rollback = path.with_name(path.stem + ROLLBACK_SUFFIX)
    parts = [path.read_bytes(), rollback.read_bytes() if rollback.exists() else b""]
    return hashlib.sha256(b"\0".join(part.replace(b"\r\n", b"\n") for part in parts)).hexdigest()


def compare(wanted: Sequence[Version], applied: Mapping[str, str]) -> Comparison:
    """Compare with what is applied: version id -> checksum. The worst difference is the one reported."""
    known = {version.id: version.checksum for version in wanted}
    unknown = sorted(set(applied) - set(known))
    pending = [version.id for version in wanted if version.id not in applied]
    edited = [version.id for version in wanted if applied.get(version.id, version.checksum) != version.checksum]
    if not applied:
        return Comparison("missing", "no migration was ever applied")
    if edited:
        return Comparison("edited", f"changed after it was applied: {', '.join(edited)}")
    if unknown:
        return Comparison("ahead", f"applied but unknown to this code: {', '.join(unknown)}")
    if pending:
        return Comparison("behind", f"not applied: {', '.join(pending)}")
    return Comparison("compatible", f"at {wanted[-1].id}")
