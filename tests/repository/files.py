"""The repository's files as a newcomer would get them: without what the commands make."""

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES_IGNORED = (
    ".git",
    *(
        line.strip("/")
        for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()
        if not line.startswith("#")
    ),
)


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is made by a command and never committed."""
    return any(fnmatch(name, pattern) for pattern in NAMES_IGNORED)


def all_files(folder: Path = ROOT) -> Iterator[Path]:
    """Yield every file below a folder, sorted; an empty folder is as good as none."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_ignored(name))
        yield from (Path(parent) / name for name in sorted(names) if not is_ignored(name))


def relative(path: Path) -> str:
    """Return a path as it is written in the repository."""
    return path.relative_to(ROOT).as_posix()


def text_files() -> Iterator[tuple[str, str]]:
    """Yield name and content of every file that is UTF-8 text."""
    for path in all_files():
        try:
            yield relative(path), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
