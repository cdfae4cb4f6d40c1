"""Every fault the harness can make, by the name under which the undo ledger records it.

A fault is a frozen dataclass of JSON values. ``inject`` and ``undo`` are idempotent; ``undo`` works in a process
that did not inject, and after half an ``inject``. Each of the four calls ends within a deadline of its own, with
``FaultTimedOut`` if it must.
"""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Final

import msgspec

from chaos.faults.base import FaultError, FaultFailed, FaultRefused, FaultTimedOut, InvalidFault
from chaos.faults.configuration import InvalidConfiguration
from chaos.faults.packets import PacketsDropped
from chaos.faults.postgres import PostgresPaused, PostgresStopped, SessionsEnded
from chaos.faults.proxies import ProxyDown, ProxyLatency, SilentProxy
from chaos.faults.release import BreakingRelease
from chaos.faults.traffic import OnlyTraffic
from chaos.scenario import Fault

__all__ = [
    "KINDS",
    "BreakingRelease",
    "FaultError",
    "FaultFailed",
    "FaultRefused",
    "FaultTimedOut",
    "InvalidConfiguration",
    "InvalidFault",
    "OnlyTraffic",
    "PacketsDropped",
    "PostgresPaused",
    "PostgresStopped",
    "ProxyDown",
    "ProxyLatency",
    "SessionsEnded",
    "SilentProxy",
    "from_record",
]

FaultClass = (
    type[BreakingRelease]
    | type[InvalidConfiguration]
    | type[OnlyTraffic]
    | type[PacketsDropped]
    | type[PostgresPaused]
    | type[PostgresStopped]
    | type[ProxyDown]
    | type[ProxyLatency]
    | type[SessionsEnded]
    | type[SilentProxy]
)

KINDS: Final[Mapping[str, FaultClass]] = MappingProxyType(
    {
        BreakingRelease.kind: BreakingRelease,
        InvalidConfiguration.kind: InvalidConfiguration,
        OnlyTraffic.kind: OnlyTraffic,
        PacketsDropped.kind: PacketsDropped,
        PostgresPaused.kind: PostgresPaused,
        PostgresStopped.kind: PostgresStopped,
        ProxyDown.kind: ProxyDown,
        ProxyLatency.kind: ProxyLatency,
        SessionsEnded.kind: SessionsEnded,
        SilentProxy.kind: SilentProxy,
    }
)


def from_record(kind: str, parameters: Mapping[str, Any]) -> Fault:
    """Rebuild a fault from what the undo ledger (or a scenario file) says about it.

    Raises:
        InvalidFault: the kind is unknown, or a parameter is missing, unknown, of the wrong type or out of range.
    """
    fault_class = KINDS.get(kind)
    if fault_class is None:
        raise InvalidFault(f"unknown kind of fault: {kind!r}; there are: {', '.join(sorted(KINDS))}")
    known = {field.name for field in fields(fault_class)}
    if unknown := set(parameters) - known:
        raise InvalidFault(f"{kind} has no parameter {', '.join(sorted(unknown))}; it has: {', '.join(sorted(known))}")
    try:
        fault: Fault = msgspec.convert(dict(parameters), fault_class)
    except msgspec.ValidationError as error:
        raise InvalidFault(f"{kind}: {error}") from error
    return fault
