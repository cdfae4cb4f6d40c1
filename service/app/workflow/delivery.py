"""Delivery: what was decided is sent to the target's actuator until it is observed there, or given up.

`POST <url>` with the canonical body {"_type":"amgf/delivery", ...}, signed: `X-AMGF-Signature: sha256=<hex>`, the
HMAC-SHA256 of the body under the target's own key. The body names the delivery and its instant, so that an old one is
recognised. 2xx means received; done is only what the actuator then reports to /observations. Refused: hosts that are
not on the list (any more), redirects; the answer's body is not read.
"""

import hmac
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from app import metrics
from app.core.documents import instants
from app.core.governed.target import Actuator
from app.core.log import events
from app.errors import UnknownTarget
from app.resilience.backoff import Backoff
from app.resilience.deadline import Deadline
from app.settings import DeliveryPolicy
from app.storage import applications, targets
from app.storage.applications import Application
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import clock
from app.storage.targets import Content, StoredTarget
from app.workflow.observation import Observations
from app.workflow.target_views import config_of

SIGNATURE: Final = "X-AMGF-Signature"
DELIVERY: Final = "X-AMGF-Delivery"
KEY_DOMAIN: Final = b"amgf/actuator/v1\0"
CONNECTIONS_MAX: Final = 4
BACKOFF: Final = Backoff(initial_seconds=1.0, max_seconds=30.0)
NOT_OBSERVED: Final = "not-observed"


class Parcel(msgspec.Struct, frozen=True):
    """What is sent where."""

    actuator: Actuator | None
    delivery: str
    body: bytes


class Dispatcher:
    """Empties the outbox. An asynchronous context: inside it, its connections are kept."""

    def __init__(
        self, database: Database, observations: Observations, policy: DeliveryPolicy, *, random: Callable[[], float]
    ) -> None:
        self._database = database
        self._observations = observations
        self._policy = policy
        self._random = random
        self._http = httpx.AsyncClient(
            timeout=policy.timeout_seconds,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def once(self, *, deadline: Deadline) -> bool:
        """Send what is due longest; False if nothing is due.

        Raises:
            DatabaseUnavailable, QueryTimeout, OutcomeUnknown: it is due again when its lease ends.
        """

        async def take(connection: Connection) -> Application | None:
            return await applications.take(connection, lease_seconds=self._policy.lease_seconds)

        application = await self._database.transact("application_take", take, deadline=deadline)
        if application is None:
            return False
        await self._deliver(application, deadline)
        return True

    async def _deliver(self, application: Application, deadline: Deadline) -> None:
        parcel = await self._parcel(application, deadline)
        if parcel.actuator is None:
            await self._observations.acknowledge_itself(application, deadline=deadline)
            return
        if application.attempts > self._policy.attempts_max:
            reason = application.failure or NOT_OBSERVED
            await self._observations.give_up(application, reason=reason, deadline=deadline)
            return
        failure = await self._send(parcel, parcel.actuator, application.target)
        metrics.DELIVERIES.labels(failure or "received").inc()
        seconds = BACKOFF.delay_seconds(application.attempts, random=self._random())

        async def postpone(connection: Connection) -> None:
            await applications.postpone(
                connection,
                application.proposal_id,
                state="waiting" if failure else "delivered",
                failure=failure,
                seconds=seconds if failure else max(seconds, self._policy.observation_seconds),
            )

        await self._database.transact("application_postpone", postpone, deadline=deadline)

    async def _parcel(self, application: Application, deadline: Deadline) -> Parcel:
        async def read(connection: Connection) -> tuple[StoredTarget | None, Content | None, str]:
            held = await targets.get(connection, application.target)
            found = await targets.snapshot(connection, application.target, application.version)
            return held, found, instants.to_text(await clock(connection))

        held, found, now = await self._database.read("application_read", read, deadline=deadline)
        if held is None or found is None:
            raise UnknownTarget
        delivery = f"{application.proposal_id}.{application.attempts}"
        snapshot = found.snapshot
        body = events.encode_body(
            {
                "_type": "amgf/delivery",
                "v": 1,
                "delivery": delivery,
                "at": now,
                "target": snapshot.target,
                "version": snapshot.version,
                "digest": snapshot.digest,
                "parent_digest": snapshot.parent_digest,
                "proposal": str(application.proposal_id),
                "document": msgspec.Raw(found.content),
            }
        )
        return Parcel(config_of(held).actuator, delivery, body)

    async def _send(self, parcel: Parcel, actuator: Actuator, target: str) -> str | None:
        """Send; return the stable code of what went wrong, or None when it was received."""
        key = self._policy.key
        if key is None:
            return "no-key"
        if not is_allowed(actuator.url, self._policy.hosts):
            return "host-not-allowed"
        headers = {
            "Content-Type": "application/json",
            DELIVERY: parcel.delivery,
            SIGNATURE: f"sha256={signature(parcel.body, key=key.reveal(), target=target)}",
        }
        try:
            async with self._http.stream("POST", actuator.url, content=parcel.body, headers=headers) as answer:
                return None if answer.is_success else f"status-{answer.status_code // 100}xx"
        except httpx.TimeoutException:
            return "timeout"
        except (httpx.HTTPError, httpx.InvalidURL):
            return "unreachable"


def signature(body: bytes, *, key: bytes, target: str) -> str:
    """Return the hex HMAC-SHA256 of a delivery under the target's own key, which is derived from the service's."""
    own = hmac.digest(key, KEY_DOMAIN + target.encode(), "sha256")
    return hmac.digest(own, body, "sha256").hex()


def is_allowed(url: str, hosts: Collection[str]) -> bool:
    """Say whether an address is at a host of the list, by name or by name and port."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and (parts.hostname in hosts or parts.netloc in hosts)
