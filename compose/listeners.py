"""The list of everything that may listen in a stack (`compose/listeners.yaml`), with the ports of one stack."""

from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from compose.ports import Ports

FILE: Final = Path(__file__).with_suffix(".yaml")
HOST: Final = "127.0.0.1"


class Listener(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who listens, for whom."""

    what: str
    whom: str = msgspec.field(name="for")
    always: bool


@cache
def listed() -> dict[str, Listener]:
    """Return the list, by the name of the port or of the ports of all slots."""
    return msgspec.yaml.decode(FILE.read_bytes(), type=dict[str, Listener])


def known(ports: Ports) -> dict[str, tuple[str, int]]:
    """Return address and port of every listener there may be, by its name, such as `replicas-2`."""
    return {name: (HOST, port) for name, port in ports.listeners().items() if of(name) in listed()}


def of(name: str) -> str:
    """Return the entry of the list that a listener belongs to: `replicas` for `replicas-2`."""
    return name.rpartition("-")[0] or name
