"""The service's word on what is current, with an end: what a runtime believes until it gets a newer one.

An attestation is good for `VALIDITY`, and made anew after `RENEWAL`: so somebody who holds new ones back is noticed
within a day (the freeze attack of TUF), and an outage of the service shorter than that stops nobody.
"""

from datetime import datetime, timedelta
from typing import Final

from app.core.documents import instants
from app.core.governed.shapes import Pin
from app.core.governed.target import Tier
from app.core.signing import statement
from app.core.signing.statement import Attestation, AttestationPredicate, LogPosition

VALIDITY: Final = timedelta(hours=24)
RENEWAL: Final = timedelta(hours=1)


def attestation(
    *,
    target: str,
    version: int,
    digest: str,
    policy_set: Pin,
    validator_set: Pin,
    tier: Tier,
    proposal: str | None,
    log: LogPosition,
    now: datetime,
) -> Attestation:
    """Return what is to be signed. `tier`: of the proposal that made the version, else the target's least."""
    predicate = AttestationPredicate(
        target=target,
        version=version,
        digest=digest,
        policy_set=policy_set,
        validator_set=validator_set,
        tier=tier,
        proposal=proposal,
        time_created=instants.to_text(now),
        expires_at=instants.to_text(now + VALIDITY),
        log=log,
    )
    return Attestation(subject=(statement.subject("snapshot", digest),), predicate=predicate)


def is_due(attested: Attestation, *, version: int, digest: str, now: datetime) -> bool:
    """Whether it is time for another: the head has moved, it is an hour old, or the clock was set back behind it."""
    said = attested.predicate
    created = instants.from_text(said.time_created)
    return (said.version, said.digest) != (version, digest) or not created <= now < created + RENEWAL
