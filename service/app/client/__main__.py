"""`amgf`: the command-line client of the AI Mutation Governance Firewall."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from app.client import exits
from app.client.commands import applying, attesting, keys, logs, looking, proposing, roots, verifying, voting
from app.client.session import ADDRESS, Session

EPILOG = """\b
Exit codes:
   0  done, the answer is yes        64  used wrongly
   1  done, the answer is no         65  the input is not what it should be
   3  cannot say here or in time     69  the service cannot be reached
  11-24  the first of the fourteen   73  cannot write there
         checks of a bundle failed   75  not now: try again
 130  interrupted                    77  not allowed

Your API key is read from a file, never from an argument: the key alone, or a line `X-API-Key: ...`."""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--address", envvar="AMGF_ADDRESS", default=ADDRESS, show_default=True, show_envvar=True)
@click.option(
    "--api-key-file", "key_file", envvar="AMGF_API_KEY_FILE", show_envvar=True, type=click.Path(path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON, ask nothing.")
@click.version_option("0.1.0", prog_name="amgf")
@click.pass_context
def amgf(context: click.Context, address: str, key_file: Path | None, *, as_json: bool) -> None:
    """Propose, simulate, vote on, apply and verify changes of governed documents."""
    found = context.ensure_object(Session)
    found.address, found.key_file, found.as_json = address, key_file, as_json


for command in (
    roots.root_group,
    keys.key_group,
    proposing.propose,
    proposing.withdraw,
    proposing.rollback,
    looking.show,
    looking.list_command,
    looking.watch,
    voting.sign,
    voting.revoke,
    voting.recompute,
    applying.apply,
    verifying.fetch_bundle,
    verifying.verify_group,
    logs.log_group,
    attesting.attest_group,
):
    amgf.add_command(command)


def run(arguments: Sequence[str], *, session: Session | None = None) -> int:
    """Run one command; return its exit code."""
    try:
        result: Any = amgf.main(args=list(arguments), prog_name="amgf", standalone_mode=False, obj=session)
    except click.exceptions.Abort:
        click.echo("nothing was done", err=True)
        return exits.INTERRUPTED
    except click.UsageError as error:
        error.show()
        return exits.USAGE
    except click.ClickException as error:
        click.echo(f"amgf: {error.format_message()}", err=True)
        return error.exit_code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else exits.NO
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return exits.INTERRUPTED
    return result if isinstance(result, int) else exits.YES


def main() -> None:
    """Run the command named on the command line."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
