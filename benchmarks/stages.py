"""Whole stages over HTTP, on the real application and a real PostgreSQL, beside an ordinary service (P1, P5).

    intake   POST /proposals: authentication, strict decode, canonical bytes, one transaction, answer
    vote     two votes that reach a quorum, each with its transaction
    apply    the application of an approved change

Each request is a new one; preparing it is not counted. What the ordinary service leaves out is told in
`benchmarks.ordinary`: the ratio says what the gate's promises cost, below 1 is dearer.
"""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from app.core.documents import canonical
from app.core.signing import statement
from app.resilience.deadline import Deadline
from app.security.api_keys import ApiKeys
from app.workflow.intake import accept
from benchmarks import ordinary, samples
from benchmarks.measure import Goal, Pair, Prepared, Side
from benchmarks.served import DOCUMENT, Request, Served, served
from tests.integration.service.applying import settings
from tests.integration.service.gate import PROPOSER

BASE: Final = canonical.encode_value(DOCUMENT)
BASE_DIGEST: Final = canonical.digest(BASE)
AT_ONCE: Final = 8
REQUEST_MICROSECONDS_MAX: Final = 440.0
"""P1: the floor of a request within half a core at 1000 a second; an HTTP server's share comes on top of ours."""
AUTHENTICATION_MICROSECONDS_MAX: Final = 15.0
PATCH: Final = [
    {"op": "test", "path": "/routing/default", "value": "small"},
    {"op": "add", "path": "/notes/why", "value": samples.SENTENCE},
]
"""Of the tier medium; it touches nothing that raises it."""
VOTERS: Final = ("robot", "olga")
"""A machine that recomputed, and a person: enough for the tier medium."""
TIER: Final = "medium"
SAME: Final = (
    *("state", "principal", "proposal_digest", "body_digest", "target", "base_version", "base_digest", "patch"),
    *("rationale", "kind", "declared_risk", "evidence", "supersedes"),
)


@contextmanager
def intake() -> Iterator[list[Pair]]:
    """Yield the pairs of this topic."""
    with served() as running:
        target = f"agents/{secrets.token_hex(6)}"
        running.stages.founded.server.add_target(target, DOCUMENT, minimum_tier=TIER)
        running.portal.call(running.ordinary.add_target, target, BASE, BASE_DIGEST)

        async def one() -> Sequence[Request]:
            return [_proposal(running, target)]

        same = _proposal(running, target)

        async def twice() -> Sequence[Request]:
            return [same, same]

        def agree() -> bool:
            ours, again = running.answers(running.ours, twice)
            theirs, as_well = running.answers(running.ordinary.application, twice)
            return ours == again and theirs == as_well and all(ours[name] == theirs[name] for name in SAME)

        def pair(name: str, at_once: int, goal: Goal | None) -> Pair:
            return Pair(
                name=name,
                ours=running.side("POST /proposals", running.ours, one, at_once=at_once),
                theirs=running.side("ordinary service", running.ordinary.application, one, at_once=at_once),
                goal=goal,
                agree=agree,
            )

        body = same.body

        async def empty(connection: object) -> None:
            del connection

        async def transactions(calls: int) -> None:
            for _ in range(calls):
                await running.stages.database.transact("benchmark", empty, deadline=Deadline.after(60, time.monotonic))

        yield [
            _authentication(running),
            Pair(
                name="decoding and canonical bytes of 1 kB",
                ours=Side("accept", lambda: accept(body)),
                theirs=Side("json and rfc8785", lambda: ordinary.accept(body)),
                agree=lambda: accept(body).proposal_digest == ordinary.accept(body),
            ),
            Pair(
                name="a transaction without a statement",
                ours=Prepared(
                    "transact", lambda: None, prepare=lambda calls: lambda: running.portal.call(transactions, calls)
                ),
            ),
            pair("intake of 1 kB, one after the other", 1, None),
            pair(f"intake of 1 kB, {AT_ONCE} at once", AT_ONCE, Goal(microseconds_max=REQUEST_MICROSECONDS_MAX)),
        ]


@contextmanager
def vote() -> Iterator[list[Pair]]:
    """Yield the pairs of this topic that need a server."""
    with served() as running:
        ballots: list[Any] = []

        async def ours() -> Sequence[Request]:
            proposal = await _simulated(running)
            ballots.append(await running.stages.ballot(proposal))
            return _votes(running, proposal, ballots[-1])

        async def theirs() -> Sequence[Request]:
            proposal = await running.ordinary.add_proposal(
                target="agents/voted-on", content=BASE, patch=b"[]", ballot=statement.encode(ballots[0])
            )
            return _votes(running, proposal, ballots[0])

        def agree() -> bool:
            said = [
                [(answer["state"], answer["tally"]["met"]) for answer in running.answers(application, make)]
                for application, make in ((running.ours, ours), (running.ordinary.application, theirs))
            ]
            return said[0] == said[1] == [("simulated", False), ("approved", True)]

        yield [
            Pair(
                name="vote, whole, of two that make a quorum",
                ours=running.side("POST votes", running.ours, ours, units=len(VOTERS)),
                theirs=running.side("ordinary service", running.ordinary.application, theirs, units=len(VOTERS)),
                agree=agree,
            )
        ]


@contextmanager
def apply() -> Iterator[list[Pair]]:
    """Yield the pairs of this topic."""
    with served() as running:
        patch = canonical.encode_value(PATCH)

        async def ours() -> Sequence[Request]:
            proposal = await _simulated(running)
            for name in VOTERS:
                await running.stages.vote(proposal, name)
            return [_application(running, proposal)]

        async def theirs() -> Sequence[Request]:
            target = f"agents/{secrets.token_hex(6)}"
            await running.ordinary.add_target(target, BASE, BASE_DIGEST)
            proposal = await running.ordinary.add_proposal(target=target, content=BASE, patch=patch, ballot=b"{}")
            await running.ordinary.approve(proposal)
            return [_application(running, proposal)]

        def agree() -> bool:
            [mine] = running.answers(running.ours, ours)
            [other] = running.answers(running.ordinary.application, theirs)
            return (mine["version"], mine["digest"], mine["state"]) == (
                other["version"],
                other["digest"],
                other["state"],
            )

        yield [
            Pair(
                name="apply, 2 kB, two votes",
                ours=running.side("POST application", running.ours, ours),
                theirs=running.side("ordinary service", running.ordinary.application, theirs),
                agree=agree,
            )
        ]


def _authentication(running: Served) -> Pair:
    stages = running.stages
    key = stages.founded.keys[PROPOSER]
    authenticator = ApiKeys(stages.database, settings(stages.founded).keys, clock=time.monotonic)
    deadline = Deadline.after(3600, clock=time.monotonic)

    async def many(calls: int) -> None:
        for _ in range(calls):
            await authenticator.authenticate(key, deadline=deadline)

    async def identified() -> str:
        return (await authenticator.authenticate(key, deadline=deadline)).principal

    return Pair(
        name="authentication, a key that is remembered",
        ours=Prepared("authenticate", lambda: None, prepare=lambda calls: lambda: running.portal.call(many, calls)),
        theirs=Side("HMAC and a dictionary", lambda: running.ordinary.principal_of(key)),
        goal=Goal(microseconds_max=AUTHENTICATION_MICROSECONDS_MAX),
        agree=lambda: running.portal.call(identified) == running.ordinary.principal_of(key),
    )


async def _simulated(running: Served) -> str:
    """Return a proposal whose ballot is open, for a target of its own."""
    target = f"agents/{secrets.token_hex(6)}"
    running.stages.founded.server.add_target(target, DOCUMENT, minimum_tier=TIER)
    return await running.stages.simulated(target, base_digest=BASE_DIGEST, patch=PATCH)


def _proposal(running: Served, target: str) -> Request:
    change = {
        "target": target,
        "base_version": 1,
        "base_digest": BASE_DIGEST,
        "patch": [
            {"op": "test", "path": "/routing/default", "value": "small"},
            {"op": "replace", "path": "/prompts/0/text", "value": samples.SENTENCE * 7 + secrets.token_hex(8)},
        ],
        "rationale": samples.SENTENCE,
    }
    return Request("/api/v1/proposals", running.stages.headers(PROPOSER), msgspec.json.encode(change))


def _votes(running: Served, proposal: object, ballot: Any) -> list[Request]:
    return [
        Request(
            f"/api/v1/proposals/{proposal}/votes",
            running.stages.headers(f"{name}-person"),
            running.stages.signed(ballot, name).encode(),
        )
        for name in VOTERS
    ]


def _application(running: Served, proposal: object) -> Request:
    headers = {**running.stages.headers("applier"), "If-Match": "*"}
    return Request(f"/api/v1/proposals/{proposal}/application", headers, b"{}")
