"""What is signed about a proposal: in-toto Statements (version 1) in canonical bytes.

    ballot        what the service offers to sign                                vote/v1
    vote          the ballot, and who says what about it, from when to when      vote/v1
    revocation    a voter takes a vote back                                      vote-revocation/v1
    decision      the service says which votes carried which change              decision/v1
    attestation   the service says what is current, until when                   attestation/v1

`decode` accepts only bytes that are the canonical form of what they say: the struct made of them, encoded again, must
be the same bytes. So order of keys, whitespace, `1.0` for 1, missing nulls and unknown fields are all refused by one
comparison. docs/formats.md tells a stranger how to write another client.
"""

import operator
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from app.core.documents import canonical, instants
from app.core.documents.strict_json import Document
from app.core.governed.shapes import (
    Count,
    DigestText,
    Hex64,
    InstantText,
    Misshapen,
    Origin,
    Pin,
    PrincipalName,
    Slug,
    TargetName,
    Uuid,
    Version,
    convert,
)
from app.core.governed.target import Tier
from app.errors import BindingMismatch, Flaw, MalformedBody

STATEMENT: Final = "https://in-toto.io/Statement/v1"
REASON_CHARACTERS_MAX: Final = 2_048
SHA256_PREFIX: Final = "sha256:"

Decided = Literal["approve", "reject", "abstain"]
Nonce = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""128 random bits in hex: two ballots never have the same bytes."""
Reason = Annotated[str, msgspec.Meta(max_length=REASON_CHARACTERS_MAX)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every field is required."""


class Digests(_Strict, frozen=True, kw_only=True):
    """A subject's digest, as in-toto spells it: hex, without a prefix."""

    sha256: Hex64


class Subject(_Strict, frozen=True, kw_only=True):
    """One thing that a statement is about."""

    name: Literal["proposal", "snapshot", "vote"]
    digest: Digests


Subjects = Annotated[tuple[Subject, ...], msgspec.Meta(min_length=1, max_length=2)]


class BallotPredicate(_Strict, frozen=True, kw_only=True):
    """What everybody signs alike."""

    proposal: Uuid
    target: TargetName
    base_version: Count
    base_digest: DigestText
    patch_digest: DigestText
    simulation_digest: DigestText
    tier: Tier
    quorum_rule_digest: DigestText
    policy_set: Pin
    validator_set: Pin
    epoch: Version
    nonce: Nonce


class VotePredicate(BallotPredicate, frozen=True, kw_only=True):
    """The ballot, with one voter's decision. `recomputed`: a machine ran the simulation itself, with equal digest."""

    validator: Slug
    role: Slug
    decision: Decided
    recomputed: bool
    reason: Reason
    issued_at: InstantText
    expires_at: InstantText


class RevocationPredicate(_Strict, frozen=True, kw_only=True):
    """A vote taken back. `vote` is the digest of its canonical envelope."""

    proposal: Uuid
    vote: DigestText
    validator: Slug
    reason: Reason
    issued_at: InstantText


class DecisionPredicate(BallotPredicate, frozen=True, kw_only=True):
    """The ballot, and what became of it. `applier`: a principal, or null for the service itself."""

    version: Version
    result_digest: DigestText
    tally: dict[str, Any]
    applier: PrincipalName | None
    decided_at: InstantText


class LogPosition(_Strict, frozen=True, kw_only=True):
    """A log, and how many entries of it are covered."""

    origin: Origin
    size: Count


class AttestationPredicate(_Strict, frozen=True, kw_only=True):
    """What is current. `proposal` is null for a version that no proposal made."""

    target: TargetName
    version: Version
    digest: DigestText
    policy_set: Pin
    validator_set: Pin
    tier: Tier
    proposal: Uuid | None
    time_created: InstantText
    expires_at: InstantText
    log: LogPosition


class _Statement(_Strict, frozen=True, rename={"type": "_type", "predicate_type": "predicateType"}, kw_only=True):
    type: Literal["https://in-toto.io/Statement/v1"] = STATEMENT
    subject: Subjects


class Ballot(_Statement, frozen=True, kw_only=True):
    """What a validator is asked to sign."""

    predicate_type: Literal["https://amgf.example/vote/v1"] = "https://amgf.example/vote/v1"
    predicate: BallotPredicate


class Vote(_Statement, frozen=True, kw_only=True):
    """What a validator signs."""

    predicate_type: Literal["https://amgf.example/vote/v1"] = "https://amgf.example/vote/v1"
    predicate: VotePredicate


class Revocation(_Statement, frozen=True, kw_only=True):
    """What a validator signs to take a vote back; its one subject is the vote."""

    predicate_type: Literal["https://amgf.example/vote-revocation/v1"] = "https://amgf.example/vote-revocation/v1"
    predicate: RevocationPredicate


class Decision(_Statement, frozen=True, kw_only=True):
    """What the service signs when it applies."""

    predicate_type: Literal["https://amgf.example/decision/v1"] = "https://amgf.example/decision/v1"
    predicate: DecisionPredicate


class Attestation(_Statement, frozen=True, kw_only=True):
    """What the service signs about the current state; its one subject is the snapshot."""

    predicate_type: Literal["https://amgf.example/attestation/v1"] = "https://amgf.example/attestation/v1"
    predicate: AttestationPredicate


Any_ = TypeVar("Any_", Ballot, Vote, Revocation, Decision, Attestation)
_DECODERS: Final[Mapping[type[Any], msgspec.json.Decoder[Any]]] = {
    kind: canonical.decoder_of(kind) for kind in (Ballot, Vote, Revocation, Decision, Attestation)
}


class _Voter(msgspec.Struct, frozen=True):
    """What of a vote is not its ballot's."""

    validator: Slug
    role: Slug
    decision: Decided
    recomputed: bool
    reason: Reason
    issued_at: InstantText
    expires_at: InstantText


class _Decider(msgspec.Struct, frozen=True):
    """What of a decision is neither its ballot's nor its tally."""

    applier: PrincipalName | None
    decided_at: InstantText


class _ByVoter(msgspec.Struct, frozen=True):
    predicate: _Voter


class _ByDecider(msgspec.Struct, frozen=True):
    predicate: _Decider


_by_voter: Final = msgspec.json.Decoder(_ByVoter)
_by_decider: Final = msgspec.json.Decoder(_ByDecider)
_sorted: Final = msgspec.json.Encoder(order="sorted")
_shared: Final = operator.attrgetter(*BallotPredicate.__struct_fields__)


def subject(name: Literal["proposal", "snapshot", "vote"], digest: str) -> Subject:
    """Return the subject of a `sha256:...` digest."""
    return Subject(name=name, digest=Digests(sha256=digest.removeprefix(SHA256_PREFIX)))


def encode(statement: Ballot | Vote | Revocation | Decision | Attestation) -> bytes:
    """Return the canonical bytes: the payload."""
    return canonical.encode_value(msgspec.to_builtins(statement))


def decode(payload: bytes, kind: type[Any_]) -> Any_:
    """Return the statement of canonical bytes.

    Raises:
        BindingMismatch: they are not JSON, not such a statement, or not canonical.
    """
    # Bounded before anything is read: a decision holds a tally, and that is not typed.
    if canonical.is_within(payload):
        quick: Any_ | None = canonical.decode_plain(payload, _DECODERS[kind])
        if quick is not None:
            return quick
    try:
        document = canonical.decode_canonical(payload)
        statement = convert(document.value, kind)
    except MalformedBody as error:
        raise BindingMismatch(error.flaws) from None
    except Misshapen as error:
        raise BindingMismatch([error.flaw]) from None
    # A field that is left out, where it has one value only, would be a second spelling.
    if canonical.encode(Document(msgspec.to_builtins(statement), is_plain=document.is_plain)) != payload:
        raise BindingMismatch([Flaw("", "not-canonical", "the payload is not in canonical form (RFC 8785)")])
    return statement


def vote_on(payload: bytes, on: Ballot) -> Vote | None:
    """Return the vote whose canonical bytes these are if it is one on this ballot; None: `decode` says what it is.

    It is the ballot, put together with what the voter added, if that has the same bytes. So what all votes of a ballot
    have in common is not read again for each.
    """
    if not canonical.is_plain_text(payload):
        return None
    try:
        added = msgspec.structs.asdict(_by_voter.decode(payload).predicate)
    except (msgspec.DecodeError, RecursionError):
        return None
    vote = Vote(subject=on.subject, predicate=VotePredicate(**msgspec.structs.asdict(on.predicate), **added))
    return vote if _sorted.encode(vote) == payload else None


def decision_on(
    payload: bytes, on: Ballot, *, version: int, result_digest: str, tally: dict[str, Any]
) -> Decision | None:
    """Return the decision whose canonical bytes these are if it is about these; None: `decode` says what it is."""
    if not canonical.is_plain_text(payload):
        return None
    try:
        added = msgspec.structs.asdict(_by_decider.decode(payload).predicate)
    except (msgspec.DecodeError, RecursionError):
        return None
    fixed = msgspec.structs.asdict(on.predicate)
    predicate = DecisionPredicate(**fixed, version=version, result_digest=result_digest, tally=tally, **added)
    decision = Decision(subject=on.subject, predicate=predicate)
    return decision if _sorted.encode(decision) == payload else None


def ballot(*, proposal_digest: str, result_digest: str, predicate: BallotPredicate) -> Ballot:
    """Return the ballot of a simulated proposal."""
    return Ballot(
        subject=(subject("proposal", proposal_digest), subject("snapshot", result_digest)), predicate=predicate
    )


def cast(
    on: Ballot,
    *,
    validator: str,
    role: str,
    decision: Decided,
    recomputed: bool,
    reason: str,
    issued_at: datetime,
    expires_at: datetime,
) -> Vote:
    """Return the vote that fills in a ballot."""
    predicate = VotePredicate(
        **fields(on.predicate),
        validator=validator,
        role=role,
        decision=decision,
        recomputed=recomputed,
        reason=reason,
        issued_at=instants.to_text(issued_at),
        expires_at=instants.to_text(expires_at),
    )
    return Vote(subject=on.subject, predicate=predicate)


def revoke(vote: Vote, *, digest: str, reason: str, issued_at: datetime) -> Revocation:
    """Return the revocation of the vote whose envelope has this digest."""
    predicate = RevocationPredicate(
        proposal=vote.predicate.proposal,
        vote=digest,
        validator=vote.predicate.validator,
        reason=reason,
        issued_at=instants.to_text(issued_at),
    )
    return Revocation(subject=(subject("vote", digest),), predicate=predicate)


def is_about(predicate: VotePredicate | DecisionPredicate, asked: BallotPredicate) -> bool:
    """Whether a vote or a decision has every field of a ballot as the ballot has it."""
    return bool(_shared(predicate) == _shared(asked))


def fields(predicate: BallotPredicate) -> dict[str, Any]:
    """Return the fields a vote or a decision shares with its ballot."""
    return {name: getattr(predicate, name) for name in BallotPredicate.__struct_fields__}
