"""Bundles for tests, made of a `Book` as the service makes them of its log."""

import json
from datetime import timedelta
from typing import Any

from app.core.documents import instants
from app.core.governed.shapes import Pin
from app.core.governed.target import Tier, is_governance
from app.core.log import merkle
from app.core.signing import envelope, statement
from app.core.signing.keys import to_base64
from app.core.signing.statement import AttestationPredicate, LogPosition
from app.core.verification import bundle as bundles
from app.core.verification.bundle import Bundle, Consistency, Proven
from tests.unit.service.book import SERVICE, Book, Written
from tests.unit.service.electorate import ORIGIN


def leaf_of(book: Book, index: int) -> dict[str, Any]:
    leaf: dict[str, Any] = json.loads(book.entries[index].leaf)
    return leaf


def proven(book: Book, index: int) -> Proven:
    return bundles.proven(book.entries[index], book.inclusion(index))


def bundle_of(
    book: Book,
    proposal: Written,
    *,
    base: Any,
    since: int | None = None,
    attestation: dict[str, Any] | None = None,
    observation: Pin | None = None,
) -> Bundle:
    """A bundle of everything that a stranger needs; `base` is the document that the proposal starts from."""
    leaves = [leaf_of(book, index) for index in range(len(book.entries))]
    own = [index for index, leaf in enumerate(leaves) if leaf["proposal"] == proposal.id]
    context = [
        index
        for index, leaf in enumerate(leaves[: own[-1]])
        if index not in own and belongs(book, leaf, proposal, index)
    ]
    consistency = None
    if since is not None:
        hashes = [merkle.leaf_hash(one.leaf) for one in book.entries]
        proof = [
            merkle.CompactRange().extended(hashes[one.begin : one.end])[0].root
            for one in merkle.consistency_ranges(since, len(hashes))
        ]
        consistency = Consistency(from_size=since, proof=tuple(to_base64(one) for one in proof))
    return Bundle(
        proposal=proposal.id,
        events=tuple(proven(book, index) for index in own),
        context=tuple(proven(book, index) for index in context),
        base=base,
        result=proposal.result,
        checkpoint=book.note().decode(),
        consistency=consistency,
        attestation=attestation,
        observation=observation,
    )


def belongs(book: Book, leaf: dict[str, Any], proposal: Written, index: int) -> bool:
    if leaf["kind"] in {"genesis", "key-revoked"}:
        return True
    if leaf["kind"] == "target-created":
        return bool(leaf["target"] == proposal.target)
    if leaf["proposal"] is not None and is_governance(leaf["target"]):
        applied = {leaf_of(book, at)["proposal"] for at in range(len(book.entries)) if kind(book, at) == "applying"}
        return leaf["proposal"] in applied
    if leaf["kind"] == "applying" and leaf["target"] == proposal.target:
        made = json.loads(book.entries[index].body or b"{}")["snapshot"]["version"]
        return bool(made == proposal.content["base_version"])
    return False


def kind(book: Book, index: int) -> str:
    return str(leaf_of(book, index)["kind"])


def attestation(book: Book, proposal: Written, *, hours: float = 24, **changes: Any) -> dict[str, Any]:
    """The service's word on what is current, about the version that a proposal made."""
    head = book.targets[proposal.target]
    fields: dict[str, Any] = {
        "target": proposal.target,
        "version": head.version,
        "digest": head.digest,
        "policy_set": Pin(**book.targets["governance/policies"].pin),
        "validator_set": Pin(**book.targets["governance/validators"].pin),
        "tier": Tier.LOW,
        "proposal": proposal.id,
        "time_created": instants.to_text(book.now),
        "expires_at": instants.to_text(book.now + timedelta(hours=hours)),
        "log": LogPosition(origin=ORIGIN, size=len(book.entries)),
        **changes,
    }
    said = statement.Attestation(
        subject=(statement.subject("snapshot", fields["digest"]),), predicate=AttestationPredicate(**fields)
    )
    return SERVICE.seal(statement.encode(said), envelope.IN_TOTO).document()
