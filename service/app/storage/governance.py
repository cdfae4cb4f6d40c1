"""The rules in force: the current versions of the four governance documents, and their content.

A transaction that relies on them calls `lock_pins` before it locks anything else. That takes an advisory lock, shared
by everybody who only relies on the rules and exclusive for who changes them, so that in the order of events each step
stands under the versions it names; rows would have to be written to be locked, and these would be hot.

Documents are kept by version: a version never changes, so the cache needs no invalidation, only a bound.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from app.core.documents import canonical
from app.core.governance import policy_set, root, validators
from app.core.governance.policy_set import PolicySet
from app.core.governance.root import Root
from app.core.governance.validators import ValidatorSet
from app.core.governed.shapes import Pin
from app.errors import NotFounded
from app.storage.connection import Connection

ROOT: Final = "governance/root"
POLICIES: Final = "governance/policies"
VALIDATORS: Final = "governance/validators"
CORPUS: Final = "governance/corpus"
VERSIONS_KEPT: Final = 32
"""Parsed documents, of all four targets together."""
LOCK_KEY: Final = 0x616D67660001
"""`amgf` and a number: the advisory lock of the rules in force."""

SHARE: Final = "SELECT pg_advisory_xact_lock_shared(%s)"
EXCLUDE: Final = "SELECT pg_advisory_xact_lock(%s)"
PINS: Final = "SELECT name, version, digest FROM targets WHERE name = ANY(%s)"
CONTENT: Final = "SELECT version, digest, content FROM snapshots WHERE target = %s AND version = %s"

PARSERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    ROOT: root.parse,
    POLICIES: policy_set.parse,
    VALIDATORS: validators.parse,
    CORPUS: dict,
}


class Pins(msgspec.Struct, frozen=True):
    """The versions in force."""

    root: Pin
    policies: Pin
    validators: Pin
    corpus: Pin

    def by_target(self) -> dict[str, Pin]:
        """Return them by the name of their target."""
        return {ROOT: self.root, POLICIES: self.policies, VALIDATORS: self.validators, CORPUS: self.corpus}


class Rules(msgspec.Struct, frozen=True):
    """The rules in force: which versions, and what they say; `documents` are the same as plain JSON, by target."""

    pins: Pins
    root: Root
    policies: PolicySet
    validators: ValidatorSet
    documents: Mapping[str, Any]


async def lock_pins(connection: Connection, *, exclusive: bool = False) -> Pins:
    """Return the versions in force; nobody changes them until the transaction ends.

    Raises:
        NotFounded: the service has no genesis yet.
        psycopg.errors.LockNotAvailable: somebody is changing them for longer than the lock's time-out.
    """
    await connection.execute(EXCLUDE if exclusive else SHARE, [LOCK_KEY])
    return await read_pins(connection)


async def read_pins(connection: Connection) -> Pins:
    """Return the versions in force at this moment, for who only shows them.

    Raises:
        NotFounded: the service has no genesis yet.
    """
    rows = await (await connection.execute(PINS, [[ROOT, POLICIES, VALIDATORS, CORPUS]])).fetchall()
    found = {name: Pin(version, digest) for name, version, digest in rows}
    if len(found) != len(msgspec.structs.fields(Pins)):
        raise NotFounded
    return Pins(found[ROOT], found[POLICIES], found[VALIDATORS], found[CORPUS])


async def content(connection: Connection, target: str, version: int) -> tuple[int, str, bytes] | None:
    """Return version, digest and canonical content of a governing document at one version."""
    row = await (await connection.execute(CONTENT, [target, version])).fetchone()
    return None if row is None else (row[0], row[1], bytes(row[2]))


class Documents:
    """Reads governance documents and remembers the last `VERSIONS_KEPT` of them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Pin], tuple[Any, Any]] = OrderedDict()

    async def rules(self, connection: Connection, pins: Pins) -> Rules:
        """Return what the versions say.

        Raises:
            LookupError: there is no such version, or its content is not what the digest says.
        """
        found = {target: await self._get(connection, target, pin) for target, pin in pins.by_target().items()}
        return Rules(
            pins=pins,
            root=found[ROOT][1],
            policies=found[POLICIES][1],
            validators=found[VALIDATORS][1],
            documents={target: document for target, (document, _) in found.items()},
        )

    async def _get(self, connection: Connection, target: str, pin: Pin) -> tuple[Any, Any]:
        """Return a document as plain JSON, which nobody may change, and as what it means."""
        kept = self._kept.get((target, pin))
        if kept is None:
            found = await content(connection, target, pin.version)
            if found is None or canonical.digest(found[2]) != pin.digest:
                raise LookupError(f"{target} has no version {pin.version} of that digest")
            document = msgspec.json.decode(found[2])
            kept = (document, PARSERS[target](document))
            self._kept[target, pin] = kept
        self._kept.move_to_end((target, pin))
        while len(self._kept) > VERSIONS_KEPT:
            self._kept.popitem(last=False)
        return kept
