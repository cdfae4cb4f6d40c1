"""API keys: `amgf_<id>_<secret><checksum>` (FM04).

The id (12 characters) is public, the secret has 256 random bits (43 characters), the checksum (6) lets scanners and
clients notice a typo without asking anybody. Stored is HMAC-SHA-256 of the secret under the pepper, which is not in
the database. A key is shown once, when it is created.

A verified key is believed for `fresh_seconds`; after that the database is asked again, and when it is gone the key is
believed up to `stale_seconds_max` after it was last verified: an outage of the key store must not turn good keys away
(503 for keys we do not know then; never 401, which makes clients throw good keys away, and never 200).

A revoked key is refused at once by the replica that revoked it, and by the others after `fresh_seconds`; by one that is
cut off from the database after `stale_seconds_max`. A key that expires is refused when it does, remembered or not.

`python -m app.security.api_keys` has the owner's commands: `create --principal NAME --role editor [--days N]` prints a
key once; `create-many` reads lines `NAME ROLE [ROLE ...]` from standard input and prints a key for each, in order: all
are created, or none; `list` prints what is known of each; `revoke ID` ends one.
"""

import argparse
import hmac
import re
import secrets
import string
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from app import log, settings
from app.core.documents.identifiers import Principal
from app.errors import DatabaseUnavailable, InvalidSettings, QueryTimeout, Unauthenticated
from app.migrations import lock
from app.resilience.deadline import Clock, Deadline
from app.security.roles import PRINCIPAL, ROLES, Identity, identity
from app.settings import KeyPolicy, Secret
from app.storage import api_keys as stored
from app.storage.connection import Connection
from app.storage.database import Database

PREFIX: Final = "amgf"
ID_CHARACTERS: Final = 12
SECRET_CHARACTERS: Final = 43
CHECKSUM_CHARACTERS: Final = 6
ORDERS_CHARACTERS_MAX: Final = 65_536
KEY_CHARACTERS: Final = len(PREFIX) + 1 + ID_CHARACTERS + 1 + SECRET_CHARACTERS + CHECKSUM_CHARACTERS
DAYS_MAX: Final = 3650
EXIT_UNKNOWN: Final = 1
EXIT_UNAVAILABLE: Final = 69

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
KEY_ID: Final = re.compile(rf"[0-9A-Za-z]{{{ID_CHARACTERS}}}")
_SHAPE: Final = re.compile(
    rf"{PREFIX}_(?P<id>[0-9A-Za-z]{{{ID_CHARACTERS}}})_"
    rf"(?P<secret>[0-9A-Za-z]{{{SECRET_CHARACTERS}}})(?P<checksum>[0-9A-Za-z]{{{CHECKSUM_CHARACTERS}}})"
)


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
    """A key that was good `at` an instant, and is until another, whatever the database knows by then."""

    key_id: str
    identity: Identity
    at: float
    until: float


class ApiKeys:
    """Turns a presented key into an identity; remembers verified keys, bounded in number and age."""

    def __init__(self, database: Database, policy: KeyPolicy, *, clock: Clock) -> None:
        self._database = database
        self._policy = policy
        self._clock = clock
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def authenticate(self, presented: str, *, deadline: Deadline) -> Identity:
        """Return who presents the key.

        Raises:
            Unauthenticated: it is not a valid key; never says why.
            DatabaseUnavailable, QueryTimeout: the key store cannot be asked, and the key is not remembered.
        """
        key = parse(presented)
        if key is None:
            raise Unauthenticated
        digest = key.digest(self._policy.pepper)
        remembered = self._remembered(digest)
        age = self._clock() - remembered.at if remembered else float("inf")
        if remembered and age <= self._policy.fresh_seconds:
            return remembered.identity
        try:
            found = await self._ask(key, digest, deadline)
        except (DatabaseUnavailable, QueryTimeout):
            if remembered and age <= self._policy.stale_seconds_max:
                return remembered.identity
            raise
        except Unauthenticated:
            self._verified.pop(digest, None)
            raise
        self._remember(digest, found)
        return found.identity

    def remembers(self, presented: str) -> bool:
        """Return whether the key was verified by this replica not long ago; asks nobody, and is no permission."""
        key = parse(presented)
        known = self._remembered(key.digest(self._policy.pepper)) if key else None
        return known is not None and self._clock() - known.at <= self._policy.stale_seconds_max

    def forget(self, key_id: str) -> None:
        """Believe a key no longer: it was revoked here."""
        for digest in [digest for digest, known in self._verified.items() if known.key_id == key_id]:
            del self._verified[digest]

    async def _ask(self, key: Key, digest: bytes, deadline: Deadline) -> _Verified:
        async def work(connection: Connection) -> stored.Holder | None:
            proof = await stored.proof(connection, key.id)
            # The same work for an unknown id, a wrong secret, a revoked and an expired key: all are refused here.
            if not (hmac.compare_digest(digest, proof.digest) and proof.is_good):
                return None
            found = await stored.holder(connection, key.id)
            if found and found.is_use_to_note:
                await stored.note_use(connection, key.id)
            return found

        asked_at = self._clock()
        found = await self._database.read("api_key_find", work, deadline=deadline)
        if found is None:
            raise Unauthenticated
        left = float("inf") if found.seconds_left is None else found.seconds_left
        return _Verified(key.id, identity(found.principal, found.roles), at=asked_at, until=asked_at + left)

    def _remembered(self, digest: bytes) -> _Verified | None:
        known = self._verified.get(digest)
        if known is not None and self._clock() >= known.until:
            del self._verified[digest]
            return None
        return known

    def _remember(self, digest: bytes, known: _Verified) -> None:
        self._verified[digest] = known
        self._verified.move_to_end(digest)
        while len(self._verified) > self._policy.entries_max:
            self._verified.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Order:
    """A key to be created. `days`: until it expires; None is never."""

    principal: str
    roles: tuple[str, ...]
    days: int | None = None


def main(arguments: Sequence[str]) -> int:
    """Do what a command says; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    log.configure("warning")
    try:
        command = _command(options)
    except argparse.ArgumentTypeError as problem:
        parser.error(str(problem))
    try:
        told = settings.load_key_creation(settings.process_environment())
        with lock.connect(told.database) as connection, connection.transaction():
            lines, code = command(connection, told.pepper)
    except InvalidSettings as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        return settings.EXIT_INVALID_SETTINGS
    except psycopg.Error as error:
        sys.stderr.write(f"the database did not do it ({type(error).__name__})\n")
        return EXIT_UNAVAILABLE
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return code


_Command = Callable[[psycopg.Connection[tuple[Any, ...]], Secret], tuple[Sequence[str], int]]


def _command(options: argparse.Namespace) -> _Command:
    """Return what was asked for, to be done in one transaction; it returns lines to print, and the exit code.

    Raises:
        argparse.ArgumentTypeError: a line of standard input is not acceptable.
    """
    if options.command == "list":
        return lambda connection, _: ([_described(one) for one in stored.listed_by_owner(connection)], 0)
    if options.command == "revoke":
        return lambda connection, _: _revoked(options.id, stored.revoke_by_owner(connection, options.id))
    if options.command == "create":
        orders = [Order(options.principal, tuple(options.role), options.days)]
    else:
        orders = [_order(line) for line in sys.stdin.read(ORDERS_CHARACTERS_MAX).splitlines() if line.strip()]

    def create(connection: psycopg.Connection[tuple[Any, ...]], pepper: Secret) -> tuple[Sequence[str], int]:
        texts = [new_key() for _ in orders]
        for order, text in zip(orders, texts, strict=True):
            row = new_row(text, order, pepper=pepper, now=datetime.now(UTC), by=stored.OWNER)
            stored.insert_by_owner(connection, row)
        return texts, 0

    return create


def _described(one: stored.KeyRow) -> str:
    def told(at: datetime | None) -> str:
        return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    state = "revoked" if one.revoked_at else "good until" if one.expires_at else "good"
    ends = told(one.revoked_at or one.expires_at)
    return f"{one.id} {one.principal} {','.join(sorted(one.roles))} {state} {ends} last used {told(one.last_used_at)}"


def _revoked(key_id: str, is_known: bool) -> tuple[Sequence[str], int]:  # noqa: FBT001 - the answer of a query
    return ([f"{key_id} revoked"], 0) if is_known else ([f"{key_id}: there is no such key"], EXIT_UNKNOWN)


def new_row(text: str, order: Order, *, pepper: Secret, now: datetime, by: str) -> stored.NewKey:
    """Return what is stored of a new key."""
    key = parse(text)
    if key is None:
        raise AssertionError("a new key has the shape of a key")
    return stored.NewKey(
        id=key.id,
        principal=Principal(order.principal),
        digest=key.digest(pepper),
        roles=sorted(set(order.roles)),
        expires_at=now + timedelta(days=order.days) if order.days else None,
        created_by=by,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.security.api_keys", description="Create, list and revoke API keys."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create-many", help="create a key for each line `NAME ROLE [ROLE ...]` of standard input")
    commands.add_parser("list", help="print id, principal, roles, state and last use of every key")
    revoke = commands.add_parser("revoke", help="refuse a key from now on")
    revoke.add_argument("id", type=_key_id, help="the 12 characters after amgf_")
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
    if not PRINCIPAL.fullmatch(text):
        raise argparse.ArgumentTypeError("lower-case letters, digits, dot, _ and -, at most 64")
    return text


def _key_id(text: str) -> str:
    if not KEY_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{ID_CHARACTERS} letters and digits")
    return text


def _days(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= DAYS_MAX:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {DAYS_MAX}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
