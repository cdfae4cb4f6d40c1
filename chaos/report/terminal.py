"""The terminal's table and the closing line that scripts look for."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chaos.report.tally import (
    BAD,
    WORST_FIRST,
    Problem,
    about_the_run,
    against_bound,
    beside_claims,
    claims,
    clocks,
    inert,
    is_shortened,
    problems,
)
from chaos.result import Report, ScenarioResult
from chaos.verdict import Verdict

STYLE = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.UNKNOWN: "bold yellow",
    Verdict.SKIPPED: "cyan",
    Verdict.WAIVED: "blue",
}


def print_report(report: Report, console: Console, *, location: str = "") -> None:
    """Print the table of modes, everything that is wrong, and the closing line as the very last."""
    console.print(_table(report))
    for problem in problems(report):
        _print_problem(console, problem)
    counted = claims(report)
    parts = Text("claims: ")
    for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN):
        parts.append(f"{counted[verdict]} {_WORDS[verdict]}, ", style=STYLE[verdict] if counted[verdict] else "")
    skipped = counted[Verdict.SKIPPED] + counted[Verdict.WAIVED]
    parts.append(f"{skipped} skipped ({counted[Verdict.WAIVED]} of them waived)")
    console.print(parts)
    console.print(
        Text.assemble("verdict: ", (report.verdict.value, STYLE[report.verdict]), f", exit code {report.exit_code}")
    )
    if is_shortened(report):
        console.print(Text(f"durations shortened: profile {report.profile}; thresholds are the document's", "yellow"))
    if location:
        console.print(Text(f"report: {location}"), soft_wrap=True)
    console.print(Text(closing_line(report)), soft_wrap=True)


def closing_line(report: Report) -> str:
    """Return ``N passed, N failed, N skipped``, counted over claims.

    Unknown counts as failed and waived as skipped. When no claim failed, the clocks, invariants, faults and facts
    about the run that are not in order are counted instead: the line never says 0 failed of a run that is no pass.
    """
    counted = claims(report)
    items = [item for scenario in report.scenarios for item in beside_claims(scenario)]
    others = sum(item.verdict in BAD for item in (*items, *about_the_run(report)))
    failed = counted[Verdict.FAIL] + counted[Verdict.UNKNOWN] or others or int(report.exit_code != 0)
    skipped = counted[Verdict.SKIPPED] + counted[Verdict.WAIVED]
    return f"{counted[Verdict.PASS]} passed, {failed} failed, {skipped} skipped"


_WORDS = {Verdict.PASS: "passed", Verdict.FAIL: "failed", Verdict.UNKNOWN: "unknown"}


def _table(report: Report) -> Table:
    table = Table(
        title=f"Game day {report.run_id}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("mode", no_wrap=True)
    table.add_column("failure")
    table.add_column("verdict", no_wrap=True)
    table.add_column("claims")
    for column in ("detect", "mitigate", "recover"):
        table.add_column(column, justify="right", no_wrap=True)
    for scenario in report.scenarios:
        measured = {
            name: Text(against_bound(clock), STYLE[clock.verdict] if clock.verdict in BAD else "")
            for name, clock in clocks(scenario)
        }
        table.add_row(
            scenario.failure_mode,
            Text(scenario.title),
            Text(scenario.verdict.value, STYLE[scenario.verdict]),
            _claims(scenario),
            *(measured.get(name, Text("-")) for name in ("detect", "mitigate", "recover")),
        )
    return table


def _claims(scenario: ScenarioResult) -> Text:
    text = Text()
    for verdict in reversed(WORST_FIRST):
        if number := sum(claim.verdict is verdict for claim in scenario.claims):
            text.append(f"{', ' if text else ''}{number} {verdict.value}", STYLE[verdict])
    return text


def _print_problem(console: Console, problem: Problem) -> None:
    console.print(Text.assemble((problem.verdict.value, STYLE[problem.verdict]), f" {inert(problem.subject)}"))
    console.print(Text(f"    {inert(problem.reason)}"))
    for place in problem.places:
        console.print(Text(f"    {inert(place)}", "dim"), soft_wrap=True)
