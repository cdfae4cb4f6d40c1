"""Targets and snapshots as they are answered."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from app.core.governed import target as rules
from app.core.governed.proposal import Target
from app.core.governed.target import Actuator, TargetConfig
from app.storage.targets import Content, StoredTarget, TargetState


class Observed(msgspec.Struct, frozen=True):
    """What runs, by the word of the target's actuator."""

    version: int
    digest: str
    at: datetime


class TargetShown(msgspec.Struct, frozen=True, kw_only=True):
    """A target as it is answered. `target_digest` names its configuration, which never changes."""

    name: str
    state: TargetState
    frozen_reason: str | None
    version: int
    digest: str
    observed: Observed | None
    minimum_tier: str
    on_failure: str
    actuator: Actuator | None
    schema: dict[str, Any] | None
    target_digest: str
    created_at: datetime


class TargetSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A target as it stands in a list."""

    name: str
    state: TargetState
    version: int
    digest: str
    created_at: datetime


class SnapshotShown(msgspec.Struct, frozen=True, kw_only=True):
    """One version with its content. SHA-256 of the canonical document is its digest."""

    target: str
    version: int
    digest: str
    parent_digest: str | None
    proposal: str | None
    created_at: datetime
    document: Any


class TargetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an admin sends to create a target."""

    name: Target
    schema: dict[str, Any] | None
    minimum_tier: rules.Tier
    document: dict[str, Any]
    on_failure: Literal["hold", "rollback"]
    actuator: Actuator | None


def config_of(stored: StoredTarget) -> TargetConfig:
    """Return a stored target's configuration."""
    return rules.from_record(msgspec.json.decode(stored.config))


def shown(stored: StoredTarget) -> TargetShown:
    """Return the target as it is answered."""
    config = config_of(stored)
    observed = None
    if stored.observed_version is not None and stored.observed_digest is not None and stored.observed_at is not None:
        observed = Observed(stored.observed_version, stored.observed_digest, stored.observed_at)
    return TargetShown(
        name=stored.name,
        state=stored.state,
        frozen_reason=stored.frozen_reason,
        version=stored.version,
        digest=stored.digest,
        observed=observed,
        minimum_tier=config.minimum_tier.value,
        on_failure=config.on_failure,
        actuator=config.actuator,
        schema=config.schema,
        target_digest=stored.config_digest,
        created_at=stored.created_at,
    )


def snapshot_shown(found: Content) -> SnapshotShown:
    """Return one version as it is answered, its document byte for byte."""
    snapshot = found.snapshot
    return SnapshotShown(
        target=snapshot.target,
        version=snapshot.version,
        digest=snapshot.digest,
        parent_digest=snapshot.parent_digest,
        proposal=None if snapshot.proposal is None else str(snapshot.proposal),
        created_at=snapshot.created_at,
        document=msgspec.Raw(found.content),
    )
