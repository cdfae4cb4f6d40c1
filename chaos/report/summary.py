"""``summary.md``: for job summaries and release notes. Failures first, then one row for each failure mode."""

import re
from collections.abc import Iterator

from chaos.matrix import NOT_BUILT, FailureMode, load_matrix
from chaos.report.tally import BAD, against_bound, claims, clocks, inert, is_shortened, problems
from chaos.result import Report, ScenarioResult
from chaos.verdict import Verdict

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~@&!$])")


def summary(report: Report) -> str:
    """Return the Markdown text."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    matrix = load_matrix()
    counted = claims(report)
    yield f"# Chaos: {report.verdict.value} (exit {report.exit_code})"
    yield ""
    yield (
        f"**{counted[Verdict.PASS]}/{len(matrix.claims)} claims verified on this host** in run "
        f"`{_code(report.run_id)}`, seed {report.seed}: {counted[Verdict.FAIL]} failed, "
        f"{counted[Verdict.UNKNOWN]} unknown, {counted[Verdict.SKIPPED]} skipped, {counted[Verdict.WAIVED]} waived."
    )
    if is_shortened(report):
        yield ""
        yield (
            f"> Durations were **shortened** (profile `{_code(report.profile)}`): windows, `for` and timeouts are not "
            "the document's own. Thresholds are."
        )
    yield from _problems(report)
    yield ""
    yield "| mode | failure | verdict | claims | detect | mitigate | recover |"
    yield "|---|---|---|---|---|---|---|"
    ran = {scenario.failure_mode: scenario for scenario in report.scenarios}
    for mode in matrix.modes:
        yield _row(mode, ran.get(mode.id))
    yield ""
    yield f"Again: `{_code(report.command)}`"


def _problems(report: Report) -> Iterator[str]:
    found = problems(report)
    if found:
        yield ""
        yield "## What is wrong"
        yield ""
    for problem in found:
        yield f"- **{problem.verdict.value}** {_escape(problem.subject)}: {_escape(problem.reason)}"


def _row(mode: FailureMode, scenario: ScenarioResult | None) -> str:
    if scenario is None:
        state = "not built" if mode.id in NOT_BUILT else "not run"
        return f"| {mode.id} | {_escape(mode.title)} | {state} | 0/{len(mode.claims)} | | | |"
    passed = sum(claim.verdict is Verdict.PASS for claim in scenario.claims)
    verdict = f"**{scenario.verdict.value}**" if scenario.verdict in BAD else scenario.verdict.value
    measured = {name: against_bound(clock) for name, clock in clocks(scenario)}
    cells = [
        mode.id,
        _escape(mode.title),
        verdict,
        f"{passed}/{len(scenario.claims)}",
        *(measured.get(name, "") for name in ("detect", "mitigate", "recover")),
    ]
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Make text inert in Markdown and one line: evidence is hostile input."""
    return _SPECIAL.sub(r"\\\1", inert(" ".join(text.split())))


def _code(text: str) -> str:
    return inert(" ".join(text.replace("`", "'").split()))
