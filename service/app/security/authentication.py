"""Who is asking: exactly one credential, an API key or a token, and what came of it counted (FM04, FM05).

Every refusal is the same `Unauthenticated`, whatever was wrong: only whoever holds a token that is good in every other
way learns that it expired. What cannot be checked now is neither: the errors of the key store go through, as 503.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from app import metrics
from app.errors import TokenExpired, Unauthenticated
from app.resilience.deadline import Deadline
from app.security.api_keys import ApiKeys
from app.security.roles import Identity
from app.security.tokens import Tokens

API_KEY: Final = b"x-api-key"
AUTHORIZATION: Final = b"authorization"
HEADERS: Final = frozenset({API_KEY, AUTHORIZATION})
SCHEME: Final = "bearer"


def credentials(headers: Iterable[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
    """Return the headers that say who is asking."""
    return [(name, value) for name, value in headers if name in HEADERS]


class Authenticator:
    """Turns a credential into an identity. Without `tokens` no token is good."""

    def __init__(self, keys: ApiKeys, tokens: Tokens | None) -> None:
        self._keys = keys
        self._tokens = tokens

    async def authenticate(self, presented: Sequence[tuple[bytes, bytes]], *, deadline: Deadline) -> Identity:
        """Return who presents these headers.

        Raises:
            TokenExpired: one token, good but for its age.
            Unauthenticated: anything else that is not exactly one good credential.
            DatabaseUnavailable, QueryTimeout: the key store cannot be asked, and the key is not remembered.
        """
        try:
            found = await self._identity(presented, deadline)
        except TokenExpired:
            metrics.AUTH_ATTEMPTS.labels("expired").inc()
            raise
        except Unauthenticated:
            metrics.AUTH_ATTEMPTS.labels("invalid").inc()
            raise
        metrics.AUTH_ATTEMPTS.labels("valid").inc()
        return found

    def remembers(self, presented: Sequence[tuple[bytes, bytes]]) -> bool:
        """Return whether this replica found the credential good not long ago; asks nobody, and is no permission."""
        if len(presented) != 1 or not presented[0][1].isascii():
            return False
        ((name, value),) = presented
        if name == API_KEY:
            return self._keys.remembers(value.decode())
        scheme, _, token = value.decode().partition(" ")
        return self._tokens is not None and scheme.lower() == SCHEME and self._tokens.remembers(token)

    async def _identity(self, presented: Sequence[tuple[bytes, bytes]], deadline: Deadline) -> Identity:
        if len(presented) != 1:
            raise Unauthenticated
        ((name, value),) = presented
        try:
            text = value.decode("ascii")
        except UnicodeDecodeError:
            raise Unauthenticated from None
        if name == API_KEY:
            return await self._keys.authenticate(text, deadline=deadline)
        scheme, _, token = text.partition(" ")
        if self._tokens is None or scheme.lower() != SCHEME:
            raise Unauthenticated
        return self._tokens.authenticate(token)
