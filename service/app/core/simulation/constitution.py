"""What no policy, no quorum and no API call can change (firewall.md section 8). Compiled in.

1. Nobody votes on their own proposal (`votes`, `quorum`), and no quorum can be met by one person of several.
2. Every tier's threshold is at least one person or machine and can be met by the validators there are.
3. The governance tier is never lowered: a share of two thirds, two people, no machine in a person's place, applied by
   hand and not by the proposer; its time lock never gets shorter.
4. A validator set keeps at least `minimum` people, three or more, and whoever of them is away, asleep or the proposer,
   the others can still govern.
5. Every new key comes with a proof that its holder has it, for this log; no key's window is extended into the past.
6. The log keeps its name, and its keys and the service's are replaced, never forgotten.
7. Breaking the glass can only freeze, or go back to what was attested (`check_break_glass`).

`check` judges one change of a `governance/` target: pure, whatever the documents hold. It is called by the simulation.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from app.core.governance import policy_set as policy
from app.core.governance import root
from app.core.governance import validators as electorate
from app.core.governance.genesis import Genesis
from app.core.governance.policy_set import PolicySet, QuorumRule
from app.core.governance.validators import Key, Validator, ValidatorSet
from app.core.governed.target import TIERS, Tier, is_governance
from app.core.quorum import counting
from app.core.signing import possession
from app.core.signing.keys import Verify
from app.errors import Flaw, InvalidDocument, InvalidPolicySet, ProofFailed

HUMANS_MIN: Final = 3
"""With fewer, the loss of one person is the loss of two thirds."""
SHARE_MIN: Final = (2, 3)
GOVERNANCE_HUMANS_MIN: Final = 2
BREAK_GLASS_PERSONS_OF_CRITICAL: Final = 2
HORIZON: Final = timedelta(days=30)
"""A person whose keys all end sooner than this does not count as one who stays."""
PEOPLE_MIN: Final = {
    Tier.LOW: 0,
    Tier.MEDIUM: 1,
    Tier.HIGH: 2,
    Tier.CRITICAL: 3,
    Tier.GOVERNANCE: GOVERNANCE_HUMANS_MIN,
}


def check(
    target: str,
    before: Any,
    after: Any,
    *,
    verify: Verify,
    policies: Any = None,
    validators: Any = None,
    at: datetime | None = None,
) -> list[Flaw]:
    """Return what is wrong with a change of a governing document; nothing for other targets.

    `before` is None at genesis. `policies`, `validators`: the documents in force, to judge thresholds against people;
    what is None is not judged. `at`: the instant the proposal was accepted; None counts keys whatever their windows.
    """
    if target == "governance/validators":
        return _judged(lambda: _validators(before, after, verify=verify, policies=policies, at=at))
    if target == "governance/policies":
        return _judged(lambda: _policies(before, after, validators=validators, at=at))
    if target == "governance/root":
        return _judged(lambda: root.succession(None if before is None else root.parse(before), root.parse(after)))
    if target == "governance/corpus":
        return [] if isinstance(after, dict) and after else [Flaw("", "empty-corpus", "a corpus is never empty")]
    if is_governance(target):
        return [Flaw("", "unknown-governance-target", "there is no such governing document")]
    return []


def check_genesis(genesis: Genesis, *, verify: Verify) -> list[Flaw]:
    """Return what is wrong with the documents of a founding, with pointers into the bundle. Not its signatures."""
    parts = {"root": genesis.root, "policies": genesis.policies, "validators": genesis.validators}
    flaws = [
        Flaw(f"/{name}{flaw.pointer}", flaw.code, flaw.message)
        for name, document in {**parts, "corpus": genesis.corpus}.items()
        for flaw in check(
            f"governance/{name}",
            None,
            document,
            verify=verify,
            policies=genesis.policies,
            validators=genesis.validators,
        )
    ]
    return flaws or [
        Flaw(f"/validators/validators/{index}/keys/{place}/possession", "other-origin", "a proof for another log")
        for index, one in enumerate(electorate.parse(genesis.validators).validators)
        for place, key in enumerate(one.keys)
        if _proof(one, key, verify).origin != root.parse(genesis.root).origin
    ]


def check_break_glass(
    *,
    target: str,
    action: str,
    minimum_tier: Tier,
    persons: Collection[str],
    digest: str | None,
    attested: Collection[str],
) -> list[Flaw]:
    """Return what is wrong with breaking the glass over a target.

    `action`: rollback or freeze, and nothing else. `persons`: the distinct principals who break it. `digest`: what is
    restored; `attested`: the digests of snapshots of this target that were once applied.
    """
    flaws = []
    if is_governance(target):
        flaws.append(Flaw("/target", "governance", "the rules themselves have no glass to break"))
    if action not in {"rollback", "freeze"}:
        flaws.append(Flaw("/action", "not-a-way-back", "only a rollback or a freeze"))
    if action == "rollback" and (digest is None or digest not in attested):
        flaws.append(Flaw("/to_version", "not-attested", "only back to what was once applied and attested"))
    needed = BREAK_GLASS_PERSONS_OF_CRITICAL if minimum_tier >= Tier.CRITICAL else 1
    if len(set(persons)) < needed:
        flaws.append(Flaw("", "one-alone", "a critical target takes two people"))
    return flaws


def _judged(judge: Callable[[], Iterable[Flaw]]) -> list[Flaw]:
    try:
        return list(judge())
    except (InvalidDocument, InvalidPolicySet) as error:
        return list(error.flaws)


# Validators.


def _validators(before: Any, after: Any, *, verify: Verify, policies: Any, at: datetime | None) -> Iterator[Flaw]:
    new = electorate.parse(after)
    old = None if before is None else electorate.parse(before)
    yield from _people(new, at)
    yield from _keys(old, new, verify)
    if policies is not None:
        yield from _reachable(policy.parse(policies), new, at, "/validators")


def _people(new: ValidatorSet, at: datetime | None) -> Iterator[Flaw]:
    if new.minimum < HUMANS_MIN:
        yield Flaw("/minimum", "too-few", f"at least {HUMANS_MIN}")
    staying = sum(_stays(one, at) for one in new.humans())
    if staying < max(new.minimum, HUMANS_MIN):
        yield Flaw("/validators", "too-few", f"{staying} people with a key that lasts, {new.minimum} are the minimum")
    yield from _governable(policy.DEFAULT.quorum.governance, new, at, "/validators")


def _keys(old: ValidatorSet | None, new: ValidatorSet, verify: Verify) -> Iterator[Flaw]:
    known = (
        {}
        if old is None
        else {(one.id, one.principal, key.public_key): key for one in old.validators for key in one.keys}
    )
    origins = {_proof(one, key, None).origin for one in (old.validators if old else ()) for key in one.keys}
    for index, one in enumerate(new.validators):
        for place, key in enumerate(one.keys):
            pointer = f"/validators/{index}/keys/{place}"
            earlier = known.get((one.id, one.principal, key.public_key))
            if earlier is not None and key.not_before < earlier.not_before:
                yield Flaw(f"{pointer}/not_before", "window-backdated", "a key's window is not extended into the past")
            if earlier is not None and earlier.possession == key.possession:
                continue
            try:
                origins.add(_proof(one, key, verify).origin)
            except ProofFailed as error:
                yield Flaw(f"{pointer}/possession", "proof-failed", f"the proof does not hold: {error.reason}")
            if len(origins) > 1:
                yield Flaw(f"{pointer}/possession", "other-origin", "a proof for another log")
                return


def _proof(one: Validator, key: Key, verify: Verify | None) -> possession.Possession:
    """Return what a key's proof says; without `verify` it was verified before."""
    return possession.check(
        key.possession,
        key.raw,
        validator=one.id,
        principal=one.principal,
        origin=None,
        verify=verify or (lambda _key, _message, _signature: True),
    )


# Policies.


def _policies(before: Any, after: Any, *, validators: Any, at: datetime | None) -> Iterator[Flaw]:
    new = policy.parse(after)
    for tier in TIERS:
        yield from _floor(tier, new.quorum_of(tier), f"/quorum/{tier.value}")
    lock = new.quorum.governance.time_lock_seconds
    if before is not None and lock < policy.parse(before).quorum.governance.time_lock_seconds:
        yield Flaw("/quorum/governance/time_lock_seconds", "lowered", "governance's time lock never gets shorter")
    if validators is not None:
        yield from _reachable(new, electorate.parse(validators), at, "/quorum")


def _floor(tier: Tier, rule: QuorumRule, pointer: str) -> Iterator[Flaw]:
    if rule.humans + rule.recomputes < 1:
        yield Flaw(pointer, "no-threshold", "somebody must approve")
    if rule.humans < PEOPLE_MIN[tier]:
        yield Flaw(f"{pointer}/humans", "lowered", f"at least {PEOPLE_MIN[tier]} people approve")
    if rule.expiry_seconds <= rule.time_lock_seconds:
        yield Flaw(f"{pointer}/expiry_seconds", "never-applicable", "it would expire before its time lock ends")
    if tier >= Tier.HIGH and (rule.apply != "manual" or not rule.applier_not_proposer):
        yield Flaw(f"{pointer}/apply", "lowered", "applied by hand, and not by the proposer")
    if tier is Tier.GOVERNANCE:
        if rule.weight_numerator * SHARE_MIN[1] < SHARE_MIN[0] * rule.weight_denominator:
            yield Flaw(f"{pointer}/weight_numerator", "lowered", "at least two thirds of the weight")
        if rule.human_replaces_recompute:
            yield Flaw(f"{pointer}/human_replaces_recompute", "lowered", "people and machines are counted apart")


def _reachable(policies: PolicySet, of: ValidatorSet, at: datetime | None, pointer: str) -> Iterator[Flaw]:
    there = [one for one in of.validators if _stays(one, at)]
    for tier in TIERS:
        for requirement, needed, have in counting.lacking(policies.quorum_of(tier), of, there):
            message = f"tier {tier.value} needs {needed} of {requirement}, there would be {have}"
            yield Flaw(pointer, "unreachable", message)
    yield from _governable(policies.quorum.governance, of, at, pointer)


def _governable(rule: QuorumRule, of: ValidatorSet, at: datetime | None, pointer: str) -> Iterator[Flaw]:
    """Name each person without whom the others could not govern."""
    there = [one for one in of.validators if _stays(one, at)]
    weights = counting.capped_weights(rule, of)
    if counting.lacking(rule, of, there, weights=weights):
        yield Flaw(pointer, "unreachable", "not even all together could govern")
        return
    for away in of.humans():
        if counting.lacking(rule, of, [one for one in there if one is not away], weights=weights):
            yield Flaw(pointer, "indispensable", f"without {away.id} nobody could govern")


def _stays(one: Validator, at: datetime | None) -> bool:
    return bool(one.keys) if at is None else one.has_key_at(at) and one.has_key_at(at + HORIZON)
