"""Decision shadow: recorded decisions made again."""

from typing import Any

import pytest

from app.core.documents import canonical
from app.core.simulation import shadow
from app.core.simulation.shadow import Case, Interpreter, compare, parse, render
from app.errors import InvalidCorpus

CASE = Case(
    id="c",
    agent="planner",
    tool="shell",
    arguments={"path": "/srv/data", "size": 5, "tags": ["a"]},
    request={"topic": "news"},
    spend={"tokens": 900},
    prompt="hello",
    variables={"name": "Ada"},
)


def decide(document: Any, case: Case = CASE) -> tuple[str, str]:
    decision = Interpreter(document).decide(case)
    return decision.outcome, decision.reason


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({}, None),
        ([], None),
        ("text", None),
        ({"something": "else"}, None),
        ({"tool_grants": ["shell"]}, None),
        ({"tool_grants": []}, "no-grant"),
        ({"tool_grants": ["search"]}, "no-grant"),
        ({"tool_grants": [{"tool": "shell", "agents": ["planner"]}]}, None),
        ({"tool_grants": [{"tool": "shell", "agents": ["other"]}]}, "no-grant"),
        ({"tool_grants": [{"tool": "shell", "agents": []}]}, "no-grant"),
        ({"tool_grants": [{"tool": "shell", "when": [{"field": "/agent", "op": "equals", "value": "x"}]}]}, "no-grant"),
        ({"tool_grants": [{"tool": "shell", "wen": []}]}, "malformed:tool_grants"),
        ({"tool_grants": "shell"}, "malformed:tool_grants"),
        ({"guard_rules": [{"id": "g", "effect": "deny", "when": []}]}, "guard:g"),
        (
            {"guard_rules": [{"id": "a", "effect": "allow", "when": []}, {"id": "g", "effect": "deny", "when": []}]},
            None,
        ),
        ({"guard_rules": {}}, "malformed:guard_rules"),
        ({"budgets": {"tokens": 900}}, None),
        ({"budgets": {"tokens": 899.5}}, "budget:tokens"),
        ({"budgets": {"other": 1}}, None),
        ({"budgets": {"tokens": "many"}}, "malformed:budgets"),
        ({"prompts": {"hello": "Hi {{ name }} {{name}}"}}, None),
        ({"prompts": {"hello": "Hi {{ surname }}"}}, "prompt-not-renderable"),
        ({"prompts": {}}, "prompt-not-renderable"),
    ],
)
def test_decisions(document: Any, reason: str | None) -> None:
    assert decide(document) == (("deny", reason) if reason else ("allow", "nothing-against"))


@pytest.mark.parametrize(
    ("field", "op", "value", "holds"),
    [
        ("/arguments/path", "prefix", "/srv/", True),
        ("/arguments/path", "prefix", "/etc/", False),
        ("/arguments/path", "suffix", "data", True),
        ("/arguments/path", "contains", "v/d", True),
        ("/arguments/path", "equals", "/srv/data", True),
        ("/arguments/path", "in", ["/srv/data", 1], True),
        ("/arguments/path", "in", "/srv/data!", False),
        ("/arguments/path", "not_in", ["x"], True),
        ("/arguments/path", "at_least", 1, False),
        ("/arguments/size", "at_least", 5, True),
        ("/arguments/size", "at_most", 4.5, False),
        ("/arguments/size", "equals", True, False),
        ("/arguments/size", "prefix", "5", False),
        ("/arguments/tags", "contains", "a", True),
        ("/arguments/tags/0", "equals", "a", True),
        ("/arguments/tags", "at_least", 1, False),
        ("/tool", "present", None, True),
        ("/tool", "absent", None, False),
        ("/nothing", "absent", None, True),
        ("/nothing", "present", None, False),
        ("/nothing", "equals", None, False),
        ("/nothing", "not_equals", 1, True),
        ("/nothing", "not_in", [1], True),
        ("/nothing/deeper", "prefix", "", False),
    ],
)
def test_conditions(field: str, op: str, value: Any, *, holds: bool) -> None:
    document = {"guard_rules": [{"id": "g", "effect": "deny", "when": [{"field": field, "op": op, "value": value}]}]}

    assert decide(document)[0] == ("deny" if holds else "allow")


def test_flips_are_counted_by_kind_and_in_the_order_of_ids() -> None:
    cases = [Case(id=name, agent="a", tool="shell", prompt="p", variables={"x": "1"}) for name in ("b", "a")]
    before = {"tool_grants": [], "prompts": {"p": "{{x}}"}, "routing": [{"route": "small"}]}
    after = {"tool_grants": ["shell"], "prompts": {"p": "{{x}}!"}, "routing": [{"route": "big"}]}

    flips = compare(shadow.Corpus(1, cases), "t", before, after)

    assert flips.counts == {"allow_to_deny": 0, "deny_to_allow": 2, "prompt": 2, "route": 2}
    assert [flip["case"] for flip in flips.flips] == ["a"] * 3 + ["b"] * 3
    assert flips.flips[0] == {
        "case": "a",
        "kind": "deny_to_allow",
        "before": "deny: no-grant",
        "after": "allow: nothing-against",
    }
    assert flips.flips[1]["after"] == canonical.digest(b"1!")
    assert (flips.flips[2]["before"], flips.flips[2]["after"]) == ("small", "big")


def test_taking_a_part_away_flips_what_it_denied() -> None:
    flips = compare(shadow.Corpus(1, [CASE]), "t", {"tool_grants": []}, {})

    assert flips.counts["deny_to_allow"] == 1


@pytest.mark.parametrize(("before", "after"), [({"a": 1}, {"a": 2}), ({}, {}), ([], 3)])
def test_a_document_without_declarative_parts_has_no_flips(before: Any, after: Any) -> None:
    assert not compare(shadow.Corpus(1, [CASE]), "t", before, after).flips


def test_cases_of_other_targets_are_left_out() -> None:
    case = Case(id="c", agent="a", tool="t", targets=["other/*"])

    assert compare(shadow.Corpus(1, [case]), "mine/x", {"tool_grants": []}, {}).cases == 0
    assert compare(shadow.Corpus(1, [case]), "other/x", {"tool_grants": []}, {}).cases == 1


def test_rendering_is_strict_and_bounded() -> None:
    assert render("a {{ x }} b {{x}}", {"x": "1", "unused": "2"}) == "a 1 b 1"
    assert render("{{x}}", {"x": "{{y}}", "y": "no second round"}) == "{{y}}"
    assert render("{{ x }} {{ 1x }}", {"x": "1"}) is None
    assert render("{{}}", {}) is None
    assert render("{{ x.y }}", {"x": "1"}) is None
    assert render("{{x}}" * 1_000, {"x": "y" * 1_000}) is None
    assert render("{{" * 100_000, {}) == "{{" * 100_000


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"v": 2, "cases": []},
        {"v": 1, "cases": [{"id": "a"}]},
        {"v": 1, "cases": [{"id": "a", "agent": "x", "extra": 1}]},
        {"v": 1, "cases": [{"id": "a", "agent": "x"}, {"id": "a", "agent": "y"}]},
        {"v": 1, "cases": [{"id": "a", "agent": "x", "spend": {"t": 1.5}}]},
        {"v": 1, "cases": [{"id": "a", "agent": "x"}] * (shadow.CASES_MAX + 1)},
    ],
)
def test_what_is_no_corpus_is_refused(document: Any) -> None:
    with pytest.raises(InvalidCorpus):
        parse(document)
