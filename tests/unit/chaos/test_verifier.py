"""The harness's own reading of the bytes, against published vectors and against what it must refuse."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nacl.signing import SigningKey

from chaos.verifier import canonical, envelope, merkle, note, quorum
from chaos.verifier.envelope import BadEnvelope

KEY = SigningKey(b"\x01" * 32)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

# The leaves and roots of RFC 6962's reference implementation (certificate-transparency, merkle_tree_test).
CT_LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
CT_ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def test_roots_are_those_of_the_reference_implementation() -> None:
    found = list(merkle.roots(merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in CT_LEAVES))

    assert {size: found[size].hex() for size in CT_ROOTS} == CT_ROOTS


@pytest.mark.parametrize(
    "text",
    ['{"b":1,"a":2}', '{"a": 1}', '{"a":1,"a":1}', '{"a":1.0}', '{"a":"\\u0061"}', "{", '{"a":NaN}', '"\\ud800"'],
)
def test_a_spelling_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(canonical.NotCanonical):
        canonical.decode(text.encode())


def test_pae_is_that_of_the_specification() -> None:
    # https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
    assert envelope.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def sealed() -> dict[str, Any]:
    statement = {"_type": envelope.STATEMENT, "subject": [], "predicateType": envelope.VOTE, "predicate": {}}
    return envelope.seal(canonical.encode(statement), KEY)


def test_what_a_key_sealed_is_signed_by_it_and_by_no_other() -> None:
    parsed = envelope.parse(json.dumps(sealed()))

    assert parsed.statement()["predicateType"] == envelope.VOTE
    assert parsed.is_signed_by(bytes(KEY.verify_key))
    assert not parsed.is_signed_by(bytes(SigningKey(b"\x02" * 32).verify_key))


def with_two_signatures(sealed: dict[str, Any]) -> None:
    sealed["signatures"] *= 2


def without_signature(sealed: dict[str, Any]) -> None:
    sealed["signatures"] = []


def with_loose_base64(sealed: dict[str, Any]) -> None:
    sealed["payload"] = sealed["payload"].rstrip("=") + "\n"


def with_half_a_signature(sealed: dict[str, Any]) -> None:
    sealed["signatures"][0]["sig"] = base64.b64encode(b"x" * 32).decode()


@pytest.mark.parametrize("change", [with_two_signatures, without_signature, with_loose_base64, with_half_a_signature])
def test_an_envelope_of_another_form_is_refused(change: Any) -> None:
    value = sealed()
    change(value)

    with pytest.raises(BadEnvelope):
        envelope.parse(value)


def test_a_key_of_small_order_signs_nothing() -> None:
    identity = (1).to_bytes(32, "little")
    anything = envelope.Envelope(b"{}", "x", envelope.keyid_of(identity), identity + bytes(32))

    assert not anything.is_signed_by(identity)


# --- checkpoints -----------------------------------------------------------------------------------------------------


def signed_note(body: str, *, name: str = "log.example", key: SigningKey = KEY) -> str:
    line = note.hint(name, bytes(key.verify_key)) + key.sign(body.encode()).signature
    return f"{body}\n\u2014 {name} {base64.b64encode(line).decode()}\n"


def body(size: object = 7, *, origin: str = "log.example", root: bytes = b"r" * 32) -> str:
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def test_a_checkpoint_is_read_when_the_log_signed_it() -> None:
    read = note.read(signed_note(body()), origin="log.example", log_key=bytes(KEY.verify_key))

    assert (read.origin, read.size, read.root) == ("log.example", 7, b"r" * 32)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(signed_note(body(), key=SigningKey(b"\x02" * 32)), id="another key"),
        pytest.param(signed_note(body(origin="other")), id="another origin"),
        pytest.param(signed_note(body()).replace("\n7\n", "\n8\n"), id="another size than signed"),
        pytest.param(signed_note(body("07")), id="a size in another spelling"),
        pytest.param(signed_note(body(-1)), id="no size"),
        pytest.param(signed_note(body(root=b"r" * 31)), id="a short root"),
        pytest.param(signed_note(body() + "more\n"), id="an extension"),
        pytest.param(body(), id="unsigned"),
        pytest.param("", id="nothing"),
    ],
)
def test_another_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(note.BadNote):
        note.read(text, origin="log.example", log_key=bytes(KEY.verify_key))


# --- quorum ---------------------------------------------------------------------------------------------------------

MEDIUM = {
    "humans": 1,
    "recomputes": 1,
    "human_replaces_recompute": False,
    "eligible_humans_min": 1,
    "roles": [],
    "orgs_min": 0,
    "veto": ["safety"],
    "weight_numerator": 0,
    "weight_denominator": 1,
    "time_lock_seconds": 0,
}
HIGH = MEDIUM | {"humans": 2, "roles": ["owner", "safety"], "orgs_min": 2, "eligible_humans_min": 3}
LOW = MEDIUM | {"humans": 0, "human_replaces_recompute": True, "veto": []}
PEOPLE = {
    "ann": ("human", "owner", "north"),
    "ben": ("human", "owner", "south"),
    "cleo": ("human", "safety", "north"),
    "dan": ("human", "safety", "south"),
    "machine": ("machine", "machine", "north"),
}
KEYS = {name: SigningKey(hashlib.sha256(name.encode()).digest()) for name in PEOPLE}


def text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def entry(name: str, **change: Any) -> dict[str, Any]:
    kind, role, org = PEOPLE[name]
    key = {
        "public_key": base64.b64encode(bytes(KEYS[name].verify_key)).decode(),
        "not_before": text(NOW - timedelta(days=1)),
        "not_after": None,
        **{field: value for field, value in change.items() if field in {"public_key", "not_before", "not_after"}},
    }
    own = {"id": name, "principal": name, "kind": kind, "role": role, "org": org, "weight": 1, "keys": [key]}
    return own | {field: value for field, value in change.items() if field in own}


def electorate(**changes: dict[str, Any]) -> dict[str, Any]:
    return {"v": 1, "minimum": 3, "validators": [entry(name, **changes.get(name, {})) for name in PEOPLE]}


def question(rule: dict[str, Any], **change: Any) -> quorum.Question:
    return quorum.Question(
        **{
            "proposal": "p",
            "proposer": "eve",
            "bindings": {"proposal": "p", "epoch": 1, "simulation_digest": "s"},
            "subjects": {"proposal": "aa", "snapshot": "bb"},
            "rule": rule,
            "electorate": electorate(),
            "decided_at": NOW + timedelta(minutes=1),
            **change,
        }
    )


def vote(
    name: str, decision: str = "approve", *, key: SigningKey | None = None, snapshot: str = "bb", **change: Any
) -> dict[str, Any]:
    predicate = {
        "proposal": "p",
        "epoch": 1,
        "simulation_digest": "s",
        "validator": name,
        "role": PEOPLE[name][1],
        "decision": decision,
        "recomputed": name == "machine",
        "issued_at": text(NOW),
        "expires_at": text(NOW + timedelta(hours=1)),
    } | change
    subject = [{"name": "proposal", "digest": {"sha256": "aa"}}, {"name": "snapshot", "digest": {"sha256": snapshot}}]
    statement = {
        "_type": envelope.STATEMENT,
        "subject": subject,
        "predicateType": envelope.VOTE,
        "predicate": predicate,
    }
    return envelope.seal(canonical.encode(statement), key or KEYS[name])


@pytest.mark.parametrize(
    ("rule", "votes"),
    [
        pytest.param(LOW, [vote("machine")], id="low: a recompute"),
        pytest.param(LOW, [vote("ann")], id="low: a person in its place"),
        pytest.param(MEDIUM, [vote("ann"), vote("machine")], id="medium: both"),
        pytest.param(MEDIUM, [vote("ann"), vote("machine"), vote("ben", "reject")], id="a no without a veto"),
        pytest.param(HIGH, [vote("ann"), vote("dan"), vote("machine")], id="high: two roles, two organisations"),
    ],
)
def test_a_quorum_is_found(rule: dict[str, Any], votes: list[dict[str, Any]]) -> None:
    assert quorum.shortcomings(question(rule), votes) == []


@pytest.mark.parametrize(
    ("rule", "votes", "reason"),
    [
        pytest.param(LOW, [], "0 recomputed", id="nobody"),
        pytest.param(MEDIUM, [vote("ann")], "0 recomputed", id="no recompute"),
        pytest.param(MEDIUM, [vote("machine")], "0 people", id="no person"),
        pytest.param(MEDIUM, [vote("ann"), vote("machine", recomputed=False)], "0 recomputed", id="did not recompute"),
        pytest.param(MEDIUM, [vote("ann", "abstain"), vote("machine")], "0 people", id="abstained"),
        pytest.param(HIGH, [vote("ann"), vote("ann"), vote("machine")], "has voted already", id="twice the same"),
        pytest.param(HIGH, [vote("ann"), vote("ben"), vote("machine")], "nobody approved as safety", id="one role"),
        pytest.param(HIGH, [vote("ann"), vote("cleo"), vote("machine")], "1 organisations", id="one organisation"),
        pytest.param(MEDIUM, [vote("ann"), vote("machine"), vote("cleo", "reject")], "vetoed by cleo", id="vetoed"),
        pytest.param(MEDIUM, [vote("ann", epoch=2), vote("machine")], "another epoch", id="another epoch"),
        pytest.param(MEDIUM, [vote("ann", snapshot="cc"), vote("machine")], "another snapshot", id="another result"),
        pytest.param(
            MEDIUM, [vote("ann", simulation_digest="t"), vote("machine")], "another simulation", id="simulation"
        ),
        pytest.param(MEDIUM, [vote("ann", role="safety"), vote("machine")], "signed as", id="another role"),
        pytest.param(MEDIUM, [vote("ann", key=KEYS["ben"]), vote("machine")], "ben signed as ann", id="another's key"),
        pytest.param(MEDIUM, [vote("ann", key=KEY), vote("machine")], "is nobody's", id="nobody's key"),
        pytest.param(MEDIUM, [vote("ann", recomputed=True), vote("machine")], "does not recompute", id="a person"),
        pytest.param(MEDIUM, [vote("ann", expires_at=text(NOW)), vote("machine")], "had expired", id="expired before"),
        pytest.param(
            MEDIUM,
            [vote("ann", issued_at=text(NOW - timedelta(days=2))), vote("machine")],
            "not valid when it voted",
            id="before the key was valid",
        ),
    ],
)
def test_no_quorum_is_found_and_why_is_said(rule: dict[str, Any], votes: list[dict[str, Any]], reason: str) -> None:
    assert reason in "; ".join(quorum.shortcomings(question(rule), votes))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"proposer": "ann"}, "ann is the proposer", id="the proposer's own"),
        pytest.param(
            {"revoked_keys": [envelope.keyid_of(bytes(KEYS["ann"].verify_key))]}, "key was revoked", id="revoked"
        ),
        pytest.param(
            {"electorate": electorate(ann={"not_after": text(NOW)})}, "not valid when it voted", id="key has ended"
        ),
        pytest.param(
            {"electorate": electorate(ann={"principal": "ben"}), "proposer": "ben"},
            "ann is the proposer",
            id="the proposer under another name",
        ),
        pytest.param(
            {"rule": MEDIUM | {"weight_numerator": 2, "weight_denominator": 3}}, "not enough of the weight", id="weight"
        ),
        pytest.param({"rule": MEDIUM | {"eligible_humans_min": 5}}, "4 people in the electorate", id="few people"),
    ],
)
def test_a_vote_that_may_not_count_does_not(change: dict[str, Any], reason: str) -> None:
    asked = question(**({"rule": MEDIUM} | change))

    assert reason in "; ".join(quorum.shortcomings(asked, [vote("ann"), vote("machine")]))


def test_one_person_under_two_names_is_one() -> None:
    asked = question(HIGH | {"roles": [], "orgs_min": 0}, electorate=electorate(ben={"principal": "ann"}))

    assert "ben has voted already" in "; ".join(quorum.shortcomings(asked, [vote("ann"), vote("ben"), vote("machine")]))
