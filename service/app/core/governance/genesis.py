"""The genesis bundle: the documents that found a firewall, signed offline by its founders; it becomes leaf 0.

It holds the first root, policies, validators and corpus. Refused: fewer founders' signatures than the root's
threshold, and any signature that is not a founder's good one. What the documents say is judged by the constitution
(`constitution.check_genesis`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from app.core.documents import canonical, instants, strict_json
from app.core.governance import root
from app.core.governance.root import FOUNDERS_MAX
from app.core.governed.shapes import InstantText, Misshapen, convert, plain
from app.core.signing import envelope as dsse
from app.core.signing import keys
from app.core.signing.envelope import Envelope, Signature
from app.core.signing.keys import Verify
from app.errors import BadSignature, Flaw, InvalidDocument


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"type": "_type"}):
    """The founding bundle. `signatures` are DSSE's, over the canonical bytes of everything else."""

    type: Literal["amgf/genesis"] = "amgf/genesis"
    v: Literal[1] = 1
    root: dict[str, Any]
    policies: dict[str, Any]
    validators: dict[str, Any]
    corpus: dict[str, Any]
    created_at: InstantText
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(max_length=FOUNDERS_MAX)]

    def payload(self) -> bytes:
        """Return what the founders sign."""
        unsigned = self.document()
        del unsigned["signatures"]
        return canonical.encode_value(unsigned)

    def document(self) -> dict[str, Any]:
        """Return the bundle as plain JSON values."""
        return plain(self)

    def encode(self) -> bytes:
        """Return the canonical bytes of the whole bundle."""
        return canonical.encode_value(self.document())

    def digest(self) -> str:
        """Return `sha256:...` of what was signed: the founding's name, whoever signed it."""
        return canonical.digest(self.payload())

    def envelope(self) -> Envelope:
        """Return payload and signatures as the DSSE envelope they are."""
        return Envelope(payload=keys.to_base64(self.payload()), payload_type=dsse.GENESIS, signatures=self.signatures)


def found(
    *,
    root: Any,
    policies: Any,
    validators: Any,
    corpus: Any,
    created_at: datetime,
    signatures: Sequence[Signature] = (),
) -> Genesis:
    """Return a bundle of plain documents, to be signed."""
    return Genesis(
        root=root,
        policies=policies,
        validators=validators,
        corpus=corpus,
        created_at=instants.to_text(created_at),
        signatures=tuple(signatures),
    )


def decode(body: bytes) -> Genesis:
    """Return the bundle of a file: strict JSON, in any spelling of whitespace and order, within the limits of a record.

    Raises:
        MalformedBody: it is not strict JSON.
        InvalidDocument: it is no bundle.
    """
    return from_value(strict_json.decode(body, limits=strict_json.RECORD).value)


def from_value(value: Any) -> Genesis:
    """Return the bundle of a decoded value.

    Raises:
        InvalidDocument: it is no bundle.
    """
    try:
        return convert(value, Genesis)
    except Misshapen as error:
        raise InvalidDocument([error.flaw]) from None


def verify_signatures(genesis: Genesis, *, verify: Verify) -> tuple[str, ...]:
    """Return the ids of the founders who signed, at least as many as the root's threshold.

    Raises:
        InvalidDocument: the root is none.
        BadSignature: too few, or a signature of a stranger, or one that does not verify.
    """
    founding = root.parse(genesis.root)
    if not genesis.signatures:
        raise BadSignature([Flaw("/signatures", "threshold", "nobody signed")])
    known = {keys.keyid(raw): (one.id, raw) for one in founding.founders for raw in [keys.from_base64(one.public_key)]}
    envelope = dsse.from_value(genesis.envelope().document())
    good = dsse.signers(envelope, {keyid: raw for keyid, (_, raw) in known.items()}, verify=verify)
    for index, signature in enumerate(genesis.signatures):
        if signature.keyid not in good:
            raise BadSignature([Flaw(f"/signatures/{index}", "bad-signature", "not a founder's good signature")])
    if len(good) < founding.threshold:
        raise BadSignature([Flaw("/signatures", "threshold", f"{len(good)} of {founding.threshold} founders signed")])
    return tuple(sorted(known[keyid][0] for keyid in good))
