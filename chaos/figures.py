"""Numbers of a scenario that are worth a trend: requests by outcome, latency, what the faults cost.

From the client history, the truth of users. They are shown, not judged; a check that judges one computes it itself.
"""

from collections.abc import Sequence

from chaos.evidence import Evidence, Row
from chaos.scenario import Window

HISTORY = "history.jsonl"
# Availability objective 99.9 % over 30 days (slo.md, section 2): a full outage may last this long.
_BUDGET_SECONDS = 0.001 * 30 * 24 * 3600
_SERVER_ERRORS_FROM = 500


def figures(evidence: Evidence, windows: Sequence[Window]) -> dict[str, float]:
    """Return what can be counted; keys without data are left out. Seconds, shares of 1, and counts."""
    try:
        answers = [row for row in evidence.rows(HISTORY) if row.data.get("type") in {"ok", "fail", "info"}]
    except (OSError, ValueError, KeyError):
        return {}
    if not answers:
        return {}
    counted: dict[str, float] = {"requests": len(answers), "requests_bad": sum(is_bad(row) for row in answers)}
    for outcome in ("ok", "fail", "info"):
        counted[f"requests_{outcome}"] = sum(row.data["type"] == outcome for row in answers)
    first_fault = min((window.injected for window in windows if window.injected is not None), default=None)
    before = [row for row in answers if first_fault is not None and row.t < first_fault]
    if before:
        counted["p99_before_seconds"] = round(quantile([latency(row) for row in before], 0.99), 6)
    spans = [(window.injected, window.recovered) for window in windows]
    during = [row for row in answers if any(a is not None and a <= row.t < (b or answers[-1].t) for a, b in spans)]
    if during:
        counted["error_share_during_faults"] = round(sum(is_bad(row) for row in during) / len(during), 6)
    seconds = answers[-1].t - answers[0].t
    if seconds > 0:
        rate = len(answers) / seconds
        counted["budget_share_spent"] = round(counted["requests_bad"] / rate / _BUDGET_SECONDS, 6)
    return counted


def is_bad(row: Row) -> bool:
    """Whether a user would call the answer a failure of the service: a server error, or none at all."""
    status = row.data.get("status")
    return status is None or int(status) >= _SERVER_ERRORS_FROM


def latency(row: Row) -> float:
    """Seconds from the intended start to the answer."""
    return float(row.data.get("ms") or 0.0) / 1000


def quantile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank quantile of at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
