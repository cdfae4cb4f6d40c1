"""When requests arrive and what they carry: a pure function of the load and one seed.

Arrivals are Poisson and absolute: each instant is the one before it plus an exponential gap, never "now plus a
step", so a stalled service does not slow the demand (a closed loop hides the fault). Every stream of chance has a
generator of its own, derived from the run's seed, so that adding a stream does not move the others.
"""

import heapq
import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from chaos.history import MARKER, Kind
from chaos.scenario import Load
from compose.gate import Gate, Governed

# A retry comes at once (a concurrent twin), soon (an impatient client) or after the fault (a patient one).
_RETRY_DELAYS_SECONDS = ((0.0, 0.0), (0.05, 1.0), (1.0, 12.0))
_REUSE_DELAY_SECONDS = (0.5, 3.0)  # after the first answer, unless the service stalls
_LIST_SHARE = 0.3  # of reads; the others get one proposal, or, where there is a gate, the head of a target
_CURRENT_SHARE = 0.3
_TARGETS = 200


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """A request that is due ``offset`` seconds after the start."""

    offset: float
    serial: int  # breaks ties; unique
    kind: Kind = field(compare=False)
    client: int = field(compare=False)  # index of the principal, modulo the number of principals
    key: str | None = field(default=None, compare=False)
    body: bytes | None = field(default=None, compare=False)
    of: int | None = field(default=None, compare=False)  # serial of the proposal that is repeated, or whose key is used
    target: str | None = field(default=None, compare=False)  # whose head is read


def stream(seed: int, name: str) -> random.Random:
    """Return the generator of one named stream of chance."""
    return random.Random(f"{seed}/{name}")  # noqa: S311 - reproducible on purpose, guards nothing


def schedule(load: Load, seed: int, *, gate: Gate | None = None) -> Iterator[Arrival]:
    """Yield arrivals for ever, in order of their instants. ``gate``: the targets there are."""
    return _Schedule(load, seed, gate).arrivals()


class _Schedule:
    def __init__(self, load: Load, seed: int, gate: Gate | None) -> None:
        self._load = load
        self._quiet = () if gate is None else gate.quiet_targets
        self._moving = () if gate is None else gate.moving_targets
        self._proposal_gaps = stream(seed, "proposal gaps")
        self._read_gaps = stream(seed, "read gaps")
        self._contents = stream(seed, "contents")
        self._repeats = stream(seed, "repeats")
        self._serial = 0
        self._due: list[Arrival] = []

    def arrivals(self) -> Iterator[Arrival]:
        if self._load.proposals_per_second > 0:
            self._plan_proposal(0.0)
        if self._load.reads_per_second > 0:
            self._plan_read(0.0)
        while self._due:
            arrival = heapq.heappop(self._due)
            match arrival.kind:
                case Kind.PROPOSE if arrival.of is None:
                    self._plan_proposal(arrival.offset)
                    self._plan_repeats(arrival)
                case Kind.LIST | Kind.GET | Kind.CURRENT:
                    self._plan_read(arrival.offset)
                case _:
                    pass
            yield arrival

    def _plan_proposal(self, after: float) -> None:
        self._plan(
            after + self._proposal_gaps.expovariate(self._load.proposals_per_second),
            Kind.PROPOSE,
            client=self._contents.randrange(1 << 16),
            key=str(uuid.UUID(int=self._contents.getrandbits(128), version=4)),
            body=self._body(self._contents),
        )

    def _plan_read(self, after: float) -> None:
        point = self._read_gaps.random()
        kind = Kind.LIST if point < _LIST_SHARE else Kind.GET
        target = None
        if self._moving and _LIST_SHARE <= point < _LIST_SHARE + _CURRENT_SHARE:
            kind, target = Kind.CURRENT, self._read_gaps.choice(self._moving).name
        offset = after + self._read_gaps.expovariate(self._load.reads_per_second)
        self._plan(offset, kind, client=self._read_gaps.randrange(1 << 16), target=target)

    def _plan_repeats(self, first: Arrival) -> None:
        chance = self._repeats
        if chance.random() < self._load.retry_share:
            delay = chance.uniform(*chance.choice(_RETRY_DELAYS_SECONDS))
            self._plan(first.offset + delay, Kind.RETRY, client=first.client, key=first.key, body=first.body, of=first)
        elif chance.random() < self._load.reuse_share:  # never both: a retry must not meet a key that means another now
            delay = chance.uniform(*_REUSE_DELAY_SECONDS)
            self._plan(
                first.offset + delay, Kind.REUSE, client=first.client, key=first.key, body=self._body(chance), of=first
            )
        elif self._load.shared_key_share > 0 and chance.random() < self._load.shared_key_share:
            delay, other = chance.uniform(*_REUSE_DELAY_SECONDS), first.client + 1
            self._plan(
                first.offset + delay, Kind.PROPOSE, client=other, key=first.key, body=self._body(chance), of=first
            )

    def _body(self, chance: random.Random) -> bytes:
        """Return a valid proposal with a canary of its own, so that no two bodies are alike."""
        on = chance.choice(self._quiet) if self._quiet else None
        return proposal_body(chance, on, version=1)

    def _plan(
        self,
        offset: float,
        kind: Kind,
        *,
        client: int,
        key: str | None = None,
        body: bytes | None = None,
        of: Arrival | None = None,
        target: str | None = None,
    ) -> None:
        self._serial += 1
        serial = None if of is None else of.serial
        arrival = Arrival(offset, self._serial, kind, client, key, body, of=serial, target=target)
        heapq.heappush(self._due, arrival)


def proposal_body(chance: random.Random, on: Governed | None, *, version: int, **more: Any) -> bytes:
    """Return a proposal on a version of a target, with a canary of its own; ``None``: of a stack without a gate."""
    canary = f"{MARKER}{chance.getrandbits(64):016x}"
    base = (
        {"target": f"agent-{chance.randrange(_TARGETS):03d}", "base_version": 0}
        if on is None
        else {"target": on.name, "base_version": version, "base_digest": on.digest}
    )
    return json.dumps(
        {
            **base,
            "patch": [{"op": "replace", "path": "/prompts/system", "value": f"Answer briefly. {canary}"}],
            "rationale": f"Shorter answers were preferred in review ({canary}).",
            **more,
        }
    ).encode()
