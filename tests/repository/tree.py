"""The top of the tree: as docs/architecture.md draws it, and as it is."""

import re

from tests.repository.files import ROOT, all_files, is_ignored
from tests.repository.pages import ARCHITECTURE


def drawn_folders() -> dict[str, bool]:
    """Return the folders of the page's table and whether each is said to be there."""
    tree = ARCHITECTURE.read_text(encoding="utf-8").partition("## The tree")[2].partition("## ")[0]
    cells = [line.split("|")[1] for line in tree.splitlines() if line.startswith("| `")]
    return {name: "not there yet" not in cell for cell in cells for name in re.findall(r"`([^`]+)/`", cell)}


def real_folders() -> set[str]:
    entries = [path for path in ROOT.iterdir() if path.is_dir() and not is_ignored(path.name)]
    return {path.name for path in entries if next(all_files(path), None)}
