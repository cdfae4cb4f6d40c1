"""The whole simulation, in this process: verdicts, reasons, tiers, and what stands in a record."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import ed25519
from app.core.documents import canonical, patch, strict_json
from app.core.governance import policy_set
from app.core.governed.target import Tier
from app.core.simulation import engine
from app.core.simulation.evaluation import Evaluation
from app.core.simulation.plan import EngineMismatch, InvalidInputs, OracleReading, Simulated, parse_inputs, simulate
from tests.unit.service.simulations import ALL_FINE, BASE, PATCH, inputs_of, policies, rule

EVALUATOR = Evaluation(ed25519.verify)
READING = OracleReading("api", "sha256:0", "sha256:1", "2026-11-23T22:17:24.123456Z", 60, 650)
SMALL = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.just(0.5) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "prompts"]), inner, max_size=3)
    ),
)


def run(*args: Any, **kwargs: Any) -> Simulated:
    return simulate(inputs_of(*args, **kwargs), EVALUATOR)


def codes(done: Simulated) -> list[str]:
    return [reason["code"] for reason in done.record["reasons"]]


def test_an_honest_change_is_allowed_with_everything_a_ballot_needs() -> None:
    done = run()

    record = done.record
    assert (record["_type"], record["v"], record["verdict"], record["reasons"]) == ("amgf/simulation", 1, "allow", [])
    assert done.after is not None
    assert record["result_digest"] == canonical.digest(done.after)
    assert record["inputs_digest"] == canonical.digest(inputs_of())
    assert record["touched"] == ["/budgets/tokens"]
    assert record["engine"] == engine.describe()
    assert record["rules"] == [{"id": "rule", "mode": "deny", "outcome": "pass"}]
    assert record["diff"]["numbers"][0]["change_basis_points"] == 1_000


def test_the_inverse_patch_restores_the_base() -> None:
    done = run(
        [*PATCH, {"op": "move", "from": "/prompts", "path": "/tool_grants/0"}, {"op": "remove", "path": "/routing"}]
    )

    assert done.after is not None
    restored = patch.apply(strict_json.decode(done.after).value, patch.parse(done.record["inverse_patch"])).value
    assert restored == BASE


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"patch": [{"op": "remove", "path": "/nothing"}]}, "patch-failed"),
        ({"patch": [{"op": "test", "path": "/budgets/tokens", "value": 1}]}, "patch-failed"),
        ({"base_digest": "sha256:" + "0" * 64}, "base-digest-mismatch"),
        ({"schema": {"properties": {"budgets": {"required": ["none"]}}}}, "schema-failed"),
        ({"schema": {"type": "nothing"}}, "schema-failed"),
        ({"policy": policies(rule("after.budgets.tokens < 1000"))}, "rule-fired"),
        ({"policy": policies(rule("after.budgets.nothing < 1000"))}, "rule-error"),
        ({"policy": policies(rule("this does not compile"))}, "rule-error"),
        ({"kind": "governance"}, "kind-mismatch"),
        ({"name": "governance/corpus", "kind": "mutation"}, "kind-mismatch"),
    ],
)
def test_what_denies(arguments: dict[str, Any], code: str) -> None:
    done = run(**arguments)

    assert done.record["verdict"] == "deny"
    expected = "invalid-schema" if arguments.get("schema") == {"type": "nothing"} else code
    assert code in codes(done) or expected in codes(done)


def test_a_patch_that_fails_leads_to_no_content() -> None:
    done = run([{"op": "remove", "path": "/nothing"}])

    assert done.after is None
    assert done.record["result_digest"] is None
    assert done.record["touched"] == []
    assert done.record["reasons"][0]["pointer"] == "/nothing"


def test_a_result_that_the_strict_decoder_refuses_is_denied() -> None:
    text = "x" * 600_000
    done = run([{"op": "add", "path": "/b", "value": text}], base={"a": text})

    assert codes(done) == ["result-malformed"]
    assert done.after is None


@pytest.mark.parametrize("mode", ["warn", "audit"])
@pytest.mark.parametrize(("expression", "outcome"), [("false", "fire"), ("1 / 0 == 1", "error")])
def test_other_modes_are_only_recorded(mode: str, expression: str, outcome: str) -> None:
    done = run(policy=policies(rule(expression, mode=mode)))

    assert done.record["verdict"] == "allow"
    assert done.record["rules"][0]["outcome"] == outcome


def test_rules_of_other_targets_do_not_apply() -> None:
    elsewhere = {**rule("false"), "targets": ["other/*"]}

    assert run(policy=policies(elsewhere)).record["rules"] == []


@pytest.mark.parametrize(
    "expression",
    [
        "proposal.kind == 'mutation' && proposal.declared_risk == 'low' && proposal.rationale_characters == 12",
        "actor.principal == 'alice'",
        "target.name == 'assistant/support' && target.minimum_tier == 'low'",
        "before.budgets.tokens == 1000 && after.budgets.tokens == 1100",
        "items(diff.numbers).exists(n, n.pointer == '/budgets/tokens' && n.change_basis_points == 1000)",
        "touched == ['/budgets/tokens']",
        "sim.points == 50 && sim.tier == 'low' && sim.flips.deny_to_allow == 0 && sim.cases == 0",
        "params.limit == 2000 && after.budgets.tokens <= params.limit",
        "now == timestamp('2026-11-23T22:17:24.123456Z')",
    ],
)
def test_what_rules_see(expression: str) -> None:
    assert run(policy=policies(rule(expression), params={"limit": 2_000})).record["verdict"] == "allow"


def test_rules_see_the_document_as_its_canonical_bytes_say() -> None:
    # 1.0 is written 1 and so becomes an int: here as for everybody who decodes the snapshot.
    done = run(
        [{"op": "replace", "path": "/budgets/share", "value": 3}], policy=policies(rule("after.budgets.share / 2 == 1"))
    )

    assert done.record["verdict"] == "allow"


@pytest.mark.parametrize(
    ("arguments", "tier"),
    [
        ({}, "low"),
        ({"declared": Tier.HIGH}, "high"),
        ({"minimum": Tier.CRITICAL}, "critical"),
        ({"oracle_missing": True}, "medium"),
        ({"readings": [READING]}, "critical"),
        ({"patch": [{"op": "add", "path": "/tool_grants/-", "value": "shell"}]}, "medium"),
        ({"patch": [{"op": "replace", "path": "", "value": {}}]}, "critical"),
        ({"name": "governance/corpus", "kind": "governance", "base": {"v": 1, "cases": []}, "patch": []}, "governance"),
    ],
)
def test_tiers(arguments: dict[str, Any], tier: str) -> None:
    assert run(**arguments).record["tier"] == tier


def test_a_missing_oracle_can_be_a_reason_to_wait() -> None:
    hold = policies(oracle={"missing": "hold"})

    assert codes(run(oracle_missing=True, policy=hold)) == ["oracle-missing"]
    assert run(oracle_missing=True, policy=hold).record["verdict"] == "inconclusive"
    assert run(policy=hold).record["verdict"] == "allow"


def test_a_schema_that_goes_round_in_circles_is_inconclusive() -> None:
    done = run(schema={"$ref": "#"})

    assert (done.record["verdict"], codes(done)) == ("inconclusive", ["limit-reached"])


def test_flips_stand_in_the_record_and_raise_the_tier() -> None:
    corpus = {"v": 1, "cases": [{"id": f"c{n}", "agent": "a", "tool": "shell"} for n in range(4)]}

    record = run([{"op": "add", "path": "/tool_grants/-", "value": "shell"}], corpus=corpus).record

    assert (record["flip_counts"]["deny_to_allow"], record["cases"], record["tier"]) == (4, 4, "critical")
    assert {"source": "flips:deny_to_allow", "points": 400} in record["risk"]


def governing(name: str, base: Any, changes: list[dict[str, Any]]) -> Simulated:
    return run(changes, base=base, name=f"governance/{name}", kind="governance")


def test_policies_must_parse_and_compile() -> None:
    base = policies(rule(ALL_FINE))
    bad_rule = governing("policies", base, [{"op": "replace", "path": "/rules/0/expression", "value": "true &&"}])
    bad_shape = governing("policies", base, [{"op": "remove", "path": "/oracle"}])

    assert codes(bad_rule) == ["policy-invalid"]
    assert bad_rule.record["reasons"][0]["pointer"] == "/rules/0/expression"
    assert bad_rule.record["reasons"][0]["message"].startswith("line 1, column 8")
    assert codes(bad_shape) == ["document-invalid"]


def test_a_corpus_must_parse() -> None:
    base = {"v": 1, "cases": []}

    assert codes(governing("corpus", base, [{"op": "add", "path": "/cases/-", "value": {"id": "x"}}])) == [
        "document-invalid"
    ]
    fine = governing("corpus", base, [{"op": "add", "path": "/cases/-", "value": {"id": "x", "agent": "a"}}])
    assert (fine.record["verdict"], fine.record["tier"]) == ("allow", "governance")


def test_the_constitution_denies() -> None:
    weaker = [{"op": "replace", "path": "/quorum/governance/weight_numerator", "value": 1}]

    assert "constitution" in codes(governing("policies", policies(rule(ALL_FINE)), weaker))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw + b" ",
        lambda raw: raw.replace(b'"v":1', b'"v":2'),
        lambda raw: raw.replace(b'"accepted_at":"2026-11-23T22', b'"accepted_at":"2026-11-23T25'),
        lambda raw: raw.replace(b'"oracle_missing":false,', b""),
        lambda raw: raw.replace(b'"id":"default"', b'"id":"another"'),
        lambda raw: re.sub(rb'"kind":"mutation"', b'"kind":"anything"', raw),
        lambda _raw: b"null",
        lambda _raw: b"",
        lambda _raw: b"\xff\xfe",
    ],
)
def test_spoiled_inputs_are_refused(spoil: Any) -> None:
    with pytest.raises(InvalidInputs):
        simulate(spoil(inputs_of()), EVALUATOR)


def test_another_engine_is_refused() -> None:
    with pytest.raises(EngineMismatch):
        simulate(inputs_of().replace(b'"revision":1', b'"revision":2'), EVALUATOR)


def test_inputs_hold_no_fraction_of_ours() -> None:
    inputs = inputs_of(base={"a": 1}, patch=[{"op": "add", "path": "/b", "value": 2}], readings=[READING])

    assert strict_json.decode(inputs).is_plain
    assert parse_inputs(inputs).oracle_readings == [READING]


@given(SMALL, SMALL, st.sampled_from(["", "/a", "/b", "/prompts"]))
def test_a_record_is_canonical_without_fractions_of_ours_and_always_the_same(base: Any, value: Any, place: str) -> None:
    inputs = inputs_of([{"op": "add", "path": place, "value": value}], base=base)

    done, again = simulate(inputs, EVALUATOR), simulate(inputs, EVALUATOR)

    assert done == again
    # The inverse patch holds values of the governed document, which may have fractions; nothing else does.
    record = {**done.record, "inverse_patch": []}
    encoded = canonical.encode_value(record)
    assert strict_json.decode(encoded).is_plain
    assert msgspec.json.decode(encoded) == record


def test_policies_cannot_take_points_away() -> None:
    with pytest.raises(InvalidInputs):
        run(policy=policies(flip_points={"deny_to_allow": -1, "allow_to_deny": 0, "other": 0}))
    assert policy_set.DEFAULT.flip_points.deny_to_allow > 0
