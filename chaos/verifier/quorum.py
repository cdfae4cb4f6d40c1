"""Whether a set of signed votes carries a decision, by the words of the tier's rule: a second opinion on I3 and I4.

A vote counts when its signature is good, its voter stands in the electorate in force and is not the proposer, its
key was valid when it was issued and not revoked, it speaks of exactly what was decided, and neither the person nor the
key has a vote that counts already. Everything else is told, and counts for nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from chaos.verifier import envelope
from chaos.verifier.envelope import BadEnvelope, Envelope

APPROVE: Final = "approve"
REJECT: Final = "reject"
_HUMAN, _MACHINE = "human", "machine"


@dataclass(frozen=True, slots=True)
class Question:
    """What was voted on, from the record and not from any vote."""

    proposal: str
    proposer: str
    bindings: Mapping[str, Any]  # what every vote's predicate must say, field by field
    subjects: Mapping[str, str]  # subject name -> hexadecimal SHA-256
    rule: Mapping[str, Any]
    electorate: Mapping[str, Any]  # the validator set's document
    decided_at: datetime
    revoked_keys: Collection[str] = ()  # key ids, at the decision


@dataclass(frozen=True, slots=True)
class Voter:
    """An entry of the electorate and the one of its keys that signed."""

    id: str
    principal: str
    kind: str
    role: str
    org: str
    weight: int
    public_key: bytes


@dataclass(slots=True)
class Count:
    """Who counted, and why others did not."""

    approving: list[Voter] = field(default_factory=list)
    recomputed: list[Voter] = field(default_factory=list)
    rejecting: list[Voter] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def shortcomings(question: Question, votes: Sequence[Any]) -> list[str]:
    """Say what keeps the votes from carrying the decision; nothing: they do."""
    counted = count(question, votes)
    rule = question.rule
    humans = [one for one in counted.approving if one.kind == _HUMAN]
    spare = max(0, len(humans) - rule["humans"]) if rule["human_replaces_recompute"] else 0
    missing = []
    if len(humans) < rule["humans"]:
        missing.append(f"{len(humans)} people approved, {rule['humans']} needed")
    if len(counted.recomputed) + spare < rule["recomputes"]:
        missing.append(f"{len(counted.recomputed)} recomputed, {rule['recomputes']} needed")
    absent = sorted(set(rule["roles"]) - {one.role for one in humans})
    if absent:
        missing.append(f"nobody approved as {', '.join(absent)}")
    if len({one.org for one in humans}) < rule["orgs_min"]:
        missing.append(f"{len({one.org for one in humans})} organisations, {rule['orgs_min']} needed")
    entitled = [one for one in question.electorate["validators"] if one["kind"] == _HUMAN]
    if len(entitled) < rule["eligible_humans_min"]:
        missing.append(f"{len(entitled)} people in the electorate, {rule['eligible_humans_min']} needed")
    vetoed = [one.id for one in counted.rejecting if "*" in rule["veto"] or one.role in rule["veto"]]
    if vetoed:
        missing.append(f"vetoed by {', '.join(vetoed)}")
    if rule["weight_denominator"] and not _has_weight(question, counted):
        missing.append("not enough of the weight")
    if missing and counted.refused:
        missing.append(f"not counted: {'; '.join(counted.refused)}")
    return missing


def count(question: Question, votes: Sequence[Any]) -> Count:
    """Sort the votes; of two by one person or one key, in the order given, the first counts."""
    counted = Count()
    people: set[str] = set()
    keys: set[bytes] = set()
    for vote in votes:
        try:
            parsed = envelope.parse(vote)
            predicate = _predicate(question, parsed)
            voter = _voter(question, parsed, predicate)
        except BadEnvelope as error:
            counted.refused.append(str(error))
            continue
        if voter.principal in people or voter.public_key in keys:
            counted.refused.append(f"{voter.id} has voted already")
            continue
        people.add(voter.principal)
        keys.add(voter.public_key)
        if predicate["decision"] == APPROVE:
            counted.approving.append(voter)
            if voter.kind == _MACHINE and predicate["recomputed"] is True:
                counted.recomputed.append(voter)
        elif predicate["decision"] == REJECT:
            counted.rejecting.append(voter)
    return counted


def entry_of_key(electorate: Mapping[str, Any], keyid: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Return the validator that has a key, and the key's entry."""
    for validator in electorate["validators"]:
        for key in validator["keys"]:
            if envelope.keyid_of(envelope.public_key_of(key["public_key"])) == keyid:
                return validator, key
    return None


def instant(text: str) -> datetime:
    """Read a time of a canonical document.

    Raises:
        BadEnvelope: it is none.
    """
    try:
        return datetime.fromisoformat(text)
    except (ValueError, TypeError) as error:
        raise BadEnvelope(f"{text!r} is no time") from error


def _predicate(question: Question, parsed: Envelope) -> Mapping[str, Any]:
    """Return what the vote says, if it is about the question."""
    statement = parsed.statement()
    if statement.get("predicateType") != envelope.VOTE:
        raise BadEnvelope(f"a {statement.get('predicateType')!r}, no vote")
    predicate: Mapping[str, Any] = statement["predicate"]
    subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    wrong = sorted(name for name, value in question.subjects.items() if subjects.get(name) != value)
    wrong += sorted(name for name, value in question.bindings.items() if predicate.get(name) != value)
    if wrong:
        raise BadEnvelope(f"a vote of {predicate.get('validator')} on another {', '.join(wrong)}")
    return predicate


def _voter(question: Question, parsed: Envelope, predicate: Mapping[str, Any]) -> Voter:
    """Return who voted, if they may."""
    found = entry_of_key(question.electorate, parsed.keyid)
    if found is None:
        raise BadEnvelope(f"{predicate.get('validator')}: its key is nobody's in the electorate")
    entry, key = found
    name = entry["id"]
    if predicate["validator"] != name or predicate["role"] != entry["role"]:
        raise BadEnvelope(f"{name} signed as {predicate['validator']} ({predicate['role']})")
    if entry["principal"] == question.proposer:
        raise BadEnvelope(f"{name} is the proposer")
    if parsed.keyid in question.revoked_keys:
        raise BadEnvelope(f"{name}: its key was revoked")
    public_key = envelope.public_key_of(key["public_key"])
    if not parsed.is_signed_by(public_key):
        raise BadEnvelope(f"{name}: a bad signature")
    issued, expires = instant(predicate["issued_at"]), instant(predicate["expires_at"])
    begins, ends = instant(key["not_before"]), None if key["not_after"] is None else instant(key["not_after"])
    if issued < begins or (ends is not None and issued >= ends):
        raise BadEnvelope(f"{name}: its key was not valid when it voted")
    if expires <= question.decided_at:
        raise BadEnvelope(f"{name}: the vote had expired")
    if predicate["recomputed"] is True and entry["kind"] != _MACHINE:
        raise BadEnvelope(f"{name}: a person does not recompute")
    return Voter(name, entry["principal"], entry["kind"], entry["role"], entry["org"], entry["weight"], public_key)


def _has_weight(question: Question, counted: Count) -> bool:
    of_all = sum(one["weight"] for one in question.electorate["validators"] if one["principal"] != question.proposer)
    given = sum(one.weight for one in counted.approving)
    return bool(given * question.rule["weight_denominator"] >= of_all * question.rule["weight_numerator"])
