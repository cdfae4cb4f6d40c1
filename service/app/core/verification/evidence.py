"""What a bundle shows, before anybody judges it: its entries replayed, every objection and every signature looked at.

The rules are those of replay (`fold.py`), in the form for a log with gaps: here nothing is raised, everything is
collected, for a verifier names all that is wrong. `verification.py` sorts the objections into its fourteen checks.
"""

import contextlib
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from app.core.documents import canonical
from app.core.log import bodies, checkpoint, entry, merkle
from app.core.log.checkpoint import Checkpoint, CheckpointFlaw
from app.core.log.entry import Entry, EntryFlaw
from app.core.replay.fold import Fold
from app.core.replay.standing import Known, Objection, Standing, Unreadable
from app.core.signing.keys import Verify
from app.core.verification.bundle import Bundle, Proven
from app.core.verification.rebuilding import inputs_of
from app.errors import FirewallError

SIMULATIONS: Final = frozenset({"simulated", "denied"})


@dataclass(frozen=True, slots=True)
class Case:
    """One simulation of the proposal. `inputs`: rebuilt from the bundle, None (and `flaw`) when that is impossible."""

    epoch: int
    record: dict[str, Any]
    ballot: dict[str, Any] | None
    inputs: bytes | None
    flaw: str | None


@dataclass(slots=True)
class Evidence:
    """Everything that the checks look at."""

    bundle: Bundle
    known: Known
    objections: list[Objection]
    cases: list[Case] = field(default_factory=list)
    tree: Checkpoint | None = None
    tree_flaw: str | None = None
    base_maker: int | None = None
    """Index of the entry that made the version the proposal starts from."""
    is_applied: bool = False

    @property
    def proposal(self) -> Standing | None:
        """The proposal as its own events leave it."""
        return self.known.proposals.get(self.bundle.proposal)

    def own(self, index: int) -> bool:
        """Whether an entry is one of the proposal's."""
        return any(one.index == index for one in self.bundle.events)


def gather(bundle: Bundle, *, verify: Verify) -> Evidence:
    """Return what a bundle shows."""
    objections: list[Objection] = []
    fold = Fold(object_to=objections.append, gaps=True)
    evidence = Evidence(bundle=bundle, known=fold.known, objections=objections)
    created = {one.leaf.get("proposal") for one in bundle.context if one.leaf.get("kind") == "proposal-created"}
    for one in sorted((*bundle.context, *bundle.events), key=lambda each: each.index):
        is_alone = not evidence.own(one.index) and one.leaf.get("proposal") not in {None, *created}
        try:
            read = _read(one)
        except EntryFlaw as flaw:
            objections.append(Objection(one.index, flaw.code, str(flaw)))
            continue
        if is_alone:
            _adopt(evidence, read)
            continue
        if read.leaf.kind == "target-created":
            evidence.base_maker = read.index
        fold.take(read)
        if evidence.own(read.index):
            _note(evidence, read)
    objections.extend(
        Objection(owed.index, owed.code, "the signature is wrong")
        for owed in fold.settle()
        if not verify(owed.public_key, owed.message, owed.signature)
    )
    _open_checkpoint(evidence, verify)
    return evidence


def _read(one: Proven) -> Entry:
    """Return an entry whose leaf can be read; whether the body is the leaf's is for the eleventh check."""
    raw = one.raw()
    leaf = entry.read_leaf(raw.leaf)
    content = raw.body or b"{}"
    return Entry(one.index, leaf, canonical.digest(raw.leaf), merkle.leaf_hash(raw.leaf), content, is_plain=False)


def _adopt(evidence: Evidence, read: Entry) -> None:
    """Take the one entry of another proposal: the decision that made the base version."""
    try:
        made = msgspec.convert(read.body, bodies.Applying).snapshot
    except msgspec.ValidationError:
        evidence.objections.append(Objection(read.index, "base", "an entry of a proposal that is not here"))
        return
    head = evidence.known.heads.get(made.target)
    if read.leaf.kind != "applying" or head is None or read.leaf.target != made.target:
        evidence.objections.append(Objection(read.index, "base", "an entry that makes no version of the target"))
        return
    head.version, head.digest, head.document = made.version, made.digest, evidence.bundle.base
    head.digests[made.version] = made.digest
    evidence.base_maker = read.index


def _note(evidence: Evidence, read: Entry) -> None:
    """Keep what later entries make unknown: each epoch's simulation with its inputs."""
    if read.leaf.kind == "applied":
        evidence.is_applied = True
    proposal = evidence.proposal
    if read.leaf.kind not in SIMULATIONS or proposal is None:
        return
    try:
        told = msgspec.convert(read.body, bodies.Denied)
    except msgspec.ValidationError:
        return  # The fold has objected.
    inputs, flaw = None, None
    try:
        inputs = inputs_of(evidence.known, _living(proposal, evidence), told.inputs, base=evidence.bundle.base)
    except (Unreadable, FirewallError) as error:
        flaw = str(error)
    ballot = read.body.get("ballot")
    evidence.cases.append(Case(read.leaf.epoch, told.simulation, ballot, inputs, flaw))


def _living(proposal: Standing, evidence: Evidence) -> Standing:
    """Return the proposal with its content: the fold drops it when a proposal is denied."""
    if proposal.content is None:
        content = next((one.body.get("content") for one in evidence.bundle.events), None)
        with contextlib.suppress(msgspec.ValidationError):
            proposal.content = msgspec.convert(content, bodies.Content)
    return proposal


def _open_checkpoint(evidence: Evidence, verify: Verify) -> None:
    note = evidence.bundle.checkpoint.encode()
    roots = evidence.known.rules.roots
    evidence.tree_flaw = "no root says whose checkpoint it should be"
    for one in roots.values():
        try:
            evidence.tree = checkpoint.opened(note, origin=one.origin, public_key=one.current("log"), verify=verify)
        except CheckpointFlaw as flaw:
            evidence.tree_flaw = str(flaw)
        else:
            evidence.tree_flaw = None
            return
