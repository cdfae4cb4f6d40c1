"""The table of section 7, and every way not to be counted."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.documents import canonical
from app.core.governance import validators
from app.core.governance.policy_set import DEFAULT, QuorumRule
from app.core.governance.validators import ValidatorSet
from app.core.governed.target import TIERS, Tier
from app.core.quorum import counting
from app.core.quorum import tally as quorum
from app.core.quorum.tally import Tally
from app.core.quorum.votes import CLOCK_TOLERANCE, VerifiedVote
from tests.unit.service.electorate import (
    NOW,
    PROPOSAL,
    PROPOSER,
    counted,
    document,
    founding,
    founding_set,
    key,
    validator,
)

FOUNDING = founding_set()


def tally(
    tier: Tier,
    votes: Sequence[VerifiedVote],
    *,
    of: ValidatorSet = FOUNDING,
    proposer: str = PROPOSER,
    rule: QuorumRule | None = None,
    **changes: Any,
) -> Tally:
    fields: dict[str, Any] = {"proposal": PROPOSAL, "epoch": 1, "proposer": proposer, "now": NOW, **changes}
    return quorum.tally(rule or DEFAULT.quorum_of(tier), of, votes, **fields)


def everybody(*names: str) -> list[VerifiedVote]:
    return [counted(name) for name in names]


def why(one: Tally) -> list[str]:
    return [reason for _, reason in one.not_counted]


def lacks(one: Tally) -> set[str]:
    return {missing.requirement for missing in one.missing}


MET = [
    ("low", ["robot"], "one machine that recomputed"),
    ("low", ["zoe"], "one human in a machine's place"),
    ("medium", ["zoe", "robot"], "one human and one recompute"),
    ("high", ["olga", "sam", "robot"], "owner and safety of two organisations and a recompute"),
    ("critical", ["olga", "sam", "zoe", "robot"], "owner, safety, security and a recompute"),
    ("governance", ["olga", "sam"], "two thirds of the weight"),
]
NOT_MET = [
    ("low", [], {"recomputes"}, "nobody"),
    ("medium", ["zoe"], {"recomputes"}, "a human without a recompute"),
    ("medium", ["zoe", "sam"], {"recomputes"}, "a second human replaces no recompute here"),
    ("medium", ["robot", "replica"], {"humans"}, "machines alone"),
    ("high", ["olga", "robot"], {"humans", "role:safety", "orgs"}, "one human"),
    ("high", ["olga", "zoe", "robot"], {"role:safety", "orgs"}, "nobody of safety"),
    ("high", ["sam", "zoe", "robot"], {"role:owner"}, "nobody of the owners"),
    ("high", ["olga", "sam"], {"recomputes"}, "no recompute"),
    ("critical", ["olga", "sam", "robot"], {"humans", "role:security"}, "two of three"),
    ("critical", ["olga", "sam", "zoe"], {"recomputes"}, "no recompute"),
    ("governance", ["olga", "robot", "replica"], {"humans", "weight"}, "machines have no weight"),
]


@pytest.mark.parametrize(("tier", "names", "_sentence"), MET, ids=lambda value: value if isinstance(value, str) else "")
def test_a_tier_is_met_by(tier: str, names: list[str], _sentence: str) -> None:
    one = tally(Tier(tier), everybody(*names))

    assert one.met
    assert not one.lost
    assert not one.missing
    assert len(one.counted) == len(names)


@pytest.mark.parametrize(("tier", "names", "missing", "_sentence"), NOT_MET)
def test_a_tier_is_not_met_by(tier: str, names: list[str], missing: set[str], _sentence: str) -> None:
    one = tally(Tier(tier), everybody(*names))

    assert not one.met
    assert lacks(one) == missing
    assert not one.lost, "the others may still vote"


NOT_COUNTED: list[tuple[str, dict[str, Any]]] = [
    ("other-proposal", {"proposal": "01a209f4-aea4-72f8-833c-264e68b380f2"}),
    ("other-epoch", {"epoch": 2}),
    ("not-a-validator", {"validator": "nobody"}),
    ("not-a-validator", {"keyid": counted("sam").keyid}),
    ("not-the-holder", {"principal": "sam-person"}),
    ("not-the-holder", {"role": "safety"}),
    ("outside-window", {"issued_at": NOW - timedelta(days=31)}),
    ("early", {"issued_at": NOW + timedelta(minutes=6)}),
    ("revoked", {"is_revoked": True}),
    ("expired", {"expires_at": NOW}),
    ("expired", {"expires_at": NOW - timedelta(seconds=1)}),
]


@pytest.mark.parametrize(("reason", "change"), NOT_COUNTED)
def test_a_vote_is_not_counted_and_the_tally_says_why(reason: str, change: dict[str, Any]) -> None:
    good = everybody("olga", "sam", "zoe", "robot")

    one = tally(Tier.CRITICAL, [replace(good[0], **change), *good[1:]])

    assert why(one) == [reason]
    assert not one.met


def test_the_proposer_is_never_counted_and_never_eligible() -> None:
    one = tally(Tier.CRITICAL, everybody("olga", "sam", "zoe", "robot"), proposer="olga-person")

    assert why(one) == ["proposer"]
    assert (one.met, one.lost) == (False, True)
    assert one.standing.eligible_humans == 2


def test_a_machine_that_did_not_recompute_approves_nothing() -> None:
    one = tally(Tier.LOW, [counted("robot", recomputed=False)])

    assert why(one) == ["not-recomputed"]
    assert not one.met


def test_a_vote_by_a_revoked_key_is_void_and_its_holder_has_no_vote_left() -> None:
    one = tally(Tier.CRITICAL, everybody("olga", "sam", "zoe", "robot"), revoked_keys=[counted("zoe").keyid])

    assert why(one) == ["key-revoked"]
    assert one.lost


def test_the_last_vote_of_a_person_wins() -> None:
    first, second = counted("sam"), counted("sam", "abstain")

    assert tally(Tier.GOVERNANCE, [counted("olga"), first]).met
    changed = tally(Tier.GOVERNANCE, [counted("olga"), first, second])
    assert not changed.met
    assert why(changed) == ["superseded"]


def test_an_old_envelope_sent_again_is_no_change_of_mind() -> None:
    approve, reject = counted("sam"), counted("sam", "reject")

    one = tally(Tier.GOVERNANCE, [counted("olga"), approve, reject, approve])

    assert not one.met
    assert sorted(why(one)) == ["duplicate", "superseded"]


def test_what_a_revoked_vote_superseded_does_not_come_back() -> None:
    one = tally(Tier.GOVERNANCE, [counted("olga"), counted("sam"), counted("sam", "abstain", is_revoked=True)])

    assert not one.met
    assert sorted(why(one)) == ["revoked", "superseded"]


def test_abstaining_counts_for_nothing_and_loses_nothing() -> None:
    one = tally(Tier.CRITICAL, [counted("olga", "abstain"), *everybody("sam", "zoe", "robot")])

    assert (one.met, one.lost, one.vetoed_by) == (False, False, ())


VETOES = [
    (Tier.HIGH, "sam", ("sam",)),
    (Tier.HIGH, "zoe", ()),
    (Tier.CRITICAL, "zoe", ("zoe",)),
    (Tier.CRITICAL, "replica", ()),
    (Tier.GOVERNANCE, "zoe", ()),
]


@pytest.mark.parametrize(("tier", "name", "vetoed_by"), VETOES)
def test_a_veto_loses_what_the_others_carried(tier: Tier, name: str, vetoed_by: tuple[str, ...]) -> None:
    others = [other for other in ("olga", "sam", "zoe", "robot") if other != name]

    one = tally(tier, [*everybody(*others), counted(name, "reject")])

    assert one.vetoed_by == vetoed_by
    assert one.met == (not vetoed_by)
    assert one.lost == bool(vetoed_by)


def test_a_veto_counts_also_when_the_rest_is_enough() -> None:
    with_two = validators.parse(
        document(*founding()["validators"], validator("sue", "safety", org="watch"), validator("xia", "owner"))
    )

    one = tally(
        Tier.HIGH,
        [*(counted(name, of=with_two) for name in ("olga", "sue", "robot")), counted("sam", "reject")],
        of=with_two,
    )

    assert not one.missing
    assert (one.met, one.lost, one.vetoed_by) == (False, True, ("sam",))


def test_a_share_takes_two_people_even_if_the_rule_asks_for_none() -> None:
    tenth = msgspec.structs.replace(
        DEFAULT.quorum.governance, humans=0, weight_numerator=1, weight_denominator=10, eligible_humans_min=0
    )

    assert lacks(tally(Tier.GOVERNANCE, everybody("olga"), rule=tenth)) == {"humans"}
    assert tally(Tier.GOVERNANCE, everybody("olga", "sam"), rule=tenth).met


def test_a_proposal_is_lost_when_only_its_proposer_would_make_enough_eligible() -> None:
    one = tally(Tier.HIGH, everybody("olga", "sam", "robot"), proposer="zoe-person")

    assert lacks(one) == {"eligible_humans"}
    assert one.lost


def test_a_proposal_is_lost_as_soon_as_the_rest_cannot_carry_it() -> None:
    one = tally(Tier.GOVERNANCE, [counted("olga", "reject")])
    two = tally(Tier.GOVERNANCE, [counted("olga", "reject"), counted("sam", "reject")])

    assert (one.lost, two.lost) == (False, True)


def test_too_few_eligible_people_lose_a_proposal_however_many_approve() -> None:
    small = validators.parse(
        document(validator("olga", "owner"), validator("sam", "safety"), validator("robot", "machine"))
    )

    one = tally(Tier.HIGH, [counted(name, of=small) for name in ("olga", "sam", "robot")], of=small)

    assert lacks(one) == {"eligible_humans"}
    assert one.lost


def test_two_organisations_are_asked_for_only_where_there_are_two() -> None:
    alone = validators.parse(
        document(*(validator(name, role) for name, role in
                   [("olga", "owner"), ("sam", "safety"), ("zoe", "security"), ("robot", "machine")]))
    )  # fmt: skip

    assert tally(Tier.HIGH, [counted(name, of=alone) for name in ("olga", "sam", "robot")], of=alone).met


def test_one_key_counts_once_even_if_two_entries_hold_it() -> None:
    shared = msgspec.structs.replace(FOUNDING.validators[3], keys=FOUNDING.validators[0].keys)
    forged = msgspec.structs.replace(FOUNDING, validators=(*FOUNDING.validators[:3], shared, FOUNDING.validators[4]))
    assert (FOUNDING.validators[0].id, shared.id) == ("olga", "sam")

    one = tally(Tier.GOVERNANCE, [counted("olga", of=forged), counted("sam", of=forged)], of=forged)

    assert why(one) == ["same-key"]
    assert not one.met


def test_one_person_under_two_ids_counts_once() -> None:
    twin = msgspec.structs.replace(FOUNDING.validators[3], principal="olga-person")
    forged = msgspec.structs.replace(FOUNDING, validators=(*FOUNDING.validators[:3], twin, FOUNDING.validators[4]))

    one = tally(Tier.GOVERNANCE, [counted("olga", of=forged), counted("sam", of=forged)], of=forged)

    assert why(one) == ["superseded"]


def test_nobody_alone_reaches_a_share_however_heavy() -> None:
    heavy = validators.parse(
        document(validator("olga", "owner", weight=1_000), validator("sam", "safety"), validator("zoe", "security"))
    )

    alone = tally(Tier.GOVERNANCE, [counted("olga", of=heavy)], of=heavy)
    together = tally(Tier.GOVERNANCE, [counted("olga", of=heavy), counted("zoe", of=heavy)], of=heavy)

    assert not alone.met
    assert alone.standing.weight < counting.share_needed(DEFAULT.quorum.governance, alone.standing.weight_total)
    assert together.met


@given(
    st.lists(st.integers(1, 1_000), min_size=1, max_size=12),
    st.integers(1, 10).flatmap(lambda over: st.tuples(st.integers(1, over), st.just(over))),
)
def test_the_cap_leaves_every_weight_below_the_share_where_that_is_possible(
    weights: list[int], share: tuple[int, int]
) -> None:
    rule = msgspec.structs.replace(DEFAULT.quorum.governance, weight_numerator=share[0], weight_denominator=share[1])
    entries = [replace_weight(index, weight) for index, weight in enumerate(weights)]
    of = msgspec.structs.replace(FOUNDING, validators=tuple(entries))

    capped = counting.capped_weights(rule, of)
    needed = counting.share_needed(rule, sum(capped.values()))

    is_possible = len(weights) * share[0] > share[1]
    assert (max(capped.values()) < needed) == is_possible or max(capped.values()) == 1
    assert needed == math.ceil(share[0] * sum(capped.values()) / share[1])


def replace_weight(index: int, weight: int) -> validators.Validator:
    return msgspec.structs.replace(FOUNDING.validators[0], id=f"v{index}", principal=f"p{index}", weight=weight)


def successor(*names: tuple[str, str]) -> ValidatorSet:
    return validators.parse(document(*(validator(name, role) for name, role in names)))


def test_a_new_validator_set_needs_the_old_threshold_and_the_new() -> None:
    new = successor(("olga", "owner"), ("nina", "safety"), ("nick", "security"))
    old_votes = everybody("olga", "sam", "zoe")

    without = tally(Tier.GOVERNANCE, old_votes, successor=new)
    with_new = tally(Tier.GOVERNANCE, [*old_votes, counted("nina", of=new)], successor=new)
    new_alone = tally(Tier.GOVERNANCE, [counted(name, of=new) for name in ("olga", "nina", "nick")], successor=new)

    assert {(one.electorate, one.requirement) for one in without.missing} == {
        ("successor", "humans"),
        ("successor", "weight"),
    }
    assert not without.lost
    assert with_new.met
    assert {one.electorate for one in new_alone.missing} == {"current"}


def test_recomputing_is_the_old_sets_business() -> None:
    new = successor(("olga", "owner"), ("sam", "safety"), ("zoe", "security"))
    rule = msgspec.structs.replace(DEFAULT.quorum.governance, recomputes=1)

    assert tally(Tier.GOVERNANCE, everybody("olga", "sam", "robot"), rule=rule, successor=new).met
    without = tally(Tier.GOVERNANCE, everybody("olga", "sam"), rule=rule, successor=new)
    assert [(one.electorate, one.requirement) for one in without.missing] == [("current", "recomputes")]


def test_another_person_under_an_old_id_does_not_inherit_approvals() -> None:
    new = successor(("olga", "owner"), ("sam", "safety"), ("zoe", "security"))
    stolen = msgspec.structs.replace(
        new.validators[1], principal="mallory", keys=successor(("mal", "owner")).validators[0].keys
    )
    new = msgspec.structs.replace(new, validators=(new.validators[0], stolen, new.validators[2]))

    one = tally(Tier.GOVERNANCE, everybody("olga", "sam"), successor=new)

    assert {(missing.electorate, missing.requirement) for missing in one.missing} == {
        ("successor", "humans"),
        ("successor", "weight"),
    }


def test_a_key_that_ends_takes_its_holder_out_and_one_yet_to_begin_keeps_hope() -> None:
    ended, later = validator("zoe", "security"), validator("zoe", "security")
    ended["keys"] = [key("zoe", "zoe-person", "zoe", not_after="2026-11-23T12:00:00.000000Z")]
    later["keys"] = [key("zoe", "zoe-person", "zoe", not_before="2026-11-23T18:00:00.000000Z")]
    rest = [validator("olga", "owner"), validator("sam", "safety", org="watch"), validator("robot", "machine")]

    of_ended = tally(Tier.CRITICAL, everybody("olga", "sam", "robot"), of=validators.parse(document(*rest, ended)))
    of_later = tally(Tier.CRITICAL, everybody("olga", "sam", "robot"), of=validators.parse(document(*rest, later)))

    assert (of_ended.lost, of_later.lost) == (True, False)
    assert of_later.standing.eligible_humans == 2


# Properties. Votes of the founding set: any decision, sometimes void.
VOTES = st.lists(
    st.builds(
        lambda name, decision, number, **void: counted(name, decision, digest=f"sha256:{number:064x}", **void),
        st.sampled_from(["olga", "sam", "zoe", "robot", "replica"]),
        st.sampled_from(["approve", "approve", "reject", "abstain"]),
        st.integers(0, 50),
        is_revoked=st.booleans(),
        epoch=st.sampled_from([1, 1, 1, 2]),
    ),
    max_size=8,
    unique_by=lambda vote: vote.digest,
)
ANY_TIER = st.sampled_from(TIERS)


@given(ANY_TIER, VOTES)
def test_the_order_of_distinct_peoples_votes_is_irrelevant(tier: Tier, votes: list[VerifiedVote]) -> None:
    grouped = sorted(votes, key=lambda vote: vote.principal)

    assert tally(tier, votes).record() == tally(tier, grouped).record()


@given(ANY_TIER, VOTES)
def test_an_approval_more_never_undoes_a_quorum(tier: Tier, votes: list[VerifiedVote]) -> None:
    before = tally(tier, votes)

    for name in ("olga", "sam", "zoe", "robot", "replica"):
        after = tally(tier, [*votes, counted(name)])
        assert before.met <= after.met
        assert after.lost <= before.lost


@given(ANY_TIER, VOTES, st.data())
def test_a_vote_sent_twice_changes_nothing(tier: Tier, votes: list[VerifiedVote], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(votes), max_size=4)) if votes else []
    once, twice = tally(tier, votes), tally(tier, [*votes, *again])

    assert (once.met, once.lost, once.standing, once.counted) == (twice.met, twice.lost, twice.standing, twice.counted)


@given(ANY_TIER, VOTES)
def test_the_proposers_votes_change_nothing(tier: Tier, votes: list[VerifiedVote]) -> None:
    with_them = tally(tier, votes, proposer="sam-person")
    without = tally(tier, [vote for vote in votes if vote.principal != "sam-person"], proposer="sam-person")

    assert (with_them.met, with_them.lost, with_them.counted) == (without.met, without.lost, without.counted)


@given(ANY_TIER, VOTES)
def test_a_tally_is_the_tally_of_its_own_counted_votes(tier: Tier, votes: list[VerifiedVote]) -> None:
    one = tally(tier, votes)
    again = tally(tier, [vote for vote, _ in one.counted])

    assert {**one.record(), "not_counted": []} == again.record()
    assert canonical.encode_value(one.record()) == canonical.encode_value(
        msgspec.json.decode(canonical.encode_value(one.record()))
    )


@given(ANY_TIER, VOTES, st.integers(-600, 90_000), st.integers(0, 90_000))
def test_a_tally_holds_until_the_next_vote_or_key_begins_or_ends(
    tier: Tier, votes: list[VerifiedVote], seconds: int, more: int
) -> None:
    then = NOW + timedelta(seconds=seconds)
    later = then + timedelta(seconds=more)
    limit = quorum.next_change(FOUNDING, votes, now=then)

    if limit is None or later < limit:
        first, second = tally(tier, votes, now=then), tally(tier, votes, now=later)
        assert replace(first, at=later) == second


def test_the_next_change_is_the_first_beginning_or_end_to_come() -> None:
    vote = counted("olga", issued_at=NOW, expires_at=NOW + timedelta(hours=2))
    early = NOW - timedelta(hours=1)

    changes = [quorum.next_change(FOUNDING, [vote], now=at) for at in (early, NOW)]

    assert changes == [NOW - CLOCK_TOLERANCE, NOW + timedelta(hours=2)]


@given(ANY_TIER, VOTES)
def test_met_and_lost_exclude_each_other_and_lost_is_for_good(tier: Tier, votes: list[VerifiedVote]) -> None:
    one = tally(tier, votes)

    assert not (one.met and one.lost)
    if one.lost and not one.vetoed_by:
        rejecting = {vote.principal for vote, counted_as in one.counted if counted_as == "reject"}
        rest = [vote for vote in everybody("olga", "sam", "zoe", "robot", "replica") if vote.principal not in rejecting]
        assert not tally(tier, [*votes, *rest]).met
