"""Proof of possession: whoever registers a public key shows that they hold the private one.

Without it a validator could enter somebody else's key as their own and claim that person's votes. The proof names the
validator, the principal, the key, the log and a challenge, so it serves nowhere else.
"""

from typing import Annotated, Any, Literal

import msgspec

from app.core.documents import canonical, strict_json
from app.core.governed.shapes import Key64, Misshapen, Origin, PrincipalName, Slug, convert
from app.core.signing import envelope as dsse
from app.core.signing import keys
from app.core.signing.keys import Verify
from app.errors import BadSignature, MalformedBody, ProofFailed


class Possession(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"type": "_type"}):
    """What the key signs. `challenge`: what the service asked for, or `genesis` for the founding set."""

    type: Literal["amgf/key-possession"] = "amgf/key-possession"
    v: Literal[1] = 1
    validator: Slug
    principal: PrincipalName
    public_key: Key64
    origin: Origin
    challenge: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]

    def encode(self) -> bytes:
        """Return the canonical bytes: the payload of the envelope."""
        return canonical.encode_value(msgspec.to_builtins(self))


def check(
    proof: Any, public_key: bytes, *, validator: str, principal: str, origin: str | None, verify: Verify
) -> Possession:
    """Return what a proof (the decoded envelope) says, once it holds for this key, validator and principal.

    `origin` is the log it must name, None if the caller compares it.

    Raises:
        ProofFailed: `reason` says why: bad-signature, not-canonical, other-key, other-validator, other-origin.
    """
    try:
        payload = dsse.opened(dsse.from_value(proof), public_key, payload_type=dsse.KEY_POSSESSION, verify=verify)
    except BadSignature:
        raise ProofFailed("bad-signature") from None
    try:
        said = convert(strict_json.decode(payload).value, Possession)
    except (MalformedBody, Misshapen):
        raise ProofFailed("not-canonical") from None
    reasons = {
        "not-canonical": said.encode() != payload,
        "other-key": said.public_key != keys.to_base64(public_key),
        "other-validator": (said.validator, said.principal) != (validator, principal),
        "other-origin": origin is not None and said.origin != origin,
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise ProofFailed(reason)
    return said
