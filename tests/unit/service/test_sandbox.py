"""The sandbox with real processes: hostile rules, dead workers, rubbish. Nothing of it is ever an approval."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

import app
from app.core.governance import policy_set
from app.core.governed.target import Tier
from app.errors import InvalidPolicySet, SimulationBusy
from app.sandbox import once
from app.sandbox.pool import SandboxPool
from app.sandbox.result import Inconclusive, SandboxResult
from tests.eventually import eventually
from tests.unit.service.simulations import ALL_FINE, BASE, PATCH, inputs_of, policies, rule

WORKERS = Path(__file__).parent / "sandbox_workers"
SERVICE = str(Path(app.__file__).parent.parent)
SECONDS = 30
# 2,000 characters are enough to double a text some 2^40 times.
DOUBLING = (
    "['" + "a" * 100 + "'].map(a, a+a+a+a+a+a+a+a+a+a+a+a+a+a+a+a)" + ".map(a, a+a+a+a+a+a+a+a+a+a+a+a+a+a+a+a)" * 7
)
BOMB = f"size({DOUBLING}) > 0"
SLOW_PATTERN = {"type": "object", "properties": {"text": {"type": "string", "pattern": "^(a|a)*$"}}}
SLOW_TEXT = {"text": "a" * 40 + "!"}


@pytest.fixture
async def pool() -> AsyncIterator[SandboxPool]:
    async with SandboxPool(workers=2) as pool:
        yield pool


async def is_serving(pool: SandboxPool) -> bool:
    result = await pool.simulate_twice(inputs_of(), deadline_seconds=SECONDS)
    return isinstance(result, SandboxResult) and result.verdict == "allow"


@pytest.mark.anyio
async def test_two_processes_agree_on_an_honest_change(pool: SandboxPool) -> None:
    result = await pool.simulate_twice(inputs_of(), deadline_seconds=SECONDS)

    assert isinstance(result, SandboxResult)
    assert result.verdict == "allow"
    assert result.document()["result_digest"].startswith("sha256:")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "expression",
    [
        "[1,2,3,4,5,6,7,8,9,10].all(a, " + "[" + ",".join("1" * 900) + "].all(b, [1,2].size() == 2)) || true",
        "before.budgets.nothing > 1",
        "1 / 0 == 1",
        "after.budgets.tokens",
        "'a' + 1 == 'a'",
        "undeclared == 1",
        "(" * 40 + "true" + ")" * 40,
        "before.exists(a, before.exists(b, before.exists(c, true)))",
        "string(before.budgets.share).matches('(') ",
    ],
)
async def test_a_rule_that_errs_denies(pool: SandboxPool, expression: str) -> None:
    # The first: over the iteration budget, whatever stands behind it.
    over = "[" + ",".join("1" * 150) + "]"
    if expression.endswith("|| true"):
        expression = f"{over}.all(a, {over}.all(b, a + b > 0))"

    result = await pool.simulate_twice(inputs_of(policy=policies(rule(expression))), deadline_seconds=SECONDS)

    assert isinstance(result, SandboxResult)
    record = result.document()
    assert (record["verdict"], record["reasons"][0]["code"]) == ("deny", "rule-error")
    assert await is_serving(pool)


@pytest.mark.anyio
async def test_a_rule_that_doubles_a_text_meets_the_memory_limit_and_the_pool_serves_on(pool: SandboxPool) -> None:
    result = await pool.simulate(inputs_of(policy=policies(rule(BOMB))), deadline_seconds=SECONDS)

    assert isinstance(result, Inconclusive)
    assert result.reason in {"memory-limit", "crashed"}
    assert await is_serving(pool)


@pytest.mark.anyio
async def test_a_pattern_that_runs_for_ever_is_killed_at_the_deadline(pool: SandboxPool) -> None:
    result = await pool.simulate(
        inputs_of(
            [{"op": "replace", "path": "/text", "value": SLOW_TEXT["text"]}], base={"text": ""}, schema=SLOW_PATTERN
        ),
        deadline_seconds=1,
    )

    assert isinstance(result, Inconclusive)
    assert result.reason == "deadline"
    assert await is_serving(pool)


@pytest.mark.anyio
async def test_a_pattern_that_runs_for_ever_meets_the_cpu_limit() -> None:
    async with SandboxPool(command=(sys.executable, str(WORKERS / "short_of_cpu.py"))) as pool:
        result = await pool.check_document(SLOW_PATTERN, SLOW_TEXT, deadline_seconds=SECONDS)

    assert isinstance(result, Inconclusive)
    assert result.reason == "cpu-limit"


@pytest.mark.anyio
async def test_a_worker_killed_while_it_works_is_inconclusive_and_replaced(pool: SandboxPool) -> None:
    assert await is_serving(pool)
    spent = {pid: _cpu_seconds(pid) for pid in pool.pids}
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(pool.check_document(SLOW_PATTERN, SLOW_TEXT, deadline_seconds=SECONDS))
        # The one that works is the one that uses the processor.
        await eventually(lambda: any(_cpu_seconds(pid) > spent[pid] + 0.2 for pid in spent), seconds=20)
        busy = max(spent, key=lambda pid: _cpu_seconds(pid) - spent[pid])
        os.kill(busy, signal.SIGKILL)

    result = asked.result()
    assert isinstance(result, Inconclusive)
    assert result.reason == "crashed"
    assert await is_serving(pool)
    assert busy not in pool.pids


@pytest.mark.anyio
async def test_an_idle_worker_that_dies_is_replaced(pool: SandboxPool) -> None:
    assert await is_serving(pool)
    victim = pool.pids[0]

    os.kill(victim, signal.SIGKILL)

    await eventually(lambda: victim not in pool.pids and len(pool.pids) == 2, seconds=20)
    assert await is_serving(pool)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "reason"), [("noise", "protocol"), ("huge", "protocol"), ("other", "protocol"), ("half", "crashed")]
)
async def test_a_worker_that_answers_with_rubbish_is_inconclusive(answer: str, reason: str) -> None:
    async with SandboxPool(command=(sys.executable, str(WORKERS / "rubbish.py"), answer)) as pool:
        for _ in range(3):
            result = await pool.simulate_twice(inputs_of(), deadline_seconds=SECONDS)
            assert isinstance(result, Inconclusive)
            assert result.reason == reason


@pytest.mark.anyio
async def test_an_evaluator_that_depends_on_hash_order_is_found_by_two_processes() -> None:
    async with SandboxPool(command=(sys.executable, str(WORKERS / "hash_order.py"))) as pool:
        result = await pool.simulate_twice(inputs_of(), deadline_seconds=SECONDS)

    assert isinstance(result, Inconclusive)
    assert result.reason == "nondeterministic"
    assert result.is_final


@pytest.mark.anyio
async def test_a_rule_sees_the_keys_of_a_map_in_one_order_in_every_process(pool: SandboxPool) -> None:
    base = {f"member-{number:02}": number for number in range(50)}
    expression = " && ".join(f"items(after)[{n}] == 'member-{n:02}'" for n in range(0, 50, 7))

    for _ in range(4):
        result = await pool.simulate_twice(
            inputs_of([{"op": "add", "path": "/x", "value": 1}], base=base, policy=policies(rule(expression))),
            deadline_seconds=SECONDS,
        )
        assert isinstance(result, SandboxResult)
        assert result.verdict == "allow"


@pytest.mark.anyio
async def test_inputs_that_are_not_canonical_are_refused(pool: SandboxPool) -> None:
    inputs = inputs_of()

    for spoiled in (inputs + b" ", inputs.replace(b'"v":1', b'"v":1.0', 1), b"{}", b"\xff", b"[" * 100_000):
        result = await pool.simulate(spoiled, deadline_seconds=SECONDS)
        assert isinstance(result, Inconclusive)
        assert result.reason == "invalid-inputs"


@pytest.mark.anyio
async def test_inputs_of_another_engine_are_refused(pool: SandboxPool) -> None:
    inputs = inputs_of().replace(b'"revision":1', b'"revision":9', 1)

    result = await pool.simulate(inputs, deadline_seconds=SECONDS)

    assert isinstance(result, Inconclusive)
    assert result.reason == "engine-mismatch"


@pytest.mark.anyio
async def test_a_null_character_in_a_document_reaches_no_rule(pool: SandboxPool) -> None:
    inputs = inputs_of(base={"text": "a\0b"}, patch=[{"op": "add", "path": "/y", "value": 1}])

    result = await pool.simulate(inputs, deadline_seconds=SECONDS)

    # The result is decoded strictly before any rule sees it.
    assert isinstance(result, SandboxResult)
    record = result.document()
    assert (record["verdict"], record["reasons"][0]["code"], record["rules"]) == ("deny", "result-malformed", [])


@pytest.mark.anyio
async def test_policy_errors_carry_rule_line_and_column(pool: SandboxPool) -> None:
    document = policies(rule(ALL_FINE, id="good"), rule("true &&\n  foo == 1", id="bad"), rule("'text'", id="text"))

    found = await pool.check_policies(document, deadline_seconds=SECONDS)

    assert isinstance(found, list)
    assert [(flaw["rule"], flaw["line"], flaw["column"]) for flaw in found] == [("bad", 2, 3), ("text", 0, 0)]
    assert found[0]["pointer"] == "/rules/1/expression"
    assert await pool.check_policies(policy_set.DEFAULT.document(), deadline_seconds=SECONDS) == []
    with pytest.raises(InvalidPolicySet):
        await pool.check_policies({"v": 1}, deadline_seconds=SECONDS)


@pytest.mark.anyio
async def test_documents_are_checked_against_their_schema(pool: SandboxPool) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}

    async def codes(schema: dict[str, Any] | None, document: Any) -> list[tuple[str, str]]:
        found = await pool.check_document(schema, document, deadline_seconds=SECONDS)
        assert isinstance(found, list)
        return [(flaw.pointer, flaw.code) for flaw in found]

    assert await codes(schema, {"a": 1}) == []
    assert await codes(None, {"a": 1}) == []
    assert await codes(schema, {"a": "x"}) == [("/document/a", "schema-failed")]
    assert await codes({"type": "nothing"}, {}) == [("/schema/type", "invalid-schema")]
    assert await codes({"$ref": "#/nowhere"}, {}) == [("/schema", "invalid-schema")]
    assert await codes({"$ref": "#"}, {}) == [("/schema", "schema-limit")]
    assert await codes({"pattern": "("}, "x") == [("/schema/pattern", "invalid-schema")]


@pytest.mark.anyio
async def test_more_requests_than_may_wait_are_refused_at_once() -> None:
    async with SandboxPool(workers=2, waiting_max=1) as pool:
        assert await is_serving(pool)
        async with asyncio.TaskGroup() as group:
            long = [
                group.create_task(pool.check_document(SLOW_PATTERN, SLOW_TEXT, deadline_seconds=2)) for _ in range(2)
            ]
            await asyncio.sleep(0)
            waits = group.create_task(pool.simulate(inputs_of(), deadline_seconds=0.5))
            await asyncio.sleep(0)
            with pytest.raises(SimulationBusy):
                await pool.simulate(inputs_of(), deadline_seconds=SECONDS)

        assert waits.result() == Inconclusive("deadline", "no worker was free in time")
        assert all(isinstance(task.result(), Inconclusive) for task in long)
        assert await is_serving(pool)


@pytest.mark.anyio
async def test_a_cancelled_request_gives_no_answer_to_the_next(pool: SandboxPool) -> None:
    assert await is_serving(pool)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await pool.simulate_twice(inputs_of(declared=Tier.HIGH), deadline_seconds=SECONDS)

        result = await pool.simulate_twice(inputs_of(), deadline_seconds=SECONDS)
        assert isinstance(result, SandboxResult)
        assert result.document()["tier_sources"][0] == {"source": "declared", "tier": "low"}


@pytest.mark.anyio
async def test_no_worker_is_left_when_the_pool_is_closed() -> None:
    async with SandboxPool(workers=3) as pool:
        await eventually(lambda: len(pool.pids) == 3, seconds=20)
        pids = pool.pids

    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("steps", [0, 1, 3, 10, 30, 100])
def test_a_pool_closed_while_it_starts_leaves_no_worker(
    run: Callable[[Coroutine[Any, Any, None]], None], steps: int
) -> None:
    async def open_and_close() -> None:
        async with SandboxPool():
            for _ in range(steps):
                await asyncio.sleep(0.001)

        assert not psutil.Process().children()

    run(open_and_close())


@pytest.mark.anyio
async def test_workers_end_with_a_service_that_is_killed() -> None:
    program = (
        "import asyncio\n"
        "from app.sandbox.pool import SandboxPool\n"
        "async def main():\n"
        "    async with SandboxPool() as pool:\n"
        "        while len(pool.pids) < 2: await asyncio.sleep(0.01)\n"
        "        print(*pool.pids, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": SERVICE}
    )
    try:
        assert service.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in (await service.stdout.readline()).split()]
    finally:
        service.kill()
        await service.wait()

    assert len(workers) == 2
    await eventually(lambda: not any(_is_running(worker) for worker in workers), seconds=5)


@pytest.mark.anyio
async def test_a_worker_has_nothing_of_ours_in_its_environment(
    pool: SandboxPool,
) -> None:
    assert await is_serving(pool)

    environments = [psutil.Process(pid).environ() for pid in pool.pids]

    assert all(
        set(one) <= {"LC_ALL", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONPATH"} for one in environments
    )
    assert len({one["PYTHONHASHSEED"] for one in environments}) == 2


@pytest.mark.anyio
async def test_a_worker_that_cannot_be_started_leaves_requests_inconclusive() -> None:
    async with SandboxPool(command=("/nowhere/python",)) as pool:
        result = await pool.simulate(inputs_of(), deadline_seconds=0.3)

    assert result == Inconclusive("unavailable", "no worker was free in time")


def test_the_blocking_twin_gives_the_same_record_and_leaves_no_process() -> None:
    first, second = once.simulate(inputs_of()), once.simulate(inputs_of())

    assert isinstance(first, SandboxResult)
    assert first == second
    assert not psutil.Process().children()


def test_four_hash_seeds_give_one_sequence_of_bytes() -> None:
    corpus = {
        "v": 1,
        "cases": [{"id": f"c{n}", "agent": "a", "tool": "shell", "spend": {"tokens": 1050}} for n in range(9)],
    }
    patch = [
        *PATCH,
        {"op": "add", "path": "/tool_grants/-", "value": "shell"},
        {"op": "remove", "path": "/guard_rules"},
    ]
    inputs = inputs_of(patch, corpus=corpus, base={**BASE, **{f"m{n}": [n, n / 7] for n in range(40)}})

    results = [once.simulate(inputs) for _ in range(4)]

    assert isinstance(results[0], SandboxResult)
    assert results[0].document()["flip_counts"]["deny_to_allow"] == 9
    assert all(result == results[0] for result in results)


def _is_running(process: psutil.Process) -> bool:
    # Nobody may be there to reap it: a zombie runs no more.
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
