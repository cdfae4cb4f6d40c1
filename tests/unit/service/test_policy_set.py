"""Policy sets and targets: what is refused, with the pointer."""

from typing import Any

import pytest

from app.core.governance.policy_set import DEFAULT, parse
from app.core.governed import target
from app.core.governed.target import TIERS, Tier
from app.errors import InvalidPolicySet, InvalidTarget
from tests.unit.service.simulations import rule

CONFIG: dict[str, Any] = {
    "name": "assistant/support",
    "schema": {"type": "object"},
    "minimum_tier": "low",
    "on_failure": "hold",
    "actuator": None,
}


def changed(**fields: Any) -> dict[str, Any]:
    return {**DEFAULT.document(), **fields}


def quorum(tier: str, **fields: Any) -> dict[str, Any]:
    rules = DEFAULT.document()["quorum"]
    return changed(quorum={**rules, tier: {**rules[tier], **fields}})


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ({**DEFAULT.document(), "v": 2}, "/v"),
        ({**DEFAULT.document(), "extra": 1}, "/extra"),
        (changed(rules=[rule("true"), rule("true")]), "/rules/1/id"),
        (changed(rules=[rule("true", mode="allow")]), "/rules/0/mode"),
        (changed(rules=[rule("t" * 2_001)]), "/rules/0/expression"),
        (changed(rules=[rule("")]), "/rules/0/expression"),
        (changed(rules=[rule("true", id="Bad Id")]), "/rules/0/id"),
        (changed(rules=[{**rule("true"), "targets": []}]), "/rules/0/targets"),
        (changed(rules=[{**rule("true"), "targets": ["[a-z]"]}]), "/rules/0/targets/0"),
        (changed(rules=[rule("true", id=f"r{n}") for n in range(201)]), "/rules"),
        (changed(path_weights=[{"targets": None, "pointer": "/a", "points": -1}]), "/path_weights/0/points"),
        (changed(path_weights=[{"targets": None, "pointer": "a", "points": 1}]), "/path_weights/0/pointer"),
        (changed(path_weights=[{"targets": None, "pointer": "/a", "points": 1.5}]), "/path_weights/0/points"),
        (changed(risk_tiers={"medium": 100, "high": 100, "critical": 600}), "/risk_tiers"),
        (changed(oracle={"missing": "ignore"}), "/oracle/missing"),
        (quorum("high", weight_numerator=3, weight_denominator=2), "/quorum/high/weight_numerator"),
        (quorum("high", weight_denominator=0), "/quorum/high/weight_denominator"),
        (quorum("high", roles=["owner", "owner"]), "/quorum/high/roles"),
        (quorum("high", roles=["king"]), "/quorum/high/roles/0"),
        (quorum("high", humans=-1), "/quorum/high/humans"),
    ],
)
def test_what_is_no_policy_set_is_refused(document: Any, pointer: str) -> None:
    with pytest.raises(InvalidPolicySet) as caught:
        parse(document)

    assert caught.value.flaws[0].pointer == pointer


def test_quorum_rules_of_the_default_are_those_of_the_table() -> None:
    rules = {tier.value: DEFAULT.quorum_of(tier) for tier in TIERS}

    assert [rules[tier.value].humans for tier in TIERS] == [0, 1, 2, 3, 2]
    assert [rules[tier.value].time_lock_seconds for tier in TIERS] == [0, 0, 600, 3_600, 86_400]
    assert [rules[tier.value].apply for tier in TIERS] == ["auto", "auto", "manual", "manual", "manual"]
    assert (rules["governance"].weight_numerator, rules["governance"].weight_denominator) == (2, 3)
    assert len({DEFAULT.quorum_rule_digest(tier) for tier in TIERS}) == 5


def test_a_rule_s_record_names_its_tier() -> None:
    record = DEFAULT.quorum_rule_record(Tier.HIGH)

    assert (record["_type"], record["v"], record["tier"], record["veto"]) == ("amgf/quorum-rule", 1, "high", ["safety"])


def test_tiers_are_ordered_by_rank_not_by_spelling() -> None:
    assert sorted(TIERS, key=lambda tier: tier.value) != list(TIERS)
    assert sorted([Tier.HIGH, Tier.LOW, Tier.CRITICAL]) == [Tier.LOW, Tier.HIGH, Tier.CRITICAL]
    assert Tier.CRITICAL.raised() is Tier.CRITICAL
    assert Tier.LOW.raised() is Tier.MEDIUM


def test_a_target_s_record_comes_back_as_it_was() -> None:
    config = target.parse(CONFIG)

    assert target.from_record(config.record()) == config
    assert config.digest().startswith("sha256:")
    with pytest.raises(InvalidTarget):
        target.from_record({**config.record(), "v": 2})


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"name": "governance/more"}, "/name"),
        ({"name": "Upper"}, "/name"),
        ({"minimum_tier": "none"}, "/minimum_tier"),
        ({"schema": {"$schema": "http://json-schema.org/draft-07/schema#"}}, "/schema/$schema"),
        ({"schema": {"properties": {"a": {"$ref": "https://evil.example/s"}}}}, "/schema/properties/a/$ref"),
        ({"schema": {"allOf": [{"$dynamicRef": "other.json"}]}}, "/schema/allOf/0/$dynamicRef"),
        ({"schema": {"description": "x" * 65_536}}, "/schema"),
        ({"actuator": {"url": "https://elsewhere.example/x"}}, "/actuator/url"),
        ({"actuator": {"url": "file:///etc/passwd"}}, "/actuator/url"),
        ({"actuator": {"url": "http://user@ours.example/"}}, "/actuator/url"),
        ({"actuator": {"url": "http://ours.example@evil.example/"}}, "/actuator/url"),
        ({"actuator": {"url": "http://[::1"}}, "/actuator/url"),
        ({"extra": 1}, "/extra"),
    ],
)
def test_what_is_no_target_is_refused(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidTarget) as caught:
        target.parse({**CONFIG, **fields}, actuator_hosts={"ours.example"})

    assert caught.value.flaws[0].pointer == pointer


def test_an_allowed_actuator_and_a_local_reference_are_fine() -> None:
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}, "properties": {"$ref": {"type": "string"}}}
    target.parse(
        {**CONFIG, "schema": schema, "actuator": {"url": "https://ours.example/apply"}}, actuator_hosts={"ours.example"}
    )


@pytest.mark.parametrize(
    ("name", "globs", "meant"),
    [
        ("a/b", None, True),
        ("a/b", ["a/*"], True),
        ("a/b/c", ["a/*"], True),
        ("a/b", ["*"], True),
        ("a/b", ["a"], False),
        ("a/b", ["b/*", "a/b"], True),
    ],
)
def test_globs(name: str, globs: list[str] | None, *, meant: bool) -> None:
    assert target.matches(name, globs) is meant
