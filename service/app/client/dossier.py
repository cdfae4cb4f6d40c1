"""Everything about one proposal, fetched and checked here: what a voter may rely on when they sign.

The service is asked for documents, never for conclusions. Each document is of its digest, the patch is applied again,
the rule of the tier is read from the policy set, and the ballot is built anew from all that. Only a ballot that is byte
for byte the same as the service's is shown to be signed (no blind signing); `resimulate` goes further and runs the
simulation itself.
"""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec

from app.client.exits import NO, Stop, bad_input
from app.client.http import Firewall
from app.core.documents import canonical, patch
from app.core.governance import policy_set, validators
from app.core.governance.policy_set import PolicySet
from app.core.governance.validators import ValidatorSet
from app.core.governed import target
from app.core.governed.shapes import Pin
from app.core.governed.target import TargetConfig, Tier
from app.core.log.bodies import Content, ProposalCreated, Simulated
from app.core.log.entry import EntryFlaw, Raw, read
from app.core.replay.standing import CORPUS, POLICIES, VALIDATORS, Unreadable
from app.core.signing import statement
from app.core.signing.statement import Ballot, BallotPredicate
from app.core.verification.rebuilding import assembled, facts_of
from app.errors import FirewallError, PatchFailed
from app.sandbox import once
from app.sandbox.result import Inconclusive

SIMULATION_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Dossier:
    """A proposal with everything its ballot stands on; all of it checked."""

    shown: dict[str, Any]
    """The proposal as the service answers it: its state is the service's word."""
    created: ProposalCreated
    content: Content
    simulated: Simulated
    config: TargetConfig
    base: Any
    result: Any
    policies: PolicySet
    policies_document: Any
    electorate: ValidatorSet
    corpus: Any
    ballot: Ballot
    ballot_expires_at: str

    @property
    def record(self) -> dict[str, Any]:
        """The simulation's record."""
        return self.simulated.simulation

    @property
    def tier(self) -> Tier:
        """The tier that the ballot names."""
        return self.ballot.predicate.tier

    def resimulate(self) -> None:
        """Run the simulation again, in a process of its own here.

        Raises:
            Stop: it gives another record (exit 1), or none: another engine, a limit (exit 3).
        """
        inputs = self.inputs()
        if canonical.digest(inputs) != self.record.get("inputs_digest"):
            raise mismatch("the simulation was of other inputs than these documents")
        found = once.simulate(inputs, deadline_seconds=SIMULATION_SECONDS)
        if isinstance(found, Inconclusive):
            raise Stop(f"the simulation cannot be run here: {found.reason} {found.detail}".strip(), code=3)
        if found.digest != self.simulated.simulation_digest:
            raise mismatch(f"the simulation gives {found.digest} here, not {self.simulated.simulation_digest}")

    def inputs(self) -> bytes:
        """Return the simulation's inputs, rebuilt.

        Raises:
            Stop: a field is malformed.
        """
        try:
            facts = facts_of(
                self.content,
                proposal_id=self.created.id,
                proposal_digest=digest(self.created.content),
                proposer=self.created.proposer,
                accepted_at=self.created.accepted_at,
            )
            return assembled(
                self.simulated.inputs,
                proposal=facts,
                patch=self.content.patch,
                config=self.config.record(),
                base=self.base,
                policies=self.policies_document,
                corpus=self.corpus,
            )
        except Unreadable as error:
            raise bad_input(str(error)) from None


def gather(firewall: Firewall, proposal_id: str) -> Dossier:
    """Fetch and check everything about a simulated proposal.

    Raises:
        Refusal: there is none, or it has no ballot.
        Stop: what the service says does not fit together (exit 1), or cannot be read (exit 65).
    """
    shown = firewall.get(f"/proposals/{proposal_id}").value()
    events = firewall.get(f"/proposals/{proposal_id}/events").value()["items"]
    created = _newest(events, "proposal-created", ProposalCreated, epoch=1)
    simulated = _newest(events, "simulated", Simulated, epoch=shown.get("epoch"))
    offered = firewall.get(f"/proposals/{proposal_id}/ballot").value()
    content = _convert(created.content, Content)
    told = simulated.inputs
    base = snapshot(firewall, content.target, Pin(content.base_version, content.base_digest))
    policies_document = snapshot(firewall, POLICIES, told.policy_set)
    validators_document = snapshot(firewall, VALIDATORS, told.validator_set)
    corpus = snapshot(firewall, CORPUS, told.corpus)
    try:
        policies = policy_set.parse(policies_document)
        electorate = validators.parse(validators_document)
        result = patch.apply(base, patch.parse(content.patch)).value
    except PatchFailed as error:
        raise mismatch(f"the patch cannot be applied to the base: {error}") from None
    except FirewallError as error:
        raise mismatch(f"the rules in force cannot be read: {error}") from None
    dossier = Dossier(
        shown=shown,
        created=created,
        content=content,
        simulated=simulated,
        config=config_of(firewall, content.target),
        base=base,
        result=result,
        policies=policies,
        policies_document=policies_document,
        electorate=electorate,
        corpus=corpus,
        ballot=_convert(offered.get("statement", offered), Ballot),
        ballot_expires_at=simulated.expires_at,
    )
    _require_ballot(dossier, proposal_id)
    return dossier


def snapshot(firewall: Firewall, name: str, pin: Pin) -> Any:
    """Return the document of a version, once it is of its digest.

    Raises:
        Stop: it is another.
    """
    found = firewall.get(f"/targets/{quote(name, safe='')}/snapshots/{pin.version}").value()
    if digest(found.get("document")) != pin.digest:
        raise mismatch(f"version {pin.version} of {name} is not the document of its digest")
    return found["document"]


def config_of(firewall: Firewall, name: str) -> TargetConfig:
    """Return a target's configuration, once it is of its digest.

    Raises:
        Stop: it is another.
    """
    found = firewall.get(f"/targets/{quote(name, safe='')}").value()
    names = ("name", "schema", "minimum_tier", "on_failure", "actuator")
    config: TargetConfig = _convert({one: found.get(one) for one in names}, TargetConfig)
    if config.digest() != found.get("target_digest"):
        raise mismatch(f"the configuration of {name} is not of its digest")
    return config


def mismatch(sentence: str) -> Stop:
    """Return what ends a command when the service's words do not fit together: nothing was signed."""
    return Stop(f"DO NOT SIGN: {sentence}", code=NO)


def digest(value: Any) -> str:
    """Return the digest of a value's canonical bytes."""
    return canonical.digest(canonical.encode_value(value))


def _require_ballot(dossier: Dossier, proposal_id: str) -> None:
    """Build the ballot anew and compare."""
    offered, record = dossier.ballot.predicate, dossier.record
    if digest(dossier.result) != record.get("result_digest"):
        raise mismatch("the patch on the base gives another result than the simulation says")
    if record.get("verdict") != "allow":
        raise mismatch("the simulation does not allow it")
    if target.is_governance(dossier.content.target) and dossier.tier is not Tier.GOVERNANCE:
        raise mismatch("a change of the rules themselves is of the governance tier")
    built = statement.ballot(
        proposal_digest=digest(dossier.created.content),
        result_digest=digest(dossier.result),
        predicate=BallotPredicate(
            proposal=proposal_id,
            target=dossier.content.target,
            base_version=dossier.content.base_version,
            base_digest=digest(dossier.base),
            patch_digest=digest(dossier.content.patch),
            simulation_digest=digest(record),
            tier=_convert(record.get("tier"), Tier),
            quorum_rule_digest=dossier.policies.quorum_rule_digest(_convert(record.get("tier"), Tier)),
            policy_set=dossier.simulated.inputs.policy_set,
            validator_set=dossier.simulated.inputs.validator_set,
            epoch=offered.epoch,
            nonce=offered.nonce,
        ),
    )
    if statement.encode(built) != statement.encode(dossier.ballot):
        raise mismatch("the ballot is not the one that follows from the documents")


def _newest(events: list[Any], kind: str, shape: type[Any], *, epoch: Any) -> Any:
    """Return the body of the newest event of a kind, once it is what its leaf says."""
    for event in reversed(events):
        if event.get("kind") != kind or event.get("epoch") != epoch:
            continue
        raw = Raw(0, canonical.encode_value(event["leaf"]), canonical.encode_value(event["body"]))
        try:
            return _convert(read(raw).body, shape)
        except EntryFlaw as flaw:
            raise mismatch(f"the event {kind} is not what its leaf says: {flaw}") from None
    raise Stop(f"the proposal has no event {kind} in this epoch: nothing to sign yet", code=NO)


def _convert(value: Any, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise bad_input(f"the service's answer is not what it should be: {error}") from None
