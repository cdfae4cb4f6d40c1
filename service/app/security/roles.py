"""Roles and what they imply; who is asking. `service/access.csv` says which role may call which route."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from app.core.documents.identifiers import Principal

ROLES: Final = ("viewer", "editor", "admin", "validator", "applier", "break_glass", "actuator")
IMPLIED: Final = {
    "viewer": {"viewer"},
    "editor": {"editor", "viewer"},
    "admin": {"admin", "editor", "viewer"},
    "validator": {"validator", "viewer"},
    "applier": {"applier", "viewer"},
    "break_glass": {"break_glass", "viewer"},
    "actuator": {"actuator", "viewer"},
}
PRINCIPAL_PATTERN: Final = r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?"
PRINCIPAL: Final = re.compile(PRINCIPAL_PATTERN)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking: a principal and everything its roles imply."""

    principal: Principal
    roles: frozenset[str]


def identity(principal: str, roles: Iterable[str]) -> Identity:
    """Return a principal with what its roles imply; a role that nobody knows implies nothing."""
    implied = frozenset[str]().union(*(IMPLIED.get(role, set()) for role in roles))
    return Identity(principal=Principal(principal), roles=implied)
