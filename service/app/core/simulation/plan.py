"""Simulating a proposal on a shadow copy: the plan that validators sign (firewall.md section 6).

One pure function from bytes to a record. No clock, no randomness, no input or output, no hash order: the same inputs
give the same record in every process on every machine with the same engine, or the proposal fails as
nondeterministic. What it cannot conclude is `inconclusive`, never `allow`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from app.core.documents import canonical, diff, instants, patch, strict_json
from app.core.governance import policy_set
from app.core.governance.policy_set import PolicySet, Rule
from app.core.governed import target as targets
from app.core.governed.target import is_governance, matches
from app.core.simulation import engine, risk, shadow
from app.core.simulation.inputs import (
    EngineMismatch,
    InvalidInputs,
    OracleReading,
    ProposalFacts,
    Reference,
    SimulationInputs,
    Versioned,
    build_inputs,
    parse_inputs,
)
from app.errors import Flaw, InvalidCorpus, InvalidPolicySet, InvalidTarget, MalformedBody, PatchFailed

__all__ = (
    "ALLOW",
    "DENY",
    "INCONCLUSIVE",
    "EngineMismatch",
    "Evaluator",
    "InvalidInputs",
    "LimitReached",
    "OracleReading",
    "ProposalFacts",
    "Reference",
    "Simulated",
    "SimulationInputs",
    "Versioned",
    "build_inputs",
    "parse_inputs",
    "simulate",
)

ALLOW: Final = "allow"
DENY: Final = "deny"
INCONCLUSIVE: Final = "inconclusive"
PASSED: Final = "pass"
FIRED: Final = "fire"
REASONS_MAX: Final = 200
POLICIES: Final = "governance/policies"
CORPUS: Final = "governance/corpus"


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulation's outcome.

    `record` is typed "amgf/simulation" (its digest is the simulation_digest); `after` is the canonical content of the
    resulting snapshot, None when the patch gave none.
    """

    record: dict[str, Any]
    after: bytes | None


class LimitReached(Exception):
    """A schema or a rule needs more than this process can give: nothing can be concluded."""


class Evaluator(Protocol):
    """The parts of a simulation that run a stranger's program: rules and schemas. Lives in the sandbox."""

    def document_flaws(self, schema: dict[str, Any], document: Any) -> list[Flaw]:
        """Return what a document lacks. Raises `LimitReached`."""

    def rule_outcomes(self, rules: Sequence[Rule], variables: Mapping[str, Any]) -> Sequence[str]:
        """Return pass, fire or error for each rule."""

    def policy_flaws(self, policy: PolicySet) -> list[Flaw]:
        """Return the rules of a policy set that do not compile."""

    def constitution_flaws(self, target: str, before: Any, after: Any, *, policies: Any, at: datetime) -> list[Flaw]:
        """Return what the constitution has against a change of a governing document."""


def simulate(inputs: bytes, evaluator: Evaluator) -> Simulated:
    """Return what the proposal would do.

    Raises:
        InvalidInputs: the bytes are not the inputs of a simulation.
        EngineMismatch: they are those of another engine.
    """
    return _Run(inputs, evaluator).finish()


class _Run:
    """One simulation, in the order of the steps; each step adds reasons, none takes one away."""

    def __init__(self, inputs: bytes, evaluator: Evaluator) -> None:
        self._inputs = parse_inputs(inputs)
        if self._inputs.engine != engine.describe():
            raise EngineMismatch
        self._inputs_digest = canonical.digest(inputs)
        self._evaluator = evaluator
        self._deny: list[dict[str, Any]] = []
        self._hold: list[dict[str, Any]] = []
        try:
            self._config = targets.from_record(self._inputs.target)
            self._policy = policy_set.parse(_pinned(self._inputs.policy_set))
            self._corpus = shadow.parse(_pinned(self._inputs.corpus))
        except (InvalidTarget, InvalidPolicySet, InvalidCorpus) as error:
            raise InvalidInputs(error.code) from None

    def finish(self) -> Simulated:
        before, name = self._inputs.base, self._config.name
        self._check_pins()
        patched = self._patched()
        content = self._content(patched)
        after = before if content is None else strict_json.decode(content).value
        if content is not None:
            self._check_document(after)
        facts = diff.compare(before, after)
        flips = shadow.compare(self._corpus, name, before, after)
        touched = patched.touched if patched else ()
        risk_found = risk.assess(
            self._policy,
            target=name,
            touched=touched,
            facts=facts,
            flip_counts=flips.counts,
            readings=self._inputs.oracle_readings,
        )
        sources = risk.tiers(
            self._policy,
            target=name,
            kind=self._inputs.proposal.kind,
            declared=self._inputs.proposal.declared_risk,
            minimum=self._config.minimum_tier,
            points=risk_found.points,
            oracle_missing=self._inputs.oracle_missing,
        )
        tier = max(tier for _, tier in sources)
        if self._inputs.oracle_missing and self._policy.oracle.missing == "hold":
            self._hold.append(_reason("oracle-missing", "no reading of the external risk service"))
        outcomes: list[dict[str, Any]] = []
        if not self._deny:
            sim = {"flips": dict(flips.counts), "cases": flips.cases, "points": risk_found.points, "tier": tier.value}
            outcomes = self._rules(before, after, {"diff": facts.variable(), "touched": list(touched), "sim": sim})
        record = {
            "_type": "amgf/simulation",
            "v": 1,
            "inputs_digest": self._inputs_digest,
            "engine": self._inputs.engine,
            "verdict": DENY if self._deny else INCONCLUSIVE if self._hold else ALLOW,
            "reasons": (self._deny + self._hold)[:REASONS_MAX],
            "result_digest": canonical.digest(content) if content is not None else None,
            "tier": tier.value,
            "tier_sources": [{"source": source, "tier": one.value} for source, one in sources],
            "risk_points": risk_found.points,
            "risk": risk_found.record(),
            "touched": list(touched),
            "inverse_patch": patched.inverse if patched else [],
            "rules": outcomes,
            "flips": list(flips.flips[: shadow.FLIPS_SHOWN_MAX]),
            "flip_counts": flips.counts,
            "cases": flips.cases,
            "diff": facts.record(),
        }
        return Simulated(record, content)

    def _check_pins(self) -> None:
        proposal, name = self._inputs.proposal, self._config.name
        if canonical.digest(canonical.encode_value(self._inputs.base)) != proposal.base_digest:
            self._deny.append(_reason("base-digest-mismatch", "the base is not the document that was proposed upon"))
        if proposal.target != name:
            self._deny.append(_reason("target-mismatch", "the configuration is another target's"))
        if proposal.kind in {"mutation", "governance"} and is_governance(name) != (proposal.kind == "governance"):
            self._deny.append(_reason("kind-mismatch", "targets under governance/ take proposals of kind governance"))

    def _patched(self) -> patch.Patched | None:
        try:
            return patch.apply(self._inputs.base, patch.parse(self._inputs.patch))
        except PatchFailed as error:
            self._deny.append(_reason("patch-failed", f"operation {error.index}: {error.message}", at=error.pointer))
            return None

    def _content(self, patched: patch.Patched | None) -> bytes | None:
        """Return the resulting snapshot's bytes if they would be accepted; everything below evaluates only these."""
        if patched is None:
            return None
        content = canonical.encode_value(patched.value)
        try:
            strict_json.decode(content)
        except MalformedBody as error:
            flaw = error.flaws[0]
            self._deny.append(_reason("result-malformed", flaw.message, at=flaw.pointer))
            return None
        return content

    def _check_document(self, after: Any) -> None:
        try:
            if self._config.schema is not None:
                self._refuse("schema-failed", self._evaluator.document_flaws(self._config.schema, after))
            if is_governance(self._config.name):
                self._check_governance(self._inputs.base, after)
        except LimitReached:
            self._hold.append(_reason("limit-reached", "the schema cannot be applied within the limits"))

    def _check_governance(self, before: Any, after: Any) -> None:
        try:
            if self._config.name == POLICIES:
                self._refuse("policy-invalid", self._evaluator.policy_flaws(policy_set.parse(after)))
            elif self._config.name == CORPUS:
                shadow.parse(after)
        except (InvalidPolicySet, InvalidCorpus) as error:
            self._refuse("document-invalid", error.flaws)
            return
        policies = self._inputs.policy_set.document
        at = instants.from_text(self._inputs.proposal.accepted_at)
        flaws = self._evaluator.constitution_flaws(self._config.name, before, after, policies=policies, at=at)
        self._refuse("constitution", flaws)

    def _refuse(self, code: str, flaws: Sequence[Flaw]) -> None:
        self._deny += [_reason(code, flaw.message, at=flaw.pointer) for flaw in flaws]

    def _rules(self, before: Any, after: Any, computed: dict[str, Any]) -> list[dict[str, Any]]:
        proposal = self._inputs.proposal
        rules = [rule for rule in self._policy.rules if matches(self._config.name, rule.targets)]
        variables = {
            "before": before,
            "after": after,
            "params": self._policy.params,
            "now": instants.from_text(proposal.accepted_at),
            "actor": {"principal": proposal.proposer},
            "target": {
                "name": self._config.name,
                "minimum_tier": self._config.minimum_tier.value,
                "on_failure": self._config.on_failure,
            },
            "proposal": {
                "id": proposal.id,
                "kind": proposal.kind,
                "target": proposal.target,
                "base_version": proposal.base_version,
                "declared_risk": proposal.declared_risk.value,
                "rationale_characters": proposal.rationale_characters,
            },
            **computed,
        }
        outcomes = self._evaluator.rule_outcomes(rules, variables) if rules else ()
        for rule, outcome in zip(rules, outcomes, strict=True):
            if rule.mode == "deny" and outcome != PASSED:
                code = "rule-fired" if outcome == FIRED else "rule-error"
                message = rule.message if outcome == FIRED else "the rule could not be evaluated"
                self._deny.append(_reason(code, message, rule=rule.id))
        return [
            {"id": rule.id, "mode": rule.mode, "outcome": outcome}
            for rule, outcome in zip(rules, outcomes, strict=True)
        ]


def _pinned(versioned: Versioned) -> Any:
    if canonical.digest(canonical.encode_value(versioned.document)) != versioned.digest:
        raise InvalidInputs("a pinned document is not of its digest")
    return versioned.document


def _reason(code: str, message: str, *, rule: str | None = None, at: str | None = None) -> dict[str, Any]:
    return {"code": code, "rule": rule, "pointer": at, "message": message}
