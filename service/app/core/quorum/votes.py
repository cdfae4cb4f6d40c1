"""What a vote must be before it is stored, and before anybody counts it again (firewall.md sections 5, 9 and 13).

In this order: one signature, of the right type, by a key of the electorate; the signature itself; canonical bytes;
equal to the ballot in every field of the ballot; the validator, role and kind that the key stands for; not the
proposer; the windows of key, ballot and clock. The payload is parsed once, after its signature verified.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from app.core.documents import instants
from app.core.governance.validators import Key, Validator, ValidatorSet
from app.core.signing import envelope as dsse
from app.core.signing import statement
from app.core.signing.envelope import Envelope
from app.core.signing.keys import Verify
from app.core.signing.statement import Ballot, Decided, Revocation, Vote
from app.errors import BadSignature, BindingMismatch, Flaw, NotEligible, ProposerCannotVote

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""How far a voter's clock may be from the database's."""


@dataclass(frozen=True, slots=True)
class VerifiedVote:
    """A vote whose signature and binding were checked. `digest` is its envelope's; `is_revoked`: taken back."""

    digest: str
    proposal: str
    epoch: int
    validator: str
    principal: str
    keyid: str
    role: str
    decision: Decided
    recomputed: bool
    issued_at: datetime
    expires_at: datetime
    is_revoked: bool = False


def check(
    envelope: Envelope,
    *,
    ballot: Ballot,
    ballot_expires_at: datetime,
    electorate: ValidatorSet,
    proposer: str,
    principal: str | None,
    now: datetime,
    verify: Verify,
    successor: ValidatorSet | None = None,
    revoked_keys: Collection[str] = (),
) -> VerifiedVote:
    """Return the vote of an envelope.

    `principal` is whose API key sent it, None offline. `successor`: the set that the proposal would bring into force;
    its new members may vote too. `now`: the database's clock, offline the instant of the event.

    Raises:
        NotEligible: the key is not in the electorate, was revoked, or is another principal's.
        BadSignature: the envelope or the signature is not valid.
        ProposerCannotVote: the key is the proposer's.
        BindingMismatch: what was signed is not canonical or not the ballot; one flaw for each difference.
    """
    validator, key = _holder(envelope, electorate, successor)
    if principal is not None and validator.principal != principal:
        raise NotEligible("other-principal")
    payload = dsse.opened(envelope, key.raw, payload_type=dsse.IN_TOTO, verify=verify)
    if validator.principal == proposer:
        raise ProposerCannotVote
    if key.keyid in revoked_keys:
        raise NotEligible("revoked")
    vote = statement.vote_on(payload, ballot) or statement.decode(payload, Vote)
    flaws = [*_differences(vote, ballot), *_binding(vote, validator)]
    issued_at, expires_at, window = _windows(vote, ballot_expires_at, now)
    if flaws or window:
        raise BindingMismatch([*flaws, *window])
    if not key.is_valid_at(issued_at):
        raise NotEligible("outside-window")
    return VerifiedVote(
        digest=envelope.digest(),
        proposal=vote.predicate.proposal,
        epoch=vote.predicate.epoch,
        validator=validator.id,
        principal=validator.principal,
        keyid=key.keyid,
        role=validator.role,
        decision=vote.predicate.decision,
        recomputed=vote.predicate.recomputed,
        issued_at=issued_at,
        expires_at=expires_at,
    )


def check_revocation(
    envelope: Envelope,
    *,
    vote: VerifiedVote,
    electorate: ValidatorSet,
    principal: str | None,
    now: datetime,
    verify: Verify,
    successor: ValidatorSet | None = None,
    revoked_keys: Collection[str] = (),
) -> Revocation:
    """Return the revocation of a vote: by the same validator, with any key of theirs that is valid.

    Raises:
        NotEligible: the key is not that validator's, not valid, or another principal's.
        BadSignature: the envelope or the signature is not valid.
        BindingMismatch: it takes back another vote, or is not of now.
    """
    validator, key = _holder(envelope, electorate, successor)
    if validator.id != vote.validator or (principal is not None and validator.principal != principal):
        raise NotEligible("other-principal")
    revocation = statement.decode(dsse.opened(envelope, key.raw, payload_type=dsse.IN_TOTO, verify=verify), Revocation)
    said = revocation.predicate
    expected = {"proposal": vote.proposal, "vote": vote.digest, "validator": vote.validator}
    flaws = [_mismatch(f"/predicate/{name}") for name, value in expected.items() if getattr(said, name) != value]
    if revocation.subject != (statement.subject("vote", vote.digest),):
        flaws.append(_mismatch("/subject"))
    issued_at = _instant(said.issued_at)
    if issued_at is None or abs(issued_at - now) > CLOCK_TOLERANCE:
        flaws.append(Flaw("/predicate/issued_at", "clock", "not within five minutes of the service's clock"))
    if flaws or issued_at is None:
        raise BindingMismatch(flaws)
    if key.keyid in revoked_keys:
        raise NotEligible("revoked")
    if not key.is_valid_at(issued_at):
        raise NotEligible("outside-window")
    return revocation


def _holder(envelope: Envelope, electorate: ValidatorSet, successor: ValidatorSet | None) -> tuple[Validator, Key]:
    if len(envelope.signatures) != 1:
        raise BadSignature([Flaw("/signatures", "one-signature", "exactly one signature")])
    keyid = envelope.signatures[0].keyid
    found = electorate.by_keyid(keyid) or (successor.by_keyid(keyid) if successor is not None else None)
    if found is None:
        raise NotEligible("not-a-validator")
    return found


def _differences(vote: Vote, ballot: Ballot) -> Iterator[Flaw]:
    if vote.subject != ballot.subject:
        yield _mismatch("/subject")
    if statement.is_about(vote.predicate, ballot.predicate):
        return
    cast, asked = statement.fields(vote.predicate), statement.fields(ballot.predicate)
    for name, value in asked.items():
        if cast[name] != value:
            yield _mismatch(f"/predicate/{name}")


def _binding(vote: Vote, validator: Validator) -> Iterator[Flaw]:
    if vote.predicate.validator != validator.id:
        yield Flaw("/predicate/validator", "not-the-signer", "the key is another validator's")
    if vote.predicate.role != validator.role:
        yield Flaw("/predicate/role", "not-the-role", "the validator set gives another role")
    if vote.predicate.recomputed and validator.is_human:
        yield Flaw("/predicate/recomputed", "not-a-machine", "only machines recompute")


def _windows(vote: Vote, ballot_expires_at: datetime, now: datetime) -> tuple[Any, Any, list[Flaw]]:
    issued_at, expires_at = _instant(vote.predicate.issued_at), _instant(vote.predicate.expires_at)
    flaws = []
    if issued_at is None or abs(issued_at - now) > CLOCK_TOLERANCE:
        flaws.append(Flaw("/predicate/issued_at", "clock", "not within five minutes of the service's clock"))
    if expires_at is None or expires_at > ballot_expires_at:
        flaws.append(Flaw("/predicate/expires_at", "after-ballot", "no vote outlives its ballot"))
    elif expires_at <= now or (issued_at is not None and expires_at <= issued_at):
        flaws.append(Flaw("/predicate/expires_at", "expired", "the vote has already expired"))
    return issued_at, expires_at, flaws


def _instant(text: str) -> datetime | None:
    try:
        return instants.from_text(text)
    except ValueError:
        return None


def _mismatch(pointer: str) -> Flaw:
    return Flaw(pointer, "not-the-ballot", "differs from the ballot")


def unchecked(envelope: Envelope) -> dict[str, Any]:
    """Return the predicate that an envelope claims, unverified: to find its proposal, never to decide.

    Raises:
        BindingMismatch: it is no vote.
    """
    predicate: dict[str, Any] = msgspec.to_builtins(statement.decode(envelope.peek(), Vote).predicate)
    return predicate
