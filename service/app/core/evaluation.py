"""The evaluator of simulations: CEL for rules, JSON Schema for documents. Imported only where it may be killed."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.core import cel, json_schema
from app.core.policy_set import PolicySet, Rule
from app.core.simulation import LimitReached
from app.errors import Flaw


class Evaluation:
    """`simulation.Evaluator`, with the engines that decide."""

    def document_flaws(self, schema: dict[str, Any], document: Any) -> list[Flaw]:
        """Return what a document lacks, or that the schema is none.

        Raises:
            LimitReached: it cannot be found out in this process.
        """
        try:
            return json_schema.schema_flaws(schema) or json_schema.document_flaws(schema, document)
        except json_schema.SchemaLimit:
            raise LimitReached from None

    def rule_outcomes(self, rules: Sequence[Rule], variables: Mapping[str, Any]) -> Sequence[str]:
        """Return pass, fire or error for each rule."""
        return cel.evaluate(rules, variables)

    def policy_flaws(self, policy: PolicySet) -> list[Flaw]:
        """Return the rules that do not compile, with line and column in the message."""
        return [
            Flaw(
                f"/rules/{index}/expression", "rule-invalid", f"line {flaw.line}, column {flaw.column}: {flaw.message}"
            )
            for index, rule in enumerate(policy.rules)
            for flaw in rule_flaws(rule.expression)
        ]


def rule_flaws(expression: str) -> tuple[cel.RuleFlaw, ...]:
    """Return why an expression does not compile; empty if it does."""
    try:
        cel.compile_rule(expression)
    except cel.RuleRefused as refused:
        return refused.flaws
    return ()
