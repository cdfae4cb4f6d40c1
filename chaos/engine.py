"""Runs one scenario inside its world.

``Engine.run`` is a chaos run as ``docs/architecture.md`` draws it: numbered steps in nested scopes, so that
evidence and undo happen whatever fails. It judges nothing; it records. The host (``chaos.run``) starts it in a
world of its own (``python -m chaos.engine FOLDER``, with ``plan.json`` in the folder) and reads its progress, one
JSON object a line, from standard output. A line on standard input, its end, or a signal asks for an orderly
abort: observation ends, undo is never skipped.
"""

import asyncio
import base64
import contextlib
import dataclasses
import functools
import json
import platform
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import slo.expectations
import slo.profiles
from chaos import probes, runbook, steady_state
from chaos.evidence import EvidenceWriter, Origin
from chaos.journal import Event, Journal
from chaos.plan import Plan
from chaos.probes.canaries import look_at_the_evidence, secrets_in
from chaos.probes.sampler import Take
from chaos.runbook import Stage
from chaos.scenario import Injection, Observation, Scenario
from chaos.scenarios import SCENARIOS
from chaos.steady_state import SteadyState
from chaos.streams import Means
from chaos.traffic import Traffic
from chaos.undo_ledger import UndoFailed, UndoLedger, to_its_end
from compose import operator, programs
from compose.gate import Gate
from compose.stack import Stack, StackSpec, default_folder

EXIT_DONE, EXIT_CRASHED, EXIT_ABORTED = 0, 70, 130
_RECEIPT_DEADLINE_SECONDS = 10.0
_RECEIPT_INTERVAL_SECONDS = 0.1
_BASELINE_SETTLING_SECONDS = 60.0  # beyond the time for which the last fault's alert goes on being active
_RECOVERY_MARGIN_SECONDS = 30.0  # beyond the bound, so that a late recovery is measured and not only missed
_SNAPSHOT_SECONDS = 0.5
_MESSAGE_CHARACTERS_MAX = 2000


class BaselineNotSteady(Exception):
    """The stack was not in steady state before a fault: nothing may be injected, nothing can be concluded."""


class Engine:
    """One scenario in one world.

    Args:
        scenario: what to run.
        plan: what this host can run of it, and how.
        folder: of the evidence.
    """

    def __init__(self, scenario: Scenario, plan: Plan, folder: Path) -> None:
        self.scenario = scenario
        self.plan = plan
        self.folder = folder
        self.evidence = EvidenceWriter(folder, Origin.now())
        self.journal = Journal(self.evidence, echo=_say)
        self.profile = slo.profiles.load(plan.profile)
        self.expectations = slo.expectations.load(plan.failure_mode, self.profile)
        self.undo_ledger = UndoLedger(self.evidence)
        self._recent = steady_state.recent(folder, self.expectations)
        self.runbook = runbook.load(scenario.slug)
        self._undisturbed_since: float | None = None  # the last fault was seen to be gone
        self._variables: Mapping[str, str] = {}  # of the runbook's steps, known once the world is up

    async def run(self) -> None:
        """Build the world, run the injections in order, freeze the evidence. Raises what went wrong."""
        self._write_environment()
        self.journal.write(
            Event.SCENARIO_STARTED,
            failure_mode=self.plan.failure_mode,
            profile=self.plan.profile,
            seed=self.plan.seed,
            isolation=self.plan.isolation,
        )
        for name, reason in self.plan.skipped.items():
            self.journal.write(Event.INJECTION_SKIPPED, injection=name, reason=reason)
        async with Stack.start(self._stack_spec(), progress=self._say_progress) as stack:  # 1. the world
            self._write_environment(stack.gate)
            self.journal.write(Event.WORLD_UP, replicas=list(stack.replica_names()))
            async with (
                operator.serving(stack) as self._variables,
                probes.running(stack, self.evidence, own=self._own_probes(stack)),
            ):
                async with self._traffic(stack) as traffic:  # 2. load
                    with contextlib.suppress(BaselineNotSteady):  # the journal says so, the judge concludes
                        for injection in self.scenario.injections:
                            if injection.name in self.plan.injections:
                                await self._run_injection(injection, stack, traffic)  # 3. to 7.
                    await traffic.drain()
                await probes.freeze(stack, self.evidence)  # 8. what only the living stack can tell
                canaries = secrets_in(stack.secrets_folder)
        await look_at_the_evidence(canaries, self.evidence)
        self.journal.write(Event.SCENARIO_FINISHED)

    async def _run_injection(self, injection: Injection, stack: Stack, traffic: Traffic) -> None:
        name, fault = injection.name, injection.fault
        self.journal.write(Event.BASELINE_STARTED, injection=name)
        await self._reach_baseline(injection, stack)  # 3. steady, or nothing is injected
        if not self.plan.inject_faults:
            await self._hold_without_fault(injection)
            return
        self.journal.write(Event.INJECTION_STARTED, injection=name, kind=fault.kind, parameters=fault.parameters())
        try:
            async with self.undo_ledger.injected(fault, stack, injection=name):  # 4. inject
                self.journal.write(Event.INJECTED, injection=name)
                if injection.load is not None:
                    traffic.change_load(self.scenario.load_during(injection))
                if await self._take_receipt(injection, stack, proves="bite"):
                    await self._hold(injection, stack)  # 5. observe
                if injection.load is not None:
                    traffic.change_load(self.scenario.load)
                self.journal.write(Event.UNDO_STARTED, injection=name)
                if injection.undone_by_runbook:
                    await self._run_runbook(injection, Stage.REPAIR)
        except UndoFailed as failure:
            self._say_progress(f"undo failed: {failure}")  # the receipt says the same, with evidence
        finally:
            is_gone = await to_its_end(self._take_receipt(injection, stack, proves="undo"))  # 6. undone
        self.journal.write(Event.RECOVERY_STARTED, injection=name)
        self._undisturbed_since = self.evidence.origin.elapsed()
        if is_gone:
            await self._recover(injection, stack)  # 7. recover

    async def _reach_baseline(self, injection: Injection, stack: Stack) -> None:
        """See steady state; the seconds in which the world recovered from the fault before may be these."""
        reached = await steady_state.wait(
            self.evidence,
            self._recent,
            self._steady_state(stack),
            deadline_seconds=self.profile.seconds("hold_cause") + _BASELINE_SETTLING_SECONDS,
            since=self._undisturbed_since,
        )
        if not reached.ok:
            self.journal.write(Event.BASELINE_FAILED, injection=injection.name, reason=reached.text)
            raise BaselineNotSteady(reached.text)
        self.journal.write(Event.BASELINE_STEADY, injection=injection.name, text=reached.text)

    async def _hold_without_fault(self, injection: Injection) -> None:
        """Run the negative control: the same wait, nothing injected. The judge must not find a pass in it."""
        await asyncio.sleep(injection.hold_seconds[self.plan.profile])
        self.journal.write(Event.NOT_BITTEN, injection=injection.name, observation="negative control, no fault made")

    async def _take_receipt(self, injection: Injection, stack: Stack, *, proves: str) -> bool:
        """Look until the fault is seen to bite (or to be gone) or the deadline passes; record the last look."""
        look = injection.fault.bites if proves == "bite" else injection.fault.is_gone
        seen, missed = (Event.BITTEN, Event.NOT_BITTEN) if proves == "bite" else (Event.UNDONE, Event.NOT_UNDONE)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _RECEIPT_DEADLINE_SECONDS
        while not (observation := await _looked(look, stack)).ok and loop.time() < deadline:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(_RECEIPT_INTERVAL_SECONDS)
        self._write_receipt(injection, proves, observation)
        self.journal.write(seen if observation.ok else missed, injection=injection.name, observation=observation.text)
        return observation.ok

    async def _hold(self, injection: Injection, stack: Stack) -> None:
        """Let the fault last its time, while a person would read the runbook's diagnosis; see it bite to the end."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + injection.hold_seconds[self.plan.profile]
        if injection.judged_by_clocks:
            await self._run_runbook(injection, Stage.DURING)
        await asyncio.sleep(max(0.0, ends - loop.time()))
        if injection.judged_by_clocks:
            self._write_receipt(injection, "bite", await _looked(injection.fault.bites, stack))
        self.journal.write(Event.HOLD_ENDED, injection=injection.name)

    async def _recover(self, injection: Injection, stack: Stack) -> None:
        """Wait for steady state without touching anything, then follow the runbook to its end."""
        allowed = self.scenario.expected_alerts(injection)
        reached = await steady_state.wait(
            self.evidence,
            self._recent,
            self._steady_state(stack, alerts_allowed=allowed.firing | allowed.co_alerts | allowed.suppressed),
            deadline_seconds=self.expectations["recover_seconds"] + _RECOVERY_MARGIN_SECONDS,
        )
        event = Event.RECOVERED if reached.ok else Event.NOT_RECOVERED
        self.journal.write(event, injection=injection.name, reason=reached.text)
        if injection.judged_by_clocks:
            await self._run_runbook(injection, Stage.AFTER)
        self.journal.write(Event.DRAINED, injection=injection.name)

    async def _run_runbook(self, injection: Injection, stage: Stage) -> None:
        if not self.plan.follow_runbook and stage is not Stage.REPAIR:
            return
        for step in self.runbook.at(stage, injection.runbook_steps):
            result = await runbook.run_step(step, stage=stage, environment=self._variables)
            self.evidence.append("runbook.jsonl", {"injection": injection.name, **result.as_row()})
            self._say_progress(f"runbook step {step.number} {stage.value}: {result.reason}", injection=injection.name)

    def _steady_state(self, stack: Stack, *, alerts_allowed: frozenset[str] = frozenset()) -> SteadyState:
        return SteadyState.expected(
            self.expectations,
            replicas=stack.replica_names(),
            alerts_allowed=alerts_allowed | {"Watchdog"},
        )

    @contextlib.asynccontextmanager
    async def _traffic(self, stack: Stack) -> AsyncIterator[Traffic]:
        """Send the background load, and tell the host of it twice a second."""
        keys = [*stack.client_keys().values()] or [stack.api_key("editor")]
        means = Means(api_keys=stack.gate.api_keys, token_key=stack.gate.token_key)
        async with (
            Traffic(
                stack.address,
                keys,
                self.scenario.load,
                self.evidence,
                seed=self.plan.seed,
                gate=stack.gate,
                means=means,
            ) as traffic,
            asyncio.TaskGroup() as tasks,
        ):
            telling = tasks.create_task(_tell_of(traffic))
            try:
                yield traffic
            finally:
                telling.cancel()

    def _own_probes(self, stack: Stack) -> Mapping[str, tuple[float, Take]]:
        return {
            probe.name: (probe.interval_seconds, functools.partial(probe.look, stack)) for probe in self.scenario.probes
        }

    def _stack_spec(self) -> StackSpec:
        return self.scenario.stack(
            StackSpec(
                folder=default_folder(),
                profile=self.profile,
                logs=self.folder / "logs",
                service_path=Path(self.plan.service_path),
                run_label=self.plan.run_id,
            )
        )

    def _say_progress(self, text: str, **facts: Any) -> None:
        _say({"t": self.evidence.origin.elapsed(), "event": "progress", "text": text, **facts})

    def _write_receipt(self, injection: Injection, proves: str, observation: Observation) -> None:
        self.evidence.append(
            "receipts.jsonl",
            {"injection": injection.name, "proves": proves, "ok": observation.ok, "observation": observation.text},
        )

    def _write_environment(self, gate: Gate | None = None) -> None:
        environment: dict[str, Any] = {
            "origin_monotonic_ns": self.evidence.origin.monotonic_ns,
            "origin_wall_ns": self.evidence.origin.wall_ns,
            "run_id": self.plan.run_id,
            "profile": self.plan.profile,
            "durations": dict(self.profile.durations),
            "service_settings": dict(self.profile.service),
            "seed": self.plan.seed,
            "isolation": self.plan.isolation,
            "expectations": self.expectations,
            "load": dataclasses.asdict(self.scenario.load),
            "python": platform.python_version(),
            "kernel": platform.release(),
            "programs": {name: found.version for name, found in programs.versions().items()},
        }
        if gate is not None:
            environment["gate"] = {
                "origin": gate.origin,
                "log_key": base64.b64encode(gate.log_key).decode(),
                "service_key": base64.b64encode(gate.service_key).decode(),
            }
        (self.folder / "environment.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")


async def _looked(look: Callable[[Stack], Awaitable[Observation]], stack: Stack) -> Observation:
    """Look once; a look that fails has seen nothing."""
    try:
        return await look(stack)
    except (OSError, TimeoutError, RuntimeError) as error:
        return Observation(ok=False, text=f"could not look: {type(error).__name__}: {error}")


async def _tell_of(traffic: Traffic) -> None:
    while True:
        now = traffic.snapshot()
        p99 = "-" if now.p99_ms is None else f"{now.p99_ms:.0f} ms"
        figures = {"req/s": f"{now.rate:.0f}", "ok": now.ok, "fail": now.fail, "unknown": now.info, "p99": p99}
        _say({"traffic": figures})
        await asyncio.sleep(_SNAPSHOT_SECONDS)


def _say(row: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more: the abort is on its way
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        sys.stdout.flush()


async def main(folder: Path) -> int:
    """Run the plan in ``folder`` and return an exit code: 0 recorded, 130 aborted after undo, 70 crashed."""
    plan = Plan.read(folder)
    engine = Engine(SCENARIOS[plan.failure_mode], plan, folder)
    loop = asyncio.get_running_loop()
    running = loop.create_task(engine.run(), name="scenario")
    abort = functools.partial(_abort, engine.journal, running)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, abort, signal.Signals(number).name)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    listening = loop.create_task(_listen(reader, abort), name="abort on request")
    try:
        await running
    except asyncio.CancelledError:
        return EXIT_ABORTED
    except Exception as error:  # noqa: BLE001 - the last resort: say it where the judge looks
        traceback.print_exception(error)
        cause = _innermost(error)
        engine.journal.write(
            Event.HARNESS_ERROR, exception=type(cause).__name__, message=str(cause)[:_MESSAGE_CHARACTERS_MAX]
        )
        return EXIT_CRASHED
    finally:
        listening.cancel()
        engine.undo_ledger.close()
        engine.evidence.close()
    return EXIT_DONE


def _abort(journal: Journal, running: asyncio.Task[None], why: str) -> None:
    """End observation, once; a second request changes nothing, because undo is never skipped."""
    if not running.done() and not running.cancelling():
        journal.write(Event.ABORTED, reason=why)
        running.cancel()


async def _listen(reader: asyncio.StreamReader, abort: Callable[[str], None]) -> None:
    line = await reader.readline()
    abort("asked by the host" if line else "the host is gone")


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
