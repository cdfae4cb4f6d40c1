"""API keys made, listed and revoked by an administrator over the API (FM04).

A new key is shown in the answer and nowhere else, so its request is not remembered under an Idempotency-Key: whoever
lost the answer revokes the key and makes another. What is done here is said in the log, with who did it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from app import log
from app.core.documents.identifiers import Principal
from app.errors import Flaw, InvalidBody, NotFound
from app.resilience.deadline import Deadline
from app.security import api_keys
from app.security.api_keys import DAYS_MAX, ApiKeys, Order
from app.security.roles import PRINCIPAL, PRINCIPAL_PATTERN
from app.settings import Secret
from app.storage import api_keys as stored
from app.storage.api_keys import KeyRow
from app.storage.connection import Connection
from app.storage.database import Database
from app.storage.events import clock
from app.workflow import bodies

Role = Literal["viewer", "editor", "admin", "validator", "applier", "break_glass", "actuator"]


class NewApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to be made: for whom, to be what, for how long."""

    principal: Annotated[str, msgspec.Meta(pattern=f"^{PRINCIPAL_PATTERN}$")]
    roles: Annotated[list[Role], msgspec.Meta(min_length=1, max_length=7)]
    days: Annotated[int, msgspec.Meta(ge=1, le=DAYS_MAX, description="Until it expires; null: never.")] | None = None


class ApiKeyMade(msgspec.Struct, frozen=True):
    """A new key. `key` is shown this once."""

    id: str
    key: str
    principal: Principal
    roles: list[str]
    created_at: datetime
    expires_at: datetime | None


class KeyRing:
    """The keys that there are."""

    def __init__(self, database: Database, known: ApiKeys, *, pepper: Secret) -> None:
        self._database = database
        self._known = known
        self._pepper = pepper

    async def create(self, body: bytes, *, by: Principal, request: str, deadline: Deadline) -> ApiKeyMade:
        """Make a key.

        Raises:
            MalformedBody, InvalidBody: the body does not ask for one.
        """
        asked = bodies.body_as(NewApiKey, body)
        if not PRINCIPAL.fullmatch(asked.principal):  # the pattern of a schema lets a line break follow
            raise InvalidBody([Flaw("/principal", "invalid-value", "It is no name of a principal.")])
        order = Order(asked.principal, tuple(asked.roles), asked.days)
        text = api_keys.new_key()

        async def work(connection: Connection) -> KeyRow:
            now = await clock(connection)
            new = api_keys.new_row(text, order, pepper=self._pepper, now=now, by=by)
            return await stored.insert(connection, new)

        row = await self._database.transact("api_key_create", work, deadline=deadline)
        log.get().info("api_key_created", key_id=row.id, key_of=row.principal, principal=by, request_id=request)
        return ApiKeyMade(
            id=row.id,
            key=text,
            principal=row.principal,
            roles=row.roles,
            created_at=row.created_at,
            expires_at=row.expires_at,
        )

    async def listed(self, *, after: str, limit: int, deadline: Deadline) -> Sequence[KeyRow]:
        """Return keys in the order of their ids."""

        async def work(connection: Connection) -> Sequence[KeyRow]:
            return await stored.listed(connection, after=after, limit=limit)

        return await self._database.read("api_key_list", work, deadline=deadline)

    async def revoke(self, key_id: str, *, by: Principal, request: str, deadline: Deadline) -> None:
        """End a key. Done twice, it is done once.

        Raises:
            NotFound: there is no such key.
        """
        if not api_keys.KEY_ID.fullmatch(key_id):
            raise NotFound

        async def work(connection: Connection) -> bool:
            return await stored.revoke(connection, key_id, by=by)

        if not await self._database.transact("api_key_revoke", work, deadline=deadline):
            raise NotFound
        self._known.forget(key_id)
        log.get().info("api_key_revoked", key_id=key_id, principal=by, request_id=request)
