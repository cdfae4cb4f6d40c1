"""Nothing applied without a valid quorum, and no vote where none may be: I3 and I4 of chaos.md section 7.

From the signed votes, the electorate and the policy set in force when the decision was logged, counted by the
harness's own reading of the rules (``chaos.verifier.quorum``); what the service itself says of its tally is not asked.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from chaos.checks.findings import combine, failed, passed, unknown
from chaos.evidence import Row
from chaos.record import POLICIES, VALIDATORS, Event, Record, Snapshot, Vote, binary, columns
from chaos.scenario import Case, Finding
from chaos.verifier import canonical, envelope, quorum
from chaos.verifier.canonical import NotCanonical
from chaos.verifier.envelope import BadEnvelope

APPLIED_MIN: Final = 5
VOTES_MIN: Final = 10
_SHOWN_MAX: Final = 8
_APPLYING = "applying"
_TABLES = ("proposals", "events", "snapshots", "simulations", "ballots", "votes", "decisions", "key_revocations")


def nothing_applied_without_a_quorum(case: Case, *, applied_min: int = APPLIED_MIN) -> Finding:
    """I3: every applied snapshot was simulated, and its signed votes meet the rule that was in force."""
    record = Record.of(case)
    broken = record.unreadable(*_TABLES, "log_entries")
    applied = () if broken else record.applied
    if broken or len(applied) < applied_min:
        return unknown(broken or f"{len(applied)} snapshots applied, {applied_min} needed")
    findings = [failed(f"{one.target} v{one.version}: {why}", [one.row]) for one, why in _unfounded(record)]
    if findings:
        return combine([("", finding) for finding in findings[:_SHOWN_MAX]])
    votes = sum(len(record.votes_of.get(str(one.proposal), ())) for one in applied)
    return passed(
        f"{len(applied)} applied snapshots, each carried by votes over its own digest ({votes} votes counted again)",
        [applied[0].row, applied[-1].row, *record.announcements("votes", "decisions")],
    )


def one_vote_a_voter(case: Case, *, votes_min: int = VOTES_MIN, refused_min: int = 1) -> Finding:
    """I4: one active vote a voter and round; none after the decision, by the proposer, or by a revoked key.

    At least ``refused_min`` such votes must have been tried and refused, or it is not known whether they would be.
    """
    record = Record.of(case)
    broken = record.unreadable(*_TABLES, "log_entries")
    votes = [] if broken else [vote for cast in record.votes_of.values() for vote in cast]
    if broken or len(votes) < votes_min:
        return unknown(broken or f"{len(votes)} votes stored, {votes_min} needed")
    findings = [failed(f"{vote.validator} on {vote.proposal}: {why}", [vote.row]) for vote, why in _wrong(record)]
    if findings:
        return combine([("", finding) for finding in findings[:_SHOWN_MAX]])
    refused = [row for row in case.evidence.rows("history.jsonl") if _is_refused_vote(row)]
    if len(refused) < refused_min:
        return unknown(f"{len(refused)} votes that may not count were tried, {refused_min} needed")
    codes = sorted({str(row.data.get("code")) for row in refused})
    return passed(
        f"{len(votes)} votes, one a voter and round; {len(refused)} others refused ({', '.join(codes)})",
        [*record.announcements("votes"), *refused[:2]],
    )


def _unfounded(record: Record) -> Iterator[tuple[Snapshot, str]]:
    """Yield the applied snapshots whose quorum cannot be shown, and why."""
    for snapshot in record.applied:
        try:
            for why in shortcomings_of(record, snapshot):
                yield snapshot, why
        except (BadEnvelope, NotCanonical, KeyError, TypeError, ValueError) as error:
            yield snapshot, f"what it rests on cannot be read ({type(error).__name__}: {error})"


def shortcomings_of(record: Record, snapshot: Snapshot) -> list[str]:
    """Say what is missing for one applied snapshot; nothing: its quorum is valid.

    Raises:
        KeyError, ValueError, TypeError: a part of the record it rests on is malformed.
    """
    identity = str(snapshot.proposal)
    row, decided = record.proposals.get(identity), _decided(record, identity)
    if row is None or decided is None:
        return ["there is no proposal for it" if row is None else "no decision was logged for it"]
    proposal = columns(row)
    simulated = record.simulations.get((identity, int(proposal["epoch"])))
    ballot = record.ballots.get((identity, int(proposal["epoch"])))
    policies, validators = record.in_force(POLICIES, decided), record.in_force(VALIDATORS, decided)
    if simulated is None or ballot is None or policies is None or validators is None:
        absent = {"simulation": simulated, "ballot": ballot, "policy set": policies, "validator set": validators}
        return [f"no {name} for it" for name, found in absent.items() if found is None]
    simulation = canonical.decode(binary(columns(simulated)["record"]))
    content = canonical.decode(binary(proposal["content"]))
    rule = canonical.decode(policies.content)["quorum"][simulation["tier"]]
    question = quorum.Question(
        proposal=identity,
        proposer=str(proposal["principal"]),
        bindings={
            "proposal": identity,
            "target": snapshot.target,
            "base_version": content["base_version"],
            "base_digest": content["base_digest"],
            "patch_digest": canonical.digest_of(content["patch"]),
            "simulation_digest": canonical.digest_of(simulation),
            "tier": simulation["tier"],
            "quorum_rule_digest": rule_digest(simulation["tier"], rule),
            "policy_set": {"version": policies.version, "digest": policies.digest},
            "validator_set": {"version": validators.version, "digest": validators.digest},
            "epoch": int(proposal["epoch"]),
            "nonce": columns(ballot)["nonce"],
        },
        subjects={
            "proposal": _hexadecimal(canonical.digest_of(content)),
            "snapshot": _hexadecimal(snapshot.digest),
        },
        rule=rule,
        electorate=canonical.decode(validators.content),
        decided_at=decided.at,
        revoked_keys=record.revoked_keys(decided.at),
    )
    votes = [
        vote.envelope
        for vote in record.votes_of.get(identity, ())
        if vote.epoch == question.bindings["epoch"] and vote.is_active(decided.at)
    ]
    return [
        *_of_simulation(simulation, content, snapshot),
        *_of_time(record, identity, decided, rule),
        *quorum.shortcomings(question, votes),
    ]


def rule_digest(tier: str, rule: dict[str, Any]) -> str:
    """Return the digest by which a ballot names the rule of its tier."""
    return canonical.digest_of({"_type": "amgf/quorum-rule", "v": 1, "tier": tier, **rule})


def _of_simulation(simulation: dict[str, Any], content: dict[str, Any], snapshot: Snapshot) -> list[str]:
    wrong = []
    if simulation["verdict"] != "allow":
        wrong.append(f"its simulation said {simulation['verdict']}")
    if simulation["result_digest"] != snapshot.digest:
        wrong.append("it is not what was simulated")
    if content["target"] != snapshot.target or content["base_version"] != snapshot.version - 1:
        wrong.append("it is not the next version of what was proposed on")
    if content["base_digest"] != snapshot.parent_digest:
        wrong.append("its parent is not the base of the proposal")
    return wrong


def _of_time(record: Record, identity: str, decided: Event, rule: dict[str, Any]) -> list[str]:
    approved = [event for event in record.events_of.get(identity, ()) if event.kind == "approved"]
    if not approved:
        return ["no approval was logged"]
    if decided.at < approved[-1].at + timedelta(seconds=rule["time_lock_seconds"]):
        return [f"applied before its time-lock of {rule['time_lock_seconds']} s"]
    return []


def _wrong(record: Record) -> Iterator[tuple[Vote, str]]:
    """Yield the stored votes that may not be there, and why."""
    for identity, votes in record.votes_of.items():
        row = record.proposals.get(identity)
        proposer = None if row is None else str(columns(row)["principal"])
        decided = _decided(record, identity)
        cast = _casts(record, identity)
        standing: dict[tuple[int, str], list[Vote]] = defaultdict(list)
        keys: dict[tuple[int, str], set[str]] = defaultdict(set)
        for vote in votes:
            if vote.superseded_at is None and vote.revoked_at is None:
                standing[vote.epoch, vote.principal].append(vote)
                keys[vote.epoch, vote.keyid].add(vote.principal)
            yield from ((vote, why) for why in _faults(record, vote, proposer, decided, cast.get(vote.digest)))
        yield from ((group[-1], "a second vote in one round") for group in standing.values() if len(group) > 1)
        yield from (
            (vote, "two people with one key") for vote in votes if len(keys.get((vote.epoch, vote.keyid), ())) > 1
        )


def _casts(record: Record, identity: str) -> dict[str, Event]:
    """Return the events that tell of a proposal's votes, by the vote's digest."""
    cast = [event for event in record.events_of.get(identity, ()) if event.kind == "vote-cast"]
    return {envelope.digest(event.content()["envelope"]): event for event in cast}


def _faults(record: Record, vote: Vote, proposer: str | None, decided: Event | None, cast: Event | None) -> list[str]:
    try:
        parsed = envelope.parse(vote.envelope)
        predicate = parsed.statement()["predicate"]
    except BadEnvelope as error:
        return [str(error)]
    wrong = []
    said = (predicate.get("proposal"), predicate.get("epoch"), predicate.get("validator"), predicate.get("decision"))
    if said != (vote.proposal, vote.epoch, vote.validator, vote.decision) or parsed.keyid != vote.keyid:
        wrong.append("the row says something else than what was signed")
    if vote.principal == proposer:
        wrong.append("it is the proposer's own")
    if vote.keyid in record.revoked_keys(vote.at):
        wrong.append("its key had been revoked")
    if not _is_signed(record, vote, parsed):
        wrong.append("no key of the electorate signed it")
    if cast is None:
        wrong.append("no event tells of it")
    elif decided is not None and _after(cast, decided):
        wrong.append("it was cast after the decision")
    return wrong


def _is_signed(record: Record, vote: Vote, parsed: envelope.Envelope) -> bool:
    """Say whether the key of that validator, in any version of the electorate, made the signature."""
    for snapshot in record.snapshots_of.get(VALIDATORS, ()):
        found = quorum.entry_of_key(canonical.decode(snapshot.content), parsed.keyid)
        if found is not None and found[0]["id"] == vote.validator and found[0]["principal"] == vote.principal:
            return parsed.is_signed_by(envelope.public_key_of(found[1]["public_key"]))
    return False


def _after(event: Event, decided: Event) -> bool:
    if event.index is not None and decided.index is not None:
        return event.index > decided.index
    return event.at > decided.at


def _decided(record: Record, identity: str) -> Event | None:
    events = record.events_of.get(identity, ())
    return next((event for event in events if event.kind == _APPLYING), None)


def _is_refused_vote(row: Row) -> bool:
    return row.data.get("type") == "fail" and row.data.get("kind") == "forbidden_vote"


def _hexadecimal(digest: str) -> str:
    return digest.removeprefix("sha256:")
