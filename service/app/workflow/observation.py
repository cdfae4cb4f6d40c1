"""What runs: the word of an actuator, and what follows from it (transitions 15 and 16).

An application is done when the digest that was observed is the one that was decided. Another digest, or no answer
after the last attempt, is a failure: the target is degraded, and where its configuration says so a rollback is
proposed, which takes its quorum like any other.
"""

from datetime import datetime
from typing import Final

import msgspec

from app import log, metrics
from app.core.documents.identifiers import Principal
from app.core.governed.lifecycle import State
from app.core.log.events import SERVICE
from app.errors import UnknownTarget, UnknownVersion
from app.resilience.deadline import Deadline
from app.storage import applications, proposals, targets
from app.storage.applications import Application
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import Events, clock
from app.storage.proposals import Step
from app.storage.targets import StoredTarget
from app.workflow.rollback import Rollbacks
from app.workflow.target_views import TargetShown, config_of, shown

DIGEST_MISMATCH: Final = "digest-mismatch"
UNSETTLED: Final = frozenset({"waiting", "delivered"})


class Sighting(msgspec.Struct, frozen=True):
    """Who saw which version and digest running, and by which request."""

    version: int
    digest: str
    principal: Principal
    request: str | None = None


class Observations:
    """Takes observations."""

    def __init__(self, database: Database, events: Events, rollbacks: Rollbacks) -> None:
        self._database = database
        self._events = events
        self._rollbacks = rollbacks

    async def observe(self, name: str, sighting: Sighting, *, deadline: Deadline) -> TargetShown:
        """Note what runs, and settle the application that it is about.

        Raises:
            UnknownTarget, UnknownVersion: there is no such target, or it never had that version.
            DatabaseUnavailable, QueryTimeout, OutcomeUnknown: as everywhere.
        """

        async def work(connection: Connection) -> StoredTarget | None:
            held = await targets.lock(connection, name)
            if held is None:
                raise UnknownTarget
            await self._observe(connection, held, sighting)
            return await targets.get(connection, name)

        found = await self._database.transact("target_observe", work, deadline=deadline)
        if found is None:
            raise UnknownTarget
        return shown(found)

    async def acknowledge_itself(self, application: Application, *, deadline: Deadline) -> None:
        """Settle the application of a target without an actuator: whoever reads it runs it."""
        sighting = Sighting(application.version, application.digest, SERVICE)
        await self.observe(application.target, sighting, deadline=deadline)

    async def give_up(self, application: Application, *, reason: str, deadline: Deadline) -> None:
        """Let an application fail that could not be delivered."""

        async def work(connection: Connection) -> None:
            held = await targets.lock(connection, application.target)
            still = await applications.of_version(connection, application.target, application.version)
            if held is not None and still is not None and still.state in UNSETTLED:
                await self._fail(connection, held, still, reason=reason, observed=None, now=await clock(connection))

        await self._database.transact("application_fail", work, deadline=deadline)

    async def _observe(self, connection: Connection, held: StoredTarget, sighting: Sighting) -> None:
        found = await targets.snapshot(connection, held.name, sighting.version)
        if found is None:
            raise UnknownVersion
        now = await clock(connection)
        await targets.observe(connection, held.name, version=sighting.version, digest=sighting.digest, now=now)
        is_right = sighting.digest == found.snapshot.digest
        application = await applications.of_version(connection, held.name, sighting.version)
        if application is not None and application.state in UNSETTLED:
            if is_right:
                await self._acknowledge(connection, application, sighting, now=now)
            else:
                await self._fail(
                    connection, held, application, reason=DIGEST_MISMATCH, observed=sighting.digest, now=now
                )
                return
        if sighting.version == held.version:
            await _judge(connection, held, is_right=is_right)

    async def _acknowledge(
        self, connection: Connection, application: Application, sighting: Sighting, *, now: datetime
    ) -> None:
        step = Step(
            proposal_id=application.proposal_id,
            state_from=State.APPLYING,
            state_to=State.APPLIED,
            principal=sighting.principal,
            body={"observation": {"version": sighting.version, "digest": sighting.digest}},
            request=sighting.request,
        )
        await proposals.move(connection, self._events, step)
        await applications.settle(
            connection,
            application.proposal_id,
            state="acknowledged",
            observed_digest=sighting.digest,
            failure=None,
            now=now,
        )

    async def _fail(
        self,
        connection: Connection,
        held: StoredTarget,
        application: Application,
        *,
        reason: str,
        observed: str | None,
        now: datetime,
    ) -> None:
        step = Step(
            proposal_id=application.proposal_id,
            state_from=State.APPLYING,
            state_to=State.FAILED,
            principal=SERVICE,
            body={"reason": reason},
        )
        await proposals.move(connection, self._events, step)
        await applications.settle(
            connection, application.proposal_id, state="dead", observed_digest=observed, failure=reason, now=now
        )
        metrics.APPLICATIONS_FAILED.labels(reason).inc()
        log.get().error("application_failed", target=held.name, version=application.version, reason=reason)
        if held.state == "active":
            await targets.set_state(connection, held.name, "degraded")
        if config_of(held).on_failure == "rollback" and held.version == application.version:
            await self._rollbacks.open_itself(
                connection,
                held,
                failed=application.proposal_id,
                reason=f"Version {application.version} failed: {reason}.",
                now=now,
            )


async def _judge(connection: Connection, held: StoredTarget, *, is_right: bool) -> None:
    """Set the state of a target by what runs of its current version; a frozen one stays frozen."""
    if is_right and held.state == "degraded":
        await targets.set_state(connection, held.name, "active")
    if not is_right and held.state == "active":
        log.get().error("target_drifted", target=held.name, version=held.version)
        await targets.set_state(connection, held.name, "degraded")
