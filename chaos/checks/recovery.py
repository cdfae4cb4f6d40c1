"""Whether the service came back: by itself, in time, without a restart, and along the runbook."""

from collections.abc import Mapping, Sequence

from chaos.checks import windows
from chaos.checks.detection import each_replica, replicas_of
from chaos.checks.findings import WindowCheck, cite, failed, passed, seconds, unknown
from chaos.evidence import Row
from chaos.probes.health import HEALTH
from chaos.probes.replicas import REPLICAS
from chaos.probes.service_log import service_log
from chaos.result import EvidenceReference
from chaos.scenario import Case, Finding, Window
from chaos.steady_state import SteadyState, departures, steady_from
from chaos.timeline import Recorded

RUNBOOK = "runbook.jsonl"
_HEALTHY = 200
_SETTLING_SECONDS = 60.0


def recovered_after(case: Case, window: Window) -> tuple[float | None, tuple[EvidenceReference, ...]]:
    """Read the clock of recovery: from the receipt of undo to the beginning of the first steady stretch.

    The stretch itself must have been recorded in full. Recomputed from the samples; the engine's own "recovered" is
    not believed. Alerts are left out: after a fault its alert stays active on purpose and inhibits its symptoms.
    """
    if window.undone is None or not replicas_of(case):
        return None, ()
    after = case.evidence.between(HEALTH, window.undone, _recorded_until(window))
    if not after:
        return None, ()
    began = _steady_again(case, window)
    if began is None:
        return None, cite(after[-1:])
    first = next((row for row in after if row.t >= began), after[-1])
    return began - window.undone, (first.reference,)


def recovered_since_undo(case: Case, window: Window) -> tuple[float | None, tuple[EvidenceReference, ...]]:
    """Read the clock of recovery where the traffic was the fault: from its end, which the receipt takes time to see."""
    took, cited = recovered_after(case, window)
    if took is None or window.undone is None or window.undo_started is None:
        return None, cited
    return took + window.undone - window.undo_started, cited


def steady_again(*, within_seconds: float) -> WindowCheck:
    """Steady state begins again within the bound after the fault is gone."""

    def judge(case: Case, window: Window) -> Finding:
        if window.undone is None:
            return unknown("the fault was not seen to be gone")
        took, _ = recovered_after(case, window)
        if took is None:
            until = _recorded_until(window)
            looks = case.evidence.between(HEALTH, window.undone, until)
            if not looks:
                return unknown("nothing was recorded after the fault")
            missing = departures(Recorded(case.evidence), _expected(case), until)
            return failed(f"not steady again: {'; '.join(missing)}", looks[-1:])
        told = f"steady again {seconds(took)} after the fault was gone, {seconds(within_seconds)} allowed"
        return (passed if took <= within_seconds else failed)(told)

    return judge


def reconnects_by_itself(*, within_seconds: float, event: str = "database_reconnected") -> WindowCheck:
    """Every replica logs that it is connected again within the bound, in the process that saw the fault."""

    def judge(case: Case, window: Window) -> Finding:
        return each_replica(case, lambda replica: one(case, window, replica))

    def one(case: Case, window: Window, replica: str) -> Finding:
        if window.undone is None:
            return unknown("the fault was not seen to be gone")
        _, end = windows.fault(window)
        log = [row for row in service_log(case.evidence, replica) if end <= row.t < windows.whole(window)[1]]
        if not log:
            return unknown("no log line after the fault")
        found = next((row for row in log if row.data.get("event") == event), None)
        if found is None:
            return failed(f"{event} was not logged after the fault")
        took = max(0.0, found.t - window.undone)
        told = f"{event} {seconds(took)} after the fault was gone, {seconds(within_seconds)} allowed"
        return (passed if took <= within_seconds else failed)(told, [found])

    return judge


def nothing_restarts(*, looks_min: int = 10) -> WindowCheck:
    """From the calm to the drain every replica keeps its process: same pid, same number of restarts."""

    def judge(case: Case, window: Window) -> Finding:
        return each_replica(case, lambda replica: one(case, window, replica))

    def one(case: Case, window: Window, replica: str) -> Finding:
        start, _ = windows.calm(window)
        _, end = windows.whole(window)
        seen = [
            (row, row.data["replicas"][replica])
            for row in case.evidence.between(REPLICAS, start, end)
            if replica in row.data.get("replicas", {})
        ]
        if len(seen) < looks_min:
            return unknown(f"its process was looked at {len(seen)} times, {looks_min} needed")
        lives = {(state.get("pid"), state.get("restarts")) for _, state in seen}
        if len(lives) > 1:
            changed = next(row for row, state in seen if (state.get("pid"), state.get("restarts")) != _life(seen[0][1]))
            return failed(f"{len(lives) - 1} restarts", [seen[0][0], changed])
        return passed(f"one process in {len(seen)} looks", [seen[0][0], seen[-1][0]])

    return judge


def stays_alive(*, looks_min: int = 10) -> WindowCheck:
    """During the fault every replica's liveness answers 200 every time: nobody would have killed it."""

    def judge(case: Case, window: Window) -> Finding:
        return each_replica(case, lambda replica: one(case, window, replica))

    def one(case: Case, window: Window, replica: str) -> Finding:
        looks = [
            row
            for row in case.evidence.between(HEALTH, *windows.fault(window))
            if row.data["replica"] == replica and row.data["path"] == "/health/live"
        ]
        if len(looks) < looks_min:
            return unknown(f"liveness was looked at {len(looks)} times, {looks_min} needed")
        wrong = [row for row in looks if row.data.get("status") != _HEALTHY]
        if wrong:
            return failed(f"liveness failed {len(wrong)} of {len(looks)} times", wrong)
        return passed(f"alive in {len(looks)} looks", [looks[0], looks[-1]])

    return judge


def runbook_step_ran(step: int) -> WindowCheck:
    """The runbook's numbered step was executed for this injection, and every command of it did what it must."""

    def judge(case: Case, window: Window) -> Finding:
        rows = [
            row
            for row in case.evidence.rows(RUNBOOK)
            if row.data.get("injection") == window.injection and row.data.get("step") == step
        ]
        if not rows:
            return unknown(f"step {step} of the runbook was not executed")
        wrong = [row for row in rows if row.data.get("ok") is not True]
        if wrong:
            return failed(f"step {step} failed: {_how(wrong[0])}", wrong)
        spent = sum(float(row.data.get("seconds", 0.0)) for row in rows)
        return passed(f"step {step}: {len(rows)} commands in {seconds(spent)}", rows)

    return judge


def _steady_again(case: Case, window: Window) -> float | None:
    if window.undone is None:
        return None
    until = _recorded_until(window)
    return steady_from(Recorded(case.evidence), _expected(case), start=window.undone, end=until)


def _expected(case: Case) -> SteadyState:
    return SteadyState.expected(case.expectations, replicas=replicas_of(case), alerts_allowed=None)


def _recorded_until(window: Window) -> float:
    """Return how far to look: until the engine saw steady state, else to the end, else a minute beyond the undo."""
    ends: Sequence[float | None] = (window.recovered, window.drained)
    known = next((end for end in ends if end is not None), None)
    return known if known is not None else (window.undone or 0.0) + _SETTLING_SECONDS


def _life(state: Mapping[str, object]) -> tuple[object, object]:
    return (state.get("pid"), state.get("restarts"))


def _how(row: Row) -> str:
    return f"{row.data.get('command')!r} ended with {row.data.get('exit_code')}"
