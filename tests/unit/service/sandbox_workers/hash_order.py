"""A worker whose evaluator lets the order of a set reach its answer: what `simulate_twice` must find."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from app import ed25519
from app.core.governance.policy_set import Rule
from app.core.simulation.evaluation import Evaluation
from app.sandbox.worker import serve


class HashOrdered(Evaluation):
    def rule_outcomes(self, rules: Sequence[Rule], variables: Mapping[str, Any]) -> Sequence[str]:
        assert variables
        order = "".join({f"{place}-{rule.id}" for place in range(64) for rule in rules})
        return [f"pass {order}" for _ in rules]


serve(sys.stdin.buffer, os.fdopen(1, "wb", buffering=0), HashOrdered(ed25519.verify))
