"""Requests with tokens: good ones, expired ones, forged ones (FM04, FM05).

Signed by ``compose.issuer``, not by the library under test. Times are counted from the instant at which the request is
due, by the clock that the service has as well.
"""

import math
import time
from typing import Any, Final

from nacl.signing import SigningKey

from chaos.exchange import Request
from chaos.history import Kind
from chaos.streams.base import Occasion
from chaos.streams.credentials import STRANGER, asked_with
from compose import issuer
from compose.issuer import EDITOR

TOKEN_CAUSES: Final = ("signature", "alg_none", "unknown_kid", "malformed", "expired_and_forged")
_PROPOSALS: Final = "/api/v1/proposals"


def invalid_token(occasion: Occasion) -> Request:
    """Ask with a token that is none. Parameters: ``causes``, of ``TOKEN_CAUSES``, in turns (all of them)."""
    cause = str(occasion.turn("causes", TOKEN_CAUSES))
    return asked_with(occasion, _bearer(_wrong(occasion, cause)), cause)


def expired_token(occasion: Occasion) -> Request:
    """Read with a good token that expired at most ``seconds_ago``, and at most a second later than that."""
    ago = float(occasion.parameter("seconds_ago", 0.0))
    token, expires = _token(occasion, ago=ago)
    principal = EDITOR if ago <= 0 else STRANGER
    return occasion.reading(Kind.LIST, _PROPOSALS, _bearer(token), principal=principal, why="expired", expires=expires)


def _wrong(occasion: Occasion, cause: str) -> str:
    match cause:
        case "signature":
            return _token(occasion, ago=-60.0, key=_strangers_key(occasion))[0]
        case "expired_and_forged":
            return _token(occasion, ago=60.0, key=_strangers_key(occasion))[0]
        case "alg_none":
            return _token(occasion, ago=-60.0, alg="none")[0].rpartition(".")[0] + "."
        case "unknown_kid":
            return _token(occasion, ago=-60.0, kid="../keys/1")[0]
        case "malformed":
            return "eyJhbGciOiJub25lIn0"
        case _:
            raise ValueError(f"nothing is known of a token that is wrong by {cause!r}")


def _token(occasion: Occasion, *, ago: float, key: SigningKey | None = None, **header: Any) -> tuple[str, float]:
    """Return a token that expired at most ``ago`` seconds before it is due, and when, in CLOCK_MONOTONIC.

    Raises:
        ValueError: there is nothing to sign it with.
    """
    signer = key or occasion.means.token_key
    if signer is None:
        raise ValueError("this stack has no issuer of tokens")
    due = occasion.means.wall() + occasion.due - time.monotonic()
    jti = f"{occasion.chance.getrandbits(64):016x}"
    made = issuer.token(signer, expires=due - ago, jti=jti, **header)
    return made, math.ceil(due - ago) - due + occasion.due


def _strangers_key(occasion: Occasion) -> SigningKey:
    return SigningKey(occasion.chance.randbytes(32))


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
