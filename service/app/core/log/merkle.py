"""The Merkle tree of RFC 6962 (section 2.1; the same tree in RFC 9162): hashes, append, proofs, verification.

A leaf hash is SHA-256(0x00 || leaf), an inner hash SHA-256(0x01 || left || right). A perfect subtree is named by
`Node(level, number)`: it covers the leaves from `number << level` up to `(number + 1) << level`. Whoever stores the
hashes of all perfect subtrees proves anything with O(log n) of them: `inclusion_ranges` and `consistency_ranges` say
which stretches of leaves a proof is made of, `subtrees` which stored nodes make up a stretch, `fold` turns those into a
hash.

Refused: hashes that are not 32 bytes, proofs about an empty tree, indices and sizes that do not fit together. A proof
is right or `ProofFlaw` is raised: there is no third answer (mode 15).
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

HASH_BYTES: Final = 32
SIZE_MAX: Final = 2**53 - 1
"""Sizes stand in JSON: what a number there can say exactly. A log of 1,000 entries a second takes 285,000 years."""
LEVELS: Final = 54
LEAF_PREFIX: Final = b"\x00"
NODE_PREFIX: Final = b"\x01"
EMPTY_ROOT: Final = hashlib.sha256().digest()
"""The root of a tree without leaves (RFC 6962 section 2.1)."""


class ProofFlaw(Exception):
    """A proof does not prove what it should; the message says which rule it broke."""


class Node(NamedTuple):
    """A perfect subtree: 2^level leaves, the `number`-th such group from the left."""

    level: int
    number: int


class Range(NamedTuple):
    """Leaves from `begin` up to, not including, `end`."""

    begin: int
    end: int


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf's bytes."""
    return hashlib.sha256(LEAF_PREFIX + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(NODE_PREFIX + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the hash of a stretch of leaves from the hashes of its perfect subtrees, left to right."""
    if not hashes:
        return EMPTY_ROOT
    folded = hashes[-1]
    for left in reversed(hashes[:-1]):
        folded = node_hash(left, folded)
    return folded


@dataclass(frozen=True, slots=True)
class CompactRange:
    """A tree as the hashes of its largest perfect subtrees, left to right: what appending needs, O(log n)."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= SIZE_MAX or len(self.hashes) != self.size.bit_count():
            raise ValueError("a compact range has one hash for each bit of its size")
        if any(len(one) != HASH_BYTES for one in self.hashes):
            raise ValueError("a hash has 32 bytes")

    @property
    def root(self) -> bytes:
        """The root hash."""
        return fold(self.hashes)

    def extended(self, leaf_hashes: Iterable[bytes]) -> tuple["CompactRange", list[tuple[Node, bytes]]]:
        """Return the range with more leaves, and every inner node that is complete now and was not before."""
        size, hashes = self.size, list(self.hashes)
        complete: list[tuple[Node, bytes]] = []
        for leaf in leaf_hashes:
            level, index, joined = 0, size, leaf
            while index & 1:
                joined = node_hash(hashes.pop(), joined)
                level, index = level + 1, index >> 1
                complete.append((Node(level, index), joined))
            hashes.append(joined)
            size += 1
        return CompactRange(size, tuple(hashes)), complete


class GrowingTree:
    """A tree that keeps the hash of every perfect subtree, 64 bytes a leaf: the root at any earlier size is at hand."""

    def __init__(self) -> None:
        self.size = 0
        self._levels: list[bytearray] = []

    def append(self, leaf: bytes) -> None:
        """Take the hash of the next leaf: two hashes a leaf on average, never more than one for each level."""
        level, index, joined = 0, self.size, leaf
        while True:
            if level == len(self._levels):
                self._levels.append(bytearray())
            hashes = self._levels[level]
            hashes += joined
            if not index & 1:
                break
            joined = node_hash(bytes(hashes[-2 * HASH_BYTES : -HASH_BYTES]), joined)
            level, index = level + 1, index >> 1
        self.size += 1

    def root(self, size: int | None = None) -> bytes:
        """Return the root now, or the one when the tree had `size` leaves."""
        end = self.size if size is None else size
        if not 0 <= end <= self.size:
            raise ValueError("the tree never had that size")
        return fold([self._hash(node) for node in subtrees(Range(0, end))])

    def _hash(self, node: Node) -> bytes:
        begin = node.number * HASH_BYTES
        return bytes(self._levels[node.level][begin : begin + HASH_BYTES])


def subtrees(stretch: Range) -> list[Node]:
    """Return the perfect subtrees that make up a stretch of a proof, or a whole tree, left to right.

    Largest first: the stretch begins at a multiple of the largest power of two that fits into it, as each stretch of
    a proof does.
    """
    begin, nodes = stretch.begin, []
    while begin < stretch.end:
        level = (stretch.end - begin).bit_length() - 1
        nodes.append(Node(level, begin >> level))
        begin += 1 << level
    return nodes


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return what proves that leaf `index` is in the tree of `size`, lowest first (RFC 6962 section 2.1.1).

    Raises:
        ProofFlaw: if there is no such leaf.
    """
    if not 0 <= index < size <= SIZE_MAX:
        raise ProofFlaw("the leaf is not in a tree of that size")
    begin, end = 0, size
    path: list[Range] = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(Range(middle, end))
            end = middle
        else:
            path.append(Range(begin, middle))
            begin = middle
    return path[::-1]


def consistency_ranges(first: int, second: int) -> list[Range]:
    """Return what proves that the tree of `second` extends that of `first`, lowest first (RFC 6962 section 2.1.2).

    Raises:
        ProofFlaw: if `first` is 0 (everything extends nothing) or larger than `second`.
    """
    if not 0 < first <= second <= SIZE_MAX:
        raise ProofFlaw("only a tree of at least one leaf is extended, and only by one that is not smaller")
    begin, end = 0, second
    path: list[Range] = []
    while end != first:
        middle = begin + _split(end - begin)
        if first <= middle:
            path.append(Range(middle, end))
            end = middle
        else:
            path.append(Range(begin, middle))
            begin = middle
    if begin:
        path.append(Range(begin, end))
    return path[::-1]


def verify_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Verify that the leaf of hash `leaf` stands at `index` of the tree (`size`, `root`) (RFC 9162 section 2.1.3.2).

    Raises:
        ProofFlaw: if the proof does not say so.
    """
    _require_hashes([leaf, root, *proof])
    if not 0 <= index < size <= SIZE_MAX:
        raise ProofFlaw("the leaf is not in a tree of that size")
    computed = leaf
    for sibling, is_left in _climb(index, size - 1, proof):
        computed = node_hash(sibling, computed) if is_left else node_hash(computed, sibling)
    if computed != root:
        raise ProofFlaw("the proof leads to another root")


def verify_consistency(
    *, first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Verify that the tree (`second`, `second_root`) extends (`first`, `first_root`) (RFC 9162 section 2.1.4.2).

    Raises:
        ProofFlaw: if the proof does not say so.
    """
    _require_hashes([first_root, second_root, *proof])
    if not 0 < first <= second <= SIZE_MAX:
        raise ProofFlaw("only a tree of at least one leaf is extended, and only by one that is not smaller")
    if first == second:
        _require_same(first_root, second_root, proof)
        return
    if not proof:
        raise ProofFlaw("the proof is too short")
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    position, last = first - 1, second - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for sibling, is_left in _climb(position, last, path[1:]):
        if is_left:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
        else:
            new = node_hash(new, sibling)
    if old != first_root:
        raise ProofFlaw("the proof leads to another first root")
    if new != second_root:
        raise ProofFlaw("the proof leads to another second root")


def _climb(position: int, last: int, proof: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each hash of a proof, lowest first, and whether it stands on the left (RFC 9162 section 2.1.3.2, step 4).

    Raises:
        ProofFlaw: if the proof is longer or shorter than the way to the root.
    """
    for sibling in proof:
        if last == 0:
            raise ProofFlaw("the proof is too long")
        if position & 1 or position == last:
            yield sibling, True
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            yield sibling, False
        position, last = position >> 1, last >> 1
    if last:
        raise ProofFlaw("the proof is too short")


def _split(size: int) -> int:
    """Return the largest power of two smaller than `size` > 1."""
    return 1 << (size - 1).bit_length() - 1


def _require_same(first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> None:
    if proof:
        raise ProofFlaw("the proof is too long")
    if first_root != second_root:
        raise ProofFlaw("two roots for one size")


def _require_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise ProofFlaw("a hash has 32 bytes")
