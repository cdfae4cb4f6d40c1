"""amgf verify bundle, amgf bundle: what a stranger does. Verifying needs no network and no database."""

from datetime import UTC, datetime
from pathlib import Path

import click

from app.client import files, shown
from app.client.exits import bad_input
from app.client.session import Session, pass_session
from app.client.verifying import not_resimulated, resimulate
from app.core.log import checkpoint
from app.core.log.checkpoint import Checkpoint, CheckpointFlaw
from app.core.verification.judging import verify_bundle
from app.security.signatures import verify


@click.group("verify")
def verify_group() -> None:
    """Verify what a firewall says, offline."""


@verify_group.command("bundle")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trust", required=True, type=click.Path(path_type=Path), help="The genesis bundle that you pinned.")
@click.option(
    "--kept", type=click.Path(path_type=Path), help="A checkpoint you saw before; written anew when all is well."
)
@click.option("--no-simulate", is_flag=True, help="Leave the simulation unchecked (exit code 3).")
@pass_session
def bundle(session: Session, file: Path, trust: Path, kept: Path | None, *, no_simulate: bool) -> None:
    """Judge the bundle in FILE by the fourteen checks; all of them are reported.

    Exit code: 0 all that apply passed; 3 none failed, but something could not be checked here; 11 to 24 the number of
    the first check that failed, plus ten.
    """
    report = verify_bundle(
        files.read(file),
        trust=files.read_genesis(trust),
        verify=verify,
        resimulate=not_resimulated if no_simulate else resimulate,
        now=datetime.now(UTC),
        kept=_read_kept(kept),
    )
    for line in report.lines():
        session.say(shown.text(line))
    session.tell(report.document())
    if kept is not None and report.failed is None and report.note is not None:
        _keep(kept, report.note)
    raise SystemExit(report.exit_code)


@click.command("bundle")
@click.argument("proposal")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where it goes.")
@click.option("--kept", type=click.Path(path_type=Path), help="Ask for the proof from the checkpoint kept there.")
@click.option("--wait", type=click.FloatRange(0, 600), default=30, show_default=True, help="Seconds until published.")
@pass_session
def fetch_bundle(session: Session, proposal: str, out: Path, kept: Path | None, wait: float) -> None:
    """Fetch the bundle of a PROPOSAL, once its entries are under a checkpoint."""
    known = _read_kept(kept)
    with session.firewall() as firewall:
        answer = firewall.get_when_published(
            f"/proposals/{proposal}/bundle", query={"from": known.size if known else None}, wait_seconds=wait
        )
    files.write(out, answer.content, replace=True)
    session.say(f"{out}: {len(answer.content)} bytes")
    session.tell({"file": str(out), "bytes": len(answer.content)})


def _read_kept(path: Path | None) -> Checkpoint | None:
    if path is None or not path.exists():
        return None
    try:
        return checkpoint.parsed(files.read(path))[0]
    except CheckpointFlaw as flaw:
        raise bad_input(f"{path} is no checkpoint: {flaw}") from None


def _keep(path: Path, note: bytes) -> None:
    """Keep the newest checkpoint that was verified."""
    known = _read_kept(path)
    if known is None or known.size <= checkpoint.parsed(note)[0].size:
        files.write(path, note, replace=True)
