"""How checks say what they found, and how findings of several injections become one."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from chaos.evidence import Row
from chaos.result import EvidenceReference
from chaos.scenario import Case, Check, Finding, Window
from chaos.verdict import Verdict, worst

_CITED_MAX = 8

# A check of one injection; its own parameters are bound with functools.partial.
WindowCheck = Callable[[Case, Window], Finding]


def passed(reason: str, rows: Iterable[Row] = ()) -> Finding:
    """The claim was shown."""
    return Finding(Verdict.PASS, reason, cite(rows))


def failed(reason: str, rows: Iterable[Row] = ()) -> Finding:
    """The claim was refuted."""
    return Finding(Verdict.FAIL, reason, cite(rows))


def unknown(reason: str, rows: Iterable[Row] = ()) -> Finding:
    """Nothing can be concluded."""
    return Finding(Verdict.UNKNOWN, reason, cite(rows))


def cite(rows: Iterable[Row]) -> tuple[EvidenceReference, ...]:
    """Return references to the first few rows, each once."""
    return tuple(dict.fromkeys(row.reference for row in rows))[:_CITED_MAX]


def combine(findings: Iterable[tuple[str, Finding]]) -> Finding:
    """Return the worst of named findings; the reason keeps every name that shares that verdict, evidence first."""
    named = list(findings)
    verdict = worst(finding.verdict for _, finding in named)
    telling = [(name, finding) for name, finding in named if finding.verdict is verdict]
    if not telling:
        return unknown("nothing was looked at")
    return Finding(
        verdict,
        "; ".join(f"{name}: {finding.reason}" if name else finding.reason for name, finding in telling),
        tuple(dict.fromkeys(reference for _, finding in telling for reference in finding.evidence))[:_CITED_MAX],
    )


def each_injection(check: WindowCheck, *, only: Collection[str] | None = None) -> Check:
    """Make a check of the case from a check of one injection: the worst over those that ran.

    ``only``: names of the injections that can show the claim. One that did not run is ``unknown``, and so is one
    whose fault was not injected.
    """

    def judged(case: Case) -> Finding:
        names = [window.injection for window in case.windows if only is None or window.injection in only]
        missing = [] if only is None else sorted(set(only) - set(names))
        if not names and not missing:
            return unknown("no injection ran")
        return combine(
            [(name, _judge_one(check, case, name)) for name in names]
            + [(name, unknown("this injection did not run")) for name in missing]
        )

    return judged


def bound(check: Callable[[Mapping[str, Any]], WindowCheck], only: Collection[str]) -> Check:
    """Make a check of the recorded expectations, over those injections of ``only`` that this run can judge."""

    def judged(case: Case) -> Finding:
        ran = {window.injection for window in case.windows}
        return each_injection(check(case.expectations), only=[name for name in only if name in ran])(case)

    return judged


def _judge_one(check: WindowCheck, case: Case, name: str) -> Finding:
    window = case.window(name)
    if window is None or window.injected is None:
        return unknown("nothing was injected")
    return check(case, window)


def all_of(**checks: WindowCheck) -> WindowCheck:
    """Make one check of several that must all hold; their names stand before the reasons."""

    def judged(case: Case, window: Window) -> Finding:
        return combine([(name.replace("_", " "), check(case, window)) for name, check in checks.items()])

    return judged


def seconds(value: float) -> str:
    """Return a length as people read it."""
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"  # noqa: PLR2004 - two digits are enough from there
