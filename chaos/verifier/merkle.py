"""RFC 6962 trees over leaf bytes: the root at any size, from the leaves alone."""

import hashlib
from collections.abc import Iterable, Iterator

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def roots(leaf_hashes: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the root at size 0, 1, 2 ... up to all leaves.

    Keeps the perfect subtrees of the size so far, biggest first: those of its binary digits.
    """
    peaks: list[tuple[int, bytes]] = []  # height, hash
    yield EMPTY_ROOT
    for hashed in leaf_hashes:
        height, top = 0, hashed
        while peaks and peaks[-1][0] == height:
            top = node_hash(peaks.pop()[1], top)
            height += 1
        peaks.append((height, top))
        yield _folded(peaks)


def _folded(peaks: list[tuple[int, bytes]]) -> bytes:
    root = peaks[-1][1]
    for _, peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root
