import base64
import itertools
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from chaos.arrivals import schedule, stream
from chaos.history import Kind
from chaos.lives.plot import APPLIED, Course, Plot, Trespass, draw
from chaos.lives.voting import trespass, vote
from chaos.scenario import Load
from chaos.verifier import canonical, envelope, quorum
from compose.founding import Founding
from compose.gate import Gate, Governed

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MEDIUM = {
    "humans": 1,
    "recomputes": 1,
    "human_replaces_recompute": False,
    "eligible_humans_min": 1,
    "roles": [],
    "orgs_min": 0,
    "veto": [],
    "weight_numerator": 0,
    "weight_denominator": 1,
}


@pytest.fixture(scope="module")
def founding(tmp_path_factory: pytest.TempPathFactory) -> Founding:
    made = Founding(tmp_path_factory.mktemp("service"), tmp_path_factory.mktemp("secrets"))
    made.make_keys()
    return made


@pytest.fixture(scope="module")
def gate(founding: Founding) -> Gate:
    names = ("quiet-00", "quiet-01", "moving-00", "moving-01")
    return founding.gate({}, {name: Governed(name, canonical.digest(name.encode())) for name in names})


def plots(count: int, seed: int = 1) -> list[Plot]:
    chance = stream(seed, "lives")
    return [draw(number, chance, targets=3, people=5) for number in range(count)]


def test_a_seed_gives_the_same_lives_and_another_seed_others() -> None:
    assert plots(50) == plots(50)
    assert plots(50) != plots(50, seed=2)


def test_every_course_and_every_trespass_is_met_in_a_few_hundred_lives() -> None:
    many = plots(400)

    assert {one.course for one in many} == set(Course)
    assert {one.trespass for one in many} == {None, *Trespass}
    assert all(one.course in APPLIED for one in many if one.rolls_back or one.trespass is Trespass.LATE)


def test_traffic_proposes_on_quiet_targets_as_they_are_and_reads_the_heads_of_moving_ones(gate: Gate) -> None:
    load = Load(proposals_per_second=20, reads_per_second=20)
    arrivals = list(itertools.islice(schedule(load, 1, gate=gate), 800))

    bodies = [json.loads(one.body) for one in arrivals if one.body is not None]
    digests = {one.name: one.digest for one in gate.quiet_targets}
    assert all(body["base_digest"] == digests[body["target"]] and body["base_version"] == 1 for body in bodies)
    counts = Counter(one.kind for one in arrivals)
    assert counts[Kind.CURRENT] > 50
    assert {one.target for one in arrivals if one.kind is Kind.CURRENT} == {"moving-00", "moving-01"}


# --- the votes that are cast, judged by the second reading -----------------------------------------------------------


def ballot(**change: Any) -> dict[str, Any]:
    predicate = {"proposal": "p", "epoch": 1, "simulation_digest": "s", "tier": "medium"} | change
    return {
        "_type": envelope.STATEMENT,
        "predicateType": envelope.VOTE,
        "subject": [
            {"name": "proposal", "digest": {"sha256": "aa"}},
            {"name": "snapshot", "digest": {"sha256": "bb"}},
        ],
        "predicate": predicate,
    }


def asked(founding: Founding) -> quorum.Question:
    return quorum.Question(
        proposal="p",
        proposer="ann",
        bindings={"proposal": "p", "epoch": 1, "simulation_digest": "s"},
        subjects={"proposal": "aa", "snapshot": "bb"},
        rule=MEDIUM,
        electorate=founding.genesis()["validators"] | {},
        decided_at=datetime(2100, 1, 1, tzinfo=UTC),
    )


def test_a_person_and_a_machine_carry_a_medium_proposal(founding: Founding, gate: Gate) -> None:
    question = asked(founding)
    late = datetime(2099, 12, 31, 23, 30, tzinfo=UTC)  # after the keys of the electorate begin
    cast = [vote(ballot(), one, "approve", now=late) for one in (gate.humans[1], gate.machines[0])]

    assert quorum.shortcomings(question, cast) == []


@pytest.mark.parametrize("kind", [kind for kind in Trespass if kind is not Trespass.LATE])
def test_a_trespass_counts_for_nothing(kind: Trespass, founding: Founding, gate: Gate) -> None:
    late = datetime(2099, 12, 31, 23, 30, tzinfo=UTC)
    foreign = vote(ballot(proposal="q"), gate.humans[2], "approve", now=late)

    made = trespass(
        kind, ballot(), gate, proposer=gate.humans[0], foreign=foreign, chance=stream(1, "trespass"), now=late
    )

    assert made is not None
    principal, cast = made
    counted = quorum.count(asked(founding), [cast])
    sender = {one.principal: one.id for one in gate.validators}[principal]
    assert counted.refused or {one.id for one in counted.approving} != {sender}


def test_a_genesis_bundle_is_signed_by_its_founders_over_its_canonical_bytes(founding: Founding) -> None:
    bundle = founding.genesis()
    signatures = bundle.pop("signatures")
    payload = canonical.encode(bundle)

    keys = {one["public_key"] for one in bundle["root"]["founders"]}
    assert len(signatures) == len(keys) == 3
    for signature in signatures:
        sealed = envelope.Envelope(
            payload, "application/vnd.amgf.genesis+json", signature["keyid"], base64.b64decode(signature["sig"])
        )
        assert any(sealed.is_signed_by(envelope.public_key_of(key)) for key in keys)
