"""The policy set: the document of the target `governance/policies` (firewall.md sections 6 and 7).

It says which rules a change must satisfy, how many points of risk it earns, which tier the points give and which
quorum each tier needs. All numbers are whole; points are never negative, so a policy can only add risk. `parse` is
strict: unknown fields, missing fields and values out of range are refused with their JSON pointer. Whether the
rules' expressions compile is found out in the sandbox (`SandboxPool.check_policies`), as compiling is work that a
stranger chose. What no policy may say is the constitution's matter (`core/simulation/constitution.py`).
"""

import functools
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec

from app.core.documents import canonical
from app.core.documents.misfit import flaw_of
from app.core.documents.patch import POINTER_PATTERN
from app.core.governed.target import TIERS, Glob, Tier
from app.errors import Flaw, InvalidPolicySet

RULES_MAX: Final = 200
WEIGHTS_MAX: Final = 500
POINTS_MAX: Final = 1_000_000
EXPRESSION_CHARACTERS_MAX: Final = 2_000
MESSAGE_CHARACTERS_MAX: Final = 500
GLOBS_MAX: Final = 50
SECONDS_MAX: Final = 30 * 86_400
DAY_SECONDS: Final = 86_400

Points = Annotated[int, msgspec.Meta(ge=0, le=POINTS_MAX)]
Globs = Annotated[list[Glob], msgspec.Meta(min_length=1, max_length=GLOBS_MAX)]
PointerPattern = Annotated[
    str,
    msgspec.Meta(
        pattern=POINTER_PATTERN, max_length=2_048, description="A JSON pointer; a step `*` stands for any one step."
    ),
]
Slug = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?!\n)$", max_length=64)]
Count = Annotated[int, msgspec.Meta(ge=0, le=100)]
Role = Literal["owner", "safety", "security"]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every field is required: one content, one spelling."""


class Rule(_Strict, frozen=True):
    """A CEL expression that is true when all is well. `deny` stops the change, also when the rule errs.

    `warn` and `audit` are only recorded, whatever they answer.
    """

    id: Slug
    mode: Literal["deny", "warn", "audit"]
    expression: Annotated[str, msgspec.Meta(min_length=1, max_length=EXPRESSION_CHARACTERS_MAX)]
    message: Annotated[str, msgspec.Meta(max_length=MESSAGE_CHARACTERS_MAX)]
    targets: Globs | None


class PathWeight(_Strict, frozen=True):
    """Points when a touched pointer is at, below or above `pointer`."""

    targets: Globs | None
    pointer: PointerPattern
    points: Points


class DeltaPoints(_Strict, frozen=True):
    """Points for a difference at or below `pointer`.

    `number`: it changed by at least `at_least` basis points (1/10,000 of the old value; any change of 0 counts) in
    the `direction`. `text`: its length changed by at least so many characters. `added`, `removed`: that many items or
    members came or went; the direction is then "any". Points count once for each difference, for items for each
    `at_least` of them.
    """

    targets: Globs | None
    kind: Literal["number", "text", "added", "removed"]
    pointer: PointerPattern
    direction: Literal["any", "up", "down"]
    at_least: Annotated[int, msgspec.Meta(ge=1, le=POINTS_MAX)]
    points: Points


class FlipPoints(_Strict, frozen=True):
    """Points for each case of the corpus that is decided otherwise after the change."""

    deny_to_allow: Points
    allow_to_deny: Points
    other: Points


class RiskTiers(_Strict, frozen=True):
    """The points from which on a change is of the tier; ascending."""

    medium: Annotated[int, msgspec.Meta(ge=1, le=POINTS_MAX)]
    high: Annotated[int, msgspec.Meta(ge=1, le=POINTS_MAX)]
    critical: Annotated[int, msgspec.Meta(ge=1, le=POINTS_MAX)]


class OraclePolicy(_Strict, frozen=True):
    """What follows when the external risk API gave no reading: the next tier, or no conclusion."""

    missing: Literal["raise", "hold"]


class QuorumRule(_Strict, frozen=True):
    """Who must agree to a change of one tier (firewall.md section 7).

    `humans`, `recomputes`: how many of each must approve; with `human_replaces_recompute` one more human stands in for
    a recompute. `eligible_humans_min`: with fewer in the validator set the rule cannot be met. `roles`: each must be
    among the approving humans. `orgs_min`: distinct organisations among them, at most as many as the electorate's
    humans have. `veto`: roles whose single reject loses; `["*"]` is everybody's. `weight_*`: the approving share of
    the eligible weight, 0/1 for none. `time_lock_seconds`: between approval and apply.
    """

    humans: Count
    recomputes: Count
    human_replaces_recompute: bool
    eligible_humans_min: Count
    roles: Annotated[list[Role], msgspec.Meta(max_length=3)]
    orgs_min: Count
    veto: Annotated[list[Role | Literal["machine", "*"]], msgspec.Meta(max_length=4)]
    weight_numerator: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    weight_denominator: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    time_lock_seconds: Annotated[int, msgspec.Meta(ge=0, le=SECONDS_MAX)]
    expiry_seconds: Annotated[int, msgspec.Meta(ge=60, le=SECONDS_MAX)]
    apply: Literal["auto", "manual"]
    applier_not_proposer: bool


class QuorumRules(_Strict, frozen=True):
    """One rule for each tier."""

    low: QuorumRule
    medium: QuorumRule
    high: QuorumRule
    critical: QuorumRule
    governance: QuorumRule


class PolicySet(_Strict, frozen=True, dict=True):
    """The whole document. `params` are constants that rules may name as `params`."""

    v: Literal[1]
    id: Slug
    rules: Annotated[list[Rule], msgspec.Meta(max_length=RULES_MAX)]
    params: dict[str, Any]
    path_weights: Annotated[list[PathWeight], msgspec.Meta(max_length=WEIGHTS_MAX)]
    flip_points: FlipPoints
    delta_points: Annotated[list[DeltaPoints], msgspec.Meta(max_length=WEIGHTS_MAX)]
    risk_tiers: RiskTiers
    oracle: OraclePolicy
    quorum: QuorumRules

    def quorum_of(self, tier: Tier) -> QuorumRule:
        """Return the rule of a tier."""
        rule: QuorumRule = getattr(self.quorum, tier.value)
        return rule

    def quorum_rule_record(self, tier: Tier) -> dict[str, Any]:
        """Return the typed record of a tier's rule, as ballots are bound to it."""
        return {"_type": "amgf/quorum-rule", "v": 1, "tier": tier.value, **msgspec.to_builtins(self.quorum_of(tier))}

    def quorum_rule_digest(self, tier: Tier) -> str:
        """Return `sha256:...` of that record's canonical bytes."""
        return self._quorum_rule_digests[tier]

    @functools.cached_property
    def _quorum_rule_digests(self) -> dict[Tier, str]:
        return {tier: canonical.digest(canonical.encode_value(self.quorum_rule_record(tier))) for tier in Tier}

    def document(self) -> dict[str, Any]:
        """Return the document as plain JSON values; its digest is the snapshot's."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document


def parse(document: Any) -> PolicySet:
    """Return the policy set of a decoded document.

    Raises:
        InvalidPolicySet: with the flaws, each with its JSON pointer.
    """
    try:
        policy_set = msgspec.convert(document, PolicySet)
    except msgspec.ValidationError as error:
        raise InvalidPolicySet([flaw_of(error)]) from None
    flaws = list(_flaws(policy_set))
    if flaws:
        raise InvalidPolicySet(flaws)
    return policy_set


def _flaws(policy_set: PolicySet) -> Iterator[Flaw]:
    seen: set[str] = set()
    for index, rule in enumerate(policy_set.rules):
        if rule.id in seen:
            yield Flaw(f"/rules/{index}/id", "duplicate-id", "the id stands twice")
        seen.add(rule.id)
    tiers = policy_set.risk_tiers
    if not tiers.medium < tiers.high < tiers.critical:
        yield Flaw("/risk_tiers", "not-ascending", "medium < high < critical")
    for tier in TIERS:
        rule_of_tier = policy_set.quorum_of(tier)
        if rule_of_tier.weight_numerator > rule_of_tier.weight_denominator:
            yield Flaw(f"/quorum/{tier.value}/weight_numerator", "invalid-value", "the share is at most 1")
        for name in ("roles", "veto"):
            listed = getattr(rule_of_tier, name)
            if len(set(listed)) != len(listed):
                yield Flaw(f"/quorum/{tier.value}/{name}", "duplicate-item", "a role stands twice")


DEFAULT: Final = PolicySet(
    v=1,
    id="default",
    rules=[],
    params={},
    path_weights=[
        PathWeight(targets=None, pointer="/guard_rules", points=300),
        PathWeight(targets=None, pointer="/tool_grants", points=150),
        PathWeight(targets=None, pointer="/budgets", points=50),
        PathWeight(targets=None, pointer="/prompts", points=50),
        PathWeight(targets=None, pointer="/routing", points=50),
    ],
    flip_points=FlipPoints(deny_to_allow=100, allow_to_deny=20, other=5),
    delta_points=[
        DeltaPoints(targets=None, kind="added", pointer="/tool_grants", direction="any", at_least=1, points=50),
        DeltaPoints(targets=None, kind="removed", pointer="/guard_rules", direction="any", at_least=1, points=100),
        DeltaPoints(targets=None, kind="number", pointer="/budgets", direction="up", at_least=5_000, points=50),
        DeltaPoints(targets=None, kind="number", pointer="/budgets", direction="up", at_least=90_000, points=200),
        DeltaPoints(targets=None, kind="text", pointer="/prompts", direction="any", at_least=1_000, points=50),
    ],
    risk_tiers=RiskTiers(medium=100, high=300, critical=600),
    oracle=OraclePolicy(missing="raise"),
    quorum=QuorumRules(
        low=QuorumRule(
            humans=0,
            recomputes=1,
            human_replaces_recompute=True,
            eligible_humans_min=0,
            roles=[],
            orgs_min=0,
            veto=[],
            weight_numerator=0,
            weight_denominator=1,
            time_lock_seconds=0,
            expiry_seconds=3 * DAY_SECONDS,
            apply="auto",
            applier_not_proposer=False,
        ),
        medium=QuorumRule(
            humans=1,
            recomputes=1,
            human_replaces_recompute=False,
            eligible_humans_min=1,
            roles=[],
            orgs_min=0,
            veto=[],
            weight_numerator=0,
            weight_denominator=1,
            time_lock_seconds=0,
            expiry_seconds=3 * DAY_SECONDS,
            apply="auto",
            applier_not_proposer=False,
        ),
        high=QuorumRule(
            humans=2,
            recomputes=1,
            human_replaces_recompute=False,
            eligible_humans_min=3,
            roles=["owner", "safety"],
            orgs_min=2,
            veto=["safety"],
            weight_numerator=0,
            weight_denominator=1,
            time_lock_seconds=600,
            expiry_seconds=DAY_SECONDS,
            apply="manual",
            applier_not_proposer=True,
        ),
        critical=QuorumRule(
            humans=3,
            recomputes=1,
            human_replaces_recompute=False,
            eligible_humans_min=3,
            roles=["owner", "safety", "security"],
            orgs_min=2,
            veto=["*"],
            weight_numerator=0,
            weight_denominator=1,
            time_lock_seconds=3_600,
            expiry_seconds=DAY_SECONDS,
            apply="manual",
            applier_not_proposer=True,
        ),
        # No recompute: losing the machine validator must not take away the only way to appoint another.
        governance=QuorumRule(
            humans=2,
            recomputes=0,
            human_replaces_recompute=False,
            eligible_humans_min=2,
            roles=[],
            orgs_min=0,
            veto=[],
            weight_numerator=2,
            weight_denominator=3,
            time_lock_seconds=DAY_SECONDS,
            expiry_seconds=7 * DAY_SECONDS,
            apply="manual",
            applier_not_proposer=True,
        ),
    ),
)
"""What a deployment starts with (firewall.md section 7)."""
