"""One life: the steps of a proposal and of those who decide on it, each with bounded patience.

A step without an answer, or refused for want of a dependency, is asked again under the same key, as a client should; a
life that loses its patience ends where it is. Nothing here judges: what was asked and answered is in the history.
"""

import asyncio
import json
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.arrivals import proposal_body
from chaos.exchange import Done, Exchange, Request
from chaos.history import Kind, Outcome, sha256
from chaos.lives import voting
from chaos.lives.plot import APPLIED, Course, Plot, Trespass
from chaos.verifier import envelope
from compose.gate import Gate, Governed, Validator

PROPOSALS: Final = "/api/v1/proposals"
TARGETS: Final = "/api/v1/targets"
ATTEMPTS_MAX: Final = 4
PAUSE_SECONDS: Final = (0.3, 1.0)  # before the first repeat; doubled for each further one
RETRY_AFTER_SECONDS_MAX: Final = 5.0
LOOK_SECONDS: Final = (0.15, 0.3, 0.5, 0.8, 1.2, 2.0, 2.0, 2.0, 2.0, 2.0)  # pauses between looks at a state
_UNSETTLED: Final = frozenset({"pending", "simulating"})
_MOVING: Final = frozenset({"pending", "simulating", "simulated", "approved", "applying"})
_NOT_YET: Final = frozenset({"time-lock"})
_ASK_AGAIN: Final = frozenset({"idempotency-in-progress", "overtaken"})


class Ended(Exception):
    """The life cannot go on: refused, overtaken, or out of patience."""


@dataclass(frozen=True, slots=True)
class Cast:
    """A vote that was accepted."""

    id: str
    envelope: dict[str, Any]


@dataclass(slots=True)
class Common:
    """What all lives of a run share."""

    closing: bool = False
    """Once set, no further step begins."""
    last_vote: Mapping[str, Any] | None = None
    """By anybody on anything, for one who sends it again elsewhere."""


class Life:
    """One life of a proposal.

    Args:
        plot: what it is to be.
        exchange: the way to the service.
        gate: who there is.
        common: what all lives share.
    """

    def __init__(self, plot: Plot, exchange: Exchange, gate: Gate, common: Common) -> None:
        self.plot = plot
        self._exchange = exchange
        self._gate = gate
        self._common = common
        self._chance = random.Random(plot.seed)  # noqa: S311 - reproducible on purpose, guards nothing
        self._proposer = gate.humans[plot.proposer]
        self._target = gate.moving_targets[plot.target]

    async def run(self) -> None:
        """Live it.

        Raises:
            Ended: before its course was run.
        """
        plot = self.plot
        before = await self._current()
        proposal = await self._propose(before)
        if plot.course is Course.WITHDRAWN:
            await self._change(Kind.WITHDRAW, self._proposer.principal, f"{PROPOSALS}/{proposal}/withdrawal", proposal)
        state = await self._until_not(proposal, _UNSETTLED)
        if state != "simulated" or plot.course is Course.LEFT:
            return
        await self._decide(proposal)
        if plot.course in APPLIED and await self._until_not(proposal, _MOVING) == "applied":
            after = await self._current()
            if plot.trespass is Trespass.LATE:
                await self._trespass(proposal, await self._ballot(proposal))
            if plot.rolls_back and int(after["version"]) > 1:
                await self._roll_back(int(before["version"]))

    # --- steps -------------------------------------------------------------------------------------------------

    async def _current(self) -> Mapping[str, Any]:
        path = f"{TARGETS}/{self._target.name}/current"
        done = await self._insist(Kind.CURRENT, "GET", path, self._proposer.principal, target=self._target.name)
        return done.document

    async def _propose(self, head: Mapping[str, Any]) -> str:
        on = Governed(self._target.name, str(head["digest"]))
        body = proposal_body(self._chance, on, version=int(head["version"]), declared_risk=self.plot.risk)
        if self.plot.course is Course.DENIED:
            body = json.dumps(
                json.loads(body) | {"patch": [{"op": "replace", "path": "/prompts/system", "value": 1}]}
            ).encode()
        done = await self._insist(Kind.PROPOSE, "POST", PROPOSALS, self._proposer.principal, body=body)
        return str(done.document["id"])

    async def _decide(self, proposal: str) -> None:
        ballot = await self._ballot(proposal)
        if self.plot.trespass is not None and self.plot.trespass is not Trespass.LATE:
            await self._trespass(proposal, ballot)
        decision = "reject" if self.plot.course is Course.REJECTED else "approve"
        voters = self._voters(str(ballot["predicate"]["tier"]))
        if self.plot.course is Course.REVOKED:
            await self._change_of_mind(proposal, ballot, voters[0])
        for voter in voters:
            await self._vote(proposal, ballot, voter, decision)
        if ballot["predicate"]["tier"] == "high" and decision == "approve":
            await self._apply(proposal)

    def _voters(self, tier: str) -> Sequence[Validator]:
        """Choose who votes on a tier: enough of the right people, none of them the proposer."""
        others = [one for one in self._gate.humans if one.id != self._proposer.id]
        self._chance.shuffle(others)
        machine = self._chance.choice(self._gate.machines)
        if tier == "low":
            return (machine,)
        if tier == "medium":
            return (others[0], machine)
        first_of_role = {one.role: one for one in others}
        people = [first_of_role[role] for role in ("owner", "safety", "security") if role in first_of_role]
        if len({one.org for one in people}) == 1:
            people += [one for one in others if one.org != people[0].org][:1]
        return (*people, machine)

    async def _vote(self, proposal: str, ballot: Mapping[str, Any], voter: Validator, decision: str) -> Cast:
        signed = voting.vote(ballot, voter, decision, now=voting.now())
        done = await self._send_vote(proposal, voter, signed, decision)
        self._common.last_vote = signed
        return Cast(str(done.document.get("vote", {}).get("id")), signed)

    async def _change_of_mind(self, proposal: str, ballot: Mapping[str, Any], voter: Validator) -> None:
        cast = await self._vote(proposal, ballot, voter, "approve")
        taken_back = voting.revocation(ballot, voter, cast.envelope, now=voting.now())
        path, digest = f"{PROPOSALS}/{proposal}/votes/{cast.id}/revocation", envelope.digest(cast.envelope)
        await self._change(Kind.REVOKE, voter.principal, path, proposal, content=taken_back, vote=digest)

    async def _trespass(self, proposal: str, ballot: Mapping[str, Any]) -> None:
        kind = self.plot.trespass
        made = (
            None
            if kind is None
            else voting.trespass(
                kind,
                ballot,
                self._gate,
                proposer=self._proposer,
                foreign=self._common.last_vote,
                chance=self._chance,
                now=voting.now(),
            )
        )
        if kind is None or made is None:
            return
        principal, cast = made
        await self._once(
            Kind.FORBIDDEN_VOTE,
            "POST",
            f"{PROPOSALS}/{proposal}/votes",
            principal,
            body=json.dumps(cast).encode(),
            proposal=proposal,
            why=kind.value,
            vote=envelope.digest(cast),
        )

    async def _apply(self, proposal: str) -> None:
        """Apply by hand, as soon as the time-lock allows."""
        for pause in LOOK_SECONDS:
            seen = await self._look(proposal)
            if seen.document.get("state") != "approved":
                return
            revision = {"If-Match": seen.headers.get("etag", "*")}
            done = await self._once(
                Kind.APPLY,
                "POST",
                f"{PROPOSALS}/{proposal}/application",
                "applier",
                headers=revision,
                body=b"{}",
                proposal=proposal,
            )
            if done.outcome is Outcome.OK:
                return
            await asyncio.sleep(_retry_after(done) if done.code in _NOT_YET else pause)

    async def _roll_back(self, version: int) -> None:
        path = f"{TARGETS}/{self._target.name}/rollbacks"
        content = json.dumps({"to_version": version, "reason": "it was better before"}).encode()
        done = await self._insist(
            Kind.ROLLBACK,
            "POST",
            path,
            self._proposer.principal,
            body=content,
            target=self._target.name,
            to_version=version,
        )
        proposal = str(done.document["id"])
        if await self._until_not(proposal, _UNSETTLED) != "simulated":
            return
        ballot = await self._ballot(proposal)
        for voter in self._voters(str(ballot["predicate"]["tier"])):
            await self._vote(proposal, ballot, voter, "approve")
        if ballot["predicate"]["tier"] == "high":
            await self._apply(proposal)
        if await self._until_not(proposal, _MOVING) == "applied":
            await self._current()

    # --- looks -------------------------------------------------------------------------------------------------

    async def _ballot(self, proposal: str) -> Mapping[str, Any]:
        principal = self._gate.humans[0].principal
        done = await self._insist(Kind.BALLOT, "GET", f"{PROPOSALS}/{proposal}/ballot", principal, proposal=proposal)
        return done.document

    async def _look(self, proposal: str) -> Done:
        path, principal = f"{PROPOSALS}/{proposal}", self._proposer.principal
        return await self._insist(Kind.GET, "GET", path, principal, proposal=proposal)

    async def _until_not(self, proposal: str, states: frozenset[str]) -> str:
        """Look until the proposal is in none of these states; return the one it is in.

        Raises:
            Ended: it stayed there too long.
        """
        for pause in LOOK_SECONDS:
            state = str((await self._look(proposal)).document.get("state"))
            if state not in states:
                return state
            await asyncio.sleep(pause)
        raise Ended(f"still {state}")

    # --- requests ----------------------------------------------------------------------------------------------

    async def _send_vote(self, proposal: str, voter: Validator, signed: dict[str, Any], decision: str) -> Done:
        """Send a vote, by some voters twice at once under one key; return the first good answer.

        Raises:
            Ended: there was none.
        """
        path, body, key = f"{PROPOSALS}/{proposal}/votes", json.dumps(signed).encode(), _key(self._chance)
        facts = {"proposal": proposal, "vote": envelope.digest(signed), "validator": voter.id, "decision": decision}

        async def send() -> Done:
            return await self._insist(Kind.VOTE, "POST", path, voter.principal, body=body, key=key, **facts)

        sent = await asyncio.gather(*(send() for _ in range(1 + self.plot.votes_twice)), return_exceptions=True)
        for one in sent:
            if isinstance(one, Done):
                return one
        raise Ended("vote: no good answer")

    async def _change(
        self,
        kind: Kind,
        principal: str,
        path: str,
        proposal: str,
        *,
        content: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        body = json.dumps(content or {}).encode()
        await self._insist(kind, "POST", path, principal, body=body, proposal=proposal, **facts)

    async def _insist(
        self, kind: Kind, method: str, path: str, principal: str, *, body: bytes = b"", key: str = "", **facts: Any
    ) -> Done:
        """Ask until there is a good answer, at most a few times, always under one key.

        Raises:
            Ended: refused, or still no good answer.
        """
        key = key or _key(self._chance)
        first: int | None = None
        for attempt in range(ATTEMPTS_MAX):
            again: dict[str, Any] = {} if first is None else {"of": first}
            asked = Kind.RETRY if kind is Kind.PROPOSE and first is not None else kind
            done = await self._once(asked, method, path, principal, body=body, key=key, **again, **facts)
            if done.outcome is Outcome.OK:
                return done
            if done.status is not None and done.status < 500 and done.code not in _ASK_AGAIN:  # noqa: PLR2004
                raise Ended(f"{kind.value}: {done.status} {done.code}")
            first = first or done.number
            pause = self._chance.uniform(*PAUSE_SECONDS) * 2**attempt
            await asyncio.sleep(max(pause, _retry_after(done)))
        raise Ended(f"{kind.value}: out of patience")

    async def _once(
        self,
        kind: Kind,
        method: str,
        path: str,
        principal: str,
        *,
        body: bytes = b"",
        key: str = "",
        headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> Done:
        if self._common.closing:
            raise Ended("the traffic ends")
        due = time.monotonic()
        number = self._exchange.admit(kind, due)
        if number is None:
            raise Ended("the pool is full")
        sent = {"X-API-Key": self._gate.api_keys[principal], **(headers or {})}
        if method == "POST":
            facts["key"] = key or _key(self._chance)
            facts["body_sha256"] = sha256(body)
            sent |= {"Idempotency-Key": facts["key"], "Content-Type": "application/json"}
        facts["life"] = self.plot.number
        request = Request(kind, method, path, principal, sent, due, body=body, facts=facts)
        return await self._exchange.perform(number, request)


def _retry_after(done: Done) -> float:
    """Return the pause that an answer asks for, within reason; 0: none."""
    text = done.headers.get("retry-after", "")
    return min(float(text), RETRY_AFTER_SECONDS_MAX) if text.isdigit() else 0.0


def _key(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))
