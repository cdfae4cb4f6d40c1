"""`python -m app.workflow.log_recovery status|recover`: take the log out of quarantine, on the record (FM15).

To be run by a person, with the owner's credentials, after the runbook's first question was answered: can the database
be restored forward, so that nothing published is lost? If it was, `recover` finds the log sound and closes the
quarantine. If it cannot be, entries that were published are gone; `recover` then writes the event `log-recovered`,
which names what was published and what is left, and lets the log go on from there: whoever keeps an older checkpoint
will see the fork, and this event says why.

Refused: when nothing is wrong; when the log in the database does not hash to what it says, for such a log must not be
signed. The old mark is kept beside the new one.

Exit codes: 0 nothing is wrong (status), or recovered; 1 something is wrong (status), or refused; 69 no database; 78
invalid settings.
"""

import argparse
import asyncio
import base64
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from app import log as logging
from app import settings
from app.core.documents.identifiers import Principal
from app.core.log.checkpoint import Checkpoint
from app.core.log.events import Draft
from app.core.log.merkle import CompactRange
from app.errors import InvalidSettings
from app.security import derived_keys
from app.settings import LogRecoverySettings
from app.storage import log, log_audit, log_quarantine, log_tree
from app.storage.connection import Connection
from app.storage.events import Events
from app.storage.log_audit import AuditFlaw
from app.storage.log_quarantine import Quarantine
from app.storage.log_tree import LogDamaged, StoredCheckpoint
from app.storage.watermark import Watermark, WatermarkUnreadable, WatermarkUnwritable

EXIT_REFUSED: Final = 1
EXIT_UNAVAILABLE: Final = 69
CONNECT_TIMEOUT_SECONDS: Final = 5


class Refused(Exception):
    """The command does nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, if anything: the recorded quarantine, and whether the log extends the mark."""

    recorded: Quarantine | None
    marked: tuple[Checkpoint, bytes] | None
    newest: StoredCheckpoint | None
    tree: CompactRange
    is_extension: bool


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.workflow.log_recovery", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="say whether the log extends what was published; reads the whole log")
    recover = commands.add_parser("recover", help="let the log go on from what the database holds")
    recover.add_argument("--principal", required=True, help="who decides this; stands in the event")
    recover.add_argument("--reason", required=True, help="why nothing better could be done; stands in the event's body")
    options = parser.parse_args(arguments)
    logging.configure("warning")
    try:
        told = settings.load_log_recovery(settings.process_environment())
        return asyncio.run(_run(told, options))
    except InvalidSettings as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        return settings.EXIT_INVALID_SETTINGS
    except (Refused, AuditFlaw, WatermarkUnwritable) as error:
        sys.stderr.write(f"refused: {error}\n")
        return EXIT_REFUSED
    except psycopg.Error as error:
        sys.stderr.write(f"the database is not available ({type(error).__name__})\n")
        return EXIT_UNAVAILABLE


async def _run(told: LogRecoverySettings, options: argparse.Namespace) -> int:
    watermark = Watermark(told.watermark, origin=told.origin)
    async with await _connect(told) as connection:
        finding = await _find(connection, watermark)
        sys.stdout.write(_sentence(finding))
        if options.command == "status":
            return 0 if finding.is_extension and finding.recorded is None else EXIT_REFUSED
        if finding.is_extension and finding.recorded is None:
            raise Refused("nothing is wrong")
        events = Events(actor_key=derived_keys.actor_key(told.pepper), random=secrets.token_bytes)
        await _recover(
            connection, events, watermark, finding, principal=Principal(options.principal), reason=options.reason
        )
    sys.stdout.write("recovered\n")
    return 0


async def _connect(told: LogRecoverySettings) -> Connection:
    return await psycopg.AsyncConnection.connect(
        host=told.database.host,
        port=told.database.port,
        dbname=told.database.name,
        user=told.database.user,
        password=told.database.password.reveal().decode(),
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        application_name="firewall-log-recovery",
        autocommit=True,
    )


async def _find(connection: Connection, watermark: Watermark) -> Finding:
    """Hash the whole log anew and compare it with the mark.

    Raises:
        AuditFlaw: if the log does not hash to what it says.
    """
    tree = await log_audit.audit(connection)
    newest = await log_tree.newest_checkpoint(connection)
    recorded = await log_quarantine.find(connection)
    try:
        marked = watermark.read()
    except WatermarkUnreadable:
        return Finding(recorded, None, newest, tree, is_extension=False)
    if marked is None:
        return Finding(recorded, None, newest, tree, is_extension=newest is None)
    return Finding(recorded, marked, newest, tree, is_extension=await _extends(connection, marked[0]))


async def _extends(connection: Connection, marked: Checkpoint) -> bool:
    try:
        return await log_tree.root_at(connection, marked.size) == marked.root
    except LogDamaged:
        return False


async def _recover(
    connection: Connection, events: Events, watermark: Watermark, finding: Finding, *, principal: Principal, reason: str
) -> None:
    """Write the event, then move the mark, then lift the quarantine: cut off anywhere, it may be run again."""
    published = finding.tree.size if finding.marked is None else finding.marked[0].size
    body: dict[str, Any] = {
        "from": published,
        "to": finding.tree.size,
        "root": base64.b64encode(finding.tree.root).decode(),
        "checkpoint": None if finding.marked is None else finding.marked[1].decode(),
        "reason": reason,
    }
    async with connection.transaction():
        # Whoever numbers now finds its token worthless and looks anew.
        await log.take_token(connection, holder="log_recovery")
        await events.append(connection, Draft(kind="log-recovered", principal=principal, target=None, body=body))
    if not finding.is_extension:
        note = None if finding.newest is None else finding.newest.note
        watermark.restart(note, keep_as=f"{datetime.now(UTC):%Y%m%dT%H%M%S}Z.lost")
    await log_quarantine.lift(connection)


def _sentence(finding: Finding) -> str:
    marked = "nothing" if finding.marked is None else f"{finding.marked[0].size} entries"
    verdict = "extends" if finding.is_extension else "does NOT extend"
    recorded = "" if finding.recorded is None else f"; quarantine: {finding.recorded.reason}"
    return (
        f"the log has {finding.tree.size} entries, published are {marked}: it {verdict} what was published{recorded}\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
