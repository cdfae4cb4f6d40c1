"""amgf attest: what a runtime checks, by hand."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from app.client import files, shown
from app.client.exits import NO, Stop
from app.client.runtime import Refused, Runtime
from app.client.session import Session, pass_session
from app.core.documents import canonical
from app.core.governance import root


@click.group("attest")
def attest_group() -> None:
    """Look at attestations."""


@attest_group.command()
@click.argument("target")
@click.option("--trust", required=True, type=click.Path(path_type=Path), help="The genesis bundle that you pinned.")
@click.option("--state", required=True, type=click.Path(path_type=Path), help="What was last accepted; kept here.")
@click.option("--file", type=click.Path(path_type=Path), help="An attestation in a file, instead of asking for one.")
@pass_session
def check(session: Session, target: str, trust: Path, state: Path, file: Path | None) -> None:
    """Fetch and verify the attestation of TARGET as an embedded runtime would; exit code 1: do not run."""
    founding = root.parse(files.read_genesis(trust).root)
    document: Any = None
    if file is not None:
        envelope = files.read(file)
    else:
        with session.firewall() as firewall:
            address = f"/targets/{quote(target, safe='')}"
            envelope = firewall.get(f"{address}/attestation").content
            document = firewall.get(f"{address}/current").value()["document"]
    try:
        runtime = Runtime(target=target, service_keys=[founding.current("service")], kept_in=state)
        content = None if document is None else canonical.encode_value(document)
        attested = runtime.offer(envelope, document=content)
    except Refused as refused:
        raise Stop(f"do not run: {refused} [{refused.code}]", code=NO) from None
    session.say(f"{shown.text(target)}  version {attested.version}  {attested.digest}")
    session.tell(msgspec.to_builtins(attested))
