"""Whether each fault is proved to have bitten and to be gone. Nothing is concluded from a fault that is not.

A receipt is an observation from outside the service. The commonest false green of a chaos suite is a fault that
did not happen; the worst is one that stayed.
"""

from dataclasses import dataclass

from chaos.evidence import Evidence, Row
from chaos.journal import Account, Event
from chaos.result import FaultResult, Receipt
from chaos.scenario import Injection, Window
from chaos.verdict import Verdict

RECEIPTS = "receipts.jsonl"


@dataclass(frozen=True, slots=True)
class Proof:
    """One injection: what happened, and why it may not be relied on (``None``: it may)."""

    window: Window
    result: FaultResult
    unproven: str | None
    residue: str | None

    @property
    def is_skipped(self) -> bool:
        """Whether this host cannot make the injection."""
        return self.result.verdict is Verdict.SKIPPED


def prove(injection: Injection, window: Window, account: Account, evidence: Evidence) -> Proof:
    """Judge one injection's receipts."""
    name = injection.name
    skipped = account.skipped_injections.get(name)
    rows = tuple(row for row in evidence.rows(RECEIPTS) if row.data.get("injection") == name)
    unproven = None if skipped is not None else _why_unproven(window, account, rows)
    residue = None if skipped is not None else _why_left(name, account, rows)
    if skipped is not None:
        verdict, reason = Verdict.SKIPPED, skipped
    elif residue is not None:
        verdict, reason = Verdict.FAIL, residue
    elif unproven is not None:
        verdict, reason = Verdict.UNKNOWN, unproven
    else:
        verdict, reason = Verdict.PASS, "proved to bite and proved to be undone"
    started = account.first(Event.INJECTION_STARTED, injection=name)
    recorded = {} if started is None else started.data
    result = FaultResult(
        injection=name,
        kind=str(recorded.get("kind", injection.fault.kind)),
        parameters=dict(recorded.get("parameters", injection.fault.parameters())),
        verdict=verdict,
        reason=reason,
        injected_at=window.injected,
        undone_at=window.undone,
        recovered_at=window.recovered,
        receipts=tuple(_receipt(row) for row in rows),
    )
    return Proof(window=window, result=result, unproven=unproven, residue=residue)


def _why_unproven(window: Window, account: Account, rows: tuple[Row, ...]) -> str | None:
    name = window.injection
    failed = account.first(Event.BASELINE_FAILED, injection=name)
    if failed is not None:
        return f"{name}: the baseline was not steady: {failed.data.get('reason', 'no reason given')}"
    if window.baseline_steady is None:
        return f"{name}: no steady baseline was recorded before it"
    if window.injected is None:
        return f"{name}: was not injected"
    bites = [row for row in rows if row.data.get("proves") == "bite" and row.t >= window.injected]
    first = next((index for index, row in enumerate(bites) if row.data.get("ok") is True), None)
    if first is None:
        seen = f": {bites[-1].data.get('observation')}" if bites else ", there is no receipt"
        return f"{name}: not proved to bite{seen}"
    stopped = next((row for row in bites[first:] if row.data.get("ok") is not True), None)
    if stopped is not None:
        return f"{name}: stopped biting while it was held: {stopped.data.get('observation')}"
    return None


def _why_left(name: str, account: Account, rows: tuple[Row, ...]) -> str | None:
    if not account.all(Event.INJECTION_STARTED, injection=name) and not account.all(Event.INJECTED, injection=name):
        return None
    last = next((row for row in reversed(rows) if row.data.get("proves") == "undo"), None)
    if last is None:
        return f"{name}: not proved to be undone, there is no receipt"
    if last.data.get("ok") is not True:
        return f"{name}: not undone: {last.data.get('observation')}"
    return None


def _receipt(row: Row) -> Receipt:
    return Receipt(
        proves=str(row.data.get("proves")),
        ok=row.data.get("ok") is True,
        at=row.t,
        observation=str(row.data.get("observation", "")),
        evidence=(row.reference,),
    )
