"""The marks in the environment of every process of a world: where it is, and whose it is.

By them a process knows what it may do, and the sweep finds what was left behind.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

WORLD: Final = "AMGF_WORLD"
OWNER: Final = "AMGF_OWNER"
ISOLATION: Final = "AMGF_ISOLATION"
NETWORK: Final = "AMGF_NETWORK"
FOLDER: Final = "AMGF_FOLDER"
NAMESPACE: Final = "AMGF_NAMESPACE"


class Isolation(StrEnum):
    """What keeps a world apart from its host."""

    ROOT = "root"
    """Namespaces of pids, mounts, IPC and network, made by root."""
    USER = "user"
    """The same, made by anybody inside a user namespace of their own."""
    NONE = "none"
    """A process tree, free ports and a temporary folder: the host has no namespaces for us."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The world that a process lives in."""

    world: str
    owner: str
    """The process outside for which the world exists (`places.process_key`)."""
    isolation: Isolation
    has_network: bool
    """Whether the loopback device is the world's own, so that fixed ports are free."""
    folder: Path
    """Where state and secrets go: gone when the world is."""
    namespace: str = ""
    """The pid namespace in which `owner` is a process; in any other its number means nothing."""

    @property
    def has_mounts(self) -> bool:
        """Whether mounts made here are invisible outside."""
        return self.isolation is not Isolation.NONE

    def environment(self) -> dict[str, str]:
        """Return the marks as environment variables."""
        return {
            WORLD: self.world,
            OWNER: self.owner,
            ISOLATION: self.isolation.value,
            NETWORK: "own" if self.has_network else "host",
            FOLDER: str(self.folder),
            NAMESPACE: self.namespace,
        }


def read(environment: Mapping[str, str]) -> Mark | None:
    """Return the marks in an environment; `None`: it is that of no world."""
    if WORLD not in environment:
        return None
    return Mark(
        world=environment[WORLD],
        owner=environment.get(OWNER, ""),
        isolation=Isolation(environment.get(ISOLATION, Isolation.NONE)),
        has_network=environment.get(NETWORK) == "own",
        folder=Path(environment.get(FOLDER, "/")),
        namespace=environment.get(NAMESPACE, ""),
    )


def here() -> Mark | None:
    """Return the marks of this process."""
    return read(os.environ)  # noqa: TID251 - marks are no settings: they are written by the world, never by a user
