"""DSSE envelopes around in-toto Statements: parsed strictly, checked with PyNaCl, and made for our own voters.

Refused: more or fewer than one signature, Base64 in another spelling, a payload that is not canonical, a key id that is
not the digest of the key, keys of small order (every message verifies under some of them).
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from chaos.verifier import canonical

STATEMENT_PAYLOAD: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
VOTE: Final = "https://amgf.example/vote/v1"
REVOCATION: Final = "https://amgf.example/vote-revocation/v1"
DECISION: Final = "https://amgf.example/decision/v1"
ATTESTATION: Final = "https://amgf.example/attestation/v1"
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class BadEnvelope(ValueError):
    """The envelope is not what it must be; the message says in what."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed payload whose form is right; whether the signature is, ``is_signed_by`` says."""

    payload: bytes
    payload_type: str
    keyid: str
    signature: bytes

    def is_signed_by(self, public_key: bytes) -> bool:
        """Say whether this key made the signature, and the envelope names it."""
        if keyid_of(public_key) != self.keyid or not is_strong(public_key):
            return False
        try:
            VerifyKey(public_key).verify(pae(self.payload_type, self.payload), self.signature)
        except BadSignatureError:
            return False
        return True

    def statement(self) -> dict[str, Any]:
        """Return the in-toto Statement in it.

        Raises:
            BadEnvelope: the payload is none, or not canonical.
        """
        if self.payload_type != STATEMENT_PAYLOAD:
            raise BadEnvelope(f"payload type {self.payload_type!r}")
        try:
            value = canonical.decode(self.payload)
        except canonical.NotCanonical as error:
            raise BadEnvelope(f"payload: {error}") from error
        if (
            not isinstance(value, dict)
            or value.get("_type") != STATEMENT
            or not isinstance(value.get("predicate"), dict)
        ):
            raise BadEnvelope("payload is no Statement")
        return value


def parse(envelope: Any) -> Envelope:
    """Read an envelope from JSON text, its bytes or the value itself.

    Raises:
        BadEnvelope: it is none with exactly one signature.
    """
    try:
        value = json.loads(envelope) if isinstance(envelope, bytes | str) else envelope
        (one,) = value["signatures"]
        parsed = Envelope(
            payload=_exactly(value["payload"]),
            payload_type=str(value["payloadType"]),
            keyid=str(one["keyid"]),
            signature=_exactly(one["sig"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadEnvelope(f"no envelope with one signature ({type(error).__name__})") from error
    if len(parsed.signature) != SIGNATURE_BYTES:
        raise BadEnvelope(f"a signature of {len(parsed.signature)} bytes")
    return parsed


def seal(payload: bytes, key: SigningKey, *, payload_type: str = STATEMENT_PAYLOAD) -> dict[str, Any]:
    """Return the envelope of a payload under one key."""
    signature = key.sign(pae(payload_type, payload)).signature
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": keyid_of(bytes(key.verify_key)), "sig": base64.b64encode(signature).decode()}],
    }


def digest(envelope: Mapping[str, Any]) -> str:
    """Return the digest of an envelope: what a revocation names, and the identity of a vote."""
    return canonical.digest_of(envelope)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def keyid_of(public_key: bytes) -> str:
    """Return the identity of a key."""
    return canonical.digest(public_key)


def is_strong(public_key: bytes) -> bool:
    """Say whether a key is a canonical point of the prime-order group (none of the fourteen weak encodings is)."""
    return len(public_key) == KEY_BYTES and crypto_core_ed25519_is_valid_point(public_key)


def public_key_of(text: str) -> bytes:
    """Return a public key from its Base64.

    Raises:
        BadEnvelope: it is none.
    """
    try:
        key = _exactly(text)
    except ValueError as error:
        raise BadEnvelope("a public key that is no Base64") from error
    if len(key) != KEY_BYTES:
        raise BadEnvelope(f"a public key of {len(key)} bytes")
    return key


def _exactly(text: str) -> bytes:
    """Decode standard Base64 with padding, and refuse any other spelling of the same bytes."""
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("no Base64") from error
    if base64.b64encode(content).decode() != text:
        raise ValueError("not the one spelling of these bytes")
    return content
