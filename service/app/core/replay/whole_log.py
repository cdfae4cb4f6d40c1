"""Replaying a whole log from its genesis, knowing nothing else: the first entry that does not follow, and why.

Everything is recomputed: the bytes of every leaf and body, the chains, states, epochs, versions, digests, tallies, and
the Merkle root against every checkpoint. At the end stands the head of every target (invariant I12): it must be what
the service says is current. Signatures are verified by the caller's function, all of them, in blocks. Its answers are
asked for a few blocks later, and entries may come as somebody read them before (`Entry`, `Flawed`), so that a caller
can use more than one processor; the first failure is still the one of the lowest index.

What is kept grows with the log: 64 bytes of hashes and an identity for each entry, a few hundred bytes for each
proposal. Everything else is bounded: bodies and signatures by `BLOCK`, `BLOCK_BYTES` and `BLOCKS_PENDING`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from app.core.governance import genesis
from app.core.log import checkpoint, entry
from app.core.log.checkpoint import CheckpointFlaw
from app.core.log.entry import Entry, EntryFlaw, Flawed, Raw
from app.core.log.merkle import GrowingTree
from app.core.replay.fold import Fold
from app.core.replay.standing import DoesNotFollow, Head, Objection, Obligation
from app.core.signing.keys import Verify
from app.errors import FirewallError

BLOCK: Final = 512
"""Entries between two rounds of verifying signatures; fewer if their bodies have more than `BLOCK_BYTES`."""
BLOCK_BYTES: Final = 16 * 1_048_576
BLOCKS_PENDING: Final = 4
"""Rounds that may wait for their answers."""
NOTES_MAX: Final = 100_000
"""Checkpoints kept until the entries they cover have come."""

WHOLE: Final = -1
"""The index of what is not about one entry."""
SIMULATIONS: Final = frozenset({"simulated", "denied"})

VerifyAll = Callable[[Sequence[Obligation]], Iterable[bool]]
"""Many signatures at once: whether each is good, in order. May return at once, and wait when the answers are read."""
Resimulate = Callable[["Fold", Entry], str | None]
"""Simulate again what a `simulated` or `denied` entry says; return why it differs, or None."""


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint as it stands in an export."""

    note: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """The first entry that does not follow. `id`: the event's, if its leaf could be read. `index` -1: the whole log."""

    index: int
    id: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a log comes to. With a failure, everything else is as far as it was followed."""

    entries: int
    root: bytes
    checkpoints: int
    heads: dict[str, Head]
    failure: Failure | None


def replay(
    items: Iterable[Raw | Entry | Flawed | Note],
    *,
    verify: Verify,
    verify_all: VerifyAll,
    genesis_digest: str | None = None,
    resimulate: Resimulate | None = None,
    on_block: Callable[[int], None] = lambda _entries: None,
) -> Replayed:
    """Replay a log. `genesis_digest`: of the genesis bundle that is trusted; None believes the log's own.

    Notes may stand before or after the entries they cover. A note about entries that never come is a failure.
    """
    run = _Run(verify=verify, verify_all=verify_all, genesis_digest=genesis_digest, resimulate=resimulate)
    failure = None
    try:
        for item in items:
            if isinstance(item, Note):
                run.note(item)
            else:
                run.entry(item)
                if run.is_block:
                    run.hand_over()
                    on_block(run.tree.size)
        run.hand_over()
        run.settle(pending_max=0)
        run.finish()
    except DoesNotFollow as first:
        failure = run.failure_of(first.objection)
    return Replayed(
        entries=run.tree.size,
        root=run.tree.root(),
        checkpoints=run.checkpoints,
        heads=run.fold.known.heads,
        failure=failure,
    )


class _Run:
    """A replay under way."""

    def __init__(
        self, *, verify: Verify, verify_all: VerifyAll, genesis_digest: str | None, resimulate: Resimulate | None
    ) -> None:
        self.fold = Fold(object_to=_raise)
        self.tree = GrowingTree()
        self.checkpoints = 0
        self._verify = verify
        self._verify_all = verify_all
        self._genesis_digest = genesis_digest
        self._resimulate = resimulate
        self._block = self._block_bytes = 0
        self._pending: deque[tuple[Sequence[Obligation], Iterable[bool]]] = deque()
        self._leaf_id: str | None = None
        self._ahead: dict[int, list[bytes]] = {}

    @property
    def is_block(self) -> bool:
        """Whether it is time to verify signatures."""
        return self._block >= BLOCK or self._block_bytes >= BLOCK_BYTES

    def entry(self, item: Raw | Entry | Flawed) -> None:
        """Take an entry."""
        self._leaf_id = None
        size = self.tree.size
        if item.index != size:
            _object(item.index, "index", f"after {size} entries comes the one of index {size}")
        read = _read(item)
        self._leaf_id = read.leaf.id
        self.fold.take(read)
        if read.index == 0:
            self._require_genesis(read)
        if self._resimulate is not None and read.leaf.kind in SIMULATIONS:
            why = self._resimulate(self.fold, read)
            if why is not None:
                _object(read.index, "simulation", why)
        self.tree.append(read.leaf_hash)
        self._block += 1
        self._block_bytes += len(read.content)
        for note in self._ahead.pop(size + 1, ()):
            self._compare(note)

    def note(self, item: Note) -> None:
        """Compare a checkpoint with the tree now, or when its entries have come."""
        try:
            size = checkpoint.parsed(item.note)[0].size
        except CheckpointFlaw as flaw:
            _object(WHOLE, "checkpoint", str(flaw))
        if size <= self.tree.size:
            self._compare(item.note)
        elif len(self._ahead) < NOTES_MAX:
            self._ahead.setdefault(size, []).append(item.note)
        else:
            _object(WHOLE, "checkpoint", f"more than {NOTES_MAX} checkpoints before their entries")

    def hand_over(self) -> None:
        """Have the signatures verified that are owed; read the answers of the oldest rounds."""
        self._block = self._block_bytes = 0
        owed = self.fold.settle()
        if owed:
            self._pending.append((owed, self._verify_all(owed)))
        self.settle(pending_max=BLOCKS_PENDING)

    def settle(self, *, pending_max: int) -> None:
        """Read answers, oldest first, until no more rounds are pending than that."""
        while len(self._pending) > pending_max:
            for obligation, is_good in zip(*self._pending.popleft(), strict=True):
                if not is_good:
                    _object(obligation.index, obligation.code, "the signature is wrong")

    def finish(self) -> None:
        """See that nothing was promised that did not come."""
        if not self.tree.size:
            _object(WHOLE, "genesis", "the log is empty")
        if self._ahead:
            _object(WHOLE, "checkpoint", f"a checkpoint covers {max(self._ahead)} entries, {self.tree.size} are here")

    def _compare(self, note: bytes) -> None:
        said, _ = checkpoint.parsed(note)
        if said.root != self.tree.root(said.size):
            _object(WHOLE, "checkpoint", f"the checkpoint of size {said.size} has another root than these entries")
        if not any(self._is_signed(note, origin, key) for origin, key in self._log_keys()):
            _object(WHOLE, "checkpoint", f"the checkpoint of size {said.size} is not signed by this log's key")
        self.checkpoints += 1

    def _log_keys(self) -> set[tuple[str, bytes]]:
        """Every key that this log ever had: a checkpoint has no time of its own."""
        return {(one.origin, one.current("log")) for one in self.fold.known.rules.roots.values()}

    def _is_signed(self, note: bytes, origin: str, key: bytes) -> bool:
        try:
            checkpoint.opened(note, origin=origin, public_key=key, verify=self._verify)
        except CheckpointFlaw:
            return False
        return True

    def _require_genesis(self, read: Entry) -> None:
        founding = genesis.from_value(read.body["genesis"])
        if self._genesis_digest not in {None, founding.digest()}:
            _object(0, "genesis", "this is not the genesis that is trusted")
        try:
            genesis.verify_signatures(founding, verify=self._verify)
        except FirewallError as error:
            _object(0, "genesis", f"the genesis is not signed as its root demands: {error}")

    def failure_of(self, objection: Objection) -> Failure:
        """Return the first failure: a signature owed by an earlier entry comes before this objection."""
        owed = [one for one in self.fold.settle() if objection.index == WHOLE or one.index <= objection.index]
        self._pending.append((owed, self._verify_all(owed)))
        try:
            self.settle(pending_max=0)
        except DoesNotFollow as other:
            signed = other.objection
            if objection.index == WHOLE or signed.index <= objection.index:
                return Failure(signed.index, None, signed.code, signed.message)
        leaf_id = self._leaf_id if objection.index == self.fold.known.index else None
        return Failure(objection.index, leaf_id, objection.code, objection.message)


def _read(item: Raw | Entry | Flawed) -> Entry:
    if isinstance(item, Entry):
        return item
    if isinstance(item, Flawed):
        _object(item.index, item.code, item.message)
    try:
        return entry.read(item)
    except EntryFlaw as flaw:
        _object(item.index, flaw.code, str(flaw))


def _object(index: int, code: str, message: str) -> NoReturn:
    raise DoesNotFollow(Objection(index, code, message))


def _raise(objection: Objection) -> None:
    raise DoesNotFollow(objection)
