"""One envelope, one spelling; and nobody signs for another."""

import base64
import binascii
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.signing import envelope, keys, possession
from app.core.signing.envelope import IN_TOTO, KEY_POSSESSION, Envelope
from app.core.signing.possession import Possession
from app.errors import BadSignature, MalformedBody, ProofFailed
from app.security.signatures import verify
from tests.unit.service.electorate import ORIGIN, private_key

PAIR = private_key("olga")
PAYLOAD = b'{"a":1}'
GOOD = PAIR.seal(PAYLOAD, IN_TOTO)
SAMS = private_key("sam").seal(PAYLOAD, IN_TOTO)


def test_the_encoding_is_the_specifications_example() -> None:
    assert envelope.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert envelope.pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 ", "lengths count bytes"


@given(st.tuples(st.text(), st.binary()), st.tuples(st.text(), st.binary()))
def test_no_two_pairs_have_one_encoding(one: tuple[str, bytes], other: tuple[str, bytes]) -> None:
    assert (envelope.pae(*one) == envelope.pae(*other)) == (one == other)


@given(st.binary(max_size=200))
def test_what_was_sealed_is_what_is_opened(payload: bytes) -> None:
    sealed = PAIR.seal(payload, IN_TOTO)

    assert envelope.decode(sealed.encode()) == sealed
    assert envelope.opened(sealed, PAIR.public_key, payload_type=IN_TOTO, verify=verify) == payload


def laxer(text: str) -> str:
    """The same bytes for a decoder that ignores the bits behind the last byte."""
    unpadded = text.rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return unpadded[:-1] + alphabet[alphabet.index(unpadded[-1]) + 1] + "=" * (len(text) - len(unpadded))


SIG = GOOD.signatures[0].sig
KEYID = GOOD.signatures[0].keyid
MISSHAPEN: list[tuple[str, dict[str, Any]]] = [
    ("no signature", {"signatures": []}),
    ("too many signatures", {"signatures": [{"keyid": KEYID, "sig": SIG}] * 65}),
    ("a payload without padding", {"payload": "eyJhIjoxfQ"}),
    ("a payload with bits behind", {"payload": "eyJhIjoxfR=="}),
    ("a payload in the URL alphabet", {"payload": "--__"}),
    ("a payload with a line break", {"payload": "eyJh\nIjoxfQ=="}),
    ("a payload with a space", {"payload": "eyJh IjoxfQ=="}),
    ("a payload that is bytes no more", {"payload": "é"}),
    ("padding in the middle", {"payload": "eyJhIg==eyJhIg=="}),
    ("a signature without padding", {"signatures": [{"keyid": KEYID, "sig": SIG.rstrip("=")}]}),
    ("a signature with bits behind", {"signatures": [{"keyid": KEYID, "sig": laxer(SIG)}]}),
    ("a signature in the URL alphabet", {"signatures": [{"keyid": KEYID, "sig": "-" * 86 + "=="}]}),
    ("a signature of 63 bytes", {"signatures": [{"keyid": KEYID, "sig": keys.to_base64(bytes(63))}]}),
    ("a line break behind the signature", {"signatures": [{"keyid": KEYID, "sig": SIG + "\n"}]}),
    ("a signature without a key", {"signatures": [{"sig": SIG}]}),
    ("a key's name in capitals", {"signatures": [{"keyid": KEYID.upper(), "sig": SIG}]}),
    ("an unknown field", {"extra": 1}),
    ("a type that is none", {"payloadType": None}),
    ("an empty type", {"payloadType": ""}),
    ("the spelling of Python", {"payload_type": IN_TOTO}),
]


@pytest.mark.parametrize(("_name", "change"), MISSHAPEN, ids=[one[0] for one in MISSHAPEN])
def test_an_envelope_is_refused(_name: str, change: dict[str, Any]) -> None:
    with pytest.raises(BadSignature) as refused:
        envelope.from_value({**GOOD.document(), **change})

    assert refused.value.flaws


def test_a_lax_decoder_would_have_taken_it() -> None:
    assert base64.b64decode("eyJhIjoxfR==") == PAYLOAD
    assert base64.b64decode(laxer(SIG)) == base64.b64decode(SIG)


BODIES = [
    (b'{"payload":"","payload":"e30="', MalformedBody),
    (b"[]", BadSignature),
    (b"null", BadSignature),
    (b"", MalformedBody),
    (b"\xef\xbb\xbf" + GOOD.encode(), MalformedBody),
    (GOOD.encode()[:-1] + b',"payloadType":"application/vnd.in-toto+json"}', MalformedBody),
    (b" " * envelope.ENVELOPE_BYTES_MAX + GOOD.encode(), BadSignature),
]


@pytest.mark.parametrize(("body", "error"), BODIES, ids=range(len(BODIES)))
def test_a_body_is_refused(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        envelope.decode(body)


def test_whitespace_around_an_envelope_does_not_make_another_one() -> None:
    spelled = b"  " + GOOD.encode().replace(b",", b" ,\n ")

    assert envelope.decode(spelled).digest() == GOOD.digest()


def two_signatures() -> Envelope:
    other = private_key("sam").seal(PAYLOAD, IN_TOTO).signatures
    return msgspec.structs.replace(GOOD, signatures=(*GOOD.signatures, *other))


NOT_OPENED: list[tuple[str, Envelope]] = [
    ("another payload", msgspec.structs.replace(GOOD, payload=keys.to_base64(b'{"a":2}'))),
    ("another type", msgspec.structs.replace(GOOD, payload_type="application/json")),
    ("signed as another type", msgspec.structs.replace(PAIR.seal(PAYLOAD, KEY_POSSESSION), payload_type=IN_TOTO)),
    ("a second signature", two_signatures()),
    ("the same signature twice", msgspec.structs.replace(GOOD, signatures=GOOD.signatures * 2)),
    ("another key", SAMS),
    (
        "another key under this one's name",
        msgspec.structs.replace(GOOD, signatures=(msgspec.structs.replace(SAMS.signatures[0], keyid=KEYID),)),
    ),
    (
        "this key under another's name",
        msgspec.structs.replace(
            GOOD, signatures=(msgspec.structs.replace(GOOD.signatures[0], keyid=private_key("sam").keyid),)
        ),
    ),
    (
        "the bare payload signed",
        msgspec.structs.replace(
            GOOD, signatures=(msgspec.structs.replace(GOOD.signatures[0], sig=keys.to_base64(PAIR.sign(PAYLOAD))),)
        ),
    ),
]


@pytest.mark.parametrize(("_name", "sealed"), NOT_OPENED, ids=[one[0] for one in NOT_OPENED])
def test_an_envelope_is_not_opened(_name: str, sealed: Envelope) -> None:
    with pytest.raises(BadSignature):
        envelope.opened(sealed, PAIR.public_key, payload_type=IN_TOTO, verify=verify)


def test_a_key_signs_once_under_whatever_names() -> None:
    """securesystemslib 1.6.0 met a threshold of two with one key under two key ids."""
    twice = msgspec.structs.replace(
        GOOD, signatures=(*GOOD.signatures, msgspec.structs.replace(GOOD.signatures[0], keyid=private_key("sam").keyid))
    )
    known = {KEYID: PAIR.public_key, private_key("sam").keyid: PAIR.public_key}

    assert envelope.signers(twice, known, verify=verify) == {KEYID}


def test_a_signature_with_s_beyond_the_order_counts_for_nobody_even_with_a_lax_verifier() -> None:
    raw = keys.from_base64(SIG)
    malleable = raw[:32] + (int.from_bytes(raw[32:], "little") + keys.GROUP_ORDER).to_bytes(32, "little")
    again = msgspec.structs.replace(
        GOOD, signatures=(msgspec.structs.replace(GOOD.signatures[0], sig=keys.to_base64(malleable)),)
    )

    assert envelope.signers(again, {KEYID: PAIR.public_key}, verify=lambda *_: True) == set()


@given(st.binary(max_size=40).map(keys.to_base64) | st.text('AB+/=\\"u041 \n-_\u00e9', max_size=12))
def test_base64_is_read_as_strictly_as_binascii_does_and_in_one_spelling(text: str) -> None:
    try:
        expected = binascii.a2b_base64(text, strict_mode=True)
        is_the_spelling = keys.to_base64(expected) == text
    except ValueError:
        is_the_spelling = False

    if is_the_spelling:
        assert keys.from_base64(text) == expected
    else:
        with pytest.raises(ValueError, match="base64"):
            keys.from_base64(text)


# Proof of possession.

SAID = Possession(
    validator="olga", principal="olga-person", public_key=keys.to_base64(PAIR.public_key), origin=ORIGIN, challenge="c1"
)


def prove(proof: Any) -> Possession:
    return possession.check(
        proof, PAIR.public_key, validator="olga", principal="olga-person", origin=ORIGIN, verify=verify
    )


def proof(payload: bytes | None = None, by: str = "olga", kind: str = KEY_POSSESSION, **changes: str) -> dict[str, Any]:
    said = msgspec.structs.replace(SAID, **changes)
    return private_key(by).seal(said.encode() if payload is None else payload, kind).document()


def test_a_proof_holds_for_its_key_and_validator() -> None:
    assert prove(proof()).challenge == "c1"


Proof = Callable[[], dict[str, Any]]
PROOFS: list[tuple[str, Proof, str]] = [
    ("another validator", lambda: proof(validator="sam"), "other-validator"),
    ("another principal", lambda: proof(principal="mallory"), "other-validator"),
    ("another log", lambda: proof(origin="elsewhere.example/log"), "other-origin"),
    ("another key named", lambda: proof(public_key=keys.to_base64(private_key("sam").public_key)), "other-key"),
    ("another key signed", lambda: proof(by="sam"), "bad-signature"),
    ("another type", lambda: proof(kind=IN_TOTO), "bad-signature"),
    ("whitespace", lambda: proof(payload=SAID.encode() + b" "), "not-canonical"),
    ("a vote", lambda: proof(payload=PAYLOAD), "not-canonical"),
    ("no JSON", lambda: proof(payload=b"{"), "not-canonical"),
    ("nothing", dict, "bad-signature"),
]


@pytest.mark.parametrize(("_name", "made", "reason"), PROOFS, ids=[one[0] for one in PROOFS])
def test_a_proof_fails(_name: str, made: Proof, reason: str) -> None:
    with pytest.raises(ProofFailed) as failed:
        prove(made())

    assert failed.value.reason == reason
