"""Inputs of simulations for tests: one target, its base, a policy set, a corpus."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from app.core.documents import canonical
from app.core.governance import policy_set
from app.core.governed.target import TargetConfig, Tier, reserved
from app.core.simulation import shadow
from app.core.simulation.inputs import Kind
from app.core.simulation.plan import OracleReading, ProposalFacts, Reference, Versioned, build_inputs

NAME = "assistant/support"
BASE: dict[str, Any] = {
    "tool_grants": ["search"],
    "guard_rules": [
        {"id": "no-secrets", "effect": "deny", "when": [{"field": "/request/topic", "op": "equals", "value": "secret"}]}
    ],
    "budgets": {"tokens": 1000, "share": 0.25},
    "prompts": {"greeting": "Hello {{ name }}"},
    "routing": [{"route": "small", "when": []}],
}
PATCH: list[dict[str, Any]] = [{"op": "replace", "path": "/budgets/tokens", "value": 1100}]
ALL_FINE = "true"


def digest_of(value: Any) -> str:
    return canonical.digest(canonical.encode_value(value))


def versioned(document: Any, version: int = 1) -> Versioned:
    return Versioned(version, digest_of(document), document)


def rule(expression: str, *, mode: str = "deny", id: str = "rule") -> dict[str, Any]:  # noqa: A002 - the field's name
    return {"id": id, "mode": mode, "expression": expression, "message": "not allowed", "targets": None}


def policies(*rules: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {**policy_set.DEFAULT.document(), "rules": list(rules), **fields}


def inputs_of(
    patch: Sequence[Mapping[str, Any]] = PATCH,
    *,
    base: Any = BASE,
    name: str = NAME,
    kind: Kind = "mutation",
    policy: Any = None,
    corpus: Any = None,
    schema: dict[str, Any] | None = None,
    declared: Tier = Tier.LOW,
    minimum: Tier = Tier.LOW,
    base_digest: str | None = None,
    readings: Sequence[OracleReading] = (),
    oracle_missing: bool = False,
) -> bytes:
    config = TargetConfig(name=name, schema=schema, minimum_tier=minimum, on_failure="hold", actuator=None)
    if name.startswith("governance/"):
        config = reserved(name)
    return build_inputs(
        proposal=ProposalFacts(
            id="019374a0-0000-7000-8000-000000000001",
            kind=kind,
            target=name,
            base_version=1,
            base_digest=base_digest or digest_of(base),
            proposal_digest="sha256:" + "0" * 64,
            proposer="alice",
            declared_risk=declared,
            accepted_at="2026-11-23T22:17:24.123456Z",
            rationale_characters=12,
        ),
        patch=patch,
        target=config.record(),
        base=base,
        policy_set=versioned(policy or policies(rule(ALL_FINE))),
        corpus=versioned(corpus or msgspec.to_builtins(shadow.DEFAULT)),
        validator_set=Reference(1, "sha256:" + "1" * 64),
        oracle_readings=readings,
        oracle_missing=oracle_missing,
    )
