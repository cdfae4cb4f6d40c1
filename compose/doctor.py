"""Says what is on this machine, what is missing and how to get it, and what this host can and cannot prove.

`python -m compose.doctor` exits 0 when the main job can run, 69 (EX_UNAVAILABLE) when a program it needs is missing.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from compose.host import Capability, detect, isolation
from compose.programs import Found, versions
from compose.settings import REPOSITORY

EX_UNAVAILABLE: Final = 69
_LOOKS: Final[Mapping[str, Any]] = {"title_justify": "left", "title_style": "bold", "box": box.SIMPLE_HEAD}
_WORLDS: Final = {
    "root": "each scenario in namespaces of its own (as root)",
    "user": "each scenario in namespaces of its own (unprivileged user namespace)",
    "none": "process groups and ephemeral ports; scenarios that need more are skipped, with the reason",
}


def render(programs: Mapping[str, Found], capabilities: Mapping[str, Capability]) -> RenderableType:
    """Lay out what was found as two tables and a closing sentence."""
    return Group(_program_table(programs), "", _capability_table(capabilities), "", _closing(programs, capabilities))


def exit_code(programs: Mapping[str, Found]) -> int:
    """Return 0 when every required program is there, else 69."""
    return EX_UNAVAILABLE if _missing(programs) else 0


def _missing(programs: Mapping[str, Found]) -> list[str]:
    return [found.program.name for found in programs.values() if found.path is None and found.program.required]


def _program_table(programs: Mapping[str, Found]) -> Table:
    table = Table("", "program", "version", "for", "where, or what brings it", title="Programs", **_LOOKS)
    for found in programs.values():
        version, place = found.version or "?", _shortened(found.path)
        if found.path is None:
            mark = _mark("missing" if found.program.required else "optional")
            version, place = "-", found.how_to_install
        elif found.is_older_than_tested:
            mark = _mark("old")
            version += f" (tested from {'.'.join(map(str, found.program.tested))})"
        else:
            mark = _mark("ok")
        table.add_row(mark, found.program.name, version, found.program.purpose, Text(place, overflow="fold"))
    return table


def _capability_table(capabilities: Mapping[str, Capability]) -> Table:
    table = Table("", "this host", "what was seen", "what it unlocks", title="Host", **_LOOKS)
    for capability in capabilities.values():
        mark = _mark("ok" if capability.available else "cannot")
        table.add_row(mark, capability.name, Text(capability.reason, overflow="fold"), capability.unlocks)
    return table


def _shortened(path: Path | None) -> str:
    """Show what lies in the repository relative to it."""
    return str(path.relative_to(REPOSITORY) if path and path.is_relative_to(REPOSITORY) else path)


def _mark(word: str) -> Text:
    colours = {"ok": "green", "missing": "bold red", "old": "yellow", "optional": "yellow", "cannot": "yellow"}
    return Text(word, style=colours[word])


def _closing(programs: Mapping[str, Found], capabilities: Mapping[str, Capability]) -> str:
    if missing := _missing(programs):
        return f"Missing: {', '.join(missing)}. Run `./justw setup`; it installs them, or says how."
    return f"Ready. Worlds: {_WORLDS[isolation(capabilities)]}."


def main() -> int:
    """Print the report; return the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    programs = versions()
    console.print(render(programs, detect()))
    return exit_code(programs)


if __name__ == "__main__":
    sys.exit(main())
