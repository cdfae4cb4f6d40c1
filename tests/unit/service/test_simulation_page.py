"""What docs/simulation.md shows is what the code takes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app import ed25519
from app.core.governance.policy_set import DEFAULT, parse
from app.core.simulation import shadow
from app.core.simulation.evaluation import Evaluation, rule_flaws
from app.core.simulation.plan import simulate
from tests.unit.service.simulations import inputs_of, policies, rule

PAGE = (Path(__file__).parents[3] / "docs" / "simulation.md").read_text(encoding="utf-8")
EXPRESSIONS = [line for block in re.findall(r"```cel\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def block(name: str) -> Any:
    (found,) = re.findall(rf"```json {name}\n(.*?)```", PAGE, re.DOTALL)
    return json.loads(found)


def test_the_page_s_policy_set_is_one_with_the_default_quorums() -> None:
    policy = parse(block("policy-set"))

    assert policy.quorum == DEFAULT.quorum
    assert not any(rule_flaws(rule.expression) for rule in policy.rules)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_page_s_rules_can_be_evaluated(expression: str) -> None:
    inputs = inputs_of(policy=policies(rule(expression)), base={"budgets": {"tokens": 1_000}})

    record = simulate(inputs, Evaluation(ed25519.verify)).record

    assert record["rules"][0]["outcome"] == "pass"


def test_the_page_s_case_flips_when_the_page_s_document_loses_its_grants() -> None:
    corpus, document = shadow.parse(block("corpus")), block("document")
    without = {name: part for name, part in document.items() if name != "tool_grants"}

    flips = shadow.compare(corpus, "assistant/support", document, without)

    assert [(flip["kind"], flip["before"]) for flip in flips.flips] == [("deny_to_allow", "deny: no-grant")]
