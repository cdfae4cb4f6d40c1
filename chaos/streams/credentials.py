"""Requests with credentials that are not good (FM04).

An API key is ``amgf_<id>_<secret><checksum>``: the checksum is right wherever a cause does not say otherwise, so that a
key is refused for that cause and for no other. Requests take turns in what they ask for and in what is wrong.
"""

import json
import random
import string
import zlib
from typing import Final

from chaos.exchange import Request
from chaos.history import Kind
from chaos.streams.base import Occasion

STRANGER: Final = "stranger"
KEY_CAUSES: Final = ("unknown", "wrong_secret", "checksum", "malformed")
_PROPOSALS: Final = "/api/v1/proposals"
_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID, _SECRET, _CHECKSUM = 12, 43, 6


def invalid_key(occasion: Occasion) -> Request:
    """Ask with an API key that is none. Parameters: ``causes``, of ``KEY_CAUSES``, in turns (all of them)."""
    cause = str(occasion.turn("causes", KEY_CAUSES))
    return asked_with(occasion, {"X-API-Key": wrong_key(occasion, cause)}, cause)


def asked_with(occasion: Occasion, credentials: dict[str, str], cause: str) -> Request:
    """Return a request with these headers: every other one would write, if it were let in."""
    if occasion.number % 2:
        return occasion.reading(Kind.LIST, _PROPOSALS, credentials, principal=STRANGER, why=cause)
    key = f"{occasion.stream.name}-{occasion.number}-{occasion.chance.getrandbits(32):08x}"
    body = json.dumps({"target": "agent-000", "base_version": 1, "patch": [], "rationale": "Let me in."}).encode()
    headers = {**credentials, "Idempotency-Key": key, "Content-Type": "application/json"}
    return occasion.writing(Kind.PROPOSE, _PROPOSALS, headers, body, principal=STRANGER, why=cause, key=key)


def wrong_key(occasion: Occasion, cause: str) -> str:
    """Return an API key with one thing wrong.

    Raises:
        ValueError: there is no such cause.
    """
    chance = occasion.chance
    match cause:
        case "unknown":
            return _with_checksum(f"amgf_{_characters(chance, _ID)}_{_characters(chance, _SECRET)}")
        case "wrong_secret":
            known = chance.choice(sorted(occasion.means.api_keys.values()))
            prefix = known[: len("amgf_") + _ID + 1]
            return _with_checksum(prefix + _characters(chance, _SECRET))
        case "checksum":
            good = _with_checksum(f"amgf_{_characters(chance, _ID)}_{_characters(chance, _SECRET)}")
            return good[:-1] + ("0" if good[-1] != "0" else "1")
        case "malformed":
            return chance.choice(("amgf_", "password", "Bearer", "amgf_" + "x" * 200, "0" * 66))
        case _:
            raise ValueError(f"nothing is known of an API key that is wrong by {cause!r}")


def _with_checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), []
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return body + "".join(reversed(digits))


def _characters(chance: random.Random, count: int) -> str:
    return "".join(chance.choice(_ALPHABET) for _ in range(count))
