"""API keys: `amgf_<id>_<secret><checksum>` (FM04).

The id (12 characters) is public, the secret has 256 random bits (43 characters), the checksum (6) lets scanners and
clients notice a typo without asking anybody. Stored is HMAC-SHA-256 of the secret under the pepper, which is not in
the database. A key is shown once, when it is created.

A verified key is believed for `fresh_seconds`; after that the database is asked again, and when it is gone the key is
believed up to `stale_seconds_max` after it was last verified: an outage of the key store must not turn good keys away
(503 for keys we do not know then; never 401, which makes clients throw good keys away, and never 200).

`python -m app.security.api_keys create --principal NAME --role editor [--role viewer] [--days N]` creates a key with
the owner's credentials and prints it once. `create-many` reads lines `NAME ROLE [ROLE ...]` from standard input and
prints a key for each, in their order: all of them are created, or none.
"""

import argparse
import hmac
import re
import secrets
import string
import sys
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from app import log, metrics, settings
from app.core.documents.identifiers import Principal
from app.errors import DatabaseUnavailable, InvalidSettings, QueryTimeout, Unauthenticated
from app.migrations import lock
from app.resilience.deadline import Clock, Deadline
from app.settings import KeyPolicy, Secret
from app.storage import api_keys as stored
from app.storage.connection import Connection
from app.storage.database import Database

ROLES: Final = ("viewer", "editor", "admin", "validator", "applier", "break_glass", "actuator")
IMPLIED: Final = {
    "viewer": {"viewer"},
    "editor": {"editor", "viewer"},
    "admin": {"admin", "editor", "viewer"},
    "validator": {"validator", "viewer"},
    "applier": {"applier", "viewer"},
    "break_glass": {"break_glass", "viewer"},
    "actuator": {"actuator", "viewer"},
}
PREFIX: Final = "amgf"
ID_CHARACTERS: Final = 12
SECRET_CHARACTERS: Final = 43
CHECKSUM_CHARACTERS: Final = 6
ORDERS_CHARACTERS_MAX: Final = 65_536
KEY_CHARACTERS: Final = len(PREFIX) + 1 + ID_CHARACTERS + 1 + SECRET_CHARACTERS + CHECKSUM_CHARACTERS
PRINCIPAL_PATTERN: Final = r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?"
DAYS_MAX: Final = 3650
EXIT_UNAVAILABLE: Final = 69
ABSENT_DIGEST: Final = bytes(32)
"""What an unknown id is compared with, so that it takes as long as a wrong secret."""

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SHAPE: Final = re.compile(
    rf"{PREFIX}_(?P<id>[0-9A-Za-z]{{{ID_CHARACTERS}}})_"
    rf"(?P<secret>[0-9A-Za-z]{{{SECRET_CHARACTERS}}})(?P<checksum>[0-9A-Za-z]{{{CHECKSUM_CHARACTERS}}})"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking: a principal and everything its roles imply."""

    principal: Principal
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Key:
    """The parts of a well-formed key."""

    id: str
    secret: str

    def digest(self, pepper: Secret) -> bytes:
        """Return what is stored."""
        return hmac.digest(pepper.reveal(), f"amgf/api-key/v1\0{self.id}\0{self.secret}".encode(), "sha256")


def new_key() -> str:
    """Return a new key: 256 bits of the system's randomness."""
    number = secrets.randbits(256)
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(ID_CHARACTERS))
    body = f"{PREFIX}_{key_id}_{_base62(number, SECRET_CHARACTERS)}"
    return body + _checksum(body)


def parse(text: str) -> Key | None:
    """Return the parts, or None if the text is no key (wrong shape or checksum)."""
    if len(text) != KEY_CHARACTERS:
        return None
    match = _SHAPE.fullmatch(text)
    if match is None or _checksum(text[:-CHECKSUM_CHARACTERS]) != match["checksum"]:
        return None
    return Key(id=match["id"], secret=match["secret"])


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECKSUM_CHARACTERS)


def _base62(number: int, characters: int) -> str:
    digits = []
    for _ in range(characters):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


@dataclass(frozen=True, slots=True)
class _Verified:
    identity: Identity
    at: float


class Authenticator:
    """Turns a presented key into an identity; remembers verified keys, bounded in number and age."""

    def __init__(self, database: Database, policy: KeyPolicy, *, clock: Clock) -> None:
        self._database = database
        self._policy = policy
        self._clock = clock
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def authenticate(self, presented: str | None, *, deadline: Deadline) -> Identity:
        """Return who presents the key.

        Raises:
            Unauthenticated: it is not a valid key; never says why.
            DatabaseUnavailable, QueryTimeout: the key store cannot be asked, and the key is not remembered.
        """
        key = parse(presented) if presented else None
        if key is None:
            raise self._refused("invalid")
        digest = key.digest(self._policy.pepper)
        remembered = self._verified.get(digest)
        age = self._clock() - remembered.at if remembered else float("inf")
        if remembered and age <= self._policy.fresh_seconds:
            return self._accepted(remembered.identity)
        try:
            identity = await self._ask(key, digest, deadline)
        except (DatabaseUnavailable, QueryTimeout):
            if remembered and age <= self._policy.stale_seconds_max:
                return self._accepted(remembered.identity)
            raise
        except Unauthenticated:
            self._verified.pop(digest, None)
            raise
        self._remember(digest, identity)
        return self._accepted(identity)

    def remembers(self, presented: str | None) -> bool:
        """Return whether the key was verified by this replica not long ago; asks nobody, and is no permission."""
        key = parse(presented) if presented else None
        remembered = self._verified.get(key.digest(self._policy.pepper)) if key else None
        return remembered is not None and self._clock() - remembered.at <= self._policy.stale_seconds_max

    async def _ask(self, key: Key, digest: bytes, deadline: Deadline) -> Identity:
        async def work(connection: Connection) -> stored.StoredKey | None:
            found = await stored.find(connection, key.id)
            # The comparison costs the same for an unknown id and a wrong secret; then both are refused alike.
            is_right = hmac.compare_digest(digest, found.digest if found else ABSENT_DIGEST)
            if found is None or not is_right:
                return None
            if found.is_use_to_note and not found.has_expired and not found.is_revoked:
                await stored.note_use(connection, key.id)
            return found

        found = await self._database.read("api_key_find", work, deadline=deadline)
        if found is None or found.is_revoked:
            raise self._refused("invalid")
        if found.has_expired:
            raise self._refused("expired")
        implied = frozenset[str]().union(*(IMPLIED.get(role, set()) for role in found.roles))
        return Identity(principal=found.principal, roles=implied)

    def _remember(self, digest: bytes, identity: Identity) -> None:
        self._verified[digest] = _Verified(identity, self._clock())
        self._verified.move_to_end(digest)
        while len(self._verified) > self._policy.entries_max:
            self._verified.popitem(last=False)

    def _accepted(self, identity: Identity) -> Identity:
        metrics.AUTH_ATTEMPTS.labels("valid").inc()
        return identity

    def _refused(self, status: str) -> Unauthenticated:
        metrics.AUTH_ATTEMPTS.labels(status).inc()
        return Unauthenticated()


@dataclass(frozen=True, slots=True)
class Order:
    """A key to be created. `days`: until it expires; None is never."""

    principal: str
    roles: tuple[str, ...]
    days: int | None = None


def main(arguments: Sequence[str]) -> int:
    """Create keys and print them; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    log.configure("warning")
    if options.command == "create":
        orders = [Order(options.principal, tuple(options.role), options.days)]
    else:
        try:
            orders = [_order(line) for line in sys.stdin.read(ORDERS_CHARACTERS_MAX).splitlines() if line.strip()]
        except argparse.ArgumentTypeError as problem:
            parser.error(str(problem))
    texts = [new_key() for _ in orders]
    try:
        told = settings.load_key_creation(settings.process_environment())
        with lock.connect(told.database) as connection, connection.transaction():
            for order, text in zip(orders, texts, strict=True):
                _store(connection, order, text, told.pepper)
    except InvalidSettings as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        return settings.EXIT_INVALID_SETTINGS
    except psycopg.Error as error:
        sys.stderr.write(f"the key was not stored ({type(error).__name__})\n")
        return EXIT_UNAVAILABLE
    sys.stdout.write("".join(f"{text}\n" for text in texts))
    return 0


def _store(connection: psycopg.Connection[tuple[Any, ...]], order: Order, text: str, pepper: Secret) -> None:
    key = parse(text)
    if key is None:
        raise AssertionError("a new key has the shape of a key")
    stored.insert(
        connection,
        key_id=key.id,
        principal=order.principal,
        digest=key.digest(pepper),
        roles=sorted(set(order.roles)),
        expires_at=datetime.now(UTC) + timedelta(days=order.days) if order.days else None,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.security.api_keys", description="Create API keys.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create-many", help="create a key for each line `NAME ROLE [ROLE ...]` of standard input")
    create = commands.add_parser("create", help="create and print a key")
    create.add_argument("--principal", required=True, type=_principal, help="whose key it is")
    create.add_argument("--role", required=True, action="append", choices=ROLES, help="may be given several times")
    create.add_argument("--days", type=_days, help="expire after so many days (default: never)")
    return parser


def _order(line: str) -> Order:
    name, *roles = line.split()
    unknown = sorted(set(roles) - set(ROLES))
    if not roles or unknown:
        raise argparse.ArgumentTypeError(f"each line is a name and roles of {', '.join(ROLES)}")
    return Order(_principal(name), tuple(roles))


def _principal(text: str) -> str:
    if not re.fullmatch(PRINCIPAL_PATTERN, text):
        raise argparse.ArgumentTypeError("lower-case letters, digits, dot, _ and -, at most 64")
    return text


def _days(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= DAYS_MAX:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {DAYS_MAX}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
