"""Attesting what is current: signed when somebody asks, kept, and renewed in the background, each hour.

While the database is gone the last one is handed out with its age, until it expires (firewall.md section 10): a runtime
goes on with what it has. Nothing is signed while the log is in quarantine: what it would speak for may be rewound.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from app import metrics
from app.core.documents import instants
from app.core.governed.shapes import Pin
from app.core.governed.target import Tier
from app.core.signing import attestation as rules
from app.core.signing import envelope as dsse
from app.core.signing import statement
from app.core.signing.statement import Attestation, LogPosition
from app.errors import DatabaseUnavailable, FirewallError, NotAttested, QueryTimeout, UnknownTarget
from app.resilience.deadline import Clock, Deadline
from app.security.signatures import PrivateKey
from app.storage import governance
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.governance import Pins
from app.workflow.log_state import LogState

KEPT_MAX: Final = 4_096
RENEWAL_LOOK_SECONDS: Final = 60.0
RENEWAL_DEADLINE_SECONDS: Final = 5.0
HEAD: Final = """
    SELECT t.version, t.digest, s.proposal_id, coalesce(p.tier::text, t.config_tier), clock_timestamp(),
           (SELECT coalesce(max(size), 0) FROM log_checkpoints)
    FROM (SELECT *, convert_from(config, 'UTF8')::json ->> 'minimum_tier' AS config_tier FROM targets) AS t
    JOIN snapshots AS s ON s.target = t.name AND s.version = t.version
    LEFT JOIN proposals AS p ON p.id = s.proposal_id
    WHERE t.name = %s"""


@dataclass(frozen=True, slots=True)
class Attested:
    """An attestation as it is handed out. `age_seconds`: since it was last known to be of the head; None: just now."""

    envelope: dict[str, Any]
    digest: str
    age_seconds: float | None


@dataclass(slots=True)
class _Kept:
    said: Attestation
    envelope: dict[str, Any]
    confirmed_at: float
    """By our own clock."""
    seen: datetime
    """By the database's."""


class _Head(msgspec.Struct, frozen=True):
    version: int
    digest: str
    proposal: str | None
    tier: Tier
    pins: Pins
    now: datetime
    log_size: int


class Attestations:
    """Signs attestations and remembers the newest of each target."""

    def __init__(
        self, database: Database, log_state: LogState, *, key: PrivateKey | None, origin: str | None, clock: Clock
    ) -> None:
        self._database = database
        self._log_state = log_state
        self._key = key
        self._origin = origin
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    async def of(self, target: str, *, deadline: Deadline) -> Attested:
        """Return an attestation of a target's head that has not expired.

        Raises:
            UnknownTarget: there is no such target.
            NotAttested: this service has no key to attest with.
            LogQuarantined, LogLagging: it must not sign now, and has nothing to hand out.
            DatabaseUnavailable, QueryTimeout: the head is not known, and nothing unexpired is kept.
        """
        try:
            return await self._current(target, deadline=deadline)
        except (DatabaseUnavailable, QueryTimeout):
            kept = self._unexpired(target)
            if kept is None:
                raise
            return kept

    async def best(self, target: str, *, deadline: Deadline) -> dict[str, Any] | None:
        """Return an attestation for a bundle, or None where there can be none now."""
        try:
            return (await self.of(target, deadline=deadline)).envelope
        except (UnknownTarget, NotAttested):
            return None
        except FirewallError:
            metrics.ATTESTATION_FAILURES.inc()
            return None

    async def run(self) -> None:
        """Renew what was handed out, for ever: an attestation that nobody asks for must not grow old in an outage."""
        while True:
            await asyncio.sleep(RENEWAL_LOOK_SECONDS)
            for target in list(self._kept):
                try:
                    await self._current(target, deadline=Deadline.after(RENEWAL_DEADLINE_SECONDS, clock=self._clock))
                except FirewallError:
                    metrics.ATTESTATION_FAILURES.inc()
                    break

    async def _current(self, target: str, *, deadline: Deadline) -> Attested:
        if self._key is None or self._origin is None:
            raise NotAttested

        async def work(connection: Connection) -> _Head | None:
            row = await (await connection.execute(HEAD, [target])).fetchone()
            if row is None:
                return None
            return _Head(
                version=row[0],
                digest=row[1],
                proposal=None if row[2] is None else str(row[2]),
                tier=Tier(row[3]),
                pins=await governance.read_pins(connection),
                now=row[4],
                log_size=row[5],
            )

        head = await self._database.read("attestation_head", work, deadline=deadline)
        if head is None:
            self._kept.pop(target, None)
            raise UnknownTarget
        kept = self._kept.get(target)
        if kept is None or rules.is_due(kept.said, version=head.version, digest=head.digest, now=head.now):
            kept = self._sign(target, head, key=self._key, origin=self._origin)
        kept.confirmed_at, kept.seen = self._clock(), head.now
        return Attested(kept.envelope, head.digest, age_seconds=None)

    def _sign(self, target: str, head: _Head, *, key: PrivateKey, origin: str) -> _Kept:
        self._log_state.require_sound(is_high=False)
        said = rules.attestation(
            target=target,
            version=head.version,
            digest=head.digest,
            policy_set=Pin(head.pins.policies.version, head.pins.policies.digest),
            validator_set=Pin(head.pins.validators.version, head.pins.validators.digest),
            tier=head.tier,
            proposal=head.proposal,
            log=LogPosition(origin=origin, size=head.log_size),
            now=head.now,
        )
        envelope = key.seal(statement.encode(said), dsse.IN_TOTO).document()
        kept = _Kept(said, envelope, self._clock(), head.now)
        self._kept[target] = kept
        self._kept.move_to_end(target)
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return kept

    def _unexpired(self, target: str) -> Attested | None:
        kept = self._kept.get(target)
        if kept is None:
            return None
        age = max(0.0, self._clock() - kept.confirmed_at)
        left = (instants.from_text(kept.said.predicate.expires_at) - kept.seen).total_seconds() - age
        return Attested(kept.envelope, kept.said.predicate.digest, age_seconds=age) if left > 0 else None
