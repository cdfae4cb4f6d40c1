"""The words of a verification: verdicts, what the verifier brings along, and whose check an objection is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from app.core.documents import canonical
from app.core.governance.genesis import Genesis
from app.core.log.checkpoint import Checkpoint
from app.core.replay.standing import ROOT, Objection
from app.core.signing.keys import Verify
from app.core.verification.evidence import Evidence

Verdict = Literal["pass", "fail", "not-applicable", "unchecked"]
OK: Final = "pass"
FAIL: Final = "fail"
NOT_APPLICABLE: Final = "not-applicable"
UNCHECKED: Final = "unchecked"

Outcome = tuple[Verdict, str]
SENTENCES_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Resimulated:
    """What this machine makes of inputs. `record` is None when it has another engine or came to no conclusion."""

    record: bytes | None
    why: str = ""


Resimulate = Callable[[bytes], Resimulated]


@dataclass(frozen=True, slots=True)
class Trust:
    """What the verifier brings along."""

    genesis: Genesis
    verify: Verify
    resimulate: Resimulate
    now: datetime
    kept: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome."""

    number: int
    title: str
    verdict: Verdict
    sentence: str


TITLES: Final[Sequence[tuple[int, str]]] = (
    (1, "the bundle is strict"),
    (2, "the root is the trusted one"),
    (3, "digests of proposal, base, patch and result"),
    (4, "the simulation, run again"),
    (5, "policy set and validator set were in force"),
    (6, "signatures, keys and people"),
    (7, "what was signed is the ballot"),
    (8, "the quorum, counted again"),
    (9, "nothing taken back before it was applied"),
    (10, "the chain of events, and only legal steps"),
    (11, "the log has every entry"),
    (12, "the log only grew"),
    (13, "the attestation is fresh"),
    (14, "what was observed is what was decided"),
)

CODES: Final[Mapping[str, int]] = {
    "body-shape": 1,
    "leaf-malformed": 1,
    "base": 3,
    "snapshot-digest": 3,
    "result-digest": 3,
    "simulation-digest": 3,
    "restores": 3,
    "version": 3,
    "rules-in-force": 5,
    "rules-malformed": 5,
    "quorum-rule": 5,
    "vote-signature": 6,
    "vote-twice": 6,
    "decision-signature": 6,
    "vote-ballot": 7,
    "ballot": 7,
    "decision": 7,
    "tally": 8,
    "quorum": 8,
    "tier": 8,
    "verdict": 8,
    "time-lock": 8,
    "applier": 8,
    "revocation": 9,
    "revoked-counted": 9,
    "observation": 14,
}
"""Which check an objection to one of the proposal's own entries belongs to; all others belong to the tenth."""
CHAIN: Final = 10
IN_FORCE: Final = 5
ROOT_CODES: Final = frozenset({"genesis", "root"})


def check_of(evidence: Evidence, objection: Objection) -> int:
    """Return the number of the check that an objection belongs to."""
    if evidence.own(objection.index):
        return CODES.get(objection.code, CHAIN)
    if objection.index == evidence.base_maker or objection.code == "base":
        return 3
    about = next((one.leaf.get("target") for one in evidence.bundle.context if one.index == objection.index), None)
    return 2 if objection.code in ROOT_CODES or about == ROOT else IN_FORCE


def objected(evidence: Evidence, number: int) -> list[str]:
    """Return the sentences of the objections that belong to a check."""
    return [f"entry {one.index}: {one.message}" for one in evidence.objections if check_of(evidence, one) == number]


def judged(flaws: Sequence[str], passed: str) -> Outcome:
    """Return a failure with its first flaws, or what passed."""
    if not flaws:
        return OK, passed
    more = f" (and {len(flaws) - SENTENCES_MAX} more)" if len(flaws) > SENTENCES_MAX else ""
    return FAIL, "; ".join(flaws[:SENTENCES_MAX]) + more


def digest_of(value: Any) -> str:
    """Return the digest of a value, `none` if it has no canonical form."""
    try:
        return canonical.digest(canonical.encode_value(value))
    except (TypeError, ValueError):
        return "none"
