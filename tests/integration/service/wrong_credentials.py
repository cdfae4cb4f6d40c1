"""The ways of being refused with 401, and what it would give away if two of them could be told apart by time.

Bytes are alike for all of them (tests/integration/service/test_authentication.py). Time is compared within a group
(tests/integration/service/test_authentication_timing.py): who could tell two causes of one group apart would learn
something of ours. Causes without a group are wrong by what the sender wrote: how soon they are refused tells the sender
what the sender could compute.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.security import api_keys
from tests.integration.service.running import Server
from tests.unit.service.signed_tokens import Issuer, base64url, shared_secret

Headers = list[tuple[bytes, bytes]]

KEY: Final = "which API keys exist, what became of them, and how much of a secret is right"
SIGNATURE: Final = "which kid is ours, and whether anything of a token is right but its signature"
MAC: Final = "how much of a MAC is right, and which kid has a shared secret"

EACH: Final = 20
"""So many credentials stand for a cause of a group: what is compared is the cause, not one id."""
_ID: Final = slice(len(api_keys.PREFIX) + 1, len(api_keys.PREFIX) + 1 + api_keys.ID_CHARACTERS)
_SECRET: Final = slice(_ID.stop + 1, _ID.stop + 1 + api_keys.SECRET_CHARACTERS)


@dataclass(frozen=True)
class Cause:
    """Credentials that are wrong in the same way; ``group``: what their time must not give away."""

    presented: Sequence[Headers]
    group: str | None


@dataclass(frozen=True)
class WrongCredentials:
    """Every cause by its name; ``in_use``: the good keys of "a wrong secret of a key in use"."""

    causes: dict[str, Cause]
    in_use: Sequence[str]


def wrong_credentials(server: Server, issuer: Issuer) -> WrongCredentials:
    """Return the causes. They need keys in the database, and a second key of the issuer, with a shared secret."""
    causes, in_use = _of_keys(server)
    good = in_use[0]
    return WrongCredentials({**causes, **_of_tokens(issuer), **_of_form(good, issuer.token())}, in_use)


def _of_keys(server: Server) -> tuple[dict[str, Cause], Sequence[str]]:
    told = "tester editor\n" * (5 * EACH)
    made = server.command("app.security.api_keys", "create-many", stdin=told).stdout.split()
    good, in_use, expiring, revoked, expired = (made[start : start + EACH] for start in range(0, len(made), EACH))
    with server.connect() as connection:
        for statement, keys in (
            ("UPDATE api_keys SET expires_at = now() + interval '1 day' WHERE id = ANY(%s)", expiring),
            ("UPDATE api_keys SET revoked_at = now() WHERE id = ANY(%s)", revoked),
            ("UPDATE api_keys SET expires_at = now() WHERE id = ANY(%s)", expired),
        ):
            connection.execute(statement, [[key[_ID] for key in keys]])

    def cause(keys: Iterable[str]) -> Cause:
        return Cause([_key(key) for key in keys], KEY)

    return {
        "an unknown key": cause(api_keys.new_key() for _ in range(EACH)),
        "a wrong secret": cause(_with_secret(key, api_keys.new_key()[_SECRET]) for key in good),
        "a secret wrong at its first character": cause(_with_secret(key, _first_wrong(key[_SECRET])) for key in good),
        "a secret wrong at its last character": cause(_with_secret(key, _last_wrong(key[_SECRET])) for key in good),
        "a wrong secret of a key in use": cause(_with_secret(key, api_keys.new_key()[_SECRET]) for key in in_use),
        "a wrong secret of a key that will expire": cause(
            _with_secret(key, api_keys.new_key()[_SECRET]) for key in expiring
        ),
        "a revoked key": cause(revoked),
        "an expired key": cause(expired),
    }, in_use


def _of_tokens(issuer: Issuer) -> dict[str, Cause]:
    secret = issuer.add_shared_secret("shared")

    def cause(group: str, token: Callable[[], str]) -> Cause:
        return Cause([_bearer(token()) for _ in range(EACH)], group)

    def maced(**header: str) -> str:
        return shared_secret(issuer, issuer.claims(), secret=secret, **{"kid": "shared", **header})

    return {
        "a forged token": cause(SIGNATURE, lambda: _forged(issuer.token())),
        "an expired and forged token": cause(SIGNATURE, lambda: _forged(issuer.token(expired_seconds_ago=60))),
        "an unknown kid": cause(SIGNATURE, lambda: _forged(issuer.sign(issuer.claims(), kid="other"))),
        "another key's kid": cause(SIGNATURE, lambda: _forged(issuer.sign(issuer.claims(), kid="shared"))),
        "a MAC wrong at its first byte": cause(MAC, lambda: _with_mac(maced(), wrong_at=0)),
        "a MAC wrong at its last byte": cause(MAC, lambda: _with_mac(maced(), wrong_at=-1)),
        "an unknown kid with a MAC": cause(MAC, lambda: _with_mac(maced(kid="others"), wrong_at=0)),
        "another key's kid with a MAC": cause(MAC, lambda: _with_mac(maced(kid=issuer.kid), wrong_at=0)),
        "another issuer's token": Cause([_bearer(issuer.sign({**issuer.claims(), "iss": "https://other.test"}))], None),
        "a kid of nobody, and one of our signatures": Cause([_bearer(issuer.sign(issuer.claims(), kid="x"))], None),
        "alg none": Cause([_bearer(issuer.sign(issuer.claims(), alg="none"))], None),
    }


def _of_form(good: str, token: str) -> dict[str, Cause]:
    presented = {
        "no credential": [],
        "a typo": _key(good[:-1] + ("0" if good[-1] != "0" else "1")),
        "a key cut short": _key(good[:-1]),
        "a key with more": _key(good + "x"),
        "an empty key": _key(""),
        "a long key": _key("x" * 10_000),
        "a key that is not ASCII": _key("\xe9" * 70),
        "a key twice": _key(good) * 2,
        "a key and a token": [*_key(good), *_bearer(token)],
        "a key as a token": _bearer(good),
        "a token as a key": _key(token),
        "a password": [(b"Authorization", b"Basic YTpi")],
        "a token without its scheme": [(b"Authorization", token.encode())],
    }
    return {name: Cause([headers], None) for name, headers in presented.items()}


def _key(text: str) -> Headers:
    return [(b"X-API-Key", text.encode("latin-1"))]


def _bearer(text: str) -> Headers:
    return [(b"Authorization", f"Bearer {text}".encode("latin-1"))]


def _with_secret(key: str, secret: str) -> str:
    """Return a key of that id and that secret, with a right checksum."""
    body = key[: _SECRET.start] + secret
    return body + api_keys._checksum(body)


def _first_wrong(text: str) -> str:
    return ("0" if text[0] != "0" else "1") + text[1:]


def _last_wrong(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def _forged(token: str) -> str:
    return token[:-6] + "AAAAAA"


def _with_mac(token: str, *, wrong_at: int) -> str:
    signed, _, mac = token.rpartition(".")
    wrong = bytearray(base64.urlsafe_b64decode(f"{mac}="))
    wrong[wrong_at] ^= 1
    return f"{signed}.{base64url(bytes(wrong))}"
