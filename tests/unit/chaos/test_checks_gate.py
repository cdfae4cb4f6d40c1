"""Each invariant accepts a gate that did its work, refuses those that did not, and doubts empty records."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chaos.checks.audit import every_effect_is_logged
from chaos.checks.fail_closed import fails_closed
from chaos.checks.heads import head_reads_never_go_back, heads_are_chains, roll_backs_restore
from chaos.checks.log import log_is_append_only
from chaos.checks.quorum import nothing_applied_without_a_quorum, one_vote_a_voter
from chaos.checks.replay import replay_gives_the_same_heads
from chaos.checks.secrets import no_secret_anywhere
from chaos.scenario import Case, Check, Window
from chaos.verdict import Verdict
from chaos.verifier import envelope
from chaos.verifier.merkle import EMPTY_ROOT
from tests.unit.chaos.governed import BEGINNING, Governed, clean, honest
from tests.unit.chaos.recording import Recording
from tests.unit.chaos.test_verifier import KEYS, text

CUT = Window("cut", baseline_steady=0.5, injection_started=0.9, injected=1.0, undo_started=9.0, undone=9.1)
CHECKS: dict[str, Check] = {
    "I3": nothing_applied_without_a_quorum,
    "I4": one_vote_a_voter,
    "I5": heads_are_chains,
    "I6": partial(head_reads_never_go_back, reads_min=5),
    "I8": partial(log_is_append_only, entries_min=50),
    "I9": partial(every_effect_is_logged, effects_min=20),
    "I10": fails_closed(),
    "I11": roll_backs_restore,
    "I12": partial(replay_gives_the_same_heads, entries_min=50),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_gate_that_did_its_work_is_accepted(name: str, tmp_path: Path) -> None:
    finding = CHECKS[name](honest().case(tmp_path))

    assert finding.verdict is Verdict.PASS, finding.reason
    assert finding.evidence


@pytest.mark.parametrize("name", CHECKS)
def test_nothing_recorded_is_unknown(name: str, tmp_path: Path) -> None:
    assert CHECKS[name](Recording(tmp_path).case()).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("name", CHECKS)
def test_a_gate_that_did_nothing_is_unknown(name: str, tmp_path: Path) -> None:
    assert CHECKS[name](Governed().case(tmp_path)).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("name", sorted(set(CHECKS) - {"I6", "I11"}))
def test_a_torn_copy_is_unknown(name: str, tmp_path: Path) -> None:
    case = honest().case(tmp_path)
    whole = (tmp_path / "database.jsonl").read_text().splitlines(keepends=True)
    cut = [line for line in whole if '"table": "events"' not in line or '"kind": "applied"' not in line]
    (tmp_path / "database.jsonl").write_text("".join(cut))

    assert CHECKS[name](case).verdict is Verdict.UNKNOWN


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


def no_trespass(gate: Governed) -> None:
    gate.operations = [one for one in gate.operations if one["kind"] != "forbidden_vote"]


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


def never_rolled_back(gate: Governed) -> None:
    gate.operations = [one for one in gate.operations if one["kind"] != "rollback"]


def folds_elsewhere(gate: Governed) -> None:
    heads = {name: {"version": version, "digest": "x"} for name, (version, _, _) in gate.heads.items()}
    gate.replays = [gate.replayed("1", heads=heads), gate.replayed("2", heads=heads)]


def does_not_follow(gate: Governed) -> None:
    gate.replays = [gate.replayed("1", failure={"index": 9}), gate.replayed("2")]


def folds_in_two_ways(gate: Governed) -> None:
    gate.replays = [gate.replayed("1", root="a"), gate.replayed("2", root="b")]


def folds_less(gate: Governed) -> None:
    gate.replays = [gate.replayed("1", entries=9), gate.replayed("2", entries=9)]


def did_not_fold(gate: Governed) -> None:
    gate.replays = [gate.replayed("1"), {"hash_seed": "2", "error": "timeout"}]


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("I3", without_machine, "0 recomputed, 1 needed"),
        ("I3", counts_one_twice, "1 people approved, 2 needed"),
        ("I3", with_the_proposers_vote, "ann is the proposer"),
        ("I3", over_a_veto, "vetoed by cleo"),
        ("I3", on_votes_for_another_result, "it is not what was simulated"),
        ("I3", with_a_forged_vote, "ben signed as ann"),
        ("I3", before_the_time_lock, "before its time-lock"),
        ("I3", on_a_revoked_vote, "0 people approved"),
        ("I3", of_a_denied_simulation, "its simulation said deny"),
        ("I3", without_a_simulation, "no simulation for it"),
        ("I4", twice_active, "a second vote in one round"),
        ("I4", after_the_decision, "cast after the decision"),
        ("I4", by_the_proposer, "the proposer's own"),
        ("I4", by_a_revoked_key, "its key had been revoked"),
        ("I4", unsigned, "no key of the electorate signed it"),
        ("I4", vote_without_event, "no event tells of it"),
        ("I5", skips_a_version, "has the versions"),
        ("I5", another_parent, "is no child of"),
        ("I5", altered_content, "its digest is not that of its content"),
        ("I5", applied_twice, "was applied 2 times"),
        ("I5", no_event_of_apply, "has 0 events"),
        ("I5", head_behind, "its chain ends otherwise"),
        ("I6", reads_an_old_version, "after v"),
        ("I6", reads_the_future, "was the newest that could be"),
        ("I6", reads_another_content, "a digest that version never had"),
        ("I8", entry_rewritten, "is not the hash of its leaf"),
        ("I8", body_rewritten, "is wrong in body"),
        ("I8", tail_cut, "the log has"),
        ("I8", entry_missing, "the log has no entry 20"),
        ("I8", entry_twice, "is logged 2 times"),
        ("I8", forked, "is no prefix of the log"),
        ("I8", another_signer, "no signature of the log"),
        ("I8", goes_back, "entries after"),
        ("I8", chain_broken, "is wrong in prev"),
        ("I9", vote_without_event, "has 0 vote-cast events"),
        ("I9", acknowledged_twice_logged, "has 2 vote-cast events"),
        ("I9", apply_in_another_transaction, "are of two transactions"),
        ("I9", decision_in_another_transaction, "are of two transactions"),
        ("I9", illegal_step, "went from pending to applied"),
        ("I9", state_without_event, "is withdrawn, its events end in pending"),
        ("I10", without_a_decision, "decided without a decision"),
        ("I10", without_a_simulation, "decided without its simulation"),
        ("I10", under_another_policy, "decided without the policy_set in force"),
        ("I10", without_votes, "decided without votes"),
        ("I11", rolled_back_to_something_else, "is not v2 again"),
        ("I11", rolled_back_with_other_bytes, "is not v1 again"),
        ("I12", folds_elsewhere, "the fold ends elsewhere"),
        ("I12", does_not_follow, "does not follow"),
        ("I12", folds_in_two_ways, "two hash seeds gave two answers"),
        ("I12", folds_less, "9 entries were folded"),
    ],
)
def test_a_gate_that_failed_is_refused(
    name: str, spoil: Callable[[Governed], None], reason: str, tmp_path: Path
) -> None:
    gate = honest()
    spoil(gate)

    finding = CHECKS[name](gate.case(tmp_path))

    assert finding.verdict is Verdict.FAIL, finding.reason
    assert reason in finding.reason
    assert finding.evidence


@pytest.mark.parametrize(("name", "spoil"), [("I4", no_trespass), ("I11", never_rolled_back), ("I12", did_not_fold)])
def test_what_was_never_tried_is_unknown(name: str, spoil: Callable[[Governed], None], tmp_path: Path) -> None:
    gate = honest()
    spoil(gate)

    assert CHECKS[name](gate.case(tmp_path)).verdict is Verdict.UNKNOWN


def test_a_read_that_says_it_may_be_old_may_be_old_and_never_of_the_future(tmp_path: Path) -> None:
    gate = honest()
    first = next(row for row in gate.rows["snapshots"] if row["target"] == "a")
    gate.read("a", version=1, snapshot=first["digest"], stale=True)

    assert CHECKS["I6"](gate.case(tmp_path)).verdict is Verdict.PASS


# --- an input is cut -------------------------------------------------------------------------------------------------

CUT_CHECK = fails_closed(cuts=("cut",), attempts_min=5)


def during_a_cut(gate: Governed, tmp_path: Path, *, attempts: int) -> Case:
    starts = gate.now + 1
    gate.now = starts + 1
    for _ in range(attempts):
        gate.operation("vote", "ann")
    window = Window("cut", injection_started=starts, injected=starts, undo_started=starts + 20, undone=starts + 20)
    gate.now = starts + 30
    return gate.case(tmp_path, window)


def test_nothing_decided_while_an_input_is_cut_is_accepted_when_it_was_tried(tmp_path: Path) -> None:
    finding = CUT_CHECK(during_a_cut(honest(), tmp_path, attempts=9))

    assert finding.verdict is Verdict.PASS, finding.reason


def test_a_cut_during_which_nobody_tried_says_nothing(tmp_path: Path) -> None:
    assert CUT_CHECK(during_a_cut(honest(), tmp_path, attempts=0)).verdict is Verdict.UNKNOWN


def test_a_decision_while_its_inputs_are_cut_is_refused(tmp_path: Path) -> None:
    gate = honest()
    before = gate.now
    gate.now += 5
    gate.live("a")
    gate.now = before

    finding = CUT_CHECK(during_a_cut(gate, tmp_path, attempts=9))

    assert finding.verdict is Verdict.FAIL
    assert "while no input could be read" in finding.reason


# --- secrets ---------------------------------------------------------------------------------------------------------


def searched(tmp_path: Path, **found: list[dict[str, Any]]) -> Recording:
    recording = Recording(tmp_path)
    clean(recording, **found)
    return recording


def test_a_search_that_found_nothing_anywhere_is_accepted(tmp_path: Path) -> None:
    assert no_secret_anywhere(searched(tmp_path).case()).verdict is Verdict.PASS


@pytest.mark.parametrize("place", ["replica-1", "errors", "database"])
def test_a_secret_in_any_place_is_refused(place: str, tmp_path: Path) -> None:
    leak = {"name": "api-key-ann", "spelling": "plain", "at": 7}

    finding = no_secret_anywhere(searched(tmp_path, **{place: [leak]}).case())

    assert finding.verdict is Verdict.FAIL
    assert "api-key-ann" in finding.reason


def blind(recording: Recording) -> None:
    recording.row("canaries.jsonl", 3, place="metrics of replica-2", error="refused")


def deaf(recording: Recording) -> None:
    path = recording.folder / "canaries.jsonl"
    path.write_text(path.read_text().replace('"seen": 9', '"seen": 8'))


def nowhere(recording: Recording) -> None:
    path = recording.folder / "canaries.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "errors" not in line))


@pytest.mark.parametrize("spoil", [blind, deaf, nowhere])
def test_a_search_that_could_not_see_is_unknown(spoil: Callable[[Recording], None], tmp_path: Path) -> None:
    recording = searched(tmp_path)
    spoil(recording)

    assert no_secret_anywhere(recording.case()).verdict is Verdict.UNKNOWN
