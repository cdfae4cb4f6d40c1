"""The keys that sign tokens, from a file that is read again when it changes: rotation without a restart (FM05).

    {"keys": [{"kid": "2026-11", "alg": "EdDSA", "roles": ["editor"], "key": {"kty": "OKP", "crv": "Ed25519", "x": …}}],
     "revoked": ["the jti of a token that must not count any longer"]}

Each key has one algorithm, chosen here and never by a token, and the most that tokens of it may be (`roles`). A key
that is taken out of the file takes its tokens with it. Refused: private halves, shared secrets of less than 32 bytes,
two keys of one id, another algorithm than the key's type allows. A file that becomes unreadable or wrong is refused as
a whole and said in the log, and the last good one stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import joserfc.errors
import msgspec
from joserfc.jwk import ECKey, OctKey, OKPKey
from joserfc.jws import JWSRegistry

from app import log
from app.core.documents import strict_json
from app.ed25519 import is_point_of_main_subgroup
from app.errors import InvalidSettings, MalformedBody, SettingProblem
from app.resilience.deadline import Clock
from app.security.roles import ROLES
from app.settings import read_token_keys

LOOK_SECONDS: Final = 1.0
"""So often the file is looked at, and only when a token is to be checked."""
SHARED_BYTES_MIN: Final = 32
CURVES: Final[Mapping[str, tuple[type[OKPKey] | type[ECKey] | type[OctKey], str | None]]] = {
    "EdDSA": (OKPKey, "Ed25519"),
    "Ed25519": (OKPKey, "Ed25519"),
    "ES256": (ECKey, "P-256"),
    "HS256": (OctKey, None),
}
"""By algorithm: the only type, and the only curve, of its keys."""
VARIABLE: Final = "FIREWALL_TOKEN_KEYS_FILE"


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kid: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    alg: str
    roles: Annotated[list[str], msgspec.Meta(min_length=1, max_length=len(ROLES))]
    key: dict[str, Any]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: Annotated[list[_Entry], msgspec.Meta(max_length=100)]
    revoked: Annotated[list[str], msgspec.Meta(max_length=1000)] = []


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key, its one algorithm, and the most that its tokens may be."""

    algorithm: str
    key: Any = field(repr=False)
    roles: frozenset[str]

    def signed(self, content: bytes, signature: bytes) -> bool:
        """Return whether the key signed this content. The header was read by ourselves and has no say in it."""
        try:
            return bool(JWSRegistry.algorithms[self.algorithm].verify(content, signature, self.key))
        except (joserfc.errors.JoseError, ValueError):
            return False


@dataclass(frozen=True, slots=True)
class KeyTable:
    """The keys by their ids, and the tokens that were taken back."""

    keys: Mapping[str, TokenKey]
    revoked: frozenset[str]

    def first_of(self, algorithm: object) -> TokenKey | None:
        """Return a key of this algorithm, whichever, if there is one."""
        return next((key for key in self.keys.values() if key.algorithm == algorithm), None)


def parse(content: bytes) -> KeyTable:
    """Return the table that a file holds.

    Raises:
        ValueError: it is none; the message says where and holds no key.
    """
    try:
        table = msgspec.convert(strict_json.decode(content).value, _Table)
    except MalformedBody:
        raise ValueError("it is not strict JSON") from None
    except msgspec.ValidationError:
        raise ValueError("it is not {keys: [{kid, alg, roles, key}], revoked: [jti]}") from None
    keys: dict[str, TokenKey] = {}
    for number, entry in enumerate(table.keys, start=1):
        if entry.kid in keys:
            raise ValueError(f"key {number} has the kid of an earlier one")
        keys[entry.kid] = _key(entry, number)
    return KeyTable(keys, frozenset(table.revoked))


def _key(entry: _Entry, number: int) -> TokenKey:
    if entry.alg not in CURVES:
        raise ValueError(f"key {number}: alg is none of {', '.join(CURVES)}")
    if set(entry.roles) - set(ROLES):
        raise ValueError(f"key {number}: roles are of {', '.join(ROLES)}")
    kind, curve = CURVES[entry.alg]
    if "d" in entry.key:
        raise ValueError(f"key {number} is a private key; only the public half belongs here")
    try:
        key: Any = kind.import_key(entry.key)
    except (joserfc.errors.JoseError, ValueError, TypeError, KeyError):
        raise ValueError(f"key {number} is no JWK for {entry.alg}") from None
    if curve is not None and entry.key.get("crv") != curve:
        raise ValueError(f"key {number}: {entry.alg} wants the curve {curve}")
    if isinstance(key, OKPKey) and not is_point_of_main_subgroup(key.get_op_key("verify").public_bytes_raw()):
        raise ValueError(f"key {number} is weak: anybody could sign with it")
    if isinstance(key, OctKey) and len(key.raw_value) < SHARED_BYTES_MIN:
        raise ValueError(f"key {number} has less than {SHARED_BYTES_MIN} bytes")
    return TokenKey(entry.alg, key, frozenset(entry.roles))


class KeyFile:
    """The table as the file has it now."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        """Read it for the first time.

        Raises:
            InvalidSettings: it is no table.
        """
        self._path = path
        self._clock = clock
        self._looked_at = clock()
        self._seen = self._stamp()
        try:
            self._table = parse(read_token_keys(path))
        except ValueError as error:
            raise InvalidSettings([SettingProblem(VARIABLE, str(error), "keys that sign tokens")]) from None

    def table(self) -> KeyTable:
        """Return the table; read the file again if it changed since it was last looked at."""
        if self._clock() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = self._clock()
            seen = self._stamp()
            if seen != self._seen:
                self._seen = seen
                self._read()
        return self._table

    def _read(self) -> None:
        try:
            self._table = parse(read_token_keys(self._path))
        except ValueError as error:
            log.get().error("token_keys_refused", reason=str(error))
        else:
            log.get().info("token_keys_read", kids=sorted(self._table.keys), revoked=len(self._table.revoked))

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
