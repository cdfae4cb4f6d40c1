import json
from typing import Any

import pytest

from app.core.documents.strict_json import decode
from app.core.governed import proposal
from app.errors import InvalidProposal

GOOD: dict[str, Any] = {
    "target": "agents/router",
    "base_version": 1,
    "base_digest": "sha256:" + "0" * 64,
    "patch": [{"op": "replace", "path": "/a", "value": 1.5}],
    "rationale": "because",
}


def accept(value: Any, *, indent: int | None = None) -> proposal.Intake:
    body = json.dumps(value, indent=indent).encode()
    return proposal.accept(body, decode(body))


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        pytest.param({"target": "Agents"}, "/target", id="target not lower case"),
        pytest.param({"target": ""}, "/target", id="target empty"),
        pytest.param({"target": "a" * 129}, "/target", id="target too long"),
        pytest.param({"target": "\u0430gents"}, "/target", id="target with a Cyrillic letter"),
        pytest.param({"target": "../x"}, "/target", id="target with dots"),
        pytest.param({"target": "agents\n"}, "/target", id="target with a line break"),
        pytest.param({"base_version": -1}, "/base_version", id="negative version"),
        pytest.param({"base_version": 1.5}, "/base_version", id="half a version"),
        pytest.param({"base_version": True}, "/base_version", id="true is not 1"),
        pytest.param({"base_version": 0}, "/base_version", id="there is no version 0"),
        pytest.param({"base_digest": "0" * 64}, "/base_digest", id="digest without its kind"),
        pytest.param({"base_digest": "sha256:" + "A" * 64}, "/base_digest", id="digest in upper case"),
        pytest.param({"kind": "rollback"}, "/kind", id="a kind that nobody sends"),
        pytest.param({"declared_risk": "none"}, "/declared_risk", id="unknown tier"),
        pytest.param({"evidence": ["x"]}, "/evidence/0", id="evidence that is no digest"),
        pytest.param({"evidence": ["sha256:" + "0" * 64] * 33}, "/evidence", id="too much evidence"),
        pytest.param({"expires_at": "2026-11-23T22:17:24Z"}, "/expires_at", id="another spelling of an instant"),
        pytest.param({"expires_at": "2026-02-30T00:00:00.000000Z"}, "/expires_at", id="no such day"),
        pytest.param({"supersedes": "x"}, "/supersedes", id="no id"),
        pytest.param({"restores": None}, "/restores", id="a field of rollbacks"),
        pytest.param({"base_version": "1"}, "/base_version", id="version as text"),
        pytest.param({"patch": []}, "/patch", id="no operation"),
        pytest.param({"patch": [{"op": "frob", "path": ""}]}, "/patch/0/op", id="unknown operation"),
        pytest.param({"patch": [{"op": "add", "path": "/a"}]}, "/patch/0/value", id="add without value"),
        pytest.param({"patch": [{"op": "move", "path": "/a"}]}, "/patch/0/from", id="move without from"),
        pytest.param({"patch": [{"op": "remove", "path": "a"}]}, "/patch/0/path", id="path without slash"),
        pytest.param({"patch": [{"op": "remove", "path": "/~2"}]}, "/patch/0/path", id="bad escape"),
        pytest.param({"patch": [{"op": "remove", "path": "/a", "x": 1}]}, "/patch/0/x", id="unknown member"),
        pytest.param({"rationale": ""}, "/rationale", id="no reason"),
        pytest.param({"state": "applied"}, "/state", id="a field of the server's"),
    ],
)
def test_refused_with_its_place(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidProposal) as caught:
        accept({**GOOD, **change})

    assert [flaw.pointer for flaw in caught.value.flaws] == [pointer]


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_every_field_is_required(missing: str) -> None:
    with pytest.raises(InvalidProposal, match="not a proposal"):
        accept({name: value for name, value in GOOD.items() if name != missing})


@pytest.mark.parametrize("value", [None, [], "text", 1, True])
def test_only_an_object_is_a_proposal(value: Any) -> None:
    with pytest.raises(InvalidProposal):
        accept(value)


def test_spelling_changes_the_body_digest_and_nothing_else() -> None:
    one, other = accept(GOOD), accept(dict(reversed(GOOD.items())), indent=2)

    assert one.body_digest != other.body_digest
    assert (one.fingerprint, one.proposal_digest) == (other.fingerprint, other.proposal_digest)


def test_the_typed_digest_is_not_the_digest_of_the_body() -> None:
    intake = accept(GOOD)

    assert intake.proposal_digest != intake.fingerprint


def test_the_content_record_has_every_field_whatever_was_left_out() -> None:
    told = {**GOOD, "kind": "mutation", "declared_risk": "low", "evidence": [], "expires_at": None, "supersedes": None}
    record = json.loads(accept(GOOD).record)

    assert record == {"_type": "amgf/proposal", "v": 1, **told, "restores": None}
    assert accept(told).record == accept(GOOD).record
    assert accept(told).fingerprint != accept(GOOD).fingerprint


def test_an_id_has_one_spelling_in_the_record() -> None:
    one = "01a209f4-aea4-72f8-833c-264e68b380f1"

    assert json.loads(accept({**GOOD, "supersedes": one.upper()}).record)["supersedes"] == one
