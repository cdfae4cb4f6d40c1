"""The founding of a firewall: its first root, policies, validators and corpus, once and for all.

    python -m app.genesis install FILE     verify the bundle and write it, with the owner's credentials
    python -m app.genesis show             what is in force

Installing the same bundle again changes nothing and succeeds; another one is refused, whatever its signatures: from
here on only proposals change the rules. Refused: too few founders' signatures, documents that the constitution does
not allow. The bundle becomes the first event, and so leaf 0 of the log.
"""

import argparse
import asyncio
import secrets
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
from psycopg import AsyncConnection

from app import ed25519, log, settings
from app.core.documents import canonical
from app.core.documents.identifiers import Principal
from app.core.governance import genesis
from app.core.governance.genesis import Genesis
from app.core.governed import target
from app.core.log.events import Draft
from app.core.simulation import constitution
from app.errors import FirewallError, InvalidDocument, InvalidSettings
from app.security import derived_keys
from app.settings import DatabaseAddress
from app.storage import governance
from app.storage.connection import Connection, Row
from app.storage.events import Events, clock
from app.storage.governance import CORPUS, LOCK_KEY, POLICIES, ROOT, VALIDATORS

FOUNDERS: Final = Principal("founders")
"""The actor of the first event: nobody's API key."""
BUNDLE_BYTES_MAX: Final = 1_048_576
CONNECT_SECONDS: Final = 10
EXIT_REFUSED: Final = 65
EXIT_UNAVAILABLE: Final = 69

INSTALLED: Final = "SELECT body FROM events WHERE kind = 'genesis'"
INSERT_TARGET: Final = """
    INSERT INTO targets (name, config, config_digest, version, digest, created_at) VALUES (%s, %s, %s, 1, %s, %s)"""
INSERT_SNAPSHOT: Final = """
    INSERT INTO snapshots (target, version, digest, content, created_at) VALUES (%s, 1, %s, %s, %s)"""


class AnotherFounding(Exception):
    """The firewall was founded with another bundle."""


def read(path: Path) -> Genesis:
    """Return the verified bundle of a file.

    Raises:
        OSError: it cannot be read.
        MalformedBody, InvalidDocument, BadSignature: it is no good bundle, with every flaw that was found.
    """
    with path.open("rb") as file:
        bundle = genesis.decode(file.read(BUNDLE_BYTES_MAX + 1))
    genesis.verify_signatures(bundle, verify=ed25519.verify)
    flaws = constitution.check_genesis(bundle, verify=ed25519.verify)
    if flaws:
        raise InvalidDocument(flaws)
    return bundle


async def install(connection: Connection, events: Events, bundle: Genesis) -> bool:
    """Write a verified bundle in one transaction; False if it was there already.

    Raises:
        AnotherFounding: another one is there.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
        row = await (await connection.execute(INSTALLED)).fetchone()
        if row is not None:
            earlier = genesis.from_value(msgspec.json.decode(row[0])["genesis"])
            if earlier.digest() != bundle.digest():
                raise AnotherFounding
            return False
        now = await clock(connection)
        draft = Draft(kind="genesis", principal=FOUNDERS, body={"genesis": bundle.document()}, target=None, at=now)
        await events.append(connection, draft)
        for name, document in documents(bundle).items():
            await _found(connection, name, document, now)
    return True


def documents(bundle: Genesis) -> Mapping[str, Any]:
    """Return the governance documents of a bundle, by target."""
    return {ROOT: bundle.root, POLICIES: bundle.policies, VALIDATORS: bundle.validators, CORPUS: bundle.corpus}


async def _found(connection: Connection, name: str, document: Any, now: datetime) -> None:
    config = canonical.encode_value(target.reserved(name).record())
    content = canonical.encode_value(document)
    digest = canonical.digest(content)
    await connection.execute(INSERT_SNAPSHOT, [name, digest, content, now])
    await connection.execute(INSERT_TARGET, [name, config, canonical.digest(config), digest, now])


async def show(connection: Connection) -> dict[str, Any]:
    """Return the versions in force.

    Raises:
        NotFounded: there are none.
    """
    return {
        name: msgspec.to_builtins(pin) for name, pin in (await governance.read_pins(connection)).by_target().items()
    }


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; return the exit code."""
    options = _options(arguments)
    log.configure("warning")
    try:
        told = settings.load_key_creation(settings.process_environment())
        events = Events(actor_key=derived_keys.actor_key(told.pepper), random=secrets.token_bytes)
        bundle = read(options.file) if options.command == "install" else None
        sys.stdout.write(asyncio.run(_run(told.database, events, bundle)) + "\n")
    except InvalidSettings as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        return settings.EXIT_INVALID_SETTINGS
    except psycopg.Error as error:
        sys.stderr.write(f"nothing was written ({type(error).__name__})\n")
        return EXIT_UNAVAILABLE
    except (FirewallError, AnotherFounding, OSError) as error:
        sys.stderr.write(_refusal(error))
        return EXIT_REFUSED
    return 0


def _refusal(error: Exception) -> str:
    if isinstance(error, FirewallError):
        flaws = [f"  {flaw.pointer or '/'}: {flaw.code}: {flaw.message}\n" for flaw in error.flaws]
        return f"refused: {error.sentence}\n{''.join(flaws)}"
    if isinstance(error, AnotherFounding):
        return "refused: this firewall was founded with another bundle\n"
    return f"refused: the bundle cannot be read ({type(error).__name__})\n"


async def _run(address: DatabaseAddress, events: Events, bundle: Genesis | None) -> str:
    connection: AsyncConnection[Row] = await AsyncConnection.connect(
        host=address.host,
        port=address.port,
        dbname=address.name,
        user=address.user,
        password=address.password.reveal().decode(),
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        application_name="firewall-genesis",
        options="-c lock_timeout=5s -c statement_timeout=10s -c timezone=UTC",
    )
    async with connection:
        if bundle is None:
            return msgspec.json.format(msgspec.json.encode(await show(connection))).decode()
        is_new = await install(connection, events, bundle)
        return f"{'founded' if is_new else 'founded before'}: {bundle.digest()}"


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app.genesis", description="Found the firewall.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="verify and write a founding bundle").add_argument("file", type=Path)
    commands.add_parser("show", help="show the versions in force")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
