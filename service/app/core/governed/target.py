"""What a governed target is: its immutable configuration, and the tiers a change to it may have.

A target is a governed JSON document of one component of an AI system. Its configuration is fixed when it is made:
the JSON Schema (2020-12) its document must satisfy, the least tier of any change, what happens when an actuator
fails. Refused: schemas above 64 kB, references that leave the schema, actuator addresses with credentials, queries or
hosts that are not allowed. Whether the schema is a schema, and the document satisfies it, is found out in the sandbox
(`SandboxPool.check_document`): patterns and references of a stranger may cost more than they look.
"""

import enum
import fnmatch
from collections.abc import Collection, Sequence
from functools import total_ordering
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from app.core.documents import canonical
from app.core.documents.misfit import flaw_of
from app.core.documents.pointer import join
from app.core.governed.proposal import Target
from app.errors import Flaw, InvalidTarget

SCHEMA_BYTES_MAX: Final = 65_536
SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
REFERENCES: Final = ("$ref", "$dynamicRef")
URL_CHARACTERS_MAX: Final = 2_048
GLOB_PATTERN: Final = r"^(?:\*|[a-z0-9*](?:[a-z0-9._*/-]*[a-z0-9*])?)(?!\n)$"
GLOB_CHARACTERS_MAX: Final = 128

GOVERNANCE: Final = "governance"
RESERVED_TARGETS: Final = ("governance/corpus", "governance/policies", "governance/root", "governance/validators")
"""They exist from genesis on; nobody creates or deletes them."""

Glob = Annotated[
    str,
    msgspec.Meta(
        pattern=GLOB_PATTERN, max_length=GLOB_CHARACTERS_MAX, description="A target's name; `*` stands for anything."
    ),
]


@total_ordering
class Tier(enum.Enum):
    """How much agreement a change needs, in ascending order. Compares by rank, never by spelling."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"
    GOVERNANCE = "governance"

    @property
    def rank(self) -> int:
        """0 for low to 4 for governance."""
        return _RANKS[self]

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Tier):
            return NotImplemented
        return self.rank < other.rank

    def raised(self) -> "Tier":
        """Return the next tier; critical stays: governance is a matter of the target, not of risk."""
        return self if self >= Tier.CRITICAL else TIERS[self.rank + 1]


TIERS: Final = tuple(Tier)
_RANKS: Final = {tier: rank for rank, tier in enumerate(TIERS)}


class Actuator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an applied snapshot is delivered."""

    url: Annotated[str, msgspec.Meta(max_length=URL_CHARACTERS_MAX)]


class TargetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A target's immutable configuration. `on_failure`: what follows when its actuator does not take a snapshot."""

    name: Target
    schema: dict[str, Any] | None
    minimum_tier: Tier
    on_failure: Literal["hold", "rollback"]
    actuator: Actuator | None

    def record(self) -> dict[str, Any]:
        """Return the typed record: plain JSON values, every field present."""
        return {"_type": "amgf/target", "v": 1, **msgspec.to_builtins(self)}

    def digest(self) -> str:
        """Return `sha256:...` of the record's canonical bytes: the target_digest."""
        return canonical.digest(canonical.encode_value(self.record()))


def is_governance(target: str) -> bool:
    """Say whether a target's changes are of the governance tier, in code and for ever."""
    return target == GOVERNANCE or target.startswith(f"{GOVERNANCE}/")


def matches(target: str, globs: Sequence[str] | None) -> bool:
    """Say whether a target is among those meant; None means every target. `*` crosses slashes."""
    return globs is None or any(fnmatch.fnmatchcase(target, glob) for glob in globs)


def parse(value: Any, *, actuator_hosts: Collection[str] = ()) -> TargetConfig:
    """Return the configuration of a target that a client wants to make: the five fields, without `_type` and `v`.

    Raises:
        InvalidTarget: with the flaws. A reserved name is one.
    """
    try:
        config = msgspec.convert(value, TargetConfig)
    except msgspec.ValidationError as error:
        raise InvalidTarget([flaw_of(error)]) from None
    flaws = [*_name_flaws(config.name), *_schema_flaws(config.schema), *_actuator_flaws(config, actuator_hosts)]
    if flaws:
        raise InvalidTarget(flaws)
    return config


def from_record(record: Any) -> TargetConfig:
    """Return the configuration of a stored record.

    Raises:
        InvalidTarget: if the record is not one of ours.
    """
    if not isinstance(record, dict) or record.get("_type") != "amgf/target" or record.get("v") != 1:
        raise InvalidTarget([Flaw("", "invalid-value", "not a target's record")])
    try:
        return msgspec.convert({key: value for key, value in record.items() if key not in {"_type", "v"}}, TargetConfig)
    except msgspec.ValidationError as error:
        raise InvalidTarget([flaw_of(error)]) from None


def reserved(name: str) -> TargetConfig:
    """Return the configuration of a reserved target: no schema, as their documents are checked in code."""
    return TargetConfig(name=name, schema=None, minimum_tier=Tier.GOVERNANCE, on_failure="hold", actuator=None)


def _name_flaws(name: str) -> list[Flaw]:
    if is_governance(name):
        return [Flaw("/name", "reserved-name", "names under governance/ are reserved")]
    return []


def _schema_flaws(schema: dict[str, Any] | None) -> list[Flaw]:
    if schema is None:
        return []
    if len(canonical.encode_value(schema)) > SCHEMA_BYTES_MAX:
        return [Flaw("/schema", "schema-too-large", f"the schema has more than {SCHEMA_BYTES_MAX} bytes")]
    if schema.get("$schema", SCHEMA_DIALECT) != SCHEMA_DIALECT:
        return [Flaw("/schema/$schema", "unknown-dialect", "only JSON Schema 2020-12 is known")]
    return [
        Flaw(f"/schema{pointer}", "remote-reference", "references stay within the schema: #/...")
        for pointer in _remote_references(schema)
    ]


def _remote_references(schema: Any) -> list[str]:
    found: list[str] = []
    pending: list[tuple[Any, tuple[str | int, ...]]] = [(schema, ())]
    while pending:
        value, path = pending.pop()
        if isinstance(value, dict):
            pending.extend((child, (*path, key)) for key, child in value.items())
            found.extend(
                join((*path, name))
                for name in REFERENCES
                if isinstance(value.get(name), str) and not value[name].startswith("#")
            )
        elif isinstance(value, list):
            pending.extend((child, (*path, index)) for index, child in enumerate(value))
    return sorted(found)


def _actuator_flaws(config: TargetConfig, hosts: Collection[str]) -> list[Flaw]:
    if config.actuator is None:
        return []
    try:
        url = urlsplit(config.actuator.url)
        is_plain = url.scheme in {"http", "https"} and not (url.username or url.password or url.query or url.fragment)
        allowed = is_plain and url.hostname is not None and (url.hostname in hosts or url.netloc in hosts)
    except ValueError:
        allowed = False
    return [] if allowed else [Flaw("/actuator/url", "actuator-not-allowed", "the actuator's host is not allowed")]
