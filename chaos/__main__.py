"""``python -m chaos``: list, plan, run, judge, sweep, doctor."""

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

import compose.doctor
import slo.files
from chaos import run, sweep
from chaos.matrix import NOT_BUILT, load_matrix
from chaos.scenario import Scenario
from chaos.scenarios import UnknownScenarioError, select
from compose import host, programs

ROOT = Path(__file__).resolve().parent.parent
EXIT_USAGE, EXIT_CRASHED, EXIT_MISSING = 64, 70, 69

_names = click.argument("names", nargs=-1, metavar="[MODE]...")
_profile = click.option(
    "--profile",
    type=click.Choice(["fast", "documented"]),
    default="fast",
    show_default=True,
    help="How long things last: fast shortens durations (never thresholds); documented is the document's numbers.",
)
_runs = click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / "runs",
    help="Folder of all runs (default: runs/ of this checkout).",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Inject every documented failure mode into the real stack and judge every documented claim.

    Exit codes: 0 pass, 1 a claim or an SLO failed, 2 unknown, 3 residue left behind, 4 coverage gap,
    64 usage, 69 a program is missing, 70 harness crash, 130/143 interrupted after undo.
    """


@cli.command("list")
def list_modes() -> None:
    """List the sixteen failure modes: what exists, how many claims, which injections."""
    table = Table(title="Failure modes", title_justify="left")
    for column in ("mode", "failure", "claims", "injections", "alert"):
        table.add_column(column)
    built = {scenario.failure_mode: scenario for scenario in select(())}
    for mode in load_matrix().modes:
        scenario = built.get(mode.id)
        table.add_row(
            mode.id,
            mode.title,
            str(len(mode.claims)),
            ", ".join(injection.name for injection in scenario.injections) if scenario else "not built yet",
            ", ".join(mode.alerts) or "-",
            style="" if scenario else "dim",
        )
    Console().print(table)
    Console().print(f"{len(built)} built, {len(NOT_BUILT)} not built yet. Run one: ./justw gameday fm01")


@cli.command()
@_names
@_profile
@click.option("--isolation", type=click.Choice(["auto", "root", "user", "none"]), default="auto", show_default=True)
def plan(names: tuple[str, ...], profile: str, isolation: str) -> None:
    """Say what a run would do, in order, with each fault's undo, without doing anything."""
    capabilities = host.detect()
    options = run.RunOptions(
        profile=profile,
        seed=0,
        isolation=run.resolve_isolation(isolation, capabilities),
        runs=ROOT / "runs",
        service_path=ROOT / "service",
    )
    console = Console()
    for scenario in _selected(names):
        resolved = run.resolve(scenario, options, capabilities, "plan")
        _print_plan(console, scenario, resolved.skipped, profile)


def _print_plan(console: Console, scenario: Scenario, skipped: dict[str, str], profile: str) -> None:
    console.print(f"[bold]{scenario.failure_mode}[/] {scenario.slug}  (profile {profile})")
    load = scenario.load
    console.print(
        f"  load: {load.proposals_per_second:g} proposals/s, {load.reads_per_second:g} reads/s, "
        f"{load.retry_share:.0%} of proposals sent twice under one key"
    )
    for number, injection in enumerate(scenario.injections, start=1):
        parameters = ", ".join(f"{key}={value}" for key, value in injection.fault.parameters().items())
        console.print(f"  {number}. [magenta]{injection.name}[/]: {injection.fault.kind}({parameters})")
        if injection.name in skipped:
            console.print(f"     [yellow]skipped[/]: {skipped[injection.name]}")
            continue
        undo = "the runbook's own step, then checked" if injection.undone_by_runbook else "taken back by the harness"
        console.print(f"     held {injection.hold_seconds[profile]:g} s after its receipt; {undo}")
    console.print(f"  claims judged: {', '.join(scenario.checks)}")


@cli.command("run")
@_names
@_profile
@_runs
@click.option(
    "--isolation",
    type=click.Choice(["auto", "root", "user", "none"]),
    default="auto",
    show_default=True,
    help="World of each scenario: namespaces as root or as a user, or none (process groups, other ports).",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="Root seed of all randomness (default: random, printed)."
)
@click.option(
    "--injection",
    "injections",
    multiple=True,
    help="Run only this injection; may be repeated. Such a run is a part: it never exits 0, but 4 (coverage gap).",
)
@click.option("--parallel", type=click.IntRange(1, 8), default=1, show_default=True, help="Worlds side by side.")
@click.option(
    "--service",
    "service_path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT / "service",
    help="Folder of the package `app` to test (default: service/).",
)
@click.option("--no-faults", is_flag=True, help="Negative control: everything but the faults. Can never pass.")
@click.option(
    "--no-runbook",
    is_flag=True,
    help="Leave out the runbook's steps, but for one that is the undo: shorter, and what they prove stays unknown.",
)
def run_command(  # noqa: PLR0917 - click passes what it parsed by name
    names: tuple[str, ...],
    profile: str,
    runs: Path,
    isolation: str,
    seed: int | None,
    injections: tuple[str, ...],
    parallel: int,
    service_path: Path,
    no_faults: bool,  # noqa: FBT001
    no_runbook: bool,  # noqa: FBT001
) -> None:
    """Run the scenarios of the modes named, or all that exist; write runs/<id>/ and point runs/latest at it."""
    scenarios = _selected(names)
    known = {injection.name for scenario in scenarios for injection in scenario.injections}
    if unknown := sorted(set(injections) - known):
        raise click.UsageError(f"no injection {', '.join(unknown)}; there is {', '.join(sorted(known))}")
    capabilities = host.detect()
    options = run.RunOptions(
        profile=profile,
        seed=run.new_seed() if seed is None else seed,
        isolation=run.resolve_isolation(isolation, capabilities),
        runs=runs,
        service_path=service_path.resolve(),
        only_injections=injections,
        inject_faults=not no_faults,
        follow_runbook=not no_runbook,
        parallel=parallel,
    )
    sys.exit(run.run(scenarios, options, capabilities, Console()))


@cli.command("judge")
@click.argument("run_folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
def judge_command(run_folder: Path | None) -> None:
    """Judge a stored run again, offline (default: runs/latest); same evidence, same verdict, same exit code."""
    folder = run_folder or ROOT / "runs" / "latest"
    if not (folder / "report.json").exists() and not any(folder.glob("*/environment.json")):
        raise click.UsageError(f"{folder} holds no run; ./justw gameday makes one")
    sys.exit(run.judge_again(folder.resolve(), Console()))


@cli.command("sweep")
@_runs
def sweep_command(runs: Path) -> None:
    """Find and remove whatever an interrupted run left behind; exit 3 if there was something."""
    residue = sweep.sweep(runs)
    for line in residue:
        click.echo(f"removed: {line}")
    click.echo(f"{len(residue)} leftovers" if residue else "nothing left behind")
    sys.exit(3 if residue else 0)


@cli.command()
def doctor() -> None:
    """Say what is installed, what is missing, and what this host can and cannot prove, and why."""
    sys.exit(compose.doctor.main())


def _selected(names: tuple[str, ...]) -> tuple[Scenario, ...]:
    try:
        return select(names)
    except UnknownScenarioError as error:
        raise click.UsageError(str(error)) from error


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code (click's own 2 for usage becomes 64)."""
    try:
        cli.main(args=arguments, prog_name="python -m chaos", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except click.Abort:
        return 130
    except programs.MissingProgram as error:
        click.echo(f"missing program: {error}", err=True)
        return EXIT_MISSING
    except slo.files.InvalidSpecificationError as error:
        click.echo(str(error), err=True)
        return EXIT_USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
