"""What the maker of a stream's requests is given, and when the next one is due."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nacl.signing import SigningKey

from chaos.arrivals import stream as chance_of
from chaos.exchange import Request
from chaos.history import Kind, sha256
from chaos.scenario import Stream

JITTER_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Means:
    """What the clients of a stack have. ``wall``: the clock on their wall, in seconds since 1970."""

    api_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By principal."""
    token_key: SigningKey | None = field(default=None, repr=False)
    """Of the issuer whose tokens the service takes."""
    wall: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Occasion:
    """One arrival of a stream: the ``number``-th (from 0), due at ``due`` (CLOCK_MONOTONIC, seconds)."""

    stream: Stream
    number: int
    due: float
    chance: random.Random
    means: Means

    def parameter(self, name: str, default: Any = None) -> Any:
        """Return a parameter of the stream."""
        return self.stream.parameters.get(name, default)

    def turn(self, name: str, default: tuple[Any, ...]) -> Any:
        """Return one of a list of values, each when it is its turn."""
        values = self.parameter(name, default)
        return values[self.number % len(values)]

    def reading(
        self, kind: Kind, path: str, headers: Mapping[str, str], *, principal: str, parameters: Any = None, **facts: Any
    ) -> Request:
        """Return a request that reads; ``principal`` is a name for the history, and never a credential."""
        return Request(
            kind, "GET", path, principal, headers, self.due, parameters=parameters or {}, facts=self._facts(facts)
        )

    def writing(
        self, kind: Kind, path: str, headers: Mapping[str, str], body: bytes, *, principal: str, **facts: Any
    ) -> Request:
        """Return a request with a body."""
        about = self._facts({"body_sha256": sha256(body), **facts})
        return Request(kind, "POST", path, principal, headers, self.due, body=body, facts=about)

    def _facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {"stream": self.stream.name, **facts}


Maker = Callable[[Occasion], Request]


def instants(stream: Stream, seed: int) -> Iterator[float]:
    """Yield when a stream's requests are due, in seconds from its start, for ever.

    Evenly, but for a jitter within each interval, and never "now plus a step": what a stream is there to show is a
    share of all requests above or below a threshold, which bursts of chance would blur.
    """
    chance = chance_of(seed, f"instants of {stream.name}")
    interval = 1 / stream.per_second
    number = 0
    while True:
        yield interval * (number + 0.5 + chance.uniform(-JITTER_SHARE, JITTER_SHARE))
        number += 1
