"""The log: appending does not slow down as it grows, proofs stay small, and it is replayed fast (P7)."""

import hashlib
from collections.abc import Sequence

from app.core.log import merkle
from app.core.replay.standing import Obligation
from app.core.replay.whole_log import VerifyAll, replay
from app.ed25519 import verify
from benchmarks.measure import Goal, Pair, Side
from tests.unit.service.book import Book

BATCH = 256
SMALL, LARGE = 1_000, 1_000_000
LIVES = 150
REPLAY_MICROSECONDS_MAX = 50.0
"""20,000 entries a second."""


def pairs() -> list[Pair]:
    """Return the pairs of this topic."""
    return [_append(), *_proofs(), *_replays()]


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


def _replays() -> list[Pair]:
    book = Book()
    book.create()
    for number in range(LIVES):
        proposal = book.propose([{"op": "replace", "path": "/budgets/tokens_per_day", "value": number}])
        book.carry(proposal, "robot")
    entries = book.entries

    def whole(verify_all: VerifyAll) -> bool:
        return replay(entries, verify=verify, verify_all=verify_all).failure is None

    return [
        Pair(
            name=f"replay of {len(entries):,} entries, every signature",
            ours=Side("replay", lambda: whole(_all), units=len(entries)),
            theirs=Side("without signatures of votes", lambda: whole(_none), units=len(entries)),
            goal=Goal(microseconds_max=REPLAY_MICROSECONDS_MAX),
            agree=lambda: whole(_all) and whole(_none),
        ),
    ]


def _all(owed: Sequence[Obligation]) -> list[bool]:
    return [verify(one.public_key, one.message, one.signature) for one in owed]


def _none(owed: Sequence[Obligation]) -> list[bool]:
    return [True] * len(owed)
