"""The log: appending does not slow down as it grows, proofs stay small; `replay` has the rest of P7."""

import hashlib
from collections.abc import Sequence

from app.core.log import merkle
from benchmarks.measure import Goal, Pair, Side

BATCH = 256
SMALL, LARGE = 1_000, 1_000_000


def pairs() -> list[Pair]:
    """Return the pairs of this topic."""
    return [_append(), *_proofs()]


def _append() -> Pair:
    leaves = [hashlib.sha256(str(number).encode()).digest() for number in range(BATCH)]
    small, large = _tree(SMALL), _tree(LARGE)
    return Pair(
        name=f"append to {LARGE:,} leaves",
        ours=Side("CompactRange.extended", lambda: large.extended(leaves), units=BATCH),
        theirs=Side(f"to {SMALL:,} leaves", lambda: small.extended(leaves), units=BATCH),
        goal=Goal(ratio_min=0.8),
    )


def _tree(size: int) -> merkle.CompactRange:
    """Return a tree of that many leaves that are all the same: each perfect subtree is made once."""
    node = merkle.leaf_hash(b"leaf")
    hashes = []
    for level in range(size.bit_length()):
        if size >> level & 1:
            hashes.append(node)
        node = merkle.node_hash(node, node)
    return merkle.CompactRange(size, tuple(reversed(hashes)))


def _proofs() -> list[Pair]:
    leaf = merkle.leaf_hash(b"leaf")
    found = []
    for size in (SMALL, LARGE):
        proof = [
            merkle.fold([_perfect(node.level) for node in merkle.subtrees(stretch)])
            for stretch in merkle.inclusion_ranges(size // 3, size)
        ]
        root = _tree(size).root

        def check(size: int = size, proof: Sequence[bytes] = proof, root: bytes = root) -> None:
            merkle.verify_inclusion(leaf=leaf, index=size // 3, size=size, proof=proof, root=root)

        found.append(Pair(name=f"inclusion in {size:,}, {len(proof)} hashes", ours=Side("verify_inclusion", check)))
    return found


def _perfect(level: int) -> bytes:
    node = merkle.leaf_hash(b"leaf")
    for _ in range(level):
        node = merkle.node_hash(node, node)
    return node
