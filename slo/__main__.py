"""``python -m slo generate | check | budget | severity``."""

import sys
from pathlib import Path

import click

from slo import budget, generate, lint, objectives, programs, severity
from slo.files import InvalidSpecificationError

_EXIT_UNAVAILABLE = 69


@click.group()
def main() -> None:
    """Objectives, alerts, severities and error-budget arithmetic, from one specification."""


@main.command("generate")
def generate_files() -> None:
    """Write the rules and cases of both profiles and the runbooks' index."""
    written = generate.write()
    for path in written:
        click.echo(f"written: {path}")
    if not written:
        click.echo("nothing to do: every file is as specified")


@main.command()
@click.option("--promtool", type=click.Path(path_type=Path, exists=True), help="Where it is, if not on PATH.")
@click.option("--amtool", type=click.Path(path_type=Path, exists=True), help="Where it is, if not on PATH.")
def check(promtool: Path | None, amtool: Path | None) -> None:
    """Compare the checked-in files with the specification; lint; run promtool and amtool. Exit 1 on any finding."""
    try:
        found = lint.problems()
        difference = generate.drift()
        if difference:
            found.append(f"{difference}\n\nrun: python -m slo generate")
        else:
            found += programs.problems(promtool or programs.find("promtool"), amtool or programs.find("amtool"))
    except programs.MissingProgramError as problem:
        click.echo(str(problem), err=True)
        sys.exit(_EXIT_UNAVAILABLE)
    except InvalidSpecificationError as problem:
        found = [str(problem)]
    for text in found:
        click.echo(text)
    if found:
        sys.exit(1)
    click.echo("rules, cases, routes and lints of both profiles: fine")


@main.command("budget")
@click.option("--objective", default="availability", show_default=True)
@click.option("--bad", type=click.FloatRange(0, 100), default=100.0, show_default=True, help="Bad requests, per cent.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True)
def show_budget(objective: str, bad: float, seconds: float) -> None:
    """Say what an outage costs of the 30 days' budget."""
    try:
        chosen = objectives.load().named(objective)
    except InvalidSpecificationError as problem:
        raise click.UsageError(str(problem)) from problem
    spent = budget.share(bad / 100, seconds, objective=chosen)
    click.echo(f"{bad:g} % bad for {seconds:g} s: {spent:.2%} of the {objective} budget of 30 days")
    click.echo(f"burn rate: {budget.burn_rate(bad / 100, chosen):g}; a full outage may last")
    click.echo(f"{budget.full_outage_seconds(chosen):g} s in 30 days. Policy at that share: {budget.policy(spent)}")


@main.command("severity")
def show_severity() -> None:
    """Print the severity of each failure mode and the recomputed summary."""
    for mode in severity.failure_modes():
        click.echo(f"{mode.id}  {mode.severity:<8}  {mode.title}")
    click.echo("\nseverity  count  automatic recovery  manual recovery")
    for row in severity.summary():
        click.echo(f"{row.severity:<8}  {row.count:>5}  {row.automatic:>18}  {row.manual:>15}")


if __name__ == "__main__":
    main()
