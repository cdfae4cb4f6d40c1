"""Risk points and the tier they give: integer sums and a maximum.

Every source can only raise: points are never negative, the tier is the highest of all sources (firewall.md section
11.7). Proved over random policies in tests/unit/service/test_risk.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.core.documents import pointer
from app.core.documents.diff import Facts
from app.core.governance.policy_set import DeltaPoints, PolicySet
from app.core.governed.target import Tier, is_governance, matches
from app.core.simulation.inputs import OracleReading

POINTS_TOTAL_MAX: Final = 1_000_000_000
SOURCES_SHOWN_MAX: Final = 200
"""Sources beyond these are summed up as one."""
FLIPS_OTHER: Final = ("prompt", "route")


@dataclass(frozen=True, slots=True)
class Risk:
    """The sum, and what it is made of: (source, points), without zeros."""

    points: int
    sources: tuple[tuple[str, int], ...]

    def record(self) -> list[dict[str, Any]]:
        """Return the sources as a record shows them."""
        shown = self.sources[:SOURCES_SHOWN_MAX]
        rest = sum(points for _, points in self.sources[SOURCES_SHOWN_MAX:])
        return [{"source": source, "points": points} for source, points in (*shown, *([("rest", rest)] * bool(rest)))]


def assess(
    policy: PolicySet,
    *,
    target: str,
    touched: Sequence[str],
    facts: Facts,
    flip_counts: Mapping[str, int],
    readings: Sequence[OracleReading],
) -> Risk:
    """Return the points of a change."""
    found = [
        *_path_points(policy, target, touched),
        *_delta_points(policy, target, facts),
        ("flips:deny_to_allow", policy.flip_points.deny_to_allow * flip_counts.get("deny_to_allow", 0)),
        ("flips:allow_to_deny", policy.flip_points.allow_to_deny * flip_counts.get("allow_to_deny", 0)),
        ("flips:other", policy.flip_points.other * sum(flip_counts.get(kind, 0) for kind in FLIPS_OTHER)),
        *((f"oracle:{reading.source}", max(0, reading.points or 0)) for reading in readings),
    ]
    sources = tuple((source, points) for source, points in found if points)
    return Risk(min(sum(points for _, points in sources), POINTS_TOTAL_MAX), sources)


def tiers(
    policy: PolicySet, *, target: str, kind: str, declared: Tier, minimum: Tier, points: int, oracle_missing: bool
) -> tuple[tuple[str, Tier], ...]:
    """Return every source's tier; the change's tier is the highest of them."""
    limits = policy.risk_tiers
    by_points = ((limits.critical, Tier.CRITICAL), (limits.high, Tier.HIGH), (limits.medium, Tier.MEDIUM))
    found = [
        ("declared", declared),
        ("target", minimum),
        ("risk", next((tier for limit, tier in by_points if points >= limit), Tier.LOW)),
    ]
    if is_governance(target) or kind == "governance":
        found.append(("governance", Tier.GOVERNANCE))
    if oracle_missing:
        found.append(("oracle-missing", max(tier for _, tier in found).raised()))
    return tuple(found)


def overlaps(pattern: str, place: str) -> bool:
    """Say whether a place is at, below or above a pattern; a step `*` of the pattern stands for any one step."""
    steps = zip(pointer.split(pattern), pointer.split(place), strict=False)
    return all(one in {"*", other} for one, other in steps)


def _path_points(policy: PolicySet, target: str, touched: Sequence[str]) -> Iterable[tuple[str, int]]:
    for weight in policy.path_weights:
        # Replacing what is above replaces what is below.
        if matches(target, weight.targets) and any(overlaps(weight.pointer, place) for place in touched):
            yield f"path:{weight.pointer}", weight.points


def _delta_points(policy: PolicySet, target: str, facts: Facts) -> Iterable[tuple[str, int]]:
    for delta in policy.delta_points:
        if matches(target, delta.targets):
            times = sum(_times(delta, fact) for fact in _facts_of(delta, facts) if _is_below(delta.pointer, fact))
            yield f"{delta.kind}:{delta.pointer}", min(delta.points * times, POINTS_TOTAL_MAX)


def _is_below(pattern: str, fact: Mapping[str, Any]) -> bool:
    place = fact["pointer"]
    return place.count("/") >= pattern.count("/") and overlaps(pattern, place)


def _facts_of(delta: DeltaPoints, facts: Facts) -> list[dict[str, Any]]:
    if delta.kind == "number":
        return facts.numbers
    if delta.kind == "text":
        return facts.texts
    return [*facts.lists, *facts.members]


def _times(delta: DeltaPoints, fact: Mapping[str, Any]) -> int:
    if delta.kind == "number":
        direction, change = fact["direction"], fact["change_basis_points"]
        is_meant = "any" in {delta.direction, direction} or delta.direction == direction
        return int(is_meant and (change is None or change >= delta.at_least))
    if delta.kind == "text":
        growth = fact["characters_after"] - fact["characters_before"]
        is_meant = delta.direction == "any" or (growth > 0) is (delta.direction == "up")
        return int(is_meant and abs(growth) >= delta.at_least)
    count = fact[delta.kind]
    return int(count if isinstance(count, int) else len(count)) // delta.at_least
