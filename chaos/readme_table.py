"""``python -m chaos.readme_table``: writes the sixteen-row table between the marks in README.md; ``--check`` compares.

The document, the severity catalogue and the list of modes not built yet are its only sources.
"""

import argparse
import sys
from pathlib import Path

from chaos.matrix import NOT_BUILT, ClaimKind, FailureMode, load_matrix
from slo import severity

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- matrix:begin -->", "<!-- matrix:end -->"
_HEAD = (
    "| # | failure mode | severity | alert | claims | where |",
    "|--:|---|---|---|--:|---|",
)


class MarksMissingError(ValueError):
    """The text has no region to write the table into."""


def table() -> str:
    """Return the table as Markdown, one row a failure mode, ending with a newline."""
    return "\n".join([*_HEAD, *(_row(mode) for mode in load_matrix().modes)]) + "\n"


def with_table(text: str) -> str:
    """Return a page with the table in its marked region.

    Raises:
        MarksMissingError: one of the two marks is missing, or they stand in the wrong order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise MarksMissingError(f"README.md has no region {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{table()}{END}{after}"


def _row(mode: FailureMode) -> str:
    alerts = ", ".join(f"`{name}`" for name in mode.alerts) or "none"
    counts = " + ".join(str(len(mode.of_kind(kind))) for kind in ClaimKind)
    return (
        f"| {mode.number} | {mode.title} | {severity.failure_mode(mode.id).severity} | {alerts} "
        f"| {counts} | {_where(mode)} |"
    )


def _where(mode: FailureMode) -> str:
    if mode.id in NOT_BUILT:
        return "not built yet"
    return (
        f"[scenario](chaos/scenarios/{mode.slug}.py) · [runbook](runbooks/{mode.slug}.md) · "
        f"[test](tests/failure_modes/test_{mode.slug}.py)"
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the table, or with ``--check`` return 1 if it is out of date."""
    parser = argparse.ArgumentParser(prog="python -m chaos.readme_table", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if README.md is out of date")
    chosen = parser.parse_args(arguments)
    old = README.read_text(encoding="utf-8")
    new = with_table(old)
    if chosen.check and new != old:
        sys.stderr.write("README.md: its table is out of date; run: python -m chaos.readme_table\n")
        return 1
    if new != old:
        README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
