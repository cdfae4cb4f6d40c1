"""What the design says of a proposal's life: for each thing that anybody may do, the one answer and what follows.

Pure, and small enough to be read beside the table of transitions. Every method is one atomic step; it returns the
stable code of the refusal, or a word for what was done. Things done at once are explained by some order of steps.
"""

from dataclasses import dataclass, field

from tests.integration.service.life_quorum import TIERS, Vote, count

RULES = "governance/policies"
OPEN = ("pending", "simulating", "simulated", "approved")
APPLIED = ("applying", "applied", "rolled_back")
ATTEMPTS = 3
VOTES = 16
Notes = tuple[tuple[str, int], ...]


@dataclass
class Proposal:
    number: int
    target: str
    proposer: str
    content: tuple[object, ...]
    base: int
    kind: str = "mutation"
    declared: str = "low"
    note: tuple[str, int] | None = None
    restores: int | None = None
    state: str = "pending"
    epoch: int = 1
    ballot: int = 0
    """The newest epoch in which there was one."""
    rules: int = 0
    """The version under which it was simulated, or is being simulated."""
    tier: str = "low"
    attempts: int = 0
    token: int = 0
    is_late: bool = False
    is_lease_lost: bool = False
    was_approved: bool = False
    version: int = 0
    """That it made."""
    votes: list[Vote] = field(default_factory=list)


@dataclass
class Target:
    tier: str
    versions: list[Notes]
    makers: list[int | None]
    state: str = "active"
    freezes: int = 0
    thaws: int = 0

    @property
    def head(self) -> int:
        return len(self.versions)


@dataclass
class Model:
    targets: dict[str, Target]
    proposals: dict[int, Proposal] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[tuple[object, ...], int]] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    queue: list[int] = field(default_factory=list)
    """Applications that were not delivered yet, oldest first."""

    @property
    def rules(self) -> int:
        return self.targets[RULES].head

    # Proposers --------------------------------------------------------------------------------------------------------

    def propose(
        self, *, number: int, target: str, proposer: str, key: str, base: int, declared: str, note: tuple[str, int]
    ) -> str:
        body = (target, base, declared, note)
        if (proposer, key) in self.answers:
            earlier, created = self.answers[proposer, key]
            return f"created {created}" if earlier == body else "idempotency-key-reused"
        held = self.targets[target]
        if base != held.head:
            return "stale-base"
        if held.state == "frozen" and TIERS.index(declared) < TIERS.index("high"):
            return "target-frozen"
        kind = "governance" if target == RULES else "mutation"
        made = Proposal(number, target, proposer, body, base, kind, declared, note)
        return self._open(made, (proposer, key))

    def roll_back(self, number: int, target: str, to: int, who: str) -> str:
        held = self.targets[target]
        maker = held.makers[to - 1] if to <= held.head else None
        if to > held.head or (maker is not None and self.proposals[maker].state not in {"applied", "rolled_back"}):
            return "unknown-version"
        if held.versions[to - 1] == held.versions[-1]:
            return "already-current"
        kind = "break_glass" if who == "breaker" else "rollback"
        content = (target, held.head, kind, to)
        return self._open(Proposal(number, target, who, content, held.head, kind, restores=to), None)

    def _open(self, made: Proposal, key: tuple[str, str] | None) -> str:
        for other in self.proposals.values():
            if other.content == made.content and other.state in {*OPEN, "applying"}:
                return "duplicate-open"
        self.proposals[made.number] = made
        if key is not None:
            self.answers[key] = (made.content, made.number)
        return f"created {made.number}"

    def withdraw(self, number: int, who: str) -> str:
        one = self.proposals[number]
        if who not in {one.proposer, "admin"}:
            return "forbidden"
        if one.state not in OPEN:
            return "not-open"
        one.state = "withdrawn"
        return "withdrawn"

    # The simulator ----------------------------------------------------------------------------------------------------

    def lease(self, number: int) -> str:
        """`number`: the oldest that is pending and in time; 0 when there is none."""
        if not number:
            return "nothing"
        one = self.proposals[number]
        if one.state != "pending" or one.is_late:
            return "nothing"
        one.state, one.rules, one.is_lease_lost = "simulating", self.rules, False
        one.attempts += 1
        one.token += 1
        return f"leased {number}"

    def conclude(self, number: int, token: int) -> str:
        one = self.proposals[number]
        if (one.state, one.token) != ("simulating", token):
            return "overtaken"
        if one.rules != self.rules:
            one.state = "pending"
            one.attempts -= 1
        elif one.note is not None and one.note[0] == "secret":
            one.state = "denied"
        else:
            floor = self.targets[one.target].tier
            one.state, one.ballot = "simulated", one.epoch
            one.tier = max(floor, one.declared, key=TIERS.index)
        return "concluded"

    # Voters -----------------------------------------------------------------------------------------------------------

    def vote(self, *, number: int, label: int, by: str, decision: str, how: str, epoch: int) -> str:
        """`epoch`: of the ballot that was signed. `how`: what is wrong with it, if anything."""
        one = self.proposals[number]
        if any(vote.label == label for vote in one.votes):
            return "known"
        is_early, is_of_the_past = one.state in {"pending", "simulating"}, epoch < one.epoch
        refusals = (
            ("not-simulated", is_early and not is_of_the_past),
            ("ballot-closed", one.state != "simulated" and not is_early),
            ("ballot-superseded", is_of_the_past or one.rules != self.rules),
            ("ballot-closed", one.is_late),
            ("not-eligible", how in {"stranger", "borrowed"}),
            ("bad-signature", how == "tampered"),
            ("proposer-cannot-vote", one.proposer == f"{by}-person"),
            ("not-eligible", by in self.revoked),
            ("binding-mismatch", how == "altered"),
            ("too-many-votes", sum((vote.by, vote.epoch) == (by, one.epoch) for vote in one.votes) >= VOTES),
        )
        for code, is_so in refusals:
            if is_so:
                return code
        for vote in self._ballots(one):
            if vote.by == by and vote.stands:
                vote.is_superseded = True
        one.votes.append(Vote(label, by, decision, one.epoch))
        return f"voted {self._decide(one)}"

    def revoke(self, number: int, label: int, by: str) -> str:
        one = self.proposals[number]
        vote = next(vote for vote in one.votes if vote.label == label)
        if one.state in APPLIED:
            return "already-applying"
        if vote.epoch != one.epoch:
            return "ballot-superseded"
        if one.state not in {"simulated", "approved"} or not vote.stands:
            return "ballot-closed"
        if one.rules != self.rules:
            return "ballot-superseded"
        if by != vote.by or by in self.revoked:
            return "not-eligible"
        vote.is_revoked = True
        return f"revoked {self._decide(one)}"

    def revoke_key(self, validator: str, who: str) -> str:
        if who not in {f"{validator}-person", "admin"}:
            return "forbidden"
        self.revoked.add(validator)
        for one in self.proposals.values():
            self._doubt(one, validator)
        return "key-revoked"

    def _doubt(self, one: Proposal, *validators: str) -> None:
        speaks = any(vote.by in validators and vote.stands for vote in self._ballots(one))
        if one.state == "approved" and one.rules == self.rules and speaks:
            self._decide(one)

    def _ballots(self, one: Proposal) -> list[Vote]:
        return [vote for vote in one.votes if vote.epoch == one.epoch]

    def has_quorum(self, one: Proposal) -> bool:
        return count(one.tier, self._ballots(one), proposer=one.proposer, revoked=self.revoked)[0]

    def _decide(self, one: Proposal) -> str:
        is_met, is_lost = count(one.tier, self._ballots(one), proposer=one.proposer, revoked=self.revoked)
        if one.state == "simulated" and (is_met or is_lost):
            one.state = "approved" if is_met else "rejected"
        elif one.state == "approved" and not is_met:
            one.state = "simulated"
        one.was_approved = one.state == "approved"
        return one.state

    # Appliers ---------------------------------------------------------------------------------------------------------

    def apply(self, number: int, who: str, match: str) -> str:
        """`who`: "" is nobody, the rule lets it be. `match`: an old ETag or any."""
        one = self.proposals[number]
        held = self.targets[one.target]
        is_high = TIERS.index(one.tier) >= TIERS.index("high")
        is_breaking = one.kind == "break_glass"
        refusals = (
            ("already-applying", one.state in APPLIED or (one.state == "failed" and one.was_approved)),
            ("precondition-failed", match == "old"),
            ("not-approved", one.state != "approved" or one.is_late),
            ("stale-base", one.base != held.head),
            ("target-frozen", held.state == "frozen"),
            ("ballot-superseded", one.rules != self.rules),
            ("not-approved", not self.has_quorum(one)),
            ("applier-not-allowed", (not who and is_high) or (who == one.proposer and is_high)),
            ("applier-not-allowed", who == "breaker" and not is_breaking),
            ("already-applying", any(self.proposals[other].target == one.target for other in self.queue)),
        )
        for code, is_so in refusals:
            if is_so:
                return code
        return self._apply(one, held)

    def _apply(self, one: Proposal, held: Target) -> str:
        notes = dict(held.versions[-1])
        if one.note is not None:
            notes[one.note[0]] = one.note[1]
        restored = held.versions[one.restores - 1] if one.restores else tuple(sorted(notes.items()))
        held.versions.append(restored)
        held.makers.append(one.number)
        one.state, one.version = "applying", held.head
        self.queue.append(one.number)
        for other in self.proposals.values():
            if other.target == one.target and other.state in OPEN:
                other.state = "stale"
            if (
                one.restores
                and other.target == one.target
                and other.state == "applied"
                and other.version > one.restores
            ):
                other.state = "rolled_back"
        return f"applied {held.head}"

    def deliver(self, number: int) -> str:
        """`number`: the application that waits longest; 0 when none does."""
        if number not in self.queue:
            return "nothing"
        self.queue.remove(number)
        one = self.proposals[number]
        one.state = "applied"
        held = self.targets[one.target]
        if held.head == one.version and held.state == "degraded":
            held.state = "active"
        return "delivered"

    def observe(self, target: str, version: int, *, is_right: bool) -> str:
        held = self.targets[target]
        if version > held.head:
            return "unknown-version"
        maker = held.makers[version - 1]
        if maker in self.queue and maker is not None:
            self.queue.remove(maker)
            self.proposals[maker].state = "applied" if is_right else "failed"
            if not is_right and held.state == "active":
                held.state = "degraded"
        if version == held.head and held.state != "frozen":
            held.state = "active" if is_right else "degraded"
        return f"observed {held.state}"

    def freeze(self, target: str) -> str:
        held = self.targets[target]
        held.freezes += held.state != "frozen"
        held.state = "frozen"
        return "frozen"

    def unfreeze(self, target: str, number: int) -> str:
        held, one = self.targets[target], self.proposals[number]
        if held.state != "frozen":
            return "not-frozen"
        if one.target != target or one.state != "approved":
            return "not-approved"
        if one.rules != self.rules:
            return "ballot-superseded"
        if not self.has_quorum(one) or TIERS.index(one.tier) < TIERS.index("high") or one.is_late:
            return "not-approved"
        held.state = "active"
        held.thaws += 1
        return "thawed"

    # Time -------------------------------------------------------------------------------------------------------------

    def tidy(self, number: int) -> str:
        """What the janitor does with one proposal."""
        one = self.proposals[number]
        if one.state in OPEN and one.is_late:
            one.state = "expired"
        elif one.state == "simulating" and one.is_lease_lost:
            one.state = "failed" if one.attempts >= ATTEMPTS else "pending"
        elif one.state in {"simulated", "approved"} and one.rules != self.rules:
            one.state, one.attempts, one.was_approved = "pending", 0, False
            one.epoch += 1
        else:
            self._doubt(one, *self.revoked)
        return "tidied"
