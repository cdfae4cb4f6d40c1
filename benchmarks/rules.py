"""CEL rules over a 2 kB document, compiled once and bound once, beside the same engine asked the simple way."""

import copy
from datetime import UTC, datetime
from typing import Any

from cel_expr_python import cel as engine

from app.core.governance.policy_set import Rule
from app.core.simulation import cel
from benchmarks import samples
from benchmarks.measure import Goal, Pair, Side

EXPRESSIONS = (
    "after.budgets.tokens <= before.budgets.tokens * 2",
    "items(after.prompts).all(p, p.text.size() < 4000)",
    "!touched.exists(t, t.startsWith('/guard_rules'))",
    "items(after.tool_grants).size() <= 50",
    "after.routing.default == before.routing.default",
    "items(after.prompts).all(p, p.temperature <= 1.0)",
    "proposal.kind == 'mutation' || actor.principal != 'agent-1'",
    "items(after.routing.rules).all(r, r.to in ['small', 'large'])",
)
SIMPLE = "after.budgets.tokens <= before.budgets.tokens * 2"


def pairs() -> list[Pair]:
    """Return the pairs of this topic."""
    rules = [
        Rule(id=f"rule-{number}", mode="deny", expression=expression, message="", targets=None)
        for number, expression in enumerate(EXPRESSIONS)
    ]
    before = samples.two_kilobytes()
    after = copy.deepcopy(before)
    after["budgets"]["tokens"] += 1
    variables: dict[str, Any] = {
        "before": before,
        "after": after,
        "proposal": {"kind": "mutation"},
        "actor": {"principal": "alice"},
        "target": {"name": "agents/router"},
        "diff": {},
        "touched": ["/budgets/tokens"],
        "sim": {"points": 3},
        "params": {},
        "now": datetime(2026, 11, 23, tzinfo=UTC),
    }
    environment = engine.NewEnv(variables={"before": engine.Type.DYN, "after": engine.Type.DYN})
    bound = {"before": before, "after": after}
    return [
        Pair(
            name="8 rules on 2 kB, each",
            ours=Side("cel.evaluate", lambda: cel.evaluate(rules, variables), units=len(rules)),
            goal=Goal(microseconds_max=20),
            agree=lambda: set(cel.evaluate(rules, variables)) == {"pass"},
        ),
        Pair(
            name="1 rule on 2 kB",
            ours=Side("cel.evaluate", lambda: cel.evaluate(rules[:1], variables)),
            theirs=Side("compiled each time", lambda: environment.compile(SIMPLE).eval(environment.Activation(bound))),
            agree=lambda: environment.compile(SIMPLE).eval(environment.Activation(bound)).plain_value() is True,
        ),
    ]
