"""The evaluator of simulations: CEL, JSON Schema and the constitution. Imported only where it may be killed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from app.core.documents import json_schema
from app.core.governance.policy_set import PolicySet, Rule
from app.core.signing.keys import Verify
from app.core.simulation import cel, constitution
from app.core.simulation.plan import LimitReached
from app.errors import Flaw


class Evaluation:
    """`simulation.Evaluator`, with the engines that decide. `verify`: of the proofs in a validator set."""

    def __init__(self, verify: Verify) -> None:
        self._verify = verify

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

    def constitution_flaws(self, target: str, before: Any, after: Any, *, policies: Any, at: datetime) -> list[Flaw]:
        """Return what the constitution has against a change of a governing document."""
        return constitution.check(target, before, after, verify=self._verify, policies=policies, at=at)


def rule_flaws(expression: str) -> tuple[cel.RuleFlaw, ...]:
    """Return why an expression does not compile; empty if it does."""
    try:
        cel.compile_rule(expression)
    except cel.RuleRefused as refused:
        return refused.flaws
    return ()
