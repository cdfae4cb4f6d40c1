"""What a dishonest client may send instead of a vote, and what it is told."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.governance import validators
from app.core.governance.validators import ValidatorSet
from app.core.governed.shapes import Pin
from app.core.governed.target import Tier
from app.core.quorum import votes
from app.core.quorum.votes import VerifiedVote
from app.core.signing import statement
from app.core.signing.envelope import IN_TOTO, Envelope
from app.core.signing.keys import to_base64
from app.core.signing.statement import Ballot, Vote
from app.errors import BadSignature, BindingMismatch, FirewallError, NotEligible, ProposerCannotVote
from app.security.signatures import verify
from tests.unit.service.electorate import (
    NOW,
    PROPOSER,
    ballot,
    digest,
    document,
    founding,
    founding_set,
    key,
    private_key,
    signed,
    validator,
)

BALLOT = ballot()
EXPIRES = NOW + timedelta(hours=24)


def check(envelope: Envelope, **changes: Any) -> VerifiedVote:
    fields: dict[str, Any] = {
        "ballot": BALLOT,
        "ballot_expires_at": EXPIRES,
        "electorate": founding_set(),
        "proposer": PROPOSER,
        "principal": None,
        "now": NOW,
        "verify": verify,
        **changes,
    }
    return votes.check(envelope, **fields)


def refusal(envelope: Envelope, **changes: Any) -> FirewallError:
    with pytest.raises(FirewallError) as refused:
        check(envelope, **changes)
    return refused.value


def pointers(error: FirewallError) -> list[str]:
    assert isinstance(error, BindingMismatch)
    return [flaw.pointer for flaw in error.flaws]


@pytest.mark.parametrize("name", ["olga", "sam", "zoe", "robot", "replica"])
@pytest.mark.parametrize("decision", ["approve", "reject", "abstain"])
def test_an_honest_vote_is_verified(name: str, decision: Any) -> None:
    envelope = signed(name, decision=decision)

    vote = check(envelope, principal=f"{name}-person")

    assert (vote.validator, vote.decision, vote.digest) == (name, decision, envelope.digest())
    assert vote.recomputed == (name in {"robot", "replica"} and decision == "approve")


# Replays: an honest vote on anything else.
REPLAYS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("another proposal", {"proposal": "01a209f4-aea4-72f8-833c-264e68b380f2"}, ["/predicate/proposal"]),
    ("another epoch", {"epoch": 2}, ["/predicate/epoch"]),
    ("another target", {"target": "assistant/tools"}, ["/predicate/target"]),
    ("another base version", {"base_version": 4}, ["/predicate/base_version"]),
    ("another base", {"base_digest": digest("b")}, ["/predicate/base_digest"]),
    ("another patch", {"patch_digest": digest("p")}, ["/predicate/patch_digest"]),
    ("another simulation", {"simulation_digest": digest("s")}, ["/predicate/simulation_digest"]),
    ("a lower tier", {"tier": Tier.LOW}, ["/predicate/tier"]),
    ("another rule", {"quorum_rule_digest": digest("r")}, ["/predicate/quorum_rule_digest"]),
    ("other policies", {"policy_set": Pin(version=2, digest=digest("policies"))}, ["/predicate/policy_set"]),
    ("other policies of that number", {"policy_set": Pin(version=1, digest=digest("x"))}, ["/predicate/policy_set"]),
    ("other validators", {"validator_set": Pin(version=2, digest=digest("x"))}, ["/predicate/validator_set"]),
    ("another ballot of the same content", {"nonce": "f" * 32}, ["/predicate/nonce"]),
    ("another content", {"proposal_digest": digest("edited")}, ["/subject"]),
    ("another result", {"result_digest": digest("edited")}, ["/subject"]),
    ("several", {"epoch": 2, "nonce": "f" * 32}, ["/predicate/epoch", "/predicate/nonce"]),
]


@pytest.mark.parametrize(("_name", "change", "where"), REPLAYS, ids=[one[0] for one in REPLAYS])
def test_a_vote_on_something_else_is_refused(_name: str, change: dict[str, Any], where: list[str]) -> None:
    assert pointers(refusal(signed("olga", on=ballot(**change)))) == where


def test_every_field_of_the_ballot_has_its_replay() -> None:
    tried = {pointer.removeprefix("/predicate/") for _, _, where in REPLAYS for pointer in where}

    assert {*statement.fields(BALLOT.predicate)} == tried - {"/subject"}


SAID: list[tuple[str, dict[str, Any], list[str]]] = [
    ("somebody else's name", {"validator": "sam"}, ["/predicate/validator"]),
    ("another role", {"role": "safety"}, ["/predicate/role"]),
    ("a person who recomputed", {"recomputed": True}, ["/predicate/recomputed"]),
    ("issued too long ago", {"issued_at": NOW - timedelta(minutes=5, microseconds=1)}, ["/predicate/issued_at"]),
    ("issued in the future", {"issued_at": NOW + timedelta(minutes=5, microseconds=1)}, ["/predicate/issued_at"]),
    ("outliving the ballot", {"expires_at": EXPIRES + timedelta(microseconds=1)}, ["/predicate/expires_at"]),
    ("expired", {"expires_at": NOW}, ["/predicate/expires_at"]),
    (
        "expired on its way",
        {"issued_at": NOW - timedelta(minutes=2), "expires_at": NOW - timedelta(minutes=1)},
        ["/predicate/expires_at"],
    ),
    (
        "expired before it was issued",
        {"issued_at": NOW + timedelta(minutes=2), "expires_at": NOW + timedelta(minutes=1)},
        ["/predicate/expires_at"],
    ),
]


@pytest.mark.parametrize(("_name", "change", "where"), SAID, ids=[one[0] for one in SAID])
def test_a_vote_that_says_otherwise_is_refused(_name: str, change: dict[str, Any], where: list[str]) -> None:
    assert pointers(refusal(signed("olga", **change))) == where


@pytest.mark.parametrize("offset", [timedelta(minutes=-5), timedelta(minutes=5)])
def test_five_minutes_of_clock_are_borne(offset: timedelta) -> None:
    assert check(signed("olga", issued_at=NOW + offset, expires_at=EXPIRES)).validator == "olga"


# Bytes: the same content, spelled otherwise, signed well.
Spelling = Callable[[dict[str, Any]], bytes]


def vote_document() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(signed("olga").peek())
    return content


def canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def edited(**changes: Any) -> Spelling:
    return lambda content: canonical({**content, "predicate": {**content["predicate"], **changes}})


def without(name: str) -> Spelling:
    return lambda content: canonical(
        {**content, "predicate": {key: value for key, value in content["predicate"].items() if key != name}}
    )


SPELLINGS: list[tuple[str, Spelling]] = [
    ("a space", lambda content: json.dumps(content, sort_keys=True).encode()),
    ("a line break at the end", lambda content: canonical(content) + b"\n"),
    (
        "keys reversed",
        lambda content: json.dumps(dict(sorted(content.items(), reverse=True)), separators=(",", ":")).encode(),
    ),
    ("1.0 for 1", lambda content: canonical(content).replace(b'"epoch":1,', b'"epoch":1.0,')),
    ("1e0 for 1", lambda content: canonical(content).replace(b'"epoch":1,', b'"epoch":1e0,')),
    ("an escaped letter", lambda content: canonical(content).replace(b"approve", b"\\u0061pprove")),
    ("an escaped slash", lambda content: canonical(content).replace(b"assistant/prompts", b"assistant\\/prompts")),
    ("a field twice", lambda content: canonical(content).replace(b'"epoch":1,', b'"epoch":1,"epoch":1,')),
    ("a type left out", lambda content: canonical({key: value for key, value in content.items() if key != "_type"})),
    ("a byte order mark", lambda content: b"\xef\xbb\xbf" + canonical(content)),
    ("UTF-16", lambda content: canonical(content).decode().encode("utf-16")),
    ("an unknown field", edited(extra=None)),
    ("an unknown decision", edited(decision="maybe")),
    ("a decision in capitals", edited(decision="Approve")),
    ("no reason", without("reason")),
    ("a reason of null", edited(reason=None)),
    ("a reason with a null character", edited(reason="a\0b")),
    ("a reason too long", edited(reason="x" * 2_049)),
    ("an epoch as text", edited(epoch="1")),
    ("an epoch of zero", edited(epoch=0)),
    ("an epoch beyond 2^53", edited(epoch=2**53)),
    ("true for 1", edited(epoch=True)),
    ("a time without microseconds", edited(issued_at="2026-11-23T12:00:00Z")),
    ("a time with an offset", edited(issued_at="2026-11-23T12:00:00.000000+00:00")),
    ("a time of digits from elsewhere", edited(issued_at="\uff12026-11-23T12:00:00.000000Z")),
    ("no such day", edited(issued_at="2026-02-30T12:00:00.000000Z")),
    ("a leap second", edited(issued_at="2026-11-23T11:59:60.000000Z")),
    ("a name with a line break", edited(validator="olga\n")),
    ("a look-alike name", edited(validator="\u043elga")),
    ("a digest in capitals", edited(patch_digest=digest("patch").upper())),
    ("a list", lambda _: b"[]"),
    ("nothing", lambda _: b""),
    ("deep nesting", lambda _: b"[" * 5_000 + b"]" * 5_000),
]


@pytest.mark.parametrize(("_name", "spelling"), SPELLINGS, ids=[one[0] for one in SPELLINGS])
def test_a_payload_that_is_not_canonical_is_refused_however_well_signed(_name: str, spelling: Spelling) -> None:
    payload = spelling(vote_document())
    assert payload != signed("olga").peek()

    error = refusal(private_key("olga").seal(payload, IN_TOTO))

    assert isinstance(error, BindingMismatch)
    assert error.flaws


@pytest.mark.parametrize(("_name", "spelling"), SPELLINGS, ids=[one[0] for one in SPELLINGS])
def test_no_such_payload_is_the_ballot_with_what_a_voter_added(_name: str, spelling: Spelling) -> None:
    payload = spelling(vote_document())

    # Only what time and the voter's name mean is looked at later.
    said = statement.vote_on(payload, BALLOT)

    assert said is None or said == statement.decode(payload, Vote)


@given(st.integers(0, 5_000), st.binary(min_size=1, max_size=1))
def test_what_is_put_together_from_a_ballot_is_what_its_bytes_say(place: int, byte: bytes) -> None:
    content = bytearray(signed("olga").peek())
    place %= len(content)
    content[place : place + 1] = byte
    payload = bytes(content)

    said = statement.vote_on(payload, BALLOT)

    try:
        expected = statement.decode(payload, Vote)
    except BindingMismatch:
        assert said is None
    else:
        is_about = statement.is_about(expected.predicate, BALLOT.predicate) and expected.subject == BALLOT.subject
        assert said == (expected if is_about else None)


def test_the_spellings_start_from_what_is_accepted() -> None:
    assert statement.vote_on(signed("olga").peek(), BALLOT) == statement.decode(signed("olga").peek(), Vote)
    assert canonical(vote_document()) == signed("olga").peek()


def test_other_statements_of_the_same_ballot_are_no_votes() -> None:
    for payload in (
        statement.encode(BALLOT),
        canonical({**vote_document(), "predicateType": "https://amgf.example/decision/v1"}),
    ):
        assert isinstance(refusal(private_key("olga").seal(payload, IN_TOTO)), BindingMismatch)


# Signatures.


def test_a_signature_by_another_validators_key_is_refused() -> None:
    forged = signed("olga", by=private_key("sam"))

    assert pointers(refusal(forged)) == ["/predicate/validator", "/predicate/role"]


ENVELOPES: list[tuple[str, Callable[[Envelope], Envelope], type[FirewallError]]] = [
    ("another type", lambda one: msgspec.structs.replace(one, payload_type="application/json"), BadSignature),
    ("signed as another type", lambda one: private_key("olga").seal(one.peek(), "application/json"), BadSignature),
    ("two signatures", lambda one: msgspec.structs.replace(one, signatures=one.signatures * 2), BadSignature),
    (
        "a stranger's signature before the voter's",
        lambda one: msgspec.structs.replace(
            one, signatures=(*private_key("mallory").seal(one.peek(), IN_TOTO).signatures, *one.signatures)
        ),
        BadSignature,
    ),
    ("no signature", lambda one: msgspec.structs.replace(one, signatures=()), BadSignature),
    (
        "another payload",
        lambda one: msgspec.structs.replace(one, payload=signed("olga", reason="no").payload),
        BadSignature,
    ),
    ("a stranger", lambda one: private_key("mallory").seal(one.peek(), IN_TOTO), NotEligible),
    (
        "a stranger under a validator's name",
        lambda one: msgspec.structs.replace(
            one,
            signatures=(
                msgspec.structs.replace(
                    private_key("mallory").seal(one.peek(), IN_TOTO).signatures[0], keyid=private_key("olga").keyid
                ),
            ),
        ),
        BadSignature,
    ),
    (
        "a broken signature",
        lambda one: msgspec.structs.replace(
            one, signatures=(msgspec.structs.replace(one.signatures[0], sig=to_base64(bytes(64))),)
        ),
        BadSignature,
    ),
]


@pytest.mark.parametrize(("_name", "change", "error"), ENVELOPES, ids=[one[0] for one in ENVELOPES])
def test_an_envelope_is_refused(_name: str, change: Callable[[Envelope], Envelope], error: type[FirewallError]) -> None:
    assert isinstance(refusal(change(signed("olga"))), error)


def test_the_payload_is_not_looked_at_before_its_signature_verified() -> None:
    broken = msgspec.structs.replace(signed("olga"), payload=to_base64(b"not JSON"))

    assert isinstance(refusal(broken), BadSignature)


# Who may.


def test_nobody_votes_on_their_own_proposal() -> None:
    assert isinstance(refusal(signed("olga"), proposer="olga-person"), ProposerCannotVote)


def test_an_api_key_of_another_principal_cannot_send_the_vote() -> None:
    error = refusal(signed("olga"), principal="sam-person")

    assert isinstance(error, NotEligible)
    assert error.reason == "other-principal"


def test_a_revoked_key_has_no_vote() -> None:
    error = refusal(signed("olga"), revoked_keys={private_key("olga").keyid})

    assert isinstance(error, NotEligible)
    assert error.reason == "revoked"


def electorate_with(name: str, **window: str) -> ValidatorSet:
    entries = [one for one in founding()["validators"] if one["id"] != name]
    entry = validator(name, "owner")
    entry["keys"] = [key(name, f"{name}-person", name, **window)]
    return validators.parse(document(*entries, entry))


WINDOWS = [
    ({"not_before": "2026-11-23T12:00:00.000001Z"}, False),
    ({"not_before": "2026-11-23T12:00:00.000000Z"}, True),
    ({"not_after": "2026-11-23T12:00:00.000000Z"}, False),
    ({"not_after": "2026-11-23T12:00:00.000001Z"}, True),
]


@pytest.mark.parametrize(("window", "is_valid"), WINDOWS, ids=str)
def test_a_key_signs_in_its_window_only(window: dict[str, str], is_valid: bool) -> None:  # noqa: FBT001
    electorate = electorate_with("olga", **window)

    if is_valid:
        assert check(signed("olga"), electorate=electorate).validator == "olga"
    else:
        error = refusal(signed("olga"), electorate=electorate)
        assert isinstance(error, NotEligible)
        assert error.reason == "outside-window"


def test_a_new_member_votes_on_the_set_that_brings_them_in() -> None:
    small = validators.parse(document(*[one for one in founding()["validators"] if one["id"] != "zoe"]))

    assert isinstance(refusal(signed("zoe"), electorate=small), NotEligible)
    assert check(signed("zoe"), electorate=small, successor=founding_set()).validator == "zoe"


# Taking a vote back.


def revocation(
    name: str = "olga", *, by: str | None = None, on: Ballot = BALLOT, about: str | None = None, **changes: Any
) -> Envelope:
    cast = signed(name, on=on)
    taken_back = statement.revoke(
        statement.decode(cast.peek(), Vote), digest=cast.digest(), reason="I was wrong", issued_at=NOW
    )
    predicate = msgspec.structs.replace(taken_back.predicate, **changes)
    subjects = taken_back.subject if about is None else (statement.subject("vote", about),)
    payload = statement.encode(msgspec.structs.replace(taken_back, predicate=predicate, subject=subjects))
    return private_key(by or name).seal(payload, IN_TOTO)


def check_revocation(envelope: Envelope, **changes: Any) -> statement.Revocation:
    fields: dict[str, Any] = {
        "vote": check(signed("olga")),
        "electorate": founding_set(),
        "principal": None,
        "now": NOW,
        "verify": verify,
        **changes,
    }
    return votes.check_revocation(envelope, **fields)


def test_a_voter_takes_a_vote_back() -> None:
    assert check_revocation(revocation(), principal="olga-person").predicate.vote == signed("olga").digest()


REVOCATIONS: list[tuple[str, Callable[[], Envelope], dict[str, Any], type[FirewallError]]] = [
    ("by somebody else", lambda: revocation(by="sam"), {}, NotEligible),
    ("of somebody else's vote", lambda: revocation("sam"), {}, NotEligible),
    ("of another vote of one's own", lambda: revocation(on=ballot(epoch=2)), {}, BindingMismatch),
    ("of another proposal", lambda: revocation(proposal="01a209f4-aea4-72f8-833c-264e68b380f2"), {}, BindingMismatch),
    ("in another's name", lambda: revocation(validator="sam"), {}, BindingMismatch),
    ("about another vote", lambda: revocation(about=digest("another")), {}, BindingMismatch),
    ("long ago", lambda: revocation(issued_at="2026-11-23T11:54:59.000000Z"), {}, BindingMismatch),
    ("no such time", lambda: revocation(issued_at="2026-11-31T11:54:59.000000Z"), {}, BindingMismatch),
    ("a vote for a revocation", lambda: signed("olga"), {}, BindingMismatch),
    ("sent by another principal", revocation, {"principal": "sam-person"}, NotEligible),
    ("with a revoked key", revocation, {"revoked_keys": [private_key("olga").keyid]}, NotEligible),
    (
        "with a key that has ended",
        revocation,
        {"electorate": electorate_with("olga", not_after="2026-11-23T12:00:00.000000Z")},
        NotEligible,
    ),
    ("as another type", lambda: private_key("olga").seal(revocation().peek(), "application/json"), {}, BadSignature),
]


@pytest.mark.parametrize(("_name", "made", "context", "error"), REVOCATIONS, ids=[one[0] for one in REVOCATIONS])
def test_a_revocation_is_refused(
    _name: str, made: Callable[[], Envelope], context: dict[str, Any], error: type[FirewallError]
) -> None:
    with pytest.raises(error):
        check_revocation(made(), **context)
