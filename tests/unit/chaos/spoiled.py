"""Recorded histories by invariant: an honest one, and spoiled ones with the reason for which each must be refused.

The one table behind the rule that a check which cannot refuse proves nothing: ``test_invariants.py`` is repeated over
it, and fails when an invariant that a scenario names has no honest history here, or fewer than two reasons to refuse.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from chaos.checks import proposals
from chaos.checks.audit import every_effect_is_logged
from chaos.checks.fail_closed import fails_closed
from chaos.checks.findings import bound
from chaos.checks.heads import head_reads_never_go_back, heads_are_chains, roll_backs_restore
from chaos.checks.log import log_is_append_only
from chaos.checks.quorum import nothing_applied_without_a_quorum, one_vote_a_voter
from chaos.checks.rate_limit import bucket_is_exact
from chaos.checks.replay import replay_gives_the_same_heads
from chaos.checks.secrets import no_secret_anywhere
from chaos.history import sha256
from chaos.record import DATABASE
from chaos.scenario import Case, Check, Window
from chaos.verifier import envelope
from chaos.verifier.merkle import EMPTY_ROOT
from tests.unit.chaos.floods import flood
from tests.unit.chaos.governed import BEGINNING, Governed, Spoil, clean, honest
from tests.unit.chaos.recording import WINDOW, Recording
from tests.unit.chaos.test_verifier import KEYS, text

Write = Callable[[Path], Case]


@dataclass(frozen=True)
class Spoiled:
    """A history that the check of an invariant must refuse, and words of the reason it must give."""

    invariant: str
    name: str
    write: Write
    reason: str


CHECKS: Final[Mapping[str, Check]] = {
    "I1": proposals.no_acknowledged_proposal_lost,
    "I2": proposals.no_ghost_or_altered_proposal,
    "I3": nothing_applied_without_a_quorum,
    "I4": one_vote_a_voter,
    "I5": heads_are_chains,
    "I6": partial(head_reads_never_go_back, reads_min=5),
    "I7": proposals.retries_are_idempotent,
    "I8": partial(log_is_append_only, entries_min=50),
    "I9": partial(every_effect_is_logged, effects_min=20),
    "I10": fails_closed(cuts=("cut",), attempts_min=5),
    "I11": roll_backs_restore,
    "I12": partial(replay_gives_the_same_heads, entries_min=50),
    "I13": bound(lambda _: bucket_is_exact(streams={"flood"}, rate_per_minute=250, burst=250), [WINDOW.injection]),
    "I15": no_secret_anywhere,
}
"""As the scenarios have them, with smaller minimums: these histories are short."""


# --- what proposers were promised ------------------------------------------------------------------------------------


def asked(folder: Path, *, leave_out: str = "", stored_bodies: dict[str, str] | None = None) -> Recording:
    """Sixty proposals, twenty of them retried, all read back; ``leave_out`` is not in the database."""
    recording = Recording(folder)
    for number in range(60):
        name = f"p{number:03d}"
        recording.acknowledged(number / 10, proposal=name, key=f"k{number}", body=f"b{number}")
        if number < 20:
            recording.acknowledged(number / 10 + 1, proposal=name, key=f"k{number}", body=f"b{number}", kind="retry")
        recording.operation(number / 10 + 2, kind="get", proposal=name, invocation={"proposal": name})
        if name != leave_out:
            recording.stored(name, body=(stored_bodies or {}).get(name, f"b{number}"), key=f"k{number}")
    return recording


def with_operation(recording: Recording, t: float, **operation: object) -> Recording:
    recording.operation(t, **operation)  # type: ignore[arg-type] # the table's rows are keyword arguments
    return recording


def lost(folder: Path) -> Recording:
    return asked(folder, leave_out="p042")


def acknowledged_without_identity(folder: Path) -> Recording:
    return with_operation(asked(folder), 9.0, key="x", body="x")


def not_found_afterwards(folder: Path) -> Recording:
    """A stale replica."""
    return with_operation(asked(folder), 9.0, kind="get", answer="fail", status=404, invocation={"proposal": "p007"})


def page_that_skips_one(folder: Path) -> Recording:
    return with_operation(asked(folder), 9.0, kind="list", ids=["p000", "p002"], more=True)


def list_that_ends_early(folder: Path) -> Recording:
    return with_operation(asked(folder), 9.0, kind="list", ids=["p058"], more=False, invocation={"after": "p057"})


def swapped(folder: Path) -> Recording:
    return asked(folder, stored_bodies={"p007": "b8"})


def refused_and_stored(folder: Path) -> Recording:
    recording = with_operation(asked(folder), 9.0, answer="fail", status=503, key="x", body="refused")
    recording.stored("p999", body="refused", key="x")
    return recording


def ghost(folder: Path) -> Recording:
    recording = asked(folder)
    recording.stored("p999", body="nobody asked")
    return recording


def rewritten(folder: Path) -> Recording:
    recording = asked(folder)
    body = json.dumps({"target": "agent-1"}).encode()
    recording.operation(9, answer="info", key="x", body=sha256(body))
    row = {"id": "p999", "principal": "p", "body_digest": sha256(body), "body": "\\x" + b"something else".hex()}
    recording.row(DATABASE, 90, table="proposals", row=row)
    return recording


def stored_twice(folder: Path) -> Recording:
    recording = asked(folder)
    recording.stored("p900", body="b3")
    return recording


def answered_twice(folder: Path) -> Recording:
    recording = asked(folder)
    recording.operation(9, kind="retry", key="k3", body="b3", proposal="p003", digest="another answer")
    return recording


def reuse_accepted(folder: Path) -> Recording:
    recording = asked(folder)
    recording.operation(9, kind="reuse", key="k3", body="another", proposal="p003", digest="answer of p003")
    return recording


def reuse_left_a_row(folder: Path) -> Recording:
    recording = with_operation(asked(folder), 9, kind="reuse", answer="fail", status=422, key="k3", body="another")
    recording.stored("p900", body="another")
    return recording


def no_record(folder: Path) -> Recording:
    recording = asked(folder)
    recording.acknowledged(9, proposal="p900", key="k900", body="b900")
    recording.stored("p900", body="b900")
    return recording


def key_of_another(folder: Path) -> Recording:
    refusal = {"answer": "fail", "status": 422, "code": "idempotency-key-reused"}
    return with_operation(asked(folder), 9, key="k3", body="b900", principal="client-2", **refusal)


# --- the gate --------------------------------------------------------------------------------------------------------


def applied(gate: Governed, number: int = 0) -> str:
    """A proposal that was applied."""
    made = [row["proposal_id"] for row in gate.rows["snapshots"] if row["proposal_id"] is not None]
    return str(made[number])


def without_machine(gate: Governed) -> None:
    gate.live("a", voters=("ann",))


def counts_one_twice(gate: Governed) -> None:
    gate.live("a", tier="high", voters=("ann", "ann", "machine"))


def with_the_proposers_vote(gate: Governed) -> None:
    identity = gate.propose("a", proposer="ann")
    gate.simulate(identity, "medium")
    for voter in ("ann", "machine"):
        gate.vote(identity, voter)
    gate.apply(identity)


def over_a_veto(gate: Governed) -> None:
    identity = gate.propose("a")
    gate.simulate(identity, "medium")
    gate.vote(identity, "ann")
    gate.vote(identity, "cleo", "reject")
    gate.vote(identity, "machine")
    gate.apply(identity)


def on_votes_for_another_result(gate: Governed) -> None:
    identity = gate.propose("a")
    gate.simulate(identity, "medium")
    for voter in ("ann", "machine"):
        gate.vote(identity, voter)
    gate.proposal(identity)["after"] = '{"n":99}'
    gate.apply(identity)


def with_a_forged_vote(gate: Governed) -> None:
    identity = gate.propose("a")
    gate.simulate(identity, "medium")
    gate.vote(identity, "ann", key=KEYS["ben"])
    gate.vote(identity, "machine")
    gate.apply(identity)


def before_the_time_lock(gate: Governed) -> None:
    identity = gate.propose("a")
    gate.simulate(identity, "high")
    for voter in ("ann", "dan", "machine"):
        gate.vote(identity, voter)
    gate.apply(identity, waits=0.1)


def on_a_revoked_vote(gate: Governed) -> None:
    gate.last("votes", proposal_id=applied(gate), validator="ann")["revoked_at"] = text(BEGINNING)


def of_a_denied_simulation(gate: Governed) -> None:
    identity = gate.propose("a")
    gate.simulate(identity, "medium")
    row = gate.last("simulations", proposal_id=identity)
    record = bytes.fromhex(row["record"][2:]).replace(b'"allow"', b'"deny"')
    row["record"] = "\\x" + record.hex()
    for voter in ("ann", "machine"):
        gate.vote(identity, voter)
    gate.apply(identity)


def twice_active(gate: Governed) -> None:
    identity = gate.propose("b")
    gate.simulate(identity, "medium")
    gate.vote(identity, "ann")
    gate.vote(identity, "ann", reason="again")


def after_the_decision(gate: Governed) -> None:
    gate.vote(applied(gate), "ben")


def by_the_proposer(gate: Governed) -> None:
    identity = gate.propose("b", proposer="ann")
    gate.simulate(identity, "medium")
    gate.vote(identity, "ann")


def by_a_revoked_key(gate: Governed) -> None:
    keyid = envelope.keyid_of(bytes(KEYS["ann"].verify_key))
    gate.rows["key_revocations"].append({"xmin": "1", "keyid": keyid, "at": text(BEGINNING)})


def unsigned(gate: Governed) -> None:
    identity = gate.propose("b")
    gate.simulate(identity, "medium")
    gate.vote(identity, "ann", key=KEYS["dan"])


def skips_a_version(gate: Governed) -> None:
    gate.last("snapshots", target="a")["version"] += 1
    gate.last("targets", name="a")["version"] += 1


def another_parent(gate: Governed) -> None:
    gate.last("snapshots", target="a")["parent_digest"] = "sha256:" + "0" * 64


def altered_content(gate: Governed) -> None:
    gate.last("snapshots", target="b")["content"] = "\\x" + b'{"n":77}'.hex()


def applied_twice(gate: Governed) -> None:
    gate.apply(applied(gate))


def no_event_of_apply(gate: Governed) -> None:
    gate.last("events", kind="applying")["kind"] = "applied"


def head_behind(gate: Governed) -> None:
    gate.last("targets", name="a")["version"] -= 1


def reads_an_old_version(gate: Governed) -> None:
    first = next(row for row in gate.rows["snapshots"] if row["target"] == "a")
    gate.read("a", version=1, snapshot=first["digest"])


def reads_behind_what_was_applied(gate: Governed) -> None:
    """Nobody has read the new head, but its proposal was shown as applied."""
    identity = gate.propose("b")
    gate.simulate(identity, "medium")
    before = gate.heads["b"]
    for voter in ("ann", "machine"):
        gate.vote(identity, voter)
    gate.apply(identity)
    gate.operation("get", "client-1", proposal=identity, answer={"proposal": identity, "state": "applied"})
    gate.read("b", version=before[0], snapshot=before[1])


def reads_the_future(gate: Governed) -> None:
    first = next(one for one in gate.operations if one["kind"] == "current" and one["facts"]["target"] == "a")
    last = gate.last("snapshots", target="a")
    first["answer"] |= {"version": last["version"], "snapshot": last["digest"]}


def reads_another_content(gate: Governed) -> None:
    gate.read("a", snapshot="sha256:" + "1" * 64)


def entry_rewritten(gate: Governed) -> None:
    row = gate.rows["events"][10]
    row["leaf"] = "\\x" + bytes.fromhex(row["leaf"][2:]).replace(b'"epoch":1', b'"epoch":2').hex()


def body_rewritten(gate: Governed) -> None:
    gate.rows["events"][10]["body"] = "\\x" + b'{"id":"another"}'.hex()


def tail_cut(gate: Governed) -> None:
    del gate.rows["log_entries"][-3:]


def entry_missing(gate: Governed) -> None:
    del gate.rows["log_entries"][20]


def entry_twice(gate: Governed) -> None:
    gate.rows["log_entries"].append(gate.rows["log_entries"][4] | {"index": len(gate.rows["log_entries"])})


def forked(gate: Governed) -> None:
    gate.checkpoints.append((gate.now, "replica-1", gate.note(5, b"f" * 32)))


def another_signer(gate: Governed) -> None:
    gate.checkpoints.append((gate.now, "replica-1", gate.note(0, EMPTY_ROOT, key=KEYS["ann"])))


def goes_back(gate: Governed) -> None:
    gate.checkpoints.append((gate.now, "replica-2", gate.checkpoints[0][2]))


def chain_broken(gate: Governed) -> None:
    row = gate.rows["events"][-1]
    leaf = bytes.fromhex(row["leaf"][2:])
    at = leaf.index(b'"prev":"sha256:') + len(b'"prev":"sha256:')
    row["leaf"] = "\\x" + (leaf[:at] + b"0" * 64 + leaf[at + 64 :]).hex()
    gate.rows["log_entries"].pop()


def vote_without_event(gate: Governed) -> None:
    gate.last("events", kind="vote-cast")["kind"] = "approved"


def acknowledged_twice_logged(gate: Governed) -> None:
    event = gate.last("events", kind="vote-cast")
    gate.rows["events"].append(event | {"id": "again"})


def apply_in_another_transaction(gate: Governed) -> None:
    gate.last("snapshots", target="a")["xmin"] = "1"


def decision_in_another_transaction(gate: Governed) -> None:
    gate.last("decisions")["xmin"] = "1"


def illegal_step(gate: Governed) -> None:
    identity = gate.propose("a")
    gate.event("applied", identity, "a", {}, to="applied")


def state_without_event(gate: Governed) -> None:
    identity = gate.propose("a")
    gate.proposal(identity)["state"] = "withdrawn"


def without_a_decision(gate: Governed) -> None:
    gate.rows["decisions"].pop()


def without_a_simulation(gate: Governed) -> None:
    gate.rows["simulations"] = [row for row in gate.rows["simulations"] if row["proposal_id"] != applied(gate)]


def under_another_policy(gate: Governed) -> None:
    first = next(row for row in gate.rows["snapshots"] if row["target"] == "governance/policies")
    first["digest"] = "sha256:" + "2" * 64


def without_votes(gate: Governed) -> None:
    gate.rows["votes"] = [row for row in gate.rows["votes"] if row["proposal_id"] != applied(gate)]


def rolled_back_to_something_else(gate: Governed) -> None:
    rolled = next(one for one in gate.operations if one["kind"] == "rollback")
    rolled["facts"]["to_version"] = 2


def rolled_back_with_other_bytes(gate: Governed) -> None:
    gate.last("snapshots", target="a")["content"] = "\\x" + b'{"n": 0}'.hex()


def folds_elsewhere(gate: Governed) -> None:
    heads = {name: {"version": version, "digest": "x"} for name, (version, _, _) in gate.heads.items()}
    gate.replays = [gate.replayed("1", heads=heads), gate.replayed("2", heads=heads)]


def does_not_follow(gate: Governed) -> None:
    gate.replays = [gate.replayed("1", failure={"index": 9}), gate.replayed("2")]


def folds_in_two_ways(gate: Governed) -> None:
    gate.replays = [gate.replayed("1", root="a"), gate.replayed("2", root="b")]


def folds_less(gate: Governed) -> None:
    gate.replays = [gate.replayed("1", entries=9), gate.replayed("2", entries=9)]


# --- an input is cut ------------------------------------------------------------------------------------------------


def during_a_cut(gate: Governed, folder: Path, *, attempts: int) -> Case:
    """Let votes be tried and refused while no input can be read."""
    starts = gate.now + 1
    gate.now = starts + 1
    for _ in range(attempts):
        gate.operation("vote", "ann")
    window = Window("cut", injection_started=starts, injected=starts, undo_started=starts + 20, undone=starts + 20)
    gate.now = starts + 30
    return gate.case(folder, window)


def decided_during_a_cut(folder: Path) -> Case:
    gate = honest()
    before = gate.now
    gate.now += 5
    gate.live("a")
    gate.now = before
    return during_a_cut(gate, folder, attempts=9)


# --- secrets --------------------------------------------------------------------------------------------------------


def searched(folder: Path, **found: list[dict[str, Any]]) -> Recording:
    """Look for secrets everywhere; ``found``: what was there, by place."""
    recording = Recording(folder)
    clean(recording, **found)
    return recording


def leaking(place: str) -> Write:
    """Return how a key leaks into a place."""
    leak = {"name": "api-key-ann", "spelling": "plain", "at": 7}
    return lambda folder: searched(folder, **{place: [leak]}).case()


# --- the tables -----------------------------------------------------------------------------------------------------


def _clients(name: str, plant: Callable[[Path], Recording], reason: str, *, of: str) -> Spoiled:
    def write(folder: Path) -> Case:
        recording = plant(folder)
        recording.end_of_dump()
        return recording.case()

    return Spoiled(of, name, write, reason)


def _gate(spoil: Spoil, reason: str, *, of: str) -> Spoiled:
    def write(folder: Path) -> Case:
        gate = honest()
        spoil(gate)
        return gate.case(folder)

    return Spoiled(of, spoil.__name__, write, reason)


def _honest_clients(folder: Path) -> Case:
    recording = asked(folder)
    recording.end_of_dump()
    return recording.case()


def _honest_gate(folder: Path) -> Case:
    return honest().case(folder)


def flooded(folder: Path, **limits: Any) -> Case:
    """A flood against a bucket: the documented one, or another."""
    recording = Recording(folder)
    flood(recording, **limits)
    return recording.case(WINDOW)


HONEST: Final[Mapping[str, Write]] = {
    **dict.fromkeys(("I1", "I2", "I7"), _honest_clients),
    **dict.fromkeys(("I3", "I4", "I5", "I6", "I8", "I9", "I11", "I12"), _honest_gate),
    "I10": lambda folder: during_a_cut(honest(), folder, attempts=9),
    "I13": flooded,
    "I15": lambda folder: searched(folder).case(),
}

SPOILED: Final[tuple[Spoiled, ...]] = (
    _clients("lost", lost, "1 of 80 acknowledgements are for nothing", of="I1"),
    _clients("for nothing", acknowledged_without_identity, "for nothing", of="I1"),
    _clients("stale read", not_found_afterwards, "1 reads missed", of="I1"),
    _clients("page skips one", page_that_skips_one, "1 reads missed", of="I1"),
    _clients("list ends early", list_that_ends_early, "1 reads missed", of="I1"),
    _clients("ghost", ghost, "p999 was never asked for", of="I2"),
    _clients("swapped", swapped, "p007 is not what was acknowledged", of="I2"),
    _clients("refused and stored", refused_and_stored, "p999 is there although it was refused", of="I2"),
    _clients("rewritten", rewritten, "the stored body is not the one its digest names", of="I2"),
    _clients("stored twice", stored_twice, "key k3 left 2 proposals", of="I7"),
    _clients("answered twice", answered_twice, "key k3 was answered in different ways", of="I7"),
    _clients("reuse accepted", reuse_accepted, "key k3 was accepted with two bodies", of="I7"),
    _clients("reuse left a row", reuse_left_a_row, "key k3 left 2 proposals", of="I7"),
    _clients("no record", no_record, "has no record", of="I7"),
    _clients("key of another", key_of_another, "key k3 was refused to client-2, who used it for nothing", of="I7"),
    _gate(without_machine, "0 recomputed, 1 needed", of="I3"),
    _gate(counts_one_twice, "1 people approved, 2 needed", of="I3"),
    _gate(with_the_proposers_vote, "ann is the proposer", of="I3"),
    _gate(over_a_veto, "vetoed by cleo", of="I3"),
    _gate(on_votes_for_another_result, "it is not what was simulated", of="I3"),
    _gate(with_a_forged_vote, "ben signed as ann", of="I3"),
    _gate(before_the_time_lock, "before its time-lock", of="I3"),
    _gate(on_a_revoked_vote, "0 people approved", of="I3"),
    _gate(of_a_denied_simulation, "its simulation said deny", of="I3"),
    _gate(without_a_simulation, "no simulation for it", of="I3"),
    _gate(twice_active, "a second vote in one round", of="I4"),
    _gate(after_the_decision, "cast after the decision", of="I4"),
    _gate(by_the_proposer, "the proposer's own", of="I4"),
    _gate(by_a_revoked_key, "its key had been revoked", of="I4"),
    _gate(unsigned, "no key of the electorate signed it", of="I4"),
    _gate(vote_without_event, "no event tells of it", of="I4"),
    _gate(skips_a_version, "has the versions", of="I5"),
    _gate(another_parent, "is no child of", of="I5"),
    _gate(altered_content, "its digest is not that of its content", of="I5"),
    _gate(applied_twice, "was applied 2 times", of="I5"),
    _gate(no_event_of_apply, "has 0 events", of="I5"),
    _gate(head_behind, "its chain ends otherwise", of="I5"),
    _gate(reads_an_old_version, "after v", of="I6"),
    _gate(reads_behind_what_was_applied, "a read showed v4 after v5 was known", of="I6"),
    _gate(reads_the_future, "was the newest that could be", of="I6"),
    _gate(reads_another_content, "a digest that version never had", of="I6"),
    _gate(entry_rewritten, "is not the hash of its leaf", of="I8"),
    _gate(body_rewritten, "is wrong in body", of="I8"),
    _gate(tail_cut, "the log has", of="I8"),
    _gate(entry_missing, "the log has no entry 20", of="I8"),
    _gate(entry_twice, "is logged 2 times", of="I8"),
    _gate(forked, "is no prefix of the log", of="I8"),
    _gate(another_signer, "no signature of the log", of="I8"),
    _gate(goes_back, "entries after", of="I8"),
    _gate(chain_broken, "is wrong in prev", of="I8"),
    _gate(vote_without_event, "has 0 vote-cast events", of="I9"),
    _gate(acknowledged_twice_logged, "has 2 vote-cast events", of="I9"),
    _gate(apply_in_another_transaction, "are of two transactions", of="I9"),
    _gate(decision_in_another_transaction, "are of two transactions", of="I9"),
    _gate(illegal_step, "went from pending to applied", of="I9"),
    _gate(state_without_event, "is withdrawn, its events end in pending", of="I9"),
    _gate(without_a_decision, "decided without a decision", of="I10"),
    _gate(without_a_simulation, "decided without its simulation", of="I10"),
    _gate(under_another_policy, "decided without the policy_set in force", of="I10"),
    _gate(without_votes, "decided without votes", of="I10"),
    _gate(rolled_back_to_something_else, "is not v2 again", of="I11"),
    _gate(rolled_back_with_other_bytes, "is not v1 again", of="I11"),
    _gate(folds_elsewhere, "the fold ends elsewhere", of="I12"),
    _gate(does_not_follow, "does not follow", of="I12"),
    _gate(folds_in_two_ways, "two hash seeds gave two answers", of="I12"),
    _gate(folds_less, "9 entries were folded", of="I12"),
    Spoiled("I10", "decided during a cut", decided_during_a_cut, "while no input could be read"),
    Spoiled("I15", "in a log", leaking("replica-1"), "logs/replica-1.log holds api-key-ann"),
    Spoiled("I15", "in an error", leaking("errors"), "errors.jsonl holds api-key-ann"),
    Spoiled("I15", "in the database", leaking("database"), "database.jsonl holds api-key-ann"),
    Spoiled("I13", "twice as fast", partial(flooded, rate=500), "more were admitted than a bucket of 250"),
    Spoiled("I13", "half the burst", partial(flooded, burst=100), "a burst of 250 was due"),
)
