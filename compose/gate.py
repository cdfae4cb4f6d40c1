"""Who and what a stack's gate knows from its beginning: people, machines, their keys, and the documents they govern.

A person is an owner, or answers for safety or for security, in one of two organisations, so that every tier's quorum
can be met without its proposer; two machines recompute. What they govern comes in two kinds: *quiet* ones that
nobody ever changes, for proposals that are only taken in, and *moving* ones that whole lives are about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nacl.signing import SigningKey

QUIET_TARGETS: Final = 20
MOVING_TARGETS: Final = 12
ISSUER: Final = "https://issuer.firewall.example"
AUDIENCE: Final = "firewall.example"
ISSUER_KEY_ID: Final = "game-day"
DOCUMENT: Final[dict[str, Any]] = {
    "prompts": {"system": "Answer politely."},
    "tool_grants": ["search"],
    "budgets": {"tokens": 1000},
}
SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["prompts", "tool_grants", "budgets"],
    "properties": {
        "prompts": {"type": "object", "required": ["system"], "properties": {"system": {"type": "string"}}},
        "tool_grants": {"type": "array", "items": {"type": "string"}},
        "budgets": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
    },
}


@dataclass(frozen=True, slots=True)
class Validator:
    """Somebody who may vote, with the key to do so."""

    id: str
    principal: str
    kind: str  # "human" or "machine"
    role: str  # "owner", "safety", "security" or "machine"
    org: str
    weight: int
    key: SigningKey = field(repr=False, compare=False)

    @property
    def is_human(self) -> bool:
        """Whether it is a person."""
        return self.kind == "human"


@dataclass(frozen=True, slots=True)
class Governed:
    """A target as it was created: its first version and the digest of that."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Gate:
    """All that clients of a stack need to take part in whole lives of proposals."""

    origin: str
    """Of the log."""
    log_key: bytes
    """Public."""
    service_key: bytes
    """Public."""
    token_key: SigningKey = field(repr=False, compare=False)
    """Signs tokens that the replicas take."""
    genesis: Path
    """The bundle; nothing in it is secret."""
    validators: tuple[Validator, ...]
    api_keys: Mapping[str, str] = field(repr=False)
    """By principal."""
    quiet_targets: tuple[Governed, ...]
    moving_targets: tuple[Governed, ...]

    @property
    def humans(self) -> tuple[Validator, ...]:
        """The people among the validators."""
        return tuple(one for one in self.validators if one.is_human)

    @property
    def machines(self) -> tuple[Validator, ...]:
        """The machines among them."""
        return tuple(one for one in self.validators if not one.is_human)
