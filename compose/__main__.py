"""`python -m compose up|down|status`: the stack in the background, on this host's loopback."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import click

import slo.profiles
from compose import places, up
from compose.demo import Demo, DemoFailed
from compose.settings import REPOSITORY

NOT_UP = 3
"""Exit code of `status` when nothing is up, as systemctl has it."""

_PATCH = '[{"op": "replace", "path": "/budgets/tokens", "value": 2000}]'


@click.group()
def main() -> None:
    """Run the stack: PostgreSQL, Valkey, Toxiproxy, HAProxy, Prometheus, Alertmanager and two replicas."""


@main.command("up")
@click.option("--profile", type=click.Choice(slo.profiles.names()), default="fast", show_default=True)
@click.option(
    "--service-path", type=click.Path(path_type=Path, exists=True), default=REPOSITORY / "service", hidden=True
)
def up_command(profile: str, service_path: Path) -> None:
    """Start the stack in the background; say how to use it."""
    home = up.Home()
    try:
        state, was_up = up.up(
            home, profile=profile, service_path=service_path.resolve(), say=lambda line: click.echo(f"  {line}")
        )
    except up.UpFailed as problem:
        raise click.ClickException(str(problem)) from problem
    click.echo(f"The stack is up{' already' if was_up else ''}, profile {state.profile}.\n")
    _tell(home, state)


@main.command("down")
def down_command() -> None:
    """Take the stack down and see that nothing of it is left."""
    try:
        known = up.down(up.Home())
    except up.UpFailed as problem:
        raise click.ClickException(str(problem)) from problem
    if known is None:
        click.echo("No stack is up.")
        return
    click.echo("The stack is down; no process, port, group or folder of it is left.")


@main.command("status")
def status_command() -> None:
    """Say whether a stack is up and which of its parts answer."""
    home = up.Home()
    known = home.read()
    if known is None or not known.address or not places.is_alive(known.guard):
        click.echo("No stack is up. Start one: ./justw up")
        sys.exit(NOT_UP)
    answers = asyncio.run(up.look(known))
    for name, is_well in answers.items():
        click.echo(f"  {name:14} {'answers' if is_well else 'DOES NOT ANSWER'}")
    _tell(home, known)
    sys.exit(0 if all(answers.values()) else 1)


@main.command("demo")
def demo_command() -> None:
    """Walk one change from its proposal to offline verification and roll-back, on the stack that is up.

    Without one, a stack is started for it and taken down afterwards.
    """
    home = up.Home()
    try:
        state, was_up = up.up(
            home, profile="fast", service_path=REPOSITORY / "service", say=lambda line: click.echo(f"  {line}")
        )
    except up.UpFailed as problem:
        raise click.ClickException(str(problem)) from problem
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="amgf-demo-") as folder:
            demo = Demo(home, state, Path(folder), click.echo)
            demo.run()
            click.echo(f"\n{demo.steps} steps in {time.monotonic() - began:.1f} s, every one as it should be.")
    except DemoFailed as problem:
        raise click.ClickException(str(problem)) from problem
    finally:
        if was_up:
            click.echo("The stack stays up; stop it: ./justw down")
        else:
            up.down(home)
            click.echo("The stack is down again; keep one up for more: ./justw up")


@main.command("hold", hidden=True)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("profile")
@click.argument("service_path", type=click.Path(path_type=Path))
def hold_command(folder: Path, profile: str, service_path: Path) -> None:
    """Be the stack (started by `up`, inside of a world)."""
    sys.exit(asyncio.run(up.hold(up.Home(folder), profile=profile, service_path=service_path)))


def _tell(home: up.Home, state: up.State) -> None:
    headers = _shown(home.headers)
    click.echo(
        f"""\
address    {state.address}   documentation http://127.0.0.1:{state.ports.replicas[0]}/schema
alerts     http://127.0.0.1:{state.ports.prometheus}/alerts   http://127.0.0.1:{state.ports.alertmanager}
logs       {_shown(home.logs)}
stop       ./justw down

Propose:
  curl -sS {state.address}/api/v1/proposals -H @{headers} \\
    -H 'Content-Type: application/json' -H "Idempotency-Key: $(date +%s%N)" \\
    -d '{{"target": "{state.target}", "base_version": 1, "base_digest": "{state.digest}",
         "rationale": "try it", "patch": {_PATCH}}}'
List:
  curl -sS '{state.address}/api/v1/proposals?limit=10' -H @{headers}"""
    )


def _shown(path: Path) -> str:
    """Return a path as short as it works from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    main()
