"""amgf log: export, replay."""

import base64
import contextlib
import json
import time
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from app.client import files, reading, shown
from app.client.ahead import Ahead, is_worth_it
from app.client.exits import NO, bad_input
from app.client.session import Session, pass_session
from app.client.verifying import Verifiers, resimulate
from app.core.documents import canonical
from app.core.log.bodies import Denied
from app.core.log.entry import Entry
from app.core.replay.fold import Fold
from app.core.replay.standing import Unreadable
from app.core.replay.whole_log import Replayed, replay
from app.core.verification.rebuilding import inputs_of
from app.security.signatures import verify

PAGE: Final = 256
PROGRESS_SECONDS: Final = 2.0


@click.group("log")
def log_group() -> None:
    """Copy the log, and replay it."""


@log_group.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where it goes, as JSON lines.")
@pass_session
def export(session: Session, out: Path) -> None:
    """Copy all entries under the newest checkpoint, and that checkpoint."""
    lines = []
    began = time.monotonic()
    with session.firewall() as firewall:
        note = firewall.get("/log/checkpoint").content.decode()
        size = int(note.split("\n")[1])
        index = 0
        while index < size:
            page = firewall.get("/log/entries", query={"from": index, "limit": min(PAGE, size - index)}).value()
            if not page["items"]:
                raise bad_input(f"the log has no entry {index}")
            lines += [json.dumps(one, separators=(",", ":")) for one in page["items"]]
            index += len(page["items"])
            if time.monotonic() - began > PROGRESS_SECONDS:
                session.progress(f"{index} of {size} entries")
                began = time.monotonic()
    lines.append(json.dumps({"checkpoint": note}))
    files.write(out, "".join(f"{line}\n" for line in lines).encode(), replace=True)
    session.say(f"{out}: {size} entries and the checkpoint of that size")
    session.tell({"file": str(out), "entries": size})


@log_group.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trust", type=click.Path(path_type=Path), help="The genesis bundle that you pinned.")
@click.option("--simulate", is_flag=True, help="Run every simulation again: slow.")
@pass_session
def replay_command(session: Session, file: Path, trust: Path | None, *, simulate: bool) -> None:
    """Fold the log in FILE from its genesis; name the first entry that does not follow.

    FILE: JSON lines {"index", "leaf", "body"} with base64, in the order of the log, and {"checkpoint": note}.
    Exit code 1: an entry does not follow. A large file is read ahead, and its signatures are verified, by two or
    three processes beside this one.
    """
    began = last = time.monotonic()

    def on_block(entries: int) -> None:
        nonlocal last
        if time.monotonic() - last > PROGRESS_SECONDS:
            session.progress(f"{entries} entries, {entries / (time.monotonic() - began):.0f} a second")
            last = time.monotonic()

    with contextlib.ExitStack() as stack:
        beside = stack.enter_context(Ahead(on_lost=session.progress)) if is_worth_it(file) else None
        found = replay(
            reading.items(file) if beside is None else beside.items(file),
            verify=verify,
            verify_all=beside or Verifiers(),
            genesis_digest=files.read_genesis(trust).digest() if trust else None,
            resimulate=resimulated if simulate else None,
            on_block=on_block,
        )
    _tell(session, found, seconds=time.monotonic() - began)
    if found.failure is not None:
        raise SystemExit(NO)


def resimulated(fold: Fold, read: Entry) -> str | None:
    """Run the simulation of an entry again; return why it differs, or None."""
    proposal = fold.known.proposals[read.leaf.proposal or ""]
    told = msgspec.convert(read.body, Denied)
    try:
        inputs = inputs_of(fold.known, proposal, told.inputs, base=fold.known.head(proposal.target).document)
    except Unreadable as error:
        return str(error)
    if canonical.digest(inputs) != told.simulation.get("inputs_digest"):
        return "the simulation was of other inputs"
    again = resimulate(inputs)
    if again.record is None:
        return again.why
    return None if again.record == canonical.encode_value(told.simulation) else "running it again gives another record"


def _tell(session: Session, found: Replayed, *, seconds: float) -> None:
    failure = found.failure
    rate = found.entries / seconds if seconds else 0.0
    session.say(f"{found.entries} entries in {seconds:.1f} s ({rate:.0f} a second), {found.checkpoints} checkpoints")
    session.say(f"root {found.root.hex()}")
    for name, head in sorted(found.heads.items()):
        session.say(f"  {shown.text(name)}  version {head.version}  {head.digest}  {head.state}")
    if failure is not None:
        session.say(f"entry {failure.index} does not follow: {shown.text(failure.message)} [{failure.code}]")
    session.tell(document(found, seconds=seconds))


def document(found: Replayed, *, seconds: float) -> dict[str, Any]:
    """Return what a replay found as plain JSON values."""
    failure = found.failure
    return {
        "entries": found.entries,
        "size": found.entries,
        "root": base64.b64encode(found.root).decode(),
        "checkpoints": found.checkpoints,
        "heads": {
            name: {"version": head.version, "digest": head.digest, "state": head.state}
            for name, head in found.heads.items()
        },
        "failure": None
        if failure is None
        else {"index": failure.index, "id": failure.id, "code": failure.code, "message": failure.message},
        "seconds": round(seconds, 3),
    }
