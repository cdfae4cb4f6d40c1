"""JSON Web Tokens: `Authorization: Bearer <token>` (FM04, FM05).

In this order, and nothing of the request is looked at before the end of it:

1. shape: at most 8 KiB, three parts of base64url without padding or spare bits;
2. header: strict JSON of `alg`, `kid`, `typ` and nothing else. `jku`, `jwk`, `x5u`, `crit` and whatever else could
   choose a key or change the rules refuse the token;
3. key: found by `kid` in our own table, with its one algorithm; a token that names another is refused, after the
   signature was checked with some key of the algorithm that it names: the time it takes does not tell which kids exist;
4. signature;
5. claims: `iss` and `aud` are ours, `sub` is a principal, `jti` is not taken back, `iat` and `exp` are whole numbers at
   most an hour apart, and `iat` and `nbf` are not in the future;
6. expiry: only of a token that is good in every other way is it said that it expired.

Clocks may differ by `SKEW_SECONDS` at both ends: a token is good until 10 s after its `exp`, and from 10 s before its
`iat` and `nbf`.
"""

import base64
import binascii
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from app.core.documents import strict_json
from app.errors import MalformedBody, TokenExpired, Unauthenticated
from app.security.roles import PRINCIPAL_PATTERN, Identity, identity
from app.security.token_keys import KeyFile, KeyTable
from app.settings import TokenPolicy

SKEW_SECONDS: Final = 10
"""FM05: "Clock skew tolerance: 10 seconds"."""
LIFETIME_SECONDS_MAX: Final = 3600
TOKEN_CHARACTERS_MAX: Final = 8192
HEADER_MEMBERS: Final = frozenset({"alg", "kid", "typ"})
TYPES: Final = frozenset({"jwt", "at+jwt"})
ID_CHARACTERS_MAX: Final = 128
ROLES_MAX: Final = 16
SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
SECONDS_MAX: Final = 253_402_300_799
"""The end of the year 9999."""
LIMITS: Final = strict_json.Limits(bytes=TOKEN_CHARACTERS_MAX, nodes=256, depth=8)
WallClock = Callable[[], float]


_Instant = Annotated[int, msgspec.Meta(gt=0, le=SECONDS_MAX)]


class _Claims(msgspec.Struct, frozen=True):
    """What a token must say; whatever else it says is nothing to us."""

    iss: str
    aud: str | list[str]
    sub: Annotated[str, msgspec.Meta(pattern=rf"^{PRINCIPAL_PATTERN}\Z")]
    jti: Annotated[str, msgspec.Meta(min_length=1, max_length=ID_CHARACTERS_MAX)]
    iat: _Instant
    exp: _Instant
    roles: Annotated[list[str], msgspec.Meta(min_length=1, max_length=ROLES_MAX)]
    nbf: _Instant = 1


@dataclass(frozen=True, slots=True)
class _Signed:
    """The claims of a token that one of our keys signed, and what that key lets its tokens be."""

    claims: _Claims
    roles: frozenset[str]


class Tokens:
    """Turns a token into an identity; remembers signatures that were good, bounded, and never for longer than a key."""

    def __init__(self, keys: KeyFile, policy: TokenPolicy, *, wall: WallClock) -> None:
        self._keys = keys
        self._policy = policy
        self._wall = wall
        self._signed: OrderedDict[bytes, _Signed] = OrderedDict()
        self._signed_under: KeyTable | None = None

    def authenticate(self, presented: str) -> Identity:
        """Return whom the token names.

        Raises:
            TokenExpired: it is good in every other way.
            Unauthenticated: it is not; never says why.
        """
        table = self._table()
        signed = self._signed_by_us(presented, table)
        found = self._identity(signed, table)
        if self._has_expired(signed):
            raise TokenExpired
        return found

    def remembers(self, presented: str) -> bool:
        """Return whether the token was good not long ago; looks at no signature, and is no permission."""
        table = self._table()
        signed = self._signed.get(_mark(presented))
        return signed is not None and signed.claims.jti not in table.revoked and not self._has_expired(signed)

    def _table(self) -> KeyTable:
        table = self._keys.table()
        if table is not self._signed_under:
            self._signed.clear()
            self._signed_under = table
        return table

    def _has_expired(self, signed: _Signed) -> bool:
        return self._wall() > signed.claims.exp + SKEW_SECONDS

    def _signed_by_us(self, presented: str, table: KeyTable) -> _Signed:
        mark = _mark(presented)
        known = self._signed.get(mark)
        if known is not None:
            self._signed.move_to_end(mark)
            return known
        signed = _verified(presented, table)
        self._signed[mark] = signed
        while len(self._signed) > self._policy.entries_max:
            self._signed.popitem(last=False)
        return signed

    def _identity(self, signed: _Signed, table: KeyTable) -> Identity:
        claims = signed.claims
        ours = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        begins = max(claims.iat, claims.nbf)
        if not (
            claims.iss == self._policy.issuer
            and self._policy.audience in ours
            and claims.jti not in table.revoked
            and 0 < claims.exp - claims.iat <= LIFETIME_SECONDS_MAX
            and begins <= self._wall() + SKEW_SECONDS
        ):
            raise Unauthenticated
        return identity(claims.sub, set(claims.roles) & signed.roles)


def _mark(presented: str) -> bytes:
    return hashlib.sha256(presented.encode("utf-8", "replace")).digest()


def _verified(presented: str, table: KeyTable) -> _Signed:
    if len(presented) > TOKEN_CHARACTERS_MAX or not SHAPE.fullmatch(presented):
        raise Unauthenticated
    first, second, third = presented.split(".")
    header, content = _object(first), _object(second)
    signature = _decoded(third)
    typ = header.get("typ", "JWT")
    kid = header.get("kid")
    if set(header) - HEADER_MEMBERS or type(typ) is not str or typ.lower() not in TYPES or type(kid) is not str:
        raise Unauthenticated
    named, stand_in = table.keys.get(kid), table.first_of(header.get("alg"))
    key = named if named and named.algorithm == header.get("alg") else None
    # The same work for a kid that is not ours as for a wrong signature; what the stand-in verifies counts for nothing.
    is_signed = stand_in is not None and (key or stand_in).signed(f"{first}.{second}".encode(), signature)
    if key is None or not is_signed:
        raise Unauthenticated
    try:
        return _Signed(msgspec.convert(content, _Claims), key.roles)
    except msgspec.ValidationError:
        raise Unauthenticated from None


def _object(part: str) -> dict[str, Any]:
    try:
        value = strict_json.decode(_decoded(part), limits=LIMITS).value
    except MalformedBody:
        raise Unauthenticated from None
    if not isinstance(value, dict):
        raise Unauthenticated
    return value


def _decoded(part: str) -> bytes:
    """Decode one spelling of bytes: what decodes to the same from another spelling is refused."""
    try:
        content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise Unauthenticated from None
    if base64.urlsafe_b64encode(content).rstrip(b"=").decode() != part:
        raise Unauthenticated
    return content
