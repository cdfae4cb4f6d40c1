"""Each clause with changes it must refuse, and one it must let pass."""

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from app.core.governance.policy_set import DEFAULT
from app.core.governed.target import Tier
from app.core.signing.possession import Possession
from app.core.simulation import constitution
from app.security.signatures import verify
from tests.unit.service.electorate import NOW, digest, document, founding, key, validator
from tests.unit.service.founding import old_key, public, root, unsigned

Change = Callable[[dict[str, Any]], object]


def judge(target: str, before: Any, after: Any, **context: Any) -> set[str]:
    context = {"policies": DEFAULT.document(), "validators": founding(), "at": NOW, **context}
    flaws = constitution.check(f"governance/{target}", before, after, verify=verify, **context)
    assert all(flaw.message for flaw in flaws)
    return {f"{flaw.pointer} {flaw.code}" for flaw in flaws}


def changed(document: dict[str, Any], change: Change) -> dict[str, Any]:
    after = copy.deepcopy(document)
    change(after)
    return after


def entry(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in document["validators"] if one["id"] == name)
    return found


def add(document: dict[str, Any], one: dict[str, Any]) -> None:
    document["validators"] = sorted([*document["validators"], one], key=lambda each: str(each["id"]))


def remove(document: dict[str, Any], *names: str) -> None:
    document["validators"] = [one for one in document["validators"] if one["id"] not in names]


def alter_key(document: dict[str, Any], name: str, **fields: Any) -> None:
    entry(document, name)["keys"][0].update(fields)


def rename(document: dict[str, Any], name: str, **fields: Any) -> None:
    entry(document, name).update(fields)


def respelled(name: str) -> str:
    """The public key's base64 with a bit set behind its last byte."""
    return public(name)[:-2] + chr(ord(public(name)[-2]) + 1) + "="


FEW = {"/validators too-few", "/validators unreachable", "/validators indispensable"}

# Validators.

REFUSED_VALIDATORS: list[tuple[str, Change, set[str]]] = [
    ("fewer people than three", lambda d: remove(d, "zoe"), FEW),
    ("a minimum below three", lambda d: d.update(minimum=2), {"/minimum too-few"}),
    ("a minimum that is not met", lambda d: d.update(minimum=4), {"/validators too-few"}),
    ("people without keys", lambda d: rename(d, "zoe", keys=[]), FEW),
    ("all machines gone", lambda d: remove(d, "robot", "replica"), {"/validators unreachable"}),
    ("no safety left", lambda d: rename(d, "sam", role="owner"), {"/validators unreachable"}),
    ("a person too heavy to miss", lambda d: rename(d, "olga", weight=50), {"/validators indispensable"}),
    (
        "one person twice",
        lambda d: add(d, {**validator("yan", "owner"), "principal": "olga-person"}),
        {"/validators/4/principal duplicate-principal"},
    ),
    (
        "one key twice",
        lambda d: add(d, {**validator("yan", "owner"), "keys": [key("yan", "yan-person", "olga")]}),
        {"/validators/4/keys/0/public_key duplicate-key"},
    ),
    (
        "somebody else's proof",
        lambda d: add(d, {**validator("yan", "owner"), "keys": [key("olga", "olga-person", "new")]}),
        {"/validators/4/keys/0/possession proof-failed"},
    ),
    (
        "a proof by another key",
        lambda d: alter_key(d, "zoe", possession=key("zoe", "zoe-person", "x")["possession"]),
        {"/validators/4/keys/0/possession proof-failed"},
    ),
    (
        "an altered proof of an old key",
        lambda d: entry(d, "olga")["keys"][0]["possession"].update(payloadType="text/plain"),
        {"/validators/0/keys/0/possession proof-failed"},
    ),
    (
        "a known key under another person",
        lambda d: rename(d, "olga", principal="mallory"),
        {"/validators/0/keys/0/possession proof-failed"},
    ),
    (
        "a window into the past",
        lambda d: alter_key(d, "olga", not_before="2020-01-01T00:00:00.000000Z"),
        {"/validators/0/keys/0/not_before window-backdated"},
    ),
    (
        "an empty window",
        lambda d: alter_key(d, "olga", not_after="2020-01-01T00:00:00.000000Z"),
        {"/validators/0/keys/0/not_after empty-window"},
    ),
    (
        "no such day",
        lambda d: alter_key(d, "olga", not_after="2027-02-30T00:00:00.000000Z"),
        {"/validators/0/keys/0/not_after invalid-value"},
    ),
    (
        "a small-order key",
        lambda d: alter_key(d, "olga", public_key="AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        {"/validators/0/keys/0/public_key weak-key"},
    ),
    (
        "a second spelling of base64",
        lambda d: alter_key(d, "olga", public_key=respelled("olga")),
        {"/validators/0/keys/0/public_key base64"},
    ),
    ("keys that are about to end", lambda d: alter_key(d, "zoe", not_after="2026-11-30T00:00:00.000000Z"), FEW),
    ("a machine in a person's role", lambda d: rename(d, "robot", role="safety"), {"/validators/2/role role-of-kind"}),
    ("out of order", lambda d: d["validators"].reverse(), {"/validators not-sorted"}),
    ("an unknown field", lambda d: d.update(extra=1), {"/extra unknown-field"}),
    ("a weight of nothing", lambda d: rename(d, "olga", weight=0), {"/validators/0/weight out-of-range"}),
]


@pytest.mark.parametrize(("_name", "change", "flaws"), REFUSED_VALIDATORS, ids=[one[0] for one in REFUSED_VALIDATORS])
def test_a_validator_set_is_refused(_name: str, change: Change, flaws: set[str]) -> None:
    assert judge("validators", founding(), changed(founding(), change)) == flaws


def heavier_among_five(document: dict[str, Any]) -> None:
    add(document, validator("yan", "owner"))
    rename(document, "olga", weight=2)


ACCEPTED_VALIDATORS: list[tuple[str, Change]] = [
    ("nothing new", lambda _: None),
    ("a fourth person", lambda d: add(d, validator("yan", "owner"))),
    ("a machine less", lambda d: remove(d, "replica")),
    ("a second key", lambda d: entry(d, "olga")["keys"].append(key("olga", "olga-person", "olga-2"))),
    ("a key replaced", lambda d: rename(d, "olga", keys=[key("olga", "olga-person", "olga-2")])),
    ("a key that ends in a year", lambda d: alter_key(d, "zoe", not_after="2027-11-30T00:00:00.000000Z")),
    ("a little more weight among five", heavier_among_five),
]


@pytest.mark.parametrize(("_name", "change"), ACCEPTED_VALIDATORS, ids=[one[0] for one in ACCEPTED_VALIDATORS])
def test_a_validator_set_passes(_name: str, change: Change) -> None:
    with_four = changed(founding(), lambda d: add(d, validator("xue", "safety", org="watch")))

    assert judge("validators", with_four, changed(with_four, change)) == set()


def test_a_proof_for_another_log_is_refused() -> None:
    other = elsewhere("yan")

    assert judge("validators", founding(), changed(founding(), lambda d: add(d, other))) == {
        "/validators/4/keys/0/possession other-origin"
    }


def elsewhere(name: str) -> dict[str, Any]:
    """A validator whose proof names another log."""
    from_there = validator(name, "owner")
    said = Possession(
        validator=name,
        principal=f"{name}-person",
        public_key=public(name),
        origin="elsewhere.example/log",
        challenge="genesis",
    )
    pair = key.__globals__["private_key"](name)
    from_there["keys"][0]["possession"] = pair.seal(
        said.encode(), "application/vnd.amgf.key-possession+json"
    ).document()
    return from_there


# Policies.

REFUSED_POLICIES: list[tuple[str, str, dict[str, Any], set[str]]] = [
    ("nobody approves", "low", {"recomputes": 0}, {"no-threshold"}),
    ("nobody but machines for medium", "medium", {"humans": 0}, {"lowered"}),
    ("one person for high", "high", {"humans": 1}, {"lowered"}),
    ("two for critical", "critical", {"humans": 2}, {"lowered"}),
    ("high applied by itself", "high", {"apply": "auto"}, {"lowered"}),
    ("critical applied by the proposer", "critical", {"applier_not_proposer": False}, {"lowered"}),
    ("governance by half", "governance", {"weight_numerator": 1, "weight_denominator": 2}, {"lowered"}),
    ("governance without a share", "governance", {"weight_numerator": 0, "weight_denominator": 1}, {"lowered"}),
    ("governance by one", "governance", {"humans": 1}, {"lowered"}),
    ("governance by a machine", "governance", {"human_replaces_recompute": True}, {"lowered"}),
    ("governance applied by itself", "governance", {"apply": "auto"}, {"lowered"}),
    ("governance at once", "governance", {"time_lock_seconds": 86_399}, {"lowered"}),
    ("expired before it may be applied", "high", {"time_lock_seconds": 86_400}, {"never-applicable"}),
    ("more people than there are", "critical", {"humans": 4}, {"unreachable"}),
    ("more machines than there are", "medium", {"recomputes": 3}, {"unreachable"}),
    ("more eligible than there are", "high", {"eligible_humans_min": 4}, {"unreachable"}),
    ("all three for governance", "governance", {"humans": 3}, {"indispensable"}),
    ("everybody's weight", "governance", {"weight_numerator": 1, "weight_denominator": 1}, {"indispensable"}),
    ("a named role for governance that one person has", "governance", {"roles": ["safety"]}, {"indispensable"}),
    ("more than all", "governance", {"weight_numerator": 2, "weight_denominator": 1}, {"invalid-value"}),
    ("no such role", "high", {"roles": ["king"]}, {"not-a-choice"}),
]


@pytest.mark.parametrize(
    ("_name", "tier", "change", "codes"), REFUSED_POLICIES, ids=[one[0] for one in REFUSED_POLICIES]
)
def test_a_policy_set_is_refused(_name: str, tier: str, change: dict[str, Any], codes: set[str]) -> None:
    before = DEFAULT.document()

    flaws = judge("policies", before, changed(before, lambda d: d["quorum"][tier].update(change)))

    assert {flaw.partition(" ")[2] for flaw in flaws} == codes
    assert all(flaw.startswith("/quorum") for flaw in flaws)


def test_stricter_policies_pass_and_a_lock_once_longer_never_gets_shorter() -> None:
    before = DEFAULT.document()
    longer = changed(before, lambda d: d["quorum"]["governance"].update(time_lock_seconds=172_800))
    stricter = changed(before, lambda d: d["quorum"]["medium"].update(humans=2, veto=["*"], time_lock_seconds=60))

    assert judge("policies", before, stricter) == set()
    assert judge("policies", before, longer) == set()
    assert judge("policies", longer, before) == {"/quorum/governance/time_lock_seconds lowered"}


def test_a_tier_left_out_or_added_is_refused() -> None:
    before = DEFAULT.document()

    assert judge("policies", before, changed(before, lambda d: d["quorum"].pop("governance")))
    assert judge("policies", before, changed(before, lambda d: d["quorum"].update(emergency={})))
    assert judge("policies", before, None)


# Root.

NEXT = {"version": 2}
REFUSED_ROOTS: list[tuple[str, dict[str, Any], str]] = [
    ("a version skipped", {"version": 3}, "not-the-next"),
    ("the same version", {"version": 1}, "not-the-next"),
    ("another log", {**NEXT, "origin": "elsewhere.example/log"}, "other-log"),
    ("no log", {**NEXT, "origin": ""}, "wrong-pattern"),
    ("no log key", {**NEXT, "log_key": None}, "wrong-type"),
    ("a log key forgotten", {**NEXT, "log_key": public("log-2")}, "forgotten"),
    (
        "a service key forgotten",
        {**NEXT, "service_key": public("s-2"), "old_keys": [old_key("log", "service")]},
        "duplicate-key",
    ),
    (
        "the wrong use remembered",
        {**NEXT, "log_key": public("log-2"), "old_keys": [old_key("log", "service")]},
        "forgotten",
    ),
    ("a key that never served", {**NEXT, "old_keys": [old_key("mallory", "log")]}, "never-in-use"),
    ("a threshold lowered", {**NEXT, "threshold": 1}, "one-alone"),
    ("a threshold out of reach", {**NEXT, "threshold": 4}, "unreachable"),
    ("one key for log and service", {**NEXT, "service_key": public("log")}, "duplicate-key"),
    ("one founder twice", {**NEXT, "founders": [{"id": "ada", "public_key": public("ada")}] * 2}, "duplicate-id"),
    ("a weak founder", {**NEXT, "founders": [{"id": "ada", "public_key": "A" * 43 + "="}], "threshold": 1}, "weak-key"),
    (
        "an old key without a window",
        {
            **NEXT,
            "log_key": public("log-2"),
            "old_keys": [{**old_key("log", "log"), "not_after": "2020-01-01T00:00:00.000000Z"}],
        },
        "empty-window",
    ),
]


@pytest.mark.parametrize(("_name", "change", "code"), REFUSED_ROOTS, ids=[one[0] for one in REFUSED_ROOTS])
def test_a_root_is_refused(_name: str, change: dict[str, Any], code: str) -> None:
    assert code in {flaw.partition(" ")[2] for flaw in judge("root", root(), root(**change))}


def test_a_key_is_replaced_and_remembered_for_good() -> None:
    second = root(version=2, log_key=public("log-2"), old_keys=[old_key("log", "log")])
    third = root(
        version=3,
        log_key=public("log-2"),
        service_key=public("s-2"),
        old_keys=[old_key("log", "log"), old_key("service", "service")],
    )
    forgetful = root(version=3, log_key=public("log-2"))

    assert judge("root", root(), second) == set()
    assert judge("root", second, third) == set()
    assert judge("root", second, forgetful) == {"/old_keys forgotten"}
    assert judge("root", root(threshold=3), root(version=2, threshold=2)) == {"/threshold lowered"}
    assert judge("root", None, second) == {"/version not-a-beginning"}


def test_the_corpus_is_never_empty_and_other_names_under_governance_are_unknown() -> None:
    assert judge("corpus", {"cases": [1]}, {}) == {" empty-corpus"}
    assert judge("corpus", {"cases": [1]}, {"cases": []}) == set()
    assert judge("constitution", None, {}) == {" unknown-governance-target"}
    assert constitution.check("assistant/prompts", None, None, verify=verify) == []


# Genesis and the glass.


def test_a_founding_by_the_default_policies_is_sound() -> None:
    assert constitution.check_genesis(unsigned(), verify=verify) == []


GENESES: list[tuple[str, dict[str, Any], str]] = [
    ("validators who are too few", {"validators": document(validator("olga", "owner"))}, "/validators/validators"),
    ("a root that is none", {"root": {}}, "/root"),
    ("policies that are none", {"policies": {"v": 1}}, "/policies"),
    ("no corpus", {"corpus": {}}, "/corpus"),
    (
        "proofs for another log",
        {"root": root(origin="elsewhere.example/log")},
        "/validators/validators/0/keys/0/possession",
    ),
]


@pytest.mark.parametrize(("_name", "change", "pointer"), GENESES, ids=[one[0] for one in GENESES])
def test_a_founding_is_refused(_name: str, change: dict[str, Any], pointer: str) -> None:
    flaws = constitution.check_genesis(unsigned(**change), verify=verify)
    assert any(flaw.pointer == pointer or flaw.pointer.startswith(f"{pointer}/") for flaw in flaws)


GLASS: list[tuple[str, dict[str, Any], set[str]]] = [
    ("back to what was attested", {}, set()),
    ("a freeze", {"action": "freeze", "digest": None}, set()),
    ("two people for a critical target", {"minimum_tier": Tier.CRITICAL, "persons": ["a", "b"]}, set()),
    ("one person twice for a critical target", {"minimum_tier": Tier.CRITICAL, "persons": ["a", "a"]}, {"one-alone"}),
    ("nobody", {"persons": []}, {"one-alone"}),
    ("something new", {"digest": digest("new")}, {"not-attested"}),
    ("nothing named", {"digest": None}, {"not-attested"}),
    ("a mutation", {"action": "mutation"}, {"not-a-way-back"}),
    ("the rules", {"target": "governance/policies"}, {"governance"}),
]


@pytest.mark.parametrize(("_name", "change", "codes"), GLASS, ids=[one[0] for one in GLASS])
def test_breaking_the_glass(_name: str, change: dict[str, Any], codes: set[str]) -> None:
    case: dict[str, Any] = {
        "target": "assistant/prompts",
        "action": "rollback",
        "minimum_tier": Tier.HIGH,
        "persons": ["a"],
        "digest": digest("old"),
        "attested": [digest("old")],
        **change,
    }

    assert {flaw.code for flaw in constitution.check_break_glass(**case)} == codes


def test_keys_about_to_end_are_seen_only_with_an_instant() -> None:
    about_to_end = changed(founding(), lambda d: alter_key(d, "zoe", not_after="2026-11-30T00:00:00.000000Z"))

    assert judge("validators", founding(), about_to_end, at=None) == set()
    assert judge("validators", founding(), about_to_end, at=NOW - timedelta(days=29)) == set()
    assert judge("validators", founding(), about_to_end, at=NOW)
