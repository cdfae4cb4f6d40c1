"""Makes votes: a ballot as the service issued it, with a decision and two times added, signed by a validator's key.

And the votes that must be refused. A harness that never tries them does not know whether they would be.
"""

import copy
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from nacl.signing import SigningKey

from chaos.lives.plot import Trespass
from chaos.verifier import canonical, envelope
from compose.gate import Gate, Validator

_LIFETIME = timedelta(hours=1)


def vote(
    ballot: Mapping[str, Any], validator: Validator, decision: str, *, now: datetime, key: SigningKey | None = None
) -> dict[str, Any]:
    """Return a signed vote on a ballot.

    Args:
        ballot: the Statement of ``GET /proposals/{id}/ballot``.
        validator: who votes.
        decision: "approve", "reject" or "abstain".
        now: the time it is issued at.
        key: signs instead of the validator's own.
    """
    statement = copy.deepcopy(dict(ballot))
    statement["predicate"] |= {
        "validator": validator.id,
        "role": validator.role,
        "decision": decision,
        "recomputed": not validator.is_human and decision == "approve",
        "reason": "looks right" if decision == "approve" else "does not look right",
        "issued_at": instant(now),
        "expires_at": instant(now + _LIFETIME),
    }
    return envelope.seal(canonical.encode(statement), key or validator.key)


def revocation(
    ballot: Mapping[str, Any], validator: Validator, cast: Mapping[str, Any], *, now: datetime
) -> dict[str, Any]:
    """Return a signed revocation of a vote."""
    statement = {
        "_type": envelope.STATEMENT,
        "subject": ballot["subject"],
        "predicateType": envelope.REVOCATION,
        "predicate": {
            "proposal": ballot["predicate"]["proposal"],
            "vote": envelope.digest(cast),
            "validator": validator.id,
            "reason": "second thoughts",
            "issued_at": instant(now),
        },
    }
    return envelope.seal(canonical.encode(statement), validator.key)


def trespass(
    kind: Trespass,
    ballot: Mapping[str, Any],
    gate: Gate,
    *,
    proposer: Validator,
    foreign: Mapping[str, Any] | None,
    chance: random.Random,
    now: datetime,
) -> tuple[str, dict[str, Any]] | None:
    """Return a vote that must be refused and the principal who sends it; ``None``: there is no foreign vote yet."""
    others = [one for one in gate.humans if one.id != proposer.id]
    voter, other = chance.sample(others, 2)
    altered = copy.deepcopy(dict(ballot))
    match kind:
        case Trespass.PROPOSER:
            return proposer.principal, vote(ballot, proposer, "approve", now=now)
        case Trespass.FOREIGN:
            return None if foreign is None else (voter.principal, dict(foreign))
        case Trespass.EPOCH:
            altered["predicate"]["epoch"] += 1
        case Trespass.DIGEST:
            altered["predicate"]["simulation_digest"] = canonical.digest(b"another")
        case Trespass.FORGED:
            return voter.principal, vote(ballot, voter, "approve", now=now, key=_other_key(chance))
        case Trespass.STRANGER:
            key = _other_key(chance)
            stranger = Validator("stranger", proposer.principal, "human", "owner", "nowhere", 1, key)
            return proposer.principal, vote(ballot, stranger, "approve", now=now)
        case Trespass.IMPOSTOR:
            return voter.principal, vote(ballot, other, "approve", now=now)
        case Trespass.LATE:
            pass
    return voter.principal, vote(altered, voter, "approve", now=now)


def now() -> datetime:
    """Return the time, as votes state it."""
    return datetime.now(UTC)


def instant(at: datetime) -> str:
    """Spell a time as canonical documents do."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _other_key(chance: random.Random) -> SigningKey:
    return SigningKey(chance.randbytes(32))
