"""What is known about a request from its first byte on, kept in its ASGI scope."""

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.errors import FirewallError, Flaw
from app.resilience.deadline import Deadline
from app.security.roles import Identity

KEY: Final = "firewall"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not served: what its problem says, without the error itself and the frames it holds on to."""

    code: str
    flaws: Sequence[Flaw]

    @classmethod
    def of(cls, error: FirewallError) -> "Refusal":
        """Return what is kept of an error."""
        return cls(error.code, tuple(error.flaws))


@dataclass(slots=True)
class Facts:
    """The request's id, the instant its answer becomes worthless, who asks from where, and why it was refused."""

    request_id: str
    deadline: Deadline
    client_address: str
    identity: Identity | None = None
    refusal: Refusal | None = None
    """Set where an error becomes its answer."""


def of(scope: Any) -> Facts:
    """Return the facts of the request in `scope`."""
    facts: Facts = scope[KEY]
    return facts


def header(scope: Any, name: bytes) -> bytes | None:
    """Return a header that stands exactly once, else None."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0] if len(found) == 1 else None


def client_address(scope: Any, trusted: Collection[str]) -> str:
    """Return the address of the client: the socket's peer, or what our own proxy added last.

    What stands further left in X-Forwarded-For was written by the client and proves nothing.
    """
    peer = scope["client"][0] if scope.get("client") else "unknown"
    if peer not in trusted:
        return peer
    lines = [value for key, value in scope["headers"] if key == b"x-forwarded-for"]
    last = b",".join(lines).rpartition(b",")[2].strip().decode("ascii", "replace")
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return peer
