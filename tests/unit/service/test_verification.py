import base64
import copy
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from app.core.documents import canonical
from app.core.governed.shapes import Pin
from app.core.log import checkpoint
from app.core.log.checkpoint import Checkpoint
from app.core.verification.bundle import Bundle
from app.core.verification.judging import Report, Resimulate, Resimulated, verify_bundle
from app.core.verification.terms import TITLES
from app.ed25519 import verify
from tests.unit.service.book import DOCUMENT, LOG, TARGET, Alter, Book, Written, digest_of, founding, nothing, policies
from tests.unit.service.bundles import attestation, bundle_of
from tests.unit.service.electorate import ORIGIN, private_key

MORE = [{"op": "replace", "path": "/budgets/tokens_per_day", "value": 200}]
OTHER = [{"op": "add", "path": "/tone", "value": "calm"}]
ELSEWHERE = digest_of("elsewhere")
GENESIS = Book().genesis


class Told(Book):
    """A book whose simulations name the digest of their inputs, as a stranger will rebuild them."""

    def _record(self, proposal: Written, *, verdict: str, tier: str) -> dict[str, Any]:
        record = super()._record(proposal, verdict=verdict, tier=tier)
        head = self.targets[proposal.target]
        content = proposal.content
        inputs = {
            "_type": "amgf/simulation-inputs",
            "v": 1,
            "engine": record["engine"],
            "proposal": {
                "id": proposal.id,
                "kind": content["kind"],
                "target": content["target"],
                "base_version": content["base_version"],
                "base_digest": content["base_digest"],
                "proposal_digest": digest_of(content),
                "proposer": proposal.proposer,
                "declared_risk": content["declared_risk"],
                "accepted_at": proposal.accepted_at,
                "rationale_characters": len(content["rationale"]),
            },
            "patch": content["patch"],
            "target": self.configs[proposal.target],
            "base": head.document,
            "policy_set": self._full("policies"),
            "corpus": self._full("corpus"),
            "validator_set": self.targets["governance/validators"].pin,
            "oracle_readings": [],
            "oracle_missing": False,
        }
        return {**record, "inputs_digest": digest_of(inputs)}

    def _full(self, name: str) -> dict[str, Any]:
        one = self.targets[f"governance/{name}"]
        return {**one.pin, "document": one.document}


def honestly(bundle: Bundle) -> Resimulate:
    """A machine that comes to what the bundle says, for these very inputs."""
    records = {
        one.body["simulation"]["inputs_digest"]: canonical.encode_value(one.body["simulation"])
        for one in bundle.events
        if "simulation" in one.body
    }
    return lambda inputs: Resimulated(records.get(canonical.digest(inputs), b"{}"))


def judged(
    bundle: Bundle | bytes,
    *,
    after: timedelta = timedelta(minutes=5),
    kept: Checkpoint | None = None,
    resimulate: Resimulate | None = None,
    trust: Any = GENESIS,
) -> Report:
    parsed = msgspec.json.decode(bundle.encode()) if isinstance(bundle, Bundle) else None
    again = honestly(bundle) if isinstance(bundle, Bundle) else lambda _inputs: Resimulated(None, "nothing")
    return verify_bundle(
        bundle if parsed is None else json.dumps(parsed).encode(),
        trust=trust,
        verify=verify,
        resimulate=resimulate or again,
        now=Book().now + after,
        kept=kept,
    )


def verdicts(report: Report) -> list[str]:
    return [one.verdict for one in report.findings]


def applied(alter: Alter = nothing, **options: Any) -> tuple[Book, Written, Any]:
    """A proposal taken to applied on top of another one's version, under rules that were changed before."""
    book = Told(alter=alter, **options)
    book.create()
    book.carry(book.propose(OTHER))
    rules = book.propose(
        [{"op": "replace", "path": "/flip_points/other", "value": 6}], target="governance/policies", kind="governance"
    )
    book.carry(rules, "olga", "sam")
    base = book.targets[TARGET].document
    change = book.propose(MORE)
    book.simulate(change)
    first = book.vote(change, "olga")
    book.revoke(change, first)
    book.vote(change, "robot")
    book.conclude(change, "approved")
    book.apply(change)
    book.settle(change, {"version": 3, "digest": book.targets[TARGET].digest})
    return book, change, base


def good(alter: Alter = nothing, **options: Any) -> Bundle:
    book, change, base = applied(alter)
    seen = Pin(version=3, digest=book.targets[TARGET].digest)
    return bundle_of(book, change, base=base, attestation=attestation(book, change), observation=seen, **options)


def test_a_good_bundle_passes_every_check_that_applies() -> None:
    report = judged(good())

    assert verdicts(report) == ["pass"] * 11 + ["not-applicable", "pass", "pass"], report.lines()
    assert (report.verdict, report.exit_code, report.state) == ("pass", 0, "applied")


def test_the_log_may_have_grown_since_the_checkpoint_kept() -> None:
    book, change, base = applied()
    kept = checkpoint.parsed(book.note(5))[0]

    report = judged(bundle_of(book, change, base=base, since=5), kept=kept)

    assert report.findings[11].verdict == "pass"


def test_a_bundle_of_what_was_never_applied_proves_what_happened_to_it() -> None:
    book = Told()
    book.create()
    denied = book.propose(MORE)
    book.deny(denied)
    denied.result = None

    report = judged(bundle_of(book, denied, base=DOCUMENT))

    assert (report.verdict, report.state) == ("pass", "denied"), report.lines()
    assert report.findings[3].verdict == "pass"


def test_a_change_of_the_rules_themselves_has_a_bundle_too() -> None:
    book = Told()
    base = book.targets["governance/policies"].document
    rules = book.propose(
        [{"op": "replace", "path": "/flip_points/other", "value": 6}], target="governance/policies", kind="governance"
    )
    book.carry(rules, "olga", "sam")

    report = judged(bundle_of(book, rules, base=base))

    assert report.verdict == "pass", report.lines()


def test_a_machine_without_that_engine_says_so_and_the_rest_is_still_judged() -> None:
    report = judged(good(), resimulate=lambda _inputs: Resimulated(None, "engine unavailable"))

    assert report.findings[3].verdict == "unchecked"
    assert (report.verdict, report.exit_code) == ("incomplete", 3)


# One thing altered in a good bundle: that check fails.


def with_bundle(change: Callable[[dict[str, Any]], None], **options: Any) -> Report:
    value = json.loads(good(**options).encode())
    change(value)
    return judged(json.dumps(value).encode(), resimulate=honestly(good()))


def entry(value: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(one for one in value["events"] if one["leaf"]["kind"] == kind)


def set_in(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        inner: Any = value
        for step in path[:-1]:
            inner = entry(inner, step.removeprefix("#")) if str(step).startswith("#") else inner[step]
        inner[path[-1]] = to

    return change


def forge(kind: str, member: str) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        one = entry(value, kind)["body"][member]["signatures"][0]
        raw = bytearray(base64.b64decode(one["sig"]))
        raw[7] ^= 4
        one["sig"] = base64.b64encode(raw).decode()

    return change


def without(kind: str) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["events"].remove(entry(value, kind))


def swapped(value: dict[str, Any]) -> None:
    events = value["events"]
    events[1], events[2] = events[2], events[1]


def unvoted(value: dict[str, Any]) -> None:
    cast = [one for one in value["context"] if one["leaf"]["kind"] == "vote-cast"]
    value["context"].remove(cast[0])


ALTERED: dict[str, tuple[int, Callable[[dict[str, Any]], None]]] = {
    "a field more": (1, set_in("note", to="mine")),
    "a field less": (1, lambda value: value.pop("base")),
    "entries out of order": (1, swapped),
    "an event without its body": (1, set_in("#simulated", "body", to={})),
    "no events": (1, set_in("events", to=[])),
    "another genesis": (2, set_in("context", 0, "body", "genesis", "created_at", to="2026-01-01T00:00:00.000000Z")),
    "a founder's signature missing": (2, lambda value: value["context"][0]["body"]["genesis"]["signatures"].pop()),
    "no genesis": (2, lambda value: value["context"].pop(0)),
    "another base": (3, set_in("base", "share", to=0.25)),
    "another result": (3, set_in("result", "budgets", "tokens_per_day", to=201)),
    "another patch": (3, set_in("#proposal-created", "body", "content", "patch", 0, "value", to=201)),
    "another rationale": (3, set_in("#proposal-created", "body", "content", "rationale", to="Trust me.")),
    "another simulation": (3, set_in("#simulated", "body", "simulation", "risk_points", to=1)),
    "a simulation of other inputs": (
        4,
        set_in("#proposal-created", "body", "accepted_at", to="2026-11-23T12:00:00.000000Z"),
    ),
    "another proposer": (4, set_in("#proposal-created", "body", "proposer", to="somebody")),
    "a policy set that never was": (5, set_in("#simulated", "body", "inputs", "policy_set", "digest", to=ELSEWHERE)),
    "rules changed without votes": (5, unvoted),
    "a milder rule": (5, set_in("#simulated", "body", "quorum_rule", "recomputes", to=0)),
    "a vote's signature": (6, forge("vote-cast", "envelope")),
    "the decision's signature": (6, forge("applying", "decision")),
    "another ballot": (7, set_in("#simulated", "body", "ballot", "predicate", "nonce", to="0" * 32)),
    "a tally that says more": (8, set_in("#approved", "body", "tally", "standing", "humans", to=3)),
    "a tier without reason": (
        8,
        set_in("#simulated", "body", "simulation", "tier_sources", to=[{"source": "x", "tier": "high"}]),
    ),
    "a revocation's signature": (9, forge("vote-revoked", "envelope")),
    "an event left out": (10, without("vote-revoked")),
    "the beginning left out": (10, without("simulation-started")),
    "another step": (10, set_in("#approved", "leaf", "state_from", to="pending")),
    "another epoch": (10, set_in("#applied", "leaf", "epoch", to=2)),
    "a body that is not the leaf's": (11, set_in("#applied", "body", "observation", to=None)),
    "a leaf that the log has not": (11, set_in("#applied", "leaf", "actor", to="0" * 64)),
    "another place in the log": (11, set_in("#applied", "index", to=40)),
    "a proof too short": (11, lambda value: entry(value, "applied")["proof"].pop()),
    "another checkpoint": (
        11,
        lambda value: value.update(checkpoint=value["checkpoint"].replace("log\n", "log\n1", 1)),
    ),
    "no checkpoint": (11, set_in("checkpoint", to="")),
    "an attestation of nobody": (13, set_in("attestation", "signatures", 0, "keyid", to=ELSEWHERE)),
    "an attestation's signature": (13, lambda value: forge_member(value["attestation"])),
    "an observation of something else": (14, set_in("observation", "digest", to=ELSEWHERE)),
    "an observation of an earlier version": (14, set_in("observation", "version", to=2)),
    "an observation in the log": (14, set_in("#applied", "body", "observation", "digest", to=ELSEWHERE)),
}


def forge_member(envelope: dict[str, Any]) -> None:
    one = envelope["signatures"][0]
    raw = bytearray(base64.b64decode(one["sig"]))
    raw[7] ^= 4
    one["sig"] = base64.b64encode(raw).decode()


@pytest.mark.parametrize(("number", "change"), ALTERED.values(), ids=ALTERED)
def test_one_thing_altered_fails_in_its_check(number: int, change: Callable[[dict[str, Any]], None]) -> None:
    report = with_bundle(change)

    assert report.findings[number - 1].verdict == "fail", report.lines()
    assert report.verdict == "fail"
    assert report.exit_code <= 10 + number


def test_every_check_reports_even_after_one_failed() -> None:
    report = with_bundle(forge("vote-cast", "envelope"))

    assert [one.number for one in report.findings] == list(range(1, 15))
    assert {one.verdict for one in report.findings[9:10]} == {"pass"}


# A service that owns its log and its keys, and re-makes every digest, chain, checkpoint and signature of its own.


def at(kind: str, change: Callable[[dict[str, Any], dict[str, Any]], None], *, nth: int) -> Alter:
    seen = 0

    def alter(of_kind: str, leaf: dict[str, Any], body: dict[str, Any]) -> None:
        nonlocal seen
        seen += of_kind == kind
        if of_kind == kind and seen == nth:
            change(leaf, body)

    return alter


def dishonest(write: Callable[[Book], tuple[Written, Any]], **tiers: dict[str, Any]) -> Report:
    book = Told(rules=policies(**tiers))
    book.create()
    proposal, base = write(book)
    return judged(bundle_of(book, proposal, base=base), trust=book.genesis)


def proposer_votes(book: Book) -> tuple[Written, Any]:
    change = book.propose(MORE, proposer="olga-person")
    book.simulate(change)
    book.vote(change, "olga")
    book.conclude(change, "approved")
    book.apply(change)
    return change, DOCUMENT


def nobody_votes(book: Book) -> tuple[Written, Any]:
    change = book.propose(MORE)
    book.simulate(change)
    book.conclude(change, "approved")
    book.apply(change)
    return change, DOCUMENT


def a_vote_for_something_else(book: Book) -> tuple[Written, Any]:
    change, other = book.propose(MORE), book.propose(OTHER)
    book.simulate(other)
    book.simulate(change)
    book.vote(change, "robot", on=other.ballot)
    return change, DOCUMENT


def a_revoked_vote_is_counted(book: Book) -> tuple[Written, Any]:
    change = book.propose(MORE)
    book.simulate(change)
    vote = book.vote(change, "robot")
    book.conclude(change, "approved")
    book.revoke(change, vote, counted_on=True)
    book.apply(change)
    return change, DOCUMENT


def a_vote_by_a_revoked_key_is_counted(book: Book) -> tuple[Written, Any]:
    change = book.propose(MORE)
    book.simulate(change)
    book.vote(change, "robot")
    book.conclude(change, "approved")
    body = {"validator": "robot", "keyid": private_key("robot").keyid, "reason": "stolen"}
    book.write("key-revoked", target="governance/validators", body=body)
    book.revoked.clear()  # it looks away
    book.apply(change)
    return change, DOCUMENT


def applied_before_it_was_approved(book: Book) -> tuple[Written, Any]:
    change = book.propose(MORE)
    book.simulate(change)
    book.vote(change, "robot")
    book.apply(change)
    return change, DOCUMENT


def something_else_is_applied(book: Book) -> tuple[Written, Any]:
    change = book.propose(MORE)
    book.simulate(change)
    book.vote(change, "robot")
    book.conclude(change, "approved")
    change.result = {"budgets": {}}
    change.record = {**change.record, "result_digest": digest_of(change.result)}
    book.apply(change)
    return change, DOCUMENT


@pytest.mark.parametrize(
    ("number", "write"),
    [
        (3, something_else_is_applied),
        (6, proposer_votes),
        (7, a_vote_for_something_else),
        (8, nobody_votes),
        (9, a_revoked_vote_is_counted),
        (9, a_vote_by_a_revoked_key_is_counted),
        (10, applied_before_it_was_approved),
    ],
)
def test_a_service_that_rewrites_its_own_log_is_found_out(
    number: int, write: Callable[[Book], tuple[Written, Any]]
) -> None:
    report = dishonest(write)

    assert report.findings[number - 1].verdict == "fail", report.lines()
    assert report.findings[10].verdict == "pass"


def test_another_founding_is_not_trusted() -> None:
    report = judged(good(), trust=founding(rules=policies(low={"humans": 5})))

    assert report.findings[1].verdict == "fail"


def test_an_expired_attestation_fails() -> None:
    report = judged(good(), after=timedelta(days=2))

    assert report.findings[12].verdict == "fail"


@pytest.mark.parametrize(
    "changes", [{"version": 2}, {"digest": ELSEWHERE}, {"target": "agents/other"}], ids=["version", "digest", "target"]
)
def test_an_attestation_of_something_else_fails(changes: dict[str, Any]) -> None:
    book, change, base = applied()

    report = judged(bundle_of(book, change, base=base, attestation=attestation(book, change, **changes)))

    assert report.findings[12].verdict == "fail", report.lines()


def kept_at(book: Book, size: int, *, root: bytes | None = None) -> Checkpoint:
    return Checkpoint(ORIGIN, size, root or book.tree(size).root)


def test_a_log_that_was_rewritten_since_the_checkpoint_kept_fails() -> None:
    book, change, base = applied()

    report = judged(bundle_of(book, change, base=base, since=5), kept=kept_at(book, 5, root=book.tree(4).root))

    assert report.findings[11].verdict == "fail"


def test_two_roots_of_one_size_fail() -> None:
    book, change, base = applied()
    size = len(book.entries)

    report = judged(bundle_of(book, change, base=base), kept=kept_at(book, size, root=book.tree(4).root))

    assert report.findings[11].verdict == "fail"


def test_a_kept_checkpoint_that_the_bundle_proves_nothing_about_is_left_unchecked() -> None:
    book, change, base = applied()

    without_proof = judged(bundle_of(book, change, base=base), kept=kept_at(book, 5))
    newer = judged(bundle_of(book, change, base=base), kept=Checkpoint(ORIGIN, 10_000, LOG.public_key))

    assert without_proof.findings[11].verdict == "unchecked"
    assert newer.findings[11].verdict == "unchecked"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"_type":"amgf/bundle"}', b"\xff", b"[" * 100_000])
def test_what_is_no_bundle_fails_the_first_check(content: bytes) -> None:
    report = judged(content)

    assert report.exit_code == 11
    assert [one.verdict for one in report.findings[1:]] == ["unchecked"] * 13


def test_there_are_fourteen_checks_in_order() -> None:
    assert [number for number, _ in TITLES] == list(range(1, 15))


def test_the_bundle_given_is_not_changed() -> None:
    bundle = good()
    before = copy.deepcopy(bundle)

    judged(bundle)

    assert bundle == before
