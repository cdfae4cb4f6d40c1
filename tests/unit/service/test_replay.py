import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from app.core.log import checkpoint
from app.core.log.bodies import BODIES
from app.core.log.entry import Raw
from app.core.log.events import KINDS
from app.core.replay import parts
from app.core.replay.fold import OF_PROPOSALS, OF_TARGETS
from app.core.replay.standing import Obligation
from app.core.replay.whole_log import Note, Replayed, replay
from app.ed25519 import verify
from tests.unit.service.book import DOCUMENT, LOG, TARGET, Alter, Book, digest_of, nothing, policies, uuid
from tests.unit.service.electorate import ORIGIN, document, private_key, validator

MORE = [{"op": "replace", "path": "/budgets/tokens_per_day", "value": 200}]
OTHER = [{"op": "add", "path": "/tone", "value": "calm"}]


def verify_all(owed: Sequence[Obligation]) -> list[bool]:
    return [verify(one.public_key, one.message, one.signature) for one in owed]


def replayed(entries: Sequence[Raw], *notes: bytes, trusted: str | None = None) -> Replayed:
    items: list[Raw | Note] = [*entries, *map(Note, notes)]
    return replay(items, verify=verify, verify_all=verify_all, genesis_digest=trusted)


def whole_life(alter: Alter = nothing) -> Book:
    """A log with an entry of every kind but `log-recovered`."""
    book = Book(alter=alter)
    book.create()
    book.create("agents/writer")
    loser = book.propose(OTHER)
    won = book.propose(MORE)
    book.simulate(loser)
    book.start(won)
    book.give_back(won)
    book.simulate(won)
    book.vote(won, "robot")
    book.conclude(won, "approved")
    book.apply(won, applier=None)
    book.end(loser, "stale", {"winner": won.id, "version": 2})
    book.settle(won, {"version": 2, "digest": book.targets[TARGET].digest})
    back = book.propose(
        [{"op": "replace", "path": "/budgets/tokens_per_day", "value": 100}],
        kind="rollback",
        restores={"version": 1, "digest": digest_of(DOCUMENT)},
    )
    book.simulate(back)
    vote = book.vote(back, "robot")
    book.conclude(back, "approved")
    book.revoke(back, vote)
    book.conclude(back, "approval-lost")
    book.vote(back, "olga")
    book.conclude(back, "approved")
    book.apply(back)
    book.settle(back)
    book.roll_back(won, back)
    book.freeze("agents/writer")
    book.unfreeze("agents/writer")
    denied = book.propose(OTHER)
    book.deny(denied)
    failed = book.propose(MORE)
    book.start(failed)
    book.fail(failed)
    withdrawn = book.propose(OTHER)
    book.end(withdrawn, "withdrawn")
    expired = book.propose(OTHER)
    book.end(expired, "expired", at=expired.expires_at)
    broken = book.propose(MORE)
    book.simulate(broken)
    book.vote(broken, "robot")
    book.conclude(broken, "approved")
    book.apply(broken)
    book.fail_to_apply(broken)
    govern(book)
    return book


def govern(book: Book) -> None:
    """A change of the policies, which reopens what is open, a rejection, and a lost key."""
    open_one = book.propose(OTHER, target="agents/writer")
    book.simulate(open_one)
    change = book.propose(
        [{"op": "replace", "path": "/quorum/low/humans", "value": 1}], target="governance/policies", kind="governance"
    )
    book.simulate(change)
    for name in ("olga", "sam"):
        book.vote(change, name)
    book.conclude(change, "approved")
    book.apply(change)
    book.settle(change)
    book.reopen(open_one)
    book.simulate(open_one, tier="high")
    book.vote(open_one, "sam", "reject")
    book.conclude(open_one, "rejected")
    book.revoke_key("zoe")


def test_an_honest_log_follows_and_its_heads_are_what_it_says() -> None:
    book = whole_life()

    found = replayed(book.entries, book.note(3), book.note(), trusted=book.genesis.digest())

    assert found.failure is None
    assert found.root == book.tree().root
    assert found.checkpoints == 2
    assert {name: (head.version, head.digest) for name, head in found.heads.items()} == {
        name: (one.version, one.digest) for name, one in book.targets.items()
    }
    assert found.heads[TARGET].state == "degraded"


def test_the_log_of_that_test_has_every_kind_of_entry() -> None:
    written = {kind for kind in KINDS if whole_life().bodies(kind)}

    assert KINDS - written == {"log-recovered"}
    assert set(BODIES) == KINDS
    assert set(OF_PROPOSALS) | set(OF_TARGETS) <= KINDS


def test_bodies_are_read_in_parts_by_the_shapes_that_have_the_words_for_their_flaws() -> None:
    def fields(shape: type[msgspec.Struct]) -> dict[str, Any]:
        return {field.encode_name: field.type for field in msgspec.structs.fields(shape)}

    assert set(parts.SHAPES) == set(BODIES)
    for kind, shape in parts.SHAPES.items():
        assert {
            name: dict[str, Any] if is_of is parts.Part else is_of for name, is_of in fields(shape).items()
        } == fields(BODIES[kind]), kind


def test_an_approval_that_time_took_away_is_counted_anew() -> None:
    book = book_with()
    change = book.propose(MORE)
    book.simulate(change)
    book.vote(change, "robot", expires_at=book.now + timedelta(hours=1))
    book.conclude(change, "approved")
    book.now += timedelta(hours=2)
    book.conclude(change, "approval-lost")

    assert replayed(book.entries).failure is None


def at(kind: str, change: Callable[[dict[str, Any], dict[str, Any]], None], *, nth: int = 1) -> Alter:
    """Alter the nth entry of a kind before it is hashed and chained."""
    seen = 0

    def alter(of_kind: str, leaf: dict[str, Any], body: dict[str, Any]) -> None:
        nonlocal seen
        seen += of_kind == kind
        if of_kind == kind and seen == nth:
            change(leaf, body)

    return alter


def body(*path: Any, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Put another value at a path of the body."""

    def change(_leaf: dict[str, Any], content: dict[str, Any]) -> None:
        inner: Any = content
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

    return change


def leaf(**fields: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda content, _body: content.update(fields)


def signature(key: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Alter one bit of a signature."""

    def change(_leaf: dict[str, Any], content: dict[str, Any]) -> None:
        one = content[key]["signatures"][0]
        raw = bytearray(base64.b64decode(one["sig"]))
        raw[5] ^= 1
        content[key]["signatures"] = [{**one, "sig": base64.b64encode(raw).decode()}]

    return change


def resealed(content: dict[str, Any], **fields: Any) -> None:
    """Alter a simulation's record and the digest of it."""
    content["simulation"] = {**content["simulation"], **fields}
    content["simulation_digest"] = digest_of(content["simulation"])


def renamed(name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Create a target under another name."""

    def change(one: dict[str, Any], content: dict[str, Any]) -> None:
        one.update(target=name, prev=None)
        content["config"]["name"] = name

    return change


ELSEWHERE = digest_of("elsewhere")
DEFECTS: dict[str, tuple[str, Alter]] = {
    "genesis: a policy after signing": ("genesis", at("genesis", body("genesis", "policies", "id", value="mine"))),
    "genesis: no founder": ("genesis", at("genesis", body("genesis", "signatures", value=[]))),
    "genesis: none": ("body-shape", at("genesis", body("genesis", value=None))),
    "target-created: digest": ("snapshot-digest", at("target-created", body("digest", value=ELSEWHERE))),
    "target-created: name": ("target", at("target-created", leaf(target="agents/other"))),
    "target-created: reserved": (
        "target",
        at("target-created", renamed("governance/x")),
    ),
    "target-created: document": ("snapshot-digest", at("target-created", body("document", value={}))),
    "proposal-created: base version": ("base", at("proposal-created", body("content", "base_version", value=7))),
    "proposal-created: base digest": ("base", at("proposal-created", body("content", "base_digest", value=ELSEWHERE))),
    "proposal-created: restores": (
        "restores",
        at("proposal-created", body("content", "restores", value={"version": 9, "digest": ELSEWHERE}), nth=3),
    ),
    "proposal-created: a mutation restores": (
        "restores",
        at("proposal-created", body("content", "restores", value={"version": 1, "digest": ELSEWHERE})),
    ),
    "proposal-created: content after signing": (
        "ballot",
        at("simulated", body("ballot", "subject", 0, "digest", "sha256", value="0" * 64)),
    ),
    "proposal-created: id": ("leaf", at("proposal-created", body("id", value="another"))),
    "proposal-created: begins simulated": ("transition", at("proposal-created", leaf(state_to="simulated"))),
    "proposal-created: begins in epoch 2": ("transition", at("proposal-created", leaf(epoch=2))),
    "proposal-created: expired": (
        "expiry",
        at("proposal-created", body("expires_at", value="2020-01-01T00:00:00.000000Z")),
    ),
    "simulation-started: twice": ("transition", at("simulation-started", leaf(state_from="simulating"))),
    "simulation-started: of nobody": (
        "unknown-proposal",
        at("simulation-started", leaf(proposal="00000000-0000-7000-8000-000000000000")),
    ),
    "simulation-returned: as failed": ("transition", at("simulation-returned", leaf(state_to="failed"))),
    "simulation-failed: from pending": ("transition", at("simulation-failed", leaf(state_from="pending"))),
    "simulated: result": (
        "result-digest",
        at("simulated", lambda _leaf, content: resealed(content, result_digest=ELSEWHERE)),
    ),
    "simulated: digest": ("simulation-digest", at("simulated", body("simulation_digest", value=ELSEWHERE))),
    "simulated: verdict deny": ("verdict", at("simulated", lambda _leaf, content: resealed(content, verdict="deny"))),
    "simulated: another engine": ("verdict", at("simulated", body("inputs", "engine", value={}))),
    "simulated: tier below its sources": (
        "tier",
        at(
            "simulated",
            lambda _leaf, content: resealed(content, tier_sources=[{"source": "weights", "tier": "critical"}]),
        ),
    ),
    "simulated: no such tier": ("tier", at("simulated", lambda _leaf, content: resealed(content, tier="none"))),
    "simulated: a milder rule": (
        "quorum-rule",
        at("simulated", lambda _leaf, content: content["quorum_rule"].update(recomputes=0)),
    ),
    "simulated: unknown policies": (
        "rules-in-force",
        at("simulated", body("inputs", "policy_set", value={"version": 2, "digest": ELSEWHERE})),
    ),
    "simulated: another corpus": (
        "rules-in-force",
        at("simulated", body("inputs", "corpus", value={"version": 1, "digest": ELSEWHERE})),
    ),
    "simulated: another ballot": ("ballot", at("simulated", body("ballot", "predicate", "target", value="agents/x"))),
    "simulated: ballot of another epoch": ("ballot", at("simulated", body("ballot", "predicate", "epoch", value=2))),
    "simulated: no ballot": ("ballot", at("simulated", body("ballot", value={}))),
    "denied: verdict": (
        "verdict",
        at("denied", lambda _leaf, content: resealed(content, verdict="allow")),
    ),
    "vote-cast: signature": ("vote-signature", at("vote-cast", signature("envelope"))),
    "vote-cast: state": ("transition", at("vote-cast", leaf(state_to="approved"))),
    "vote-cast: no envelope": ("vote-signature", at("vote-cast", body("envelope", value={}))),
    "vote-cast: epoch": ("epoch", at("vote-cast", leaf(epoch=2))),
    "vote-revoked: signature": ("revocation", at("vote-revoked", signature("envelope"))),
    "approved: tally": ("tally", at("approved", body("tally", "met", value=False))),
    "approved: one more vote": ("tally", at("approved", body("tally", "counted", value=[]))),
    "rejected: tally": ("tally", at("rejected", body("tally", "vetoed_by", value=["olga"]))),
    "approval-lost: tally": ("tally", at("approval-lost", body("tally", "met", value=True))),
    "reopened: epoch": ("epoch", at("reopened", body("epoch", value=3))),
    "reopened: leaf": ("epoch", at("reopened", leaf(epoch=1))),
    "stale: winner": ("stale", at("stale", body("winner", value="00000000-0000-7000-8000-000000000000"))),
    "stale: version": ("stale", at("stale", body("version", value=3))),
    "stale: from simulating": ("transition", at("stale", leaf(state_from="simulating"))),
    "withdrawn: after denied": ("transition", at("withdrawn", leaf(state_from="denied"))),
    "expired: too early": ("expiry", at("expired", leaf(at="2026-11-23T12:30:00.000000Z"))),
    "applying: another result": ("result-digest", at("applying", body("snapshot", "digest", value=ELSEWHERE))),
    "applying: two versions on": ("version", at("applying", body("snapshot", "version", value=3))),
    "applying: another parent": ("version", at("applying", body("snapshot", "parent_digest", value=ELSEWHERE))),
    "applying: another target": ("version", at("applying", body("snapshot", "target", value="agents/writer"))),
    "applying: decision's signature": ("decision-signature", at("applying", signature("decision"))),
    "applying: from simulated": ("transition", at("applying", leaf(state_from="simulated"))),
    "applied: observation": ("observation", at("applied", body("observation", "digest", value=ELSEWHERE))),
    "applied: twice": ("transition", at("applied", leaf(state_from="applied"))),
    "apply-failed: as stale": ("transition", at("apply-failed", leaf(state_to="stale"))),
    "rolled-back: by nobody": ("rolled-back", at("rolled-back", body("by", value="nobody"))),
    "rolled-back: other version": ("rolled-back", at("rolled-back", body("version", value=9))),
    "frozen: unknown target": ("unknown-target", at("frozen", leaf(target="agents/none", prev=None))),
    "unfrozen: frozen": ("freeze", at("frozen", leaf(kind="unfrozen"))),
    "frozen: twice": ("freeze", at("unfrozen", leaf(kind="frozen"))),
    "key-revoked: of nobody": ("key", at("key-revoked", body("validator", value="olga"))),
    "key-revoked: elsewhere": ("key", at("key-revoked", leaf(target="agents/none", prev=None))),
    "any: prev": ("prev", at("simulated", leaf(prev=ELSEWHERE))),
    "any: prev of a target": ("prev", at("unfrozen", leaf(prev=None))),
    "any: body": ("body-digest", at("simulated", leaf(body=ELSEWHERE))),
    "any: tenant": ("leaf-malformed", at("simulated", leaf(tenant="other"))),
    "any: kind": ("leaf-malformed", at("simulated", leaf(kind="dreamt"))),
    "any: time": ("leaf-malformed", at("simulated", leaf(at="2026-11-23T12:00:00Z"))),
    "any: another field": ("leaf-malformed", at("simulated", leaf(note="mine"))),
    "any: of no proposal": ("leaf", at("simulated", leaf(proposal=None))),
    "any: id twice": ("duplicate-id", at("simulated", leaf(id=uuid("event 0")))),
}


@pytest.mark.parametrize(("code", "alter"), DEFECTS.values(), ids=DEFECTS)
def test_an_entry_that_does_not_follow_is_named(code: str, alter: Alter) -> None:
    book = whole_life(alter)

    found = replayed(book.entries)

    assert found.failure is not None
    assert found.failure.code == code
    assert found.failure.index == book.altered[0]


def test_the_signatures_of_a_block_are_verified_in_order_and_the_lowest_failure_is_named() -> None:
    wrong = whole_life(at("vote-cast", signature("envelope")))
    entries = [*wrong.entries[:-1], replace(wrong.entries[-1], leaf=b"{}")]

    found = replayed(entries)

    assert found.failure is not None
    assert (found.failure.code, found.failure.index) == ("vote-signature", wrong.altered[0])


def test_a_log_of_another_founding_is_not_the_trusted_one() -> None:
    found = replayed(whole_life().entries, trusted=ELSEWHERE)

    assert found.failure is not None
    assert (found.failure.index, found.failure.code) == (0, "genesis")


def misplaced(entries: list[Raw]) -> list[Raw]:
    return [*entries[:4], replace(entries[5], index=4), *entries[5:]]


CHANGED: dict[str, tuple[str, Callable[[list[Raw]], list[Raw]]]] = {
    "an entry left out": ("index", lambda entries: [*entries[:5], *entries[6:]]),
    "an entry left out, numbers closed up": (
        "prev",
        lambda entries: [replace(one, index=n) for n, one in enumerate([*entries[:6], *entries[7:]])],
    ),
    "an entry written over another": ("duplicate-id", misplaced),
    "a body erased": ("body-missing", lambda entries: [*entries[:5], replace(entries[5], body=None), *entries[6:]]),
    "a body of whitespace": (
        "body-digest",
        lambda entries: [*entries[:5], replace(entries[5], body=(entries[5].body or b"") + b" "), *entries[6:]],
    ),
    "a leaf with whitespace": (
        "leaf-not-canonical",
        lambda entries: [*entries[:5], replace(entries[5], leaf=entries[5].leaf + b" "), *entries[6:]],
    ),
    "a leaf that is none": ("leaf-malformed", lambda entries: [*entries[:5], replace(entries[5], leaf=b"[]")]),
    "a leaf too long": ("leaf-malformed", lambda entries: [*entries[:5], replace(entries[5], leaf=b" " * 4097)]),
    "no genesis": ("genesis", lambda entries: [replace(one, index=n) for n, one in enumerate(entries[1:])]),
    "two of them": ("duplicate-id", lambda entries: [entries[0], replace(entries[0], index=1)]),
    "nothing at all": ("genesis", lambda _entries: []),
}


@pytest.mark.parametrize(("code", "change"), CHANGED.values(), ids=CHANGED)
def test_a_log_that_was_tampered_with_does_not_follow(code: str, change: Callable[[list[Raw]], list[Raw]]) -> None:
    found = replayed(change(whole_life().entries))

    assert found.failure is not None
    assert found.failure.code == code


def forged(book: Book) -> bytes:
    tree = book.tree(10)
    said = checkpoint.Checkpoint(ORIGIN, tree.size, tree.root)
    stranger = private_key("stranger")
    return checkpoint.signed(said, public_key=stranger.public_key, sign=stranger.sign)


def of_other_root(book: Book) -> bytes:
    said = checkpoint.Checkpoint(ORIGIN, 10, book.tree(9).root)
    return checkpoint.signed(said, public_key=LOG.public_key, sign=LOG.sign)


def of_more(book: Book) -> bytes:
    said = checkpoint.Checkpoint(ORIGIN, len(book.entries) + 1, book.tree().root)
    return checkpoint.signed(said, public_key=LOG.public_key, sign=LOG.sign)


@pytest.mark.parametrize("note", [forged, of_other_root, of_more, lambda _book: b"no note"])
def test_a_checkpoint_that_these_entries_do_not_have_is_named(note: Callable[[Book], bytes]) -> None:
    book = whole_life()

    found = replayed(book.entries, note(book))

    assert found.failure is not None
    assert found.failure.code == "checkpoint"


def test_a_checkpoint_may_come_before_the_entries_it_covers() -> None:
    book = whole_life()
    items: list[Raw | Note] = [Note(book.note(7)), *book.entries[:9], Note(book.note(9)), *book.entries[9:]]

    found = replay(items, verify=verify, verify_all=verify_all)

    assert (found.failure, found.checkpoints) == (None, 2)


# What an honest transaction would never have written, though each entry by itself is in order.


def book_with(*, alter: Alter = nothing, **tiers: dict[str, Any]) -> Book:
    book = Book(alter=alter, rules=policies(**tiers))
    book.create()
    return book


def approved_by_nobody(book: Book) -> None:
    change = book.propose(MORE)
    book.simulate(change)
    book.conclude(change, "approved")


def applied_after_the_vote_was_taken_back(book: Book) -> None:
    change = book.propose(MORE)
    book.simulate(change)
    vote = book.vote(change, "robot")
    book.conclude(change, "approved")
    book.revoke(change, vote)
    book.apply(change)


def applied_though_the_revocation_was_ignored(book: Book) -> None:
    change = book.propose(MORE)
    book.simulate(change)
    vote = book.vote(change, "robot")
    book.conclude(change, "approved")
    book.revoke(change, vote, counted_on=True)
    book.apply(change)


def applied_with_a_revoked_key(book: Book) -> None:
    change = book.propose(MORE)
    book.simulate(change)
    book.vote(change, "robot")
    book.conclude(change, "approved")
    book.revoke_key("robot")
    book.apply(change)


def voted_by_the_proposer(book: Book) -> None:
    change = book.propose(MORE, proposer="olga-person")
    book.simulate(change)
    book.vote(change, "olga")


def voted_on_another_ballot(book: Book) -> None:
    change, other = book.propose(MORE), book.propose(OTHER)
    book.simulate(change)
    book.simulate(other)
    book.vote(change, "robot", on=other.ballot)


def voted_twice_with_one_envelope(book: Book) -> None:
    change = book.propose(MORE)
    book.simulate(change)
    book.vote(change, "olga")
    body = book.bodies("vote-cast")[0]
    states = ("simulated", "simulated")
    book.write("vote-cast", target=TARGET, proposal=change, body=body, states=states)


def voted_after_the_end(book: Book) -> None:
    change = book.propose(MORE)
    book.carry(change)
    book.vote(change, "olga")


def two_at_once(book: Book) -> None:
    first = book.propose(MORE)
    book.simulate(first)
    book.vote(first, "robot")
    book.conclude(first, "approved")
    book.apply(first)
    second = book.propose(OTHER)
    book.simulate(second)
    book.vote(second, "robot")
    book.conclude(second, "approved")
    book.apply(second)


def from_a_base_that_has_gone(book: Book) -> None:
    first, second = book.propose(MORE), book.propose(OTHER)
    book.simulate(second)
    book.carry(first)
    book.vote(second, "robot")
    book.conclude(second, "approved")
    book.apply(second)


def onto_a_frozen_target(book: Book) -> None:
    change = book.propose(MORE)
    book.simulate(change)
    book.vote(change, "robot")
    book.conclude(change, "approved")
    book.freeze()
    book.apply(change)


def under_rules_that_have_gone(book: Book) -> None:
    change = book.propose(MORE)
    book.simulate(change)
    book.vote(change, "robot")
    book.conclude(change, "approved")
    rules = book.propose(
        [{"op": "replace", "path": "/quorum/low/humans", "value": 1}], target="governance/policies", kind="governance"
    )
    book.carry(rules, "olga", "sam")
    book.apply(change)


def governed_by_a_machine(book: Book) -> None:
    rules = book.propose(
        [{"op": "replace", "path": "/quorum/low/humans", "value": 1}], target="governance/policies", kind="governance"
    )
    book.simulate(rules, tier="low")


def rolled_back_to_something_else(book: Book) -> None:
    book.carry(book.propose(MORE))
    restores = {"version": 1, "digest": digest_of(DOCUMENT)}
    book.simulate(book.propose(OTHER, kind="rollback", restores=restores))


def the_same_target_twice(book: Book) -> None:
    book.create()


def a_genesis_twice(book: Book) -> None:
    book.write("genesis", target=None, body={"genesis": book.genesis.document()})


def a_new_set_that_the_new_set_does_not_carry(book: Book) -> None:
    fresh = [validator(name, "owner") for name in ("amy", "bob", "cid", "dot", "eli")]
    change = book.propose(
        [{"op": "replace", "path": "", "value": document(*fresh)}], target="governance/validators", kind="governance"
    )
    book.carry(change, "olga", "sam", "zoe")


DISHONEST: dict[str, tuple[str, Callable[[Book], None]]] = {
    function.__name__: (code, function)
    for code, function in (
        ("target", the_same_target_twice),
        ("genesis", a_genesis_twice),
        ("quorum", approved_by_nobody),
        ("quorum", applied_after_the_vote_was_taken_back),
        ("revoked-counted", applied_though_the_revocation_was_ignored),
        ("quorum", applied_with_a_revoked_key),
        ("vote-signature", voted_by_the_proposer),
        ("vote-ballot", voted_on_another_ballot),
        ("vote-twice", voted_twice_with_one_envelope),
        ("transition", voted_after_the_end),
        ("applying-twice", two_at_once),
        ("base", from_a_base_that_has_gone),
        ("frozen", onto_a_frozen_target),
        ("rules-in-force", under_rules_that_have_gone),
        ("tier", governed_by_a_machine),
        ("restores", rolled_back_to_something_else),
        ("quorum", a_new_set_that_the_new_set_does_not_carry),
    )
}


@pytest.mark.parametrize(("code", "write"), DISHONEST.values(), ids=DISHONEST)
def test_what_the_gate_would_never_have_let_through_does_not_follow(code: str, write: Callable[[Book], None]) -> None:
    book = book_with()
    write(book)

    found = replayed(book.entries)

    assert found.failure is not None
    assert found.failure.code == code


def test_a_time_lock_that_has_not_passed_is_named() -> None:
    book = book_with(low={"time_lock_seconds": 60})
    book.carry(book.propose(MORE))

    found = replayed(book.entries)

    assert found.failure is not None
    assert found.failure.code == "time-lock"


def test_a_proposer_who_applies_against_the_rule_is_named() -> None:
    book = book_with(low={"applier_not_proposer": True})
    change = book.propose(MORE)
    book.simulate(change)
    book.vote(change, "robot")
    book.conclude(change, "approved")
    book.apply(change, applier=change.proposer)

    found = replayed(book.entries)

    assert found.failure is not None
    assert found.failure.code == "applier"
