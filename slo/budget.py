"""Error-budget arithmetic: what an outage costs of the 30 days' budget, and how fast a budget burns.

All shares are of the whole window's budget: 1.0 is all of it. An objective of 100 % has no budget: any bad event
costs infinitely much, none costs nothing.
"""

import math

import msgspec

from slo import objectives
from slo.objectives import Objective

# Policy: from which share spent on, what is still done.
POLICY: tuple[tuple[float, str], ...] = (
    (0.0, "free"),
    (0.5, "risky changes and game days in production need the lead"),
    (0.75, "reliability work only; chaos only on staging"),
    (1.0, "freeze: fixes only, until the window recovers"),
)
PLANNED_SHARE_MAX = 0.25  # one class of risk may plan to use so much of a month's budget


class Spent(msgspec.Struct, frozen=True):
    """What a period cost."""

    valid: int
    bad: int
    bad_share: float
    budget_share: float


def spent(valid: int, bad: int, seconds: float, *, objective: Objective | None = None) -> Spent:
    """Return what ``bad`` of ``valid`` requests within ``seconds`` cost, at the rate of that period.

    ``bad / (allowed share * rate * window)``, which is ``bad share * seconds / (allowed share * window)``. So it does
    not depend on the traffic: 60 s of full outage are 2.31 % of the availability budget at any rate.

    Raises:
        ValueError: the counts or the length make no sense.
    """
    if not 0 <= bad <= valid or not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"{bad} bad of {valid} within {seconds} s")
    chosen = objective or objectives.load().named("availability")
    bad_share = bad / valid if valid else 0.0
    return Spent(valid=valid, bad=bad, bad_share=bad_share, budget_share=share(bad_share, seconds, objective=chosen))


def share(bad_share: float, seconds: float, *, objective: Objective | None = None) -> float:
    """Return the share of the window's budget that ``seconds`` with ``bad_share`` bad requests spend."""
    chosen = objective or objectives.load().named("availability")
    if bad_share == 0:
        return 0.0
    allowed = chosen.allowed_share * objectives.load().window_seconds
    return bad_share * seconds / allowed if allowed > 0 else math.inf


def full_outage_seconds(objective: Objective | None = None) -> float:
    """Return how long everything may fail before the window's budget is gone."""
    chosen = objective or objectives.load().named("availability")
    return chosen.allowed_share * objectives.load().window_seconds


def burn_rate(bad_share: float, objective: Objective | None = None) -> float:
    """Return how many times faster than sustainable the budget burns: at 1 it is just gone at the window's end."""
    chosen = objective or objectives.load().named("availability")
    if bad_share == 0:
        return 0.0
    return bad_share / chosen.allowed_share if chosen.allowed_share > 0 else math.inf


def seconds_until_burn_alert(bad_share: float, rate: float, long_window_seconds: float) -> float:
    """Return how long errors of ``bad_share`` last until the long window's burn rate exceeds ``rate``.

    ``inf`` when they never do. The alert's ``for``, scraping and evaluation come on top.
    """
    reached = burn_rate(bad_share)
    return long_window_seconds * rate / reached if reached > rate else math.inf


def policy(share_spent: float) -> str:
    """Return what the budget policy allows when that share is spent."""
    return next(text for limit, text in reversed(POLICY) if share_spent >= limit)
