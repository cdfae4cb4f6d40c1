"""The tree of RFC 6962: against a naive one, against published roots, and every way of being wrong."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.log import merkle
from app.core.log.merkle import CompactRange, GrowingTree, Node, ProofFlaw, Range

SIZES = range(1, 65)
LEAVES = [bytes([number]) * (number % 7) for number in range(64)]
HASHES = [merkle.leaf_hash(leaf) for leaf in LEAVES]

PUBLISHED_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
PUBLISHED_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The tree that the implementations of Certificate Transparency test with: leaves and the root after each."""


def naive_root(hashes: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    left, right = naive_root(hashes[:split]), naive_root(hashes[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def proof(ranges: Sequence[Range]) -> list[bytes]:
    stored = stored_nodes()
    return [merkle.fold([stored[node] for node in merkle.subtrees(one)]) for one in ranges]


def stored_nodes() -> dict[Node, bytes]:
    _, complete = CompactRange().extended(HASHES)
    return {**{Node(0, index): one for index, one in enumerate(HASHES)}, **dict(complete)}


def flipped(content: bytes, bit: int) -> bytes:
    return (int.from_bytes(content, "big") ^ 1 << bit).to_bytes(len(content), "big")


def test_the_published_tree_has_the_published_roots() -> None:
    grown = CompactRange()
    for leaf, root in zip(PUBLISHED_LEAVES, PUBLISHED_ROOTS, strict=True):
        grown, _ = grown.extended([merkle.leaf_hash(bytes.fromhex(leaf))])
        assert grown.root.hex() == root


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert CompactRange().root == hashlib.sha256(b"").digest() == merkle.fold([])


@pytest.mark.parametrize("size", SIZES)
def test_a_range_grown_one_by_one_or_at_once_has_the_naive_root(size: int) -> None:
    at_once, complete = CompactRange().extended(HASHES[:size])
    one_by_one, nodes = CompactRange(), []
    for leaf in HASHES[:size]:
        one_by_one, more = one_by_one.extended([leaf])
        nodes += more

    assert at_once == one_by_one
    assert complete == nodes
    assert at_once.root == naive_root(HASHES[:size])
    assert len(complete) == size - size.bit_count()
    for node, content in complete:
        covered = HASHES[node.number << node.level : (node.number + 1) << node.level]
        assert content == naive_root(covered)


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_of_every_tree_is_proved_from_stored_nodes(size: int) -> None:
    root = naive_root(HASHES[:size])
    for index in range(size):
        path = proof(merkle.inclusion_ranges(index, size))
        merkle.verify_inclusion(leaf=HASHES[index], index=index, size=size, proof=path, root=root)
        assert len(path) <= size.bit_length()
        for other in {index - 1, index + 1, size} - {index}:
            with pytest.raises(ProofFlaw):
                merkle.verify_inclusion(leaf=HASHES[index], index=other, size=size, proof=path, root=root)


@pytest.mark.parametrize("second", SIZES)
def test_every_tree_is_proved_to_extend_every_smaller_one(second: int) -> None:
    new = naive_root(HASHES[:second])
    for first in range(1, second + 1):
        old = naive_root(HASHES[:first])
        path = proof(merkle.consistency_ranges(first, second))
        merkle.verify_consistency(first=first, first_root=old, second=second, second_root=new, proof=path)
        assert len(path) <= second.bit_length() + 1
        with pytest.raises(ProofFlaw):
            merkle.verify_consistency(
                first=first, first_root=flipped(old, 0), second=second, second_root=new, proof=path
            )


@pytest.mark.parametrize(("index", "size"), [(0, 2), (3, 7), (6, 7), (12, 13), (40, 64)])
def test_every_flipped_bit_of_an_inclusion_proof_is_refused(index: int, size: int) -> None:
    root = naive_root(HASHES[:size])
    path = proof(merkle.inclusion_ranges(index, size))
    for number, part in enumerate(path):
        for bit in range(256):
            wrong = [*path[:number], flipped(part, bit), *path[number + 1 :]]
            with pytest.raises(ProofFlaw):
                merkle.verify_inclusion(leaf=HASHES[index], index=index, size=size, proof=wrong, root=root)


@pytest.mark.parametrize(("first", "second"), [(1, 2), (3, 7), (6, 8), (8, 13), (40, 64)])
def test_every_flipped_bit_of_a_consistency_proof_is_refused(first: int, second: int) -> None:
    old, new = naive_root(HASHES[:first]), naive_root(HASHES[:second])
    path = proof(merkle.consistency_ranges(first, second))
    for number, part in enumerate(path):
        for bit in range(256):
            wrong = [*path[:number], flipped(part, bit), *path[number + 1 :]]
            with pytest.raises(ProofFlaw):
                merkle.verify_consistency(first=first, first_root=old, second=second, second_root=new, proof=wrong)


@pytest.mark.parametrize("change", ["longer", "shorter", "short hash", "long hash", "empty hash", "swapped"])
def test_a_proof_of_another_shape_is_refused(change: str) -> None:
    def changed(path: list[bytes]) -> list[bytes]:
        return {
            "longer": [*path, path[0]],
            "shorter": path[:-1],
            "short hash": [path[0][:31], *path[1:]],
            "long hash": [path[0] + b"\0", *path[1:]],
            "empty hash": [b"", *path[1:]],
            "swapped": [path[1], path[0], *path[2:]],
        }[change]

    inclusion = changed(proof(merkle.inclusion_ranges(5, 13)))
    consistency = changed(proof(merkle.consistency_ranges(6, 13)))
    old, new = naive_root(HASHES[:6]), naive_root(HASHES[:13])
    with pytest.raises(ProofFlaw):
        merkle.verify_inclusion(leaf=HASHES[5], index=5, size=13, proof=inclusion, root=new)
    with pytest.raises(ProofFlaw):
        merkle.verify_consistency(first=6, first_root=old, second=13, second_root=new, proof=consistency)


def test_nothing_is_proved_about_an_empty_tree() -> None:
    empty, one = merkle.EMPTY_ROOT, HASHES[0]
    with pytest.raises(ProofFlaw):
        merkle.verify_inclusion(leaf=one, index=0, size=0, proof=[], root=empty)
    for first, second in ((0, 0), (0, 1), (1, 0)):
        with pytest.raises(ProofFlaw):
            merkle.verify_consistency(first=first, first_root=empty, second=second, second_root=one, proof=[])
        with pytest.raises(ProofFlaw):
            merkle.consistency_ranges(first, second)
    for index, size in ((0, 0), (1, 1), (-1, 1)):
        with pytest.raises(ProofFlaw):
            merkle.inclusion_ranges(index, size)


def test_one_size_has_one_root_and_an_empty_proof() -> None:
    root = naive_root(HASHES[:9])
    merkle.verify_consistency(first=9, first_root=root, second=9, second_root=root, proof=[])
    with pytest.raises(ProofFlaw, match="two roots"):
        merkle.verify_consistency(first=9, first_root=root, second=9, second_root=flipped(root, 3), proof=[])
    with pytest.raises(ProofFlaw, match="too long"):
        merkle.verify_consistency(first=9, first_root=root, second=9, second_root=root, proof=[root])


def test_a_range_that_does_not_fit_its_size_is_refused() -> None:
    for size, hashes in ((1, ()), (3, (HASHES[0],)), (0, (HASHES[0],)), (-1, ()), (1, (b"short",))):
        with pytest.raises(ValueError, match="hash"):
            CompactRange(size, hashes)


@given(st.integers(1, merkle.SIZE_MAX), st.data())
@settings(max_examples=60)
def test_a_proof_in_a_huge_tree_needs_few_nodes(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(1, size))
    for ranges in (merkle.inclusion_ranges(index, size), merkle.consistency_ranges(first, size)):
        nodes = [node for one in ranges for node in merkle.subtrees(one)]
        assert len(nodes) <= 3 * size.bit_length()
        assert all(node.level < merkle.LEVELS for node in nodes)
        for one in ranges:
            covered = [(node.number << node.level, (node.number + 1) << node.level) for node in merkle.subtrees(one)]
            assert covered[0][0] == one.begin
            assert covered[-1][1] == one.end


def test_a_growing_tree_has_every_root_it_ever_had() -> None:
    tree = GrowingTree()
    roots = [tree.root()]
    for leaf in HASHES:
        tree.append(leaf)
        roots.append(tree.root())

    assert [tree.root(size) for size in range(len(HASHES) + 1)] == roots
    assert roots == [CompactRange().extended(HASHES[:size])[0].root for size in range(len(HASHES) + 1)]
    with pytest.raises(ValueError, match="never had"):
        tree.root(len(HASHES) + 1)


def test_appending_costs_the_same_in_a_tree_sixteen_times_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = 0
    hashed = merkle.node_hash

    def counted(left: bytes, right: bytes) -> bytes:
        nonlocal joined
        joined += 1
        return hashed(left, right)

    monkeypatch.setattr(merkle, "node_hash", counted)
    tree, compact = GrowingTree(), CompactRange()
    costs = []
    for size in (256, 4_096):
        leaves = [HASHES[number % len(HASHES)] for number in range(size - tree.size)]
        for leaf in leaves:
            tree.append(leaf)
        compact, _ = compact.extended(leaves)
        joined = 0
        for leaf in HASHES:
            tree.append(leaf)
        own, joined = joined, 0
        compact.extended(HASHES)
        costs.append((own, joined))
        compact, _ = compact.extended(HASHES)

    joined = 0
    assert tree.root(4_095) == merkle.fold([tree._hash(node) for node in merkle.subtrees(Range(0, 4_095))])
    assert joined <= 2 * 12
    assert costs[0] == costs[1] == (63, 63)
