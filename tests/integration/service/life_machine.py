"""Random lives of proposals: what may happen next, alone or together, each time against the model."""

import secrets
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.integration.service.life_check import check, explained, notes_of, stored
from tests.integration.service.life_model import OPEN, RULES, Model, Proposal, Target
from tests.integration.service.life_quorum import VALIDATORS
from tests.integration.service.life_world import Op, Request, World
from tests.integration.service.stages import Stages

PROPOSALS_MAX = 10
PROPOSERS = ("agent-1", "olga-person")
NOTES = (("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 0), ("c", 1), ("secret", 1))
HOWS = ("fine", "fine", "fine", "altered", "tampered", "stranger", "borrowed")
some = st.integers(0, 11)


def op(name: str, **arguments: Any) -> Op:
    return Op(name, arguments)


class Lives(RuleBasedStateMachine):
    """Some targets of their own and the rules, and everybody who may do something to their proposals."""

    def __init__(self, stages: Stages, portal: BlockingPortal, reached: set[str]) -> None:
        super().__init__()
        self.reached = reached
        self.portal = portal
        self.connection = stages.founded.server.connect()
        self.world = World(stages, self.connection)
        self.model = Model({})
        self.labels = 0
        self.salt = secrets.token_hex(6)

    @initialize(begun=st.lists(st.integers(0, 2), min_size=2, max_size=4), is_ahead=st.booleans())
    def found(self, begun: list[int], *, is_ahead: bool) -> None:
        """Some ballots are open when it begins; perhaps one change has been made already."""
        names = {self.world.add_target(tier): tier for tier in ("low", "medium", "high")}
        for name, tier in {**names, RULES: "governance"}.items():
            versions = [notes_of(name, content) for _, content in self.world.versions(name)]
            freezes = self.world.rows("SELECT count(*) FROM events WHERE target = %s AND kind ~ 'frozen'", name)[0][0]
            self.model.targets[name] = Target(tier, versions, [None] * len(versions), freezes=freezes)

        for number, place in enumerate(begun, start=7):
            self.do(self.proposal_of(number, self.target(place), proposer=int(number == 9)))
            self.simulate(leaves=False)
        if is_ahead:
            self.agree(0)
            self.apply(0, "applier", "any", is_frozen=False)
            self.deliver()

    # What happens -----------------------------------------------------------------------------------------------------

    def do(self, *ops: Op, unseen: tuple[Op, ...] = (), bells: tuple[Op, ...] = ()) -> list[str]:
        """Do all of it at the same time. `bells` wake a loop of the worker, which then takes what `unseen` names."""
        told = self.portal.call(self._together, [*ops, *bells])
        seen = list(zip(ops, told, strict=False))
        picture = stored(self.world, self.model)
        after = explained(self.model, seen, unseen=unseen, is_optional=bool(ops), picture=picture)
        assert after is not None, (
            f"no order of steps explains {[(str(op), answer) for op, answer in seen]} with {unseen}\n"
            f"before {self.model}\nnow {picture}"
        )
        self.model = after
        self.reached.update(one.state for one in after.proposals.values())
        self.reached.update({"at once"} if len(ops) > 1 else ())
        check(self.world, self.model)
        return told

    async def _together(self, ops: list[Op]) -> list[str]:
        requests: list[Request] = [await self.world.prepare(op) for op in ops]
        told = [""] * len(ops)

        async def send(place: int) -> None:
            told[place] = await requests[place]()

        async with anyio.create_task_group() as tasks:
            for place in range(len(ops)):
                tasks.start_soon(send, place)
        return told

    def pick(self, number: int, *states: str) -> Proposal | None:
        found = [one for one in self.model.proposals.values() if not states or one.state in states]
        found.sort(key=lambda one: (one.state not in OPEN, one.number))
        return found[number % len(found)] if found else None

    def target(self, number: int) -> str:
        return list(self.model.targets)[number % 3]

    def proposal_of(self, number: int, target: str, *, is_old: bool = False, proposer: int = 0) -> Op:
        """`number`: decides the rest. The key may be one that was used before."""
        new = len(self.world.ids) + len(self.model.answers) + self.labels + 1
        self.labels += 1
        head = self.model.targets[target].head
        return op(
            "propose",
            number=1000 + new,
            target=target,
            proposer=PROPOSERS[proposer % 2],
            key=f"{self.salt}-{number % 5}" if number < 5 else f"{self.salt}-{self.labels}-of-its-own",
            base=head if not is_old else head - 1 or head + 1,
            declared=("low", "low", "high")[number % 3],
            note=NOTES[number % 7],
        )

    def vote_of(self, one: Proposal, by: str, decision: str = "approve", how: str = "fine") -> Op:
        self.labels += 1
        return op(
            "vote",
            number=one.number,
            label=self.labels,
            by=by,
            decision=decision,
            how=how,
            epoch=one.ballot or one.epoch,
        )

    # Alone ------------------------------------------------------------------------------------------------------------

    @rule(number=some, place=some, is_old=st.sampled_from((False, False, False, True)), proposer=some)
    def propose(self, number: int, place: int, *, is_old: bool, proposer: int) -> None:
        if len(self.model.proposals) < PROPOSALS_MAX:
            self.do(self.proposal_of(number, self.target(place), is_old=is_old, proposer=proposer % 3 // 2))

    @rule(leaves=st.sampled_from((False, False, False, True)))
    def simulate(self, *, leaves: bool) -> None:
        """Take the oldest; sometimes nobody concludes it for now."""
        if not leaves and not self._in("pending"):
            return
        waiting = [one for one in self.model.proposals.values() if one.state == "pending" and not one.is_late]
        oldest = min(waiting, key=lambda one: self.world.ids[one.number], default=None)
        self.do(op("lease", number=oldest.number if oldest else 0))
        if oldest is not None and not leaves:
            taken = self.model.proposals[oldest.number]
            self.do(op("conclude", number=taken.number, token=taken.token))

    @rule(number=some)
    def conclude(self, number: int) -> None:
        if self.world.leases:
            taken, token = sorted(self.world.leases)[number % len(self.world.leases)]
            self.do(op("conclude", number=taken, token=token))
            del self.world.leases[taken, token]

    @rule(
        number=some,
        by=st.sampled_from(VALIDATORS),
        decision=st.sampled_from(("approve", "approve", "reject", "abstain")),
        how=st.sampled_from(HOWS),
    )
    def vote(self, number: int, by: str, decision: str, how: str) -> None:
        one = self.pick(number)
        if one is not None:
            self.do(self.vote_of(one, by, decision, how))

    @rule(number=some)
    def vote_again(self, number: int) -> None:
        one = self.pick(number)
        if one is not None and one.votes:
            vote = one.votes[number % len(one.votes)]
            again = op(
                "vote",
                number=one.number,
                label=vote.label,
                by=vote.by,
                decision=vote.decision,
                how="fine",
                epoch=vote.epoch,
            )
            self.do(again)

    @rule(numbers=st.lists(some, min_size=1, max_size=4))
    def go_on(self, numbers: list[int]) -> None:
        """Let some proposals take the step that their state waits for."""
        for number in numbers:
            one = self.pick(number, *OPEN, "applying")
            match one.state if one else "":
                case "pending" | "simulating":
                    self.simulate(leaves=False)
                case "simulated":
                    self.agree(number)
                case "approved":
                    self.apply(number, "applier", "any", is_frozen=False)
                case "applying":
                    self.deliver()
                case _:
                    pass

    @rule(number=some)
    def agree(self, number: int) -> None:
        """All who are asked approve, one after the other."""
        one = self.pick(number, "simulated")
        for by in ("robot", "olga", "sam", "zoe"):
            if one is not None and self.model.proposals[one.number].state == "simulated":
                self.do(self.vote_of(one, by))

    @rule(number=some, other=some)
    def revoke(self, number: int, other: int) -> None:
        one = self.pick(number)
        if one is not None and one.votes:
            vote = one.votes[other % len(one.votes)]
            self.do(op("revoke", number=one.number, label=vote.label, by="sam" if other == 0 else vote.by))

    @rule(number=some, who=st.sampled_from(("own", "admin", "zoe-person")))
    def revoke_key(self, number: int, who: str) -> None:
        """Of somebody whose vote stands, where there is an approval to lose."""
        one = self.pick(number, "approved")
        voters = [vote.by for vote in one.votes if vote.stands] if one else []
        by = voters[number % len(voters)] if voters else VALIDATORS[number % 5]
        if voters or number < 2:
            self.do(op("revoke_key", validator=by, who=f"{by}-person" if who == "own" else who))

    @rule(number=some, who=st.sampled_from(("agent-1", "olga-person", "admin", "sam-person")))
    def withdraw(self, number: int, who: str) -> None:
        one = self.pick(number)
        if one is not None:
            self.do(op("withdraw", number=one.number, who=who))

    @rule(
        number=some,
        who=st.sampled_from(("applier", "applier", "breaker")),
        match=st.sampled_from(("any", "any", "old")),
        is_frozen=st.sampled_from((False, False, True)),
    )
    def apply(self, number: int, who: str, match: str, *, is_frozen: bool) -> None:
        if not self._in("approved"):
            self.agree(number)
        one = self.pick(number, "approved") or self.pick(number)
        if one is not None and is_frozen:
            self.do(op("freeze", target=one.target))
        if one is not None:
            self.do(op("apply", number=one.number, who=who, match=match))

    @rule()
    def apply_what_is_due(self) -> None:
        due = [op("apply", number=one.number, who="", match="any") for one in self._in("approved")]
        self.do(unseen=tuple(due), bells=(op("apply", number=0, who="", match="any"),))

    @rule()
    def deliver(self) -> None:
        self.do(unseen=(op("deliver", number=self.world.longest_waiting()),), bells=(op("deliver", number=0),))

    @rule(place=some, back=st.integers(-1, 2), is_right=st.booleans())
    def observe(self, place: int, back: int, *, is_right: bool) -> None:
        name = self.target(place)
        version = self.model.targets[name].head - back
        if version > 0:
            self.do(op("observe", target=name, version=version, is_right=is_right))

    @rule(
        place=some, to=st.integers(1, 4), who=st.sampled_from(("agent-1", "agent-1", "breaker")), goes_on=st.booleans()
    )
    def roll_back(self, place: int, to: int, who: str, *, goes_on: bool) -> None:
        applied = self.pick(place, "applied")
        name = applied.target if applied and applied.target != RULES else self.target(place)
        if len(self.model.proposals) >= PROPOSALS_MAX:
            return
        self.labels += 1
        made = 2000 + self.labels
        self.do(op("roll_back", number=made, target=name, to=to if applied is None else 1, who=who))
        while goes_on and made in self.model.proposals and self.model.proposals[made].state == "pending":
            self.simulate(leaves=False)
        for by in ("robot", "olga", "sam"):
            if goes_on and made in self.model.proposals:
                self.do(self.vote_of(self.model.proposals[made], by))
        if goes_on and made in self.model.proposals:
            self.do(op("apply", number=made, who="applier", match="any"))

    @rule(place=some)
    def freeze(self, place: int) -> None:
        self.do(op("freeze", target=self.target(place)))

    @rule(place=some, number=some)
    def unfreeze(self, place: int, number: int) -> None:
        one = self.pick(number, "approved") or self.pick(number)
        if one is not None:
            self.do(op("unfreeze", target=one.target if place else self.target(number), number=one.number))

    @rule(number=some)
    def let_the_time_pass(self, number: int) -> None:
        one = self.pick(number, *OPEN)
        if one is not None and number % 3 == 0:
            self.world.expire(one.number)
            self.model.proposals[one.number].is_late = True

    @rule(number=some)
    def lose_the_lease(self, number: int) -> None:
        one = self.pick(number, "simulating")
        if one is not None:
            self.world.lose_lease(one.number)
            self.model.proposals[one.number].is_lease_lost = True

    @rule()
    def tidy(self) -> None:
        self.do(unseen=self._tidying(), bells=(op("tidy", number=0),))

    @rule(number=some)
    def change_the_rules(self, number: int) -> None:
        """By a proposal that is simulated, voted and applied like any other."""
        if number > 3 or len(self.model.proposals) >= PROPOSALS_MAX:
            return
        proposed = self.proposal_of(11, RULES)
        proposed.arguments["note"] = ("n", self.labels)
        made = proposed.arguments["number"]
        self.do(proposed)
        while made in self.model.proposals and self.model.proposals[made].state == "pending":
            self.simulate(leaves=False)
        if made in self.model.proposals:
            for by in ("olga", "sam", "zoe"):
                self.do(self.vote_of(self.model.proposals[made], by))
            self.do(op("apply", number=made, who="applier", match="any"))

    @rule(number=some)
    def freeze_what_is_agreed_on(self, number: int) -> None:
        """A proposal that nobody is against; its target is frozen before it would be applied."""
        if number > 3 or len(self.model.proposals) >= PROPOSALS_MAX:
            return
        proposed = self.proposal_of(10, self.target(0))
        proposed.arguments["note"] = ("f", self.labels)
        made = proposed.arguments["number"]
        self.do(proposed)
        while made in self.model.proposals and self.model.proposals[made].state == "pending":
            self.simulate(leaves=False)
        for by in ("robot", "olga"):
            if made in self.model.proposals:
                self.do(self.vote_of(self.model.proposals[made], by))
        self.do(op("freeze", target=proposed.arguments["target"]))
        if made in self.model.proposals:
            self.do(op("apply", number=made, who="applier", match="any"))

    def _in(self, *states: str) -> list[Proposal]:
        return [one for one in self.model.proposals.values() if one.state in states]

    def _tidying(self) -> tuple[Op, ...]:
        return tuple(op("tidy", number=one.number) for one in self._in(*OPEN))

    # Together ---------------------------------------------------------------------------------------------------------

    @rule(number=some, what=st.lists(st.integers(0, 9), min_size=2, max_size=5), others=st.lists(some, min_size=5))
    def all_at_once(self, number: int, what: list[int], others: list[int]) -> None:
        """Several people act on one proposal, or on one target, in the same instant; perhaps the worker as well."""
        one = self.pick(number, "simulated", "approved") or self.pick(number)
        if one is None:
            return
        found = [self._one_of(kind, one, others[place]) for place, kind in enumerate(what)]
        ops = [op for op in found if op is not None]
        if not ops:
            return
        if 8 in what:
            due = [op("apply", number=each.number, who="", match="any") for each in self._in("simulated", "approved")]
            self.do(*ops, unseen=tuple(due), bells=(op("apply", number=0, who="", match="any"),))
        elif 9 in what:
            self.do(*ops, unseen=self._tidying(), bells=(op("tidy", number=0),))
        else:
            self.do(*ops)

    def _one_of(self, kind: int, one: Proposal, other: int) -> Op | None:
        match kind:
            case 0 | 1 | 2:
                return self.vote_of(one, VALIDATORS[other % 5], "reject" if other > 8 else "approve")
            case 3 | 4:
                return op("apply", number=one.number, who="applier", match="any")
            case 5:
                return op("withdraw", number=one.number, who="admin")
            case 6 if one.votes:
                vote = one.votes[other % len(one.votes)]
                return op("revoke", number=one.number, label=vote.label, by=vote.by)
            case 7:
                return op("freeze", target=one.target)
            case _:
                return None

    @rule(number=some, voters=st.lists(st.sampled_from(VALIDATORS), min_size=2, max_size=5), but=some)
    def vote_at_once(self, number: int, voters: list[str], but: int) -> None:
        """Enough to approve it in some orders; perhaps somebody is against it, is there twice, or has no vote."""
        one = self.pick(number, "simulated")
        if one is not None:
            decisions = ["reject" if place == but else "approve" for place in range(len(voters))]
            self.do(*(self.vote_of(one, by, decision) for by, decision in zip(voters, decisions, strict=True)))

    @rule(number=some, times=st.integers(2, 4))
    def apply_many_times_at_once(self, number: int, times: int) -> None:
        """Also for other proposals for the same target."""
        one = self.pick(number, "approved")
        if one is not None:
            rivals = [each for each in self._in("approved") if each.target == one.target]
            self.do(
                *(
                    op("apply", number=rivals[place % len(rivals)].number, who="applier", match="any")
                    for place in range(times)
                )
            )

    @rule(number=st.integers(0, 4), place=some, is_other=st.booleans())
    def propose_twice_at_once(self, number: int, place: int, *, is_other: bool) -> None:
        """With one key; sometimes with another body."""
        if len(self.model.proposals) < PROPOSALS_MAX:
            first, second = (self.proposal_of(number, self.target(place)) for _ in range(2))
            if is_other:
                second.arguments["note"] = ("b", 7)
            self.do(first, second)

    def teardown(self) -> None:
        self.portal.call(self.world.end)
        self.connection.close()
