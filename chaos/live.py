"""What a person sees while scenarios run: a line an event, and on a terminal one live line a world below them."""

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

_STYLES = {
    "baseline_failed": "bold red",
    "not_bitten": "bold red",
    "not_undone": "bold red",
    "not_recovered": "bold red",
    "harness_error": "bold red",
    "aborted": "yellow",
    "injected": "magenta",
    "bitten": "magenta",
    "detected": "cyan",
    "undone": "green",
    "recovered": "bold green",
    "injection_skipped": "yellow",
}


class LiveView:
    """Renders progress rows of the engines; on a pipe it prints plain lines only."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._worlds: dict[str, dict[str, Any]] = {}
        self._started = time.monotonic()
        self._live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._table)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, scenario: str, row: Mapping[str, Any]) -> None:
        """Take one progress row of a scenario: an event (printed) or a traffic snapshot (live line only)."""
        world = self._worlds.setdefault(scenario, {})
        if "traffic" in row:
            world["traffic"] = row["traffic"]
            return
        event = str(row.get("event", ""))
        world["phase"] = row.get("phase") or event
        world["injection"] = row.get("injection") or world.get("injection", "")
        if event == "scenario_finished":
            self._worlds.pop(scenario)
        self._console.print(self._line(scenario, row, event), highlight=False, soft_wrap=True)

    def _line(self, scenario: str, row: Mapping[str, Any], event: str) -> Text:
        line = Text()
        line.append(f"{scenario} ", style="bold")
        line.append(f"{float(row.get('t', 0.0)):7.2f} s  ", style="dim")
        line.append(event.replace("_", " "), style=_STYLES.get(event, ""))
        if row.get("injection"):
            line.append(f"  {row['injection']}", style="magenta")
        if row.get("text"):
            line.append(f"  {row['text']}", style="dim" if event == "progress" else "")
        return line

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for scenario, world in self._worlds.items():
            traffic = world.get("traffic", {})
            figures = "  ".join(f"{name} {value}" for name, value in traffic.items())
            elapsed = time.monotonic() - self._started
            table.add_row(
                Text(f"{scenario} {elapsed:5.0f} s", style="bold reverse"),
                Text(f"{world.get('phase', '')}", style="cyan"),
                Text(str(world.get("injection", "")), style="magenta"),
                Text(figures),
            )
        return table
