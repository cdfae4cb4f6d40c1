"""How long refusals take, measured as a client measures it, and whether two causes of them can be told apart.

Causes are asked in random order over one connection to a real process, so that whatever else the machine does falls on
all of them alike. Two causes are compared by the ranks of their times (Mann-Whitney), which needs no normal
distribution and is not moved by a few slow answers; once over all samples, and once over the quickest of each `BATCH`,
which is how an attacker takes the noise out. Causes that do the same work are told apart, by any of the comparisons of
a run, once in a thousand runs (Bonferroni): the order was random, so it is no matter how busy the machine was.
"""

import random
import socket
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, median
from typing import Final

P: Final = 0.001
BATCH: Final = 20
MICROSECONDS_MAX: Final = 1_000_000
Samples = Mapping[str, Sequence[float]]
"""Seconds, by cause."""
Groups = Mapping[str, Sequence[str]]
"""Causes that are to be alike, by what their time must not give away."""


def measure(
    port: int, presented: Mapping[str, Sequence[Sequence[tuple[bytes, bytes]]]], *, each: int, chance: random.Random
) -> dict[str, list[float]]:
    """Return how long each of ``each`` refusals of every cause took, from the first byte sent to the last one read."""
    requests = {name: [_request(headers) for headers in credentials] for name, credentials in presented.items()}
    order = [name for name in requests for _ in range(each)]
    chance.shuffle(order)
    samples: dict[str, list[float]] = {name: [] for name in requests}
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name in order:
            request = requests[name][len(samples[name]) % len(requests[name])]
            samples[name].append(_seconds(connection, request))
    return samples


def _request(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    told = [(b"Host", b"localhost"), (b"X-Request-Id", b"same-for-all"), *headers]
    lines = [b"GET /api/v1/proposals HTTP/1.1", *(b": ".join(header) for header in told), b"", b""]
    return b"\r\n".join(lines)


def _seconds(connection: socket.socket, request: bytes) -> float:
    began = time.perf_counter()
    connection.sendall(request)
    answer = connection.recv(65_536)
    while not _is_whole(answer):
        answer += connection.recv(65_536)
    ended = time.perf_counter()
    assert answer.startswith(b"HTTP/1.1 401 "), answer
    return ended - began


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    _, _, rest = head.partition(b"content-length: ")
    return bool(rest) and len(body) >= int(rest.partition(b"\r\n")[0])


@dataclass(frozen=True)
class Comparison:
    """Two causes, and how far apart their ranks are, in standard deviations of chance."""

    first: str
    second: str
    all_z: float
    quickest_z: float

    @property
    def z(self) -> float:
        """The larger of the two."""
        return max(abs(self.all_z), abs(self.quickest_z))

    def __str__(self) -> str:
        """Say it for people."""
        return f"{self.first}, {self.second}: z {self.all_z:.2f}, of the quickest {self.quickest_z:.2f}"


class Compared:
    """Each cause beside every other one of its group, in the same samples."""

    def __init__(self, samples: Samples, groups: Groups) -> None:
        self._samples = samples
        self.groups = groups
        pairs = [pair for causes in groups.values() for pair in combinations(causes, 2)]
        self.comparisons = [self._beside(*pair) for pair in pairs]
        self.z_allowed = NormalDist().inv_cdf(1 - P / (2 * 2 * len(pairs)))

    def told_apart(self) -> list[Comparison]:
        """Return the pairs that differ by more than chance."""
        return [one for one in self.comparisons if one.z > self.z_allowed]

    def microseconds_seen(self, group: str) -> int:
        """Return the smallest delay of the group's second cause that these very samples would have shown."""
        first, second = self.groups[group][:2]
        delays = range(1, MICROSECONDS_MAX)

        def is_seen(delay: int) -> bool:
            return self._beside(first, second, delay=delay / 1e6).z > self.z_allowed

        return delays[bisect_left(delays, x=True, key=is_seen)]

    def lines(self) -> Iterator[str]:
        """Say what each cause took, and what the comparisons came to."""
        for group, causes in self.groups.items():
            yield f"{group}:"
            for cause in causes:
                taken = self._samples[cause]
                yield (
                    f"  {cause:<44} median {median(taken) * 1e6:7.1f} us, "
                    f"quickest of {BATCH} {median(quickest(taken)) * 1e6:7.1f} us, {len(taken)} samples"
                )
            widest = max((one for one in self.comparisons if one.first in causes), key=lambda one: one.z)
            yield f"  furthest apart: {widest}; {self.z_allowed:.2f} allowed"
            yield f"  {self.microseconds_seen(group)} us more for {causes[1]} would have been seen"

    def _beside(self, first: str, second: str, *, delay: float = 0.0) -> Comparison:
        one, other = self._samples[first], [seconds + delay for seconds in self._samples[second]]
        return Comparison(first, second, mann_whitney_z(one, other), mann_whitney_z(quickest(one), quickest(other)))


def mann_whitney_z(first: Sequence[float], second: Sequence[float]) -> float:
    """Return by how many standard deviations the ranks of two populations differ from those of one."""
    ordered = sorted(second)
    above = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in first) / 2
    n, m = len(first), len(second)
    return float((above - n * m / 2) / (n * m * (n + m + 1) / 12) ** 0.5)


def quickest(seconds: Sequence[float]) -> list[float]:
    """Return the quickest of each `BATCH` in a row."""
    return [min(seconds[start : start + BATCH]) for start in range(0, len(seconds) - BATCH + 1, BATCH)]
