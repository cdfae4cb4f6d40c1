"""DSSE envelopes, version 1: bytes, their type, and signatures over both.

What is signed is PAE(type, payload), so no payload can be taken for one of another type. Strict where the
specification lets a reader be lax: standard base64 in its one canonical spelling, no unknown fields, no field twice,
bounded sizes. A payload is handed out only together with the key that signed it (`opened`).
Source: https://github.com/secure-systems-lab/dsse, protocol.md and envelope.md.
"""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from app.core.documents import canonical, strict_json
from app.core.governed.shapes import DigestText, Misshapen, convert, plain
from app.core.signing import keys
from app.core.signing.keys import Verify
from app.errors import BadSignature, Flaw

ENVELOPE_BYTES_MAX: Final = 1_048_576
SIGNATURES_MAX: Final = 64
IN_TOTO: Final = "application/vnd.in-toto+json"
KEY_POSSESSION: Final = "application/vnd.amgf.key-possession+json"
GENESIS: Final = "application/vnd.amgf.genesis+json"

_sorted: Final = msgspec.json.Encoder(order="sorted")


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One signature: which key, and its 64 bytes in base64."""

    keyid: DigestText
    sig: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9+/]{86}==\Z")]

    @functools.cached_property
    def raw(self) -> bytes:
        """The 64 bytes; ValueError if they are spelled otherwise than canonically."""
        return keys.from_base64(self.sig)


class Envelope(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"payload_type": "payloadType"}, dict=True
):
    """A payload in base64, its media type and its signatures. `dict`: the payload is decoded once."""

    payload: str
    payload_type: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=SIGNATURES_MAX)]

    def document(self) -> dict[str, Any]:
        """Return the envelope as plain JSON values."""
        return plain(self)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        # Texts under ASCII names: there is nothing that the sorted encoder writes otherwise.
        return _sorted.encode(self)

    def digest(self) -> str:
        """Return `sha256:...` of the canonical bytes: a vote's name."""
        return canonical.digest(self.encode())

    def peek(self) -> bytes:
        """Return the payload, unverified: to find out which proposal, never to decide.

        Raises:
            BadSignature: it is not canonical base64.
        """
        return self._payload

    @functools.cached_property
    def _payload(self) -> bytes:
        try:
            return keys.from_base64(self.payload)
        except ValueError as error:
            raise _bad("/payload", "base64", str(error)) from None


_envelope: Final = msgspec.json.Decoder(Envelope)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: what is signed. Lengths are in bytes, decimal."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def decode(body: bytes) -> Envelope:
    """Return the envelope of a JSON body.

    Raises:
        MalformedBody: it is not strict JSON.
        BadSignature: it is not an envelope.
    """
    if len(body) > ENVELOPE_BYTES_MAX:
        raise _bad("", "too-large", f"more than {ENVELOPE_BYTES_MAX} bytes")
    return from_value(strict_json.decode(body).value)


def from_canonical(content: bytes | msgspec.Raw) -> Envelope:
    """Return the envelope of the canonical bytes of a JSON value.

    Raises:
        BadSignature: it is not one.
    """
    try:
        envelope = _envelope.decode(content)
    except msgspec.ValidationError:
        return from_value(msgspec.json.decode(content))  # which says what is wrong
    return _with_base64(envelope)


def from_value(value: Any) -> Envelope:
    """Return the envelope of a decoded JSON value.

    Raises:
        BadSignature: it is not one.
    """
    try:
        envelope = convert(value, Envelope)
    except Misshapen as error:
        raise BadSignature([error.flaw]) from None
    return _with_base64(envelope)


def _with_base64(envelope: Envelope) -> Envelope:
    """Return the envelope, its payload and its signatures decoded."""
    envelope.peek()
    for index, signature in enumerate(envelope.signatures):
        try:
            _ = signature.raw
        except ValueError as error:
            raise _bad(f"/signatures/{index}/sig", "base64", str(error)) from None
    return envelope


def opened(envelope: Envelope, public_key: bytes, *, payload_type: str, verify: Verify) -> bytes:
    """Return the payload of an envelope that has exactly one signature, by this key, over this type.

    Raises:
        BadSignature: anything else.
    """
    if envelope.payload_type != payload_type:
        raise _bad("/payloadType", "payload-type", f"the type is {payload_type}")
    if len(envelope.signatures) != 1:
        raise _bad("/signatures", "one-signature", "exactly one signature")
    if signers(envelope, {keys.keyid(public_key): public_key}, verify=verify) != {keys.keyid(public_key)}:
        raise _bad("/signatures/0", "bad-signature", "the signature does not verify with this key")
    return envelope.peek()


def signers(envelope: Envelope, known: Mapping[str, bytes], *, verify: Verify) -> set[str]:
    """Return the keyids among `known` whose signatures verify: one key counts once, however often it signs."""
    message = pae(envelope.payload_type, envelope.peek())
    return {
        one.keyid
        for one in envelope.signatures
        if (public_key := known.get(one.keyid)) is not None
        and keys.keyid(public_key) == one.keyid
        and keys.is_canonical_signature(one.raw)
        and verify(public_key, message, one.raw)
    }


def _bad(pointer: str, code: str, message: str) -> BadSignature:
    return BadSignature([Flaw(pointer, code, message)])
