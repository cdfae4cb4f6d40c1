"""A simulation of a change to a 2 kB document with 8 rules: the pure part, and through the sandbox's processes."""

import asyncio
import atexit
from typing import Any

from app.core.simulation.evaluation import Evaluation
from app.core.simulation.plan import simulate
from app.ed25519 import verify
from app.sandbox.pool import SandboxPool
from benchmarks import samples
from benchmarks.measure import Pair, Side
from benchmarks.rules import EXPRESSIONS
from tests.unit.service.simulations import inputs_of, policies, rule

DEADLINE_SECONDS = 30


def pairs() -> list[Pair]:
    """Return the pairs of this topic."""
    inputs = inputs_of(
        samples.small_patch(),
        base=samples.two_kilobytes(),
        policy=policies(*(rule(text, id=f"rule-{number}") for number, text in enumerate(EXPRESSIONS))),
    )
    evaluator = Evaluation(verify)
    runner = asyncio.Runner()
    pool = SandboxPool(workers=2)
    runner.run(pool.__aenter__())
    atexit.register(_end, runner, pool)

    def twice() -> Any:
        return runner.run(pool.simulate_twice(inputs, deadline_seconds=DEADLINE_SECONDS))

    return [
        Pair(
            name="2 kB, 8 rules, in this process",
            ours=Side("simulation.simulate", lambda: simulate(inputs, evaluator)),
            agree=lambda: simulate(inputs, evaluator).record["verdict"] == "allow",
        ),
        Pair(
            name="2 kB, 8 rules, twice in the sandbox",
            ours=Side("pool.simulate_twice", twice),
            theirs=Side("once, in this process", lambda: simulate(inputs, evaluator)),
            agree=lambda: twice().verdict == "allow",
            is_elsewhere=True,
        ),
    ]


def _end(runner: asyncio.Runner, pool: SandboxPool) -> None:
    runner.run(pool.__aexit__(None, None, None))
    runner.close()
