"""What Toxiproxy is told: its toxics and proxies as values, and the rules that keep it from misunderstanding.

The server takes a misspelt attribute silently as 0, panics at a negative bandwidth and overflows its stack at an
empty slice (2.12.0), so such toxics are refused before it hears of them.
"""

from collections.abc import Mapping

import msgspec

from chaos.faults.base import InvalidFault
from chaos.faults.vantage import Address

_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "latency": frozenset({"latency", "jitter"}),  # ms
    "bandwidth": frozenset({"rate"}),  # KB/s
    "slow_close": frozenset({"delay"}),  # ms
    "timeout": frozenset({"timeout"}),  # ms; 0 holds the connection until the toxic is removed
    "reset_peer": frozenset({"timeout"}),  # ms
    "slicer": frozenset({"average_size", "size_variation", "delay"}),  # bytes, bytes, microseconds
    "limit_data": frozenset({"bytes"}),
}


class Toxic(msgspec.Struct, frozen=True):
    """One toxic as the server describes it; attributes are integers, absent ones are 0."""

    name: str
    type: str
    stream: str = "downstream"
    toxicity: float = 1.0
    attributes: dict[str, int] = {}

    def require_valid(self) -> None:
        """Raise ``InvalidFault`` for what the server would misunderstand silently or not survive."""
        known = _ATTRIBUTES.get(self.type)
        if known is None:
            raise InvalidFault(f"toxic type must be one of {', '.join(sorted(_ATTRIBUTES))}, not {self.type!r}")
        if unknown := set(self.attributes) - known:
            raise InvalidFault(f"toxic {self.type} has no attribute {', '.join(sorted(unknown))}")
        if self.stream not in {"upstream", "downstream"}:
            raise InvalidFault(f"toxic stream must be upstream or downstream, not {self.stream!r}")
        if not 0 <= self.toxicity <= 1:
            raise InvalidFault(f"toxicity must be between 0 and 1, not {self.toxicity}")
        for name, value in self.attributes.items():
            if type(value) is not int or value < 0:  # a negative bandwidth panics the server
                raise InvalidFault(f"toxic attribute {name} must be a whole number >= 0, not {value!r}")
        given = self.attributes
        if self.type == "slicer" and not given.get("size_variation", 0) < given.get("average_size", 0):
            raise InvalidFault("a slicer needs average_size > size_variation: the server overflows its stack otherwise")
        if self.type == "latency" and given.get("jitter", 0) > given.get("latency", 0):
            raise InvalidFault("a jitter above the latency leaves some data without any delay")

    def agrees_with(self, other: "Toxic") -> bool:
        """Whether both describe the same toxic; absent attributes count as 0."""
        names = set(self.attributes) | set(other.attributes)
        return (self.name, self.type, self.stream, self.toxicity) == (
            other.name,
            other.type,
            other.stream,
            other.toxicity,
        ) and all(self.attributes.get(name, 0) == other.attributes.get(name, 0) for name in names)


class Proxy(msgspec.Struct, frozen=True):
    """One proxy as the server describes it."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[Toxic, ...] = ()

    def toxic(self, name: str) -> Toxic | None:
        """Return the toxic of that name, or ``None``."""
        return next((toxic for toxic in self.toxics if toxic.name == name), None)

    @property
    def listener(self) -> Address:
        """Where clients connect."""
        return Address.parse(self.listen)

    @property
    def direct(self) -> Address:
        """What it forwards to."""
        return Address.parse(self.upstream)
