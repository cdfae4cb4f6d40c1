"""The two profiles: durations and the service's overrides, never a threshold (decision 13).

``documented`` runs with the failure-mode matrix's own numbers, ``fast`` with the same machinery compressed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import msgspec

from slo import durations
from slo.files import SPECIFICATION, InvalidSpecificationError, read

_OVERRIDE_PREFIX = "FIREWALL_"


class _ProfileText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    durations: dict[str, str]
    service: dict[str, str]


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of durations, as Prometheus writes them, and environment variables for the service."""

    name: str
    durations: Mapping[str, str]
    service: Mapping[str, str]

    def seconds(self, duration: str) -> float:
        """Return a named duration in seconds.

        Raises:
            InvalidSpecificationError: the profile has no such duration.
        """
        if duration not in self.durations:
            raise InvalidSpecificationError(f"profile {self.name} has no duration {duration!r}")
        return durations.milliseconds(self.durations[duration]) / 1000

    @property
    def scrape_interval_seconds(self) -> float:
        """How often Prometheus reads each target."""
        return self.seconds("scrape")

    @property
    def evaluation_interval_seconds(self) -> float:
        """How often Prometheus evaluates the rules."""
        return self.seconds("evaluation")

    @property
    def lookback_seconds(self) -> float:
        """Prometheus's ``--query.lookback-delta``: how long a sample of a vanished series still counts."""
        return self.seconds("lookback")

    @property
    def group_wait_seconds(self) -> float:
        """How long Alertmanager holds the first notification of a critical alert."""
        return self.seconds("group_wait_critical")

    @property
    def warm_up_seconds(self) -> float:
        """How long load must run before a rate over the short window means something."""
        return self.seconds("window") + 2 * self.seconds("scrape")


@cache
def names() -> tuple[str, ...]:
    """Return the profiles' names, in the order of the file."""
    return tuple(_texts())


@cache
def load(name: str) -> Profile:
    """Return the profile called ``name``.

    Raises:
        InvalidSpecificationError: there is none, or the two profiles do not name the same durations.
    """
    texts = _texts()
    if name not in texts:
        raise InvalidSpecificationError(f"no profile {name!r}; there are: {', '.join(texts)}")
    expected = {key for one in texts.values() for key in one.durations}
    for other, one in texts.items():
        missing = expected - set(one.durations)
        if missing:
            raise InvalidSpecificationError(f"profile {other} lacks {', '.join(sorted(missing))}")
        for key, value in one.durations.items():
            if durations.milliseconds(value) <= 0:
                raise InvalidSpecificationError(f"profile {other}: {key} is not longer than zero")
    wrong = [key for key in texts[name].service if not key.startswith(_OVERRIDE_PREFIX)]
    if wrong:
        raise InvalidSpecificationError(f"profile {name}: {wrong[0]} is no setting of the service")
    return Profile(
        name=name,
        durations=MappingProxyType(texts[name].durations),
        service=MappingProxyType(texts[name].service),
    )


@cache
def _texts() -> dict[str, _ProfileText]:
    return read(SPECIFICATION / "profiles.yaml", dict[str, _ProfileText])
