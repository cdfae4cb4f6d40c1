"""Targets: created by an admin, read by everybody, frozen and unfrozen (transition 18).

Freezing stops applications at once. Unfreezing takes a quorum: an approved proposal of tier high or above for this
target, whose votes stand; who froze in a panic does not thaw alone.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from psycopg import errors

from app.core.documents import canonical, strict_json
from app.core.documents.identifiers import Principal
from app.core.documents.strict_json import Document
from app.core.governed import target as rules
from app.core.governed.target import TargetConfig
from app.errors import Flaw, InvalidTarget, SimulationBusy, TargetExists, UnknownTarget, UnknownVersion
from app.resilience.deadline import Deadline
from app.sandbox.result import Inconclusive
from app.storage import targets
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import Events, clock
from app.storage.targets import Content, NewTarget, Snapshot, StoredTarget
from app.workflow import bodies
from app.workflow.target_views import SnapshotShown, TargetShown, TargetSummary, shown, snapshot_shown


class DocumentCheck(Protocol):
    """What says whether a schema is one, and a document satisfies it (the sandbox)."""

    async def check_document(
        self, schema: dict[str, Any] | None, document: Any, *, deadline_seconds: float
    ) -> list[Flaw] | Inconclusive:
        """Return the flaws, or why there is no answer."""


class Targets:
    """Creates, reads and freezes targets."""

    def __init__(
        self, database: Database, events: Events, *, check: DocumentCheck, actuator_hosts: Sequence[str] = ()
    ) -> None:
        self._database = database
        self._events = events
        self._check = check
        self._actuator_hosts = frozenset(actuator_hosts)

    async def create(
        self, body: bytes, *, principal: Principal, request: str | None, deadline: Deadline
    ) -> TargetShown:
        """Create a target; its first version is the document in `body`.

        Raises:
            MalformedBody, InvalidTarget: the body is not acceptable.
            TargetExists: the name is taken.
            SimulationBusy: the schema could not be tried now.
            DatabaseUnavailable, QueryTimeout, OutcomeUnknown: as everywhere.
        """
        config, document, new = await bodies.accepted(self._accept, body)
        flaws = await self._check.check_document(config.schema, document, deadline_seconds=deadline.remaining_seconds())
        if isinstance(flaws, Inconclusive):
            if flaws.reason == "unavailable":
                raise SimulationBusy
            raise InvalidTarget([Flaw("/schema", "inconclusive", f"trying it ended with: {flaws.reason}")])
        if flaws:
            raise InvalidTarget(flaws)

        async def work(connection: Connection) -> StoredTarget:
            now = await clock(connection)
            return await targets.insert(connection, self._events, new, principal=principal, now=now, request=request)

        try:
            return shown(await self._database.transact("target_create", work, deadline=deadline))
        except errors.UniqueViolation:
            raise TargetExists from None

    async def get(self, name: str, *, deadline: Deadline) -> TargetShown:
        """Return one target.

        Raises:
            UnknownTarget: there is none of that name.
        """

        async def work(connection: Connection) -> StoredTarget | None:
            return await targets.get(connection, name)

        found = await self._database.read("target_get", work, deadline=deadline)
        if found is None:
            raise UnknownTarget
        return shown(found)

    async def listed(self, *, after: str, limit: int, deadline: Deadline) -> Sequence[TargetSummary]:
        """Return at most `limit` targets after a name, in the order of names."""

        async def work(connection: Connection) -> Sequence[StoredTarget]:
            return await targets.listed(connection, after=after, limit=limit)

        found = await self._database.read("target_list", work, deadline=deadline)
        return [
            TargetSummary(
                name=one.name, state=one.state, version=one.version, digest=one.digest, created_at=one.created_at
            )
            for one in found
        ]

    async def current(self, name: str, *, deadline: Deadline) -> SnapshotShown:
        """Return the current version.

        Raises:
            UnknownTarget: there is no target of that name.
        """

        async def work(connection: Connection) -> Content | None:
            return await targets.current(connection, name)

        found = await self._database.read("target_current", work, deadline=deadline)
        if found is None:
            raise UnknownTarget
        return snapshot_shown(found)

    async def snapshot(self, name: str, version: int, *, deadline: Deadline) -> SnapshotShown:
        """Return one version.

        Raises:
            UnknownVersion: there is no such version, or no such target.
        """

        async def work(connection: Connection) -> Content | None:
            return await targets.snapshot(connection, name, version)

        found = await self._database.read("target_snapshot", work, deadline=deadline)
        if found is None:
            raise UnknownVersion(is_missing=True)
        return snapshot_shown(found)

    async def snapshots(self, name: str, *, before: int, limit: int, deadline: Deadline) -> Sequence[Snapshot]:
        """Return at most `limit` versions below one, newest first.

        Raises:
            UnknownTarget: there is no target of that name.
        """

        async def work(connection: Connection) -> tuple[StoredTarget | None, Sequence[Snapshot]]:
            return await targets.get(connection, name), await targets.snapshots(
                connection, name, before=before, limit=limit
            )

        found, listed = await self._database.read("target_snapshots", work, deadline=deadline)
        if found is None:
            raise UnknownTarget
        return listed

    def _accept(self, body: bytes) -> tuple[TargetConfig, Any, NewTarget]:
        decoded = strict_json.decode(body)
        if not isinstance(decoded.value, dict) or not isinstance(decoded.value.get("document"), dict):
            raise InvalidTarget([Flaw("/document", "invalid-value", "Expected an object with the object `document`")])
        value = dict(decoded.value)
        document = value.pop("document")
        config = rules.parse(value, actuator_hosts=self._actuator_hosts)
        record = canonical.encode_value(config.record())
        content = canonical.encode(Document(value=document, is_plain=decoded.is_plain))
        return (
            config,
            document,
            NewTarget(
                name=config.name,
                config=record,
                config_digest=canonical.digest(record),
                document=content,
                digest=canonical.digest(content),
            ),
        )
