"""Risk: integer points, and a tier that no source can lower."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.documents import diff
from app.core.governance import policy_set
from app.core.governance.policy_set import DEFAULT, DeltaPoints, FlipPoints, PathWeight, PolicySet, RiskTiers
from app.core.governed.target import TIERS, Tier
from app.core.simulation import risk
from app.core.simulation.plan import OracleReading

TARGET = "assistant/support"
NO_FLIPS = {"allow_to_deny": 0, "deny_to_allow": 0, "prompt": 0, "route": 0}
POINTS = st.integers(0, 1_000)
POINTERS = st.sampled_from(["", "/a", "/a/b", "/a/*", "/*/b", "/budgets"])
WEIGHTS = st.lists(st.builds(PathWeight, targets=st.none(), pointer=POINTERS, points=POINTS), max_size=4)
DELTAS = st.lists(
    st.builds(
        DeltaPoints,
        targets=st.none(),
        kind=st.sampled_from(["number", "text", "added", "removed"]),
        pointer=POINTERS,
        direction=st.sampled_from(["any", "up", "down"]),
        at_least=st.integers(1, 100),
        points=POINTS,
    ),
    max_size=4,
)
POLICIES = st.builds(
    lambda weights, deltas, flips, steps: policy(
        path_weights=weights,
        delta_points=deltas,
        flip_points=flips,
        risk_tiers=RiskTiers(steps[0], steps[0] + steps[1], sum(steps)),
    ),
    WEIGHTS,
    DELTAS,
    st.builds(FlipPoints, POINTS, POINTS, POINTS),
    st.tuples(*[st.integers(1, 500)] * 3),
)
DOCUMENTS = st.fixed_dictionaries({"a": st.integers(0, 9) | st.text("x", max_size=9), "budgets": st.lists(st.just(1))})
SITUATION = st.fixed_dictionaries(
    {
        "declared": st.sampled_from(TIERS),
        "minimum": st.sampled_from(TIERS),
        "points": st.integers(0, 2_000),
        "oracle_missing": st.booleans(),
    }
)


def policy(**fields: Any) -> PolicySet:
    return msgspec.structs.replace(DEFAULT, **fields)


def points_of(chosen: PolicySet, before: Any, after: Any, touched: list[str], **more: Any) -> risk.Risk:
    arguments = {"flip_counts": NO_FLIPS, "readings": (), **more}
    return risk.assess(chosen, target=TARGET, touched=touched, facts=diff.compare(before, after), **arguments)


def tier_of(chosen: PolicySet = DEFAULT, *, target: str = TARGET, kind: str = "mutation", **situation: Any) -> Tier:
    facts = {"declared": Tier.LOW, "minimum": Tier.LOW, "points": 0, "oracle_missing": False, **situation}
    return max(tier for _, tier in risk.tiers(chosen, target=target, kind=kind, **facts))


@pytest.mark.parametrize(
    ("pointer", "touched", "counts"),
    [
        ("/tool_grants", "/tool_grants/0", True),
        ("/tool_grants", "/tool_grants", True),
        ("/tool_grants", "", True),
        ("/agents/*/tools", "/agents/7/tools/0", True),
        ("/agents/*/tools", "/agents", True),
        ("/agents/*/tools", "/agents/7/name", False),
        ("/tool_grants", "/tool_grants2", False),
        ("", "/anything", True),
    ],
)
def test_a_weight_counts_at_below_and_above_its_pointer(pointer: str, touched: str, *, counts: bool) -> None:
    chosen = policy(path_weights=[PathWeight(None, pointer, 7)], delta_points=[])

    assert points_of(chosen, {}, {}, [touched]).points == (7 if counts else 0)


@pytest.mark.parametrize(
    ("kind", "direction", "at_least", "before", "after", "times"),
    [
        ("number", "up", 5_000, 100, 150, 1),
        ("number", "up", 5_001, 100, 150, 0),
        ("number", "down", 1, 100, 150, 0),
        ("number", "any", 1, 150, 100, 1),
        ("number", "down", 5_000, 0, 1, 0),
        ("number", "up", 5_000, 0, 1, 1),
        ("number", "up", 5_000, 100, None, 1),
        ("text", "up", 3, "a", "abcd", 1),
        ("text", "up", 4, "a", "abcd", 0),
        ("text", "down", 3, "abcd", "a", 1),
        ("added", "any", 1, [1], [1, 2, 3], 2),
        ("added", "any", 2, [1], [1, 2, 3, 4], 1),
        ("removed", "any", 1, [1, 2], [1], 1),
        ("added", "any", 1, {"x": 1}, {"x": 1, "y": 2}, 1),
        ("removed", "any", 1, {"x": {"y": 1}}, {}, 1),
    ],
)
def test_deltas(kind: Any, direction: Any, at_least: int, *, before: Any, after: Any, times: int) -> None:
    chosen = policy(path_weights=[], delta_points=[DeltaPoints(None, kind, "/b", direction, at_least, 10)])
    old, new = ({"b": value} if value is not None else {} for value in (before, after))
    nested = kind == "removed" and isinstance(before, dict)

    assert points_of(chosen, old, new, []).points == 10 * (times + nested)


def test_flips_and_readings_add_points_and_none_takes_any_away() -> None:
    readings = [OracleReading("api", "d", "d", "t", 60, points) for points in (40, None, -100)]
    found = points_of(DEFAULT, {}, {}, [], flip_counts={**NO_FLIPS, "deny_to_allow": 2, "route": 1}, readings=readings)

    assert dict(found.sources) == {"flips:deny_to_allow": 200, "flips:other": 5, "oracle:api": 40}
    assert found.points == 245


def test_many_sources_are_summed_up_in_the_record() -> None:
    chosen = policy(path_weights=[PathWeight(None, "", 1)] * 300, delta_points=[])

    found = points_of(chosen, {}, {}, [""])

    assert found.record()[-1] == {"source": "rest", "points": 100}
    assert sum(entry["points"] for entry in found.record()) == found.points == 300


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        ({}, Tier.LOW),
        ({"declared": Tier.HIGH}, Tier.HIGH),
        ({"minimum": Tier.MEDIUM}, Tier.MEDIUM),
        ({"points": 99}, Tier.LOW),
        ({"points": 100}, Tier.MEDIUM),
        ({"points": 300}, Tier.HIGH),
        ({"points": 600}, Tier.CRITICAL),
        ({"oracle_missing": True}, Tier.MEDIUM),
        ({"oracle_missing": True, "declared": Tier.HIGH}, Tier.CRITICAL),
        ({"oracle_missing": True, "declared": Tier.CRITICAL}, Tier.CRITICAL),
        ({"target": "governance/policies"}, Tier.GOVERNANCE),
        ({"target": "governance/anything/else", "kind": "rollback"}, Tier.GOVERNANCE),
        ({"kind": "governance"}, Tier.GOVERNANCE),
    ],
)
def test_tiers(situation: dict[str, Any], expected: Tier) -> None:
    assert tier_of(**situation) is expected


@given(POLICIES, SITUATION, SITUATION)
def test_every_source_can_only_raise_the_tier(chosen: PolicySet, one: dict[str, Any], other: dict[str, Any]) -> None:
    # Replace each source by the higher of two: the tier is at least as high, whichever sources are replaced.
    base = tier_of(chosen, **one)
    for name, value in one.items():
        assert tier_of(chosen, **{**one, name: max(value, other[name])}) >= base
    assert tier_of(chosen, target="governance/root", **one) is Tier.GOVERNANCE
    assert base >= max(one["declared"], one["minimum"])


@given(POLICIES, DOCUMENTS, DOCUMENTS, st.lists(POINTERS.filter(lambda p: "*" not in p), max_size=3), st.data())
def test_more_of_anything_never_makes_fewer_points(
    chosen: PolicySet, before: Any, after: Any, touched: list[str], data: st.DataObject
) -> None:
    least = points_of(chosen, before, after, touched).points
    more_flips = {kind: data.draw(st.integers(0, 5)) for kind in NO_FLIPS}
    reading = OracleReading("api", "d", "d", "t", 60, data.draw(st.none() | st.integers(-50, 50)))
    heavier = msgspec.structs.replace(chosen, path_weights=[*chosen.path_weights, data.draw(WEIGHTS.filter(bool))[0]])

    assert least >= 0
    assert points_of(chosen, before, after, [*touched, "/a"]).points >= least
    assert points_of(chosen, before, after, touched, flip_counts=more_flips).points >= least
    assert points_of(chosen, before, after, touched, readings=[reading]).points >= least
    assert points_of(heavier, before, after, touched).points >= least


def test_the_default_policy_set_is_one() -> None:
    assert policy_set.parse(DEFAULT.document()) == DEFAULT
