"""Proposals with one thing wrong that the service has to name (FM12).

The table is the documented shape of a proposal read backwards: for each cause what is sent, and which field and rule
the refusal must name. It lives here a second time on purpose; the service is never asked what it thinks is wrong.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from chaos.exchange import Request
from chaos.history import MARKER, Kind
from chaos.streams.base import Occasion

CLIENTS: Final = "client-"
"""Begins the names of the principals who send them."""
_PROPOSALS: Final = "/api/v1/proposals"
_OPERATION: Final = {"op": "replace", "path": "/prompts/system", "value": "Answer briefly."}
_DIGEST: Final = "sha256:" + "0" * 64


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is changed in a good body (``None``: the field is left out), and what the refusal must say."""

    change: Mapping[str, Any]
    pointer: str
    rule: str
    status: int = 422


OLD_VERSION: Final = "old_version"
"""A client of an API before this one: the reason had another name."""
CAUSES: Final[Mapping[str, Flaw]] = MappingProxyType(
    {
        OLD_VERSION: Flaw({"reason": "Because."}, "/reason", "unknown-field"),
        "missing_field": Flaw({"rationale": None}, "/rationale", "missing-field"),
        "missing_deep": Flaw({"patch": [_OPERATION, {"op": "add", "path": "/a"}]}, "/patch/1/value", "missing-field"),
        "wrong_type": Flaw({"base_version": "1"}, "/base_version", "wrong-type"),
        "wrong_type_deep": Flaw({"evidence": [_DIGEST, 7]}, "/evidence/1", "wrong-type"),
        "too_short": Flaw({"rationale": ""}, "/rationale", "wrong-length"),
        "too_small": Flaw({"base_version": 0}, "/base_version", "out-of-range"),
        "wrong_pattern": Flaw({"base_digest": "sha256:12"}, "/base_digest", "wrong-pattern"),
        "not_a_choice": Flaw({"patch": [{**_OPERATION, "op": "swap"}]}, "/patch/0/op", "not-a-choice"),
        "too_large_number": Flaw({"base_version": 2**53}, "/base_version", "number-out-of-range", status=400),
        "null_character": Flaw({"rationale": "a\0b"}, "/rationale", "null-character", status=400),
    }
)


def misshapen_proposal(occasion: Occasion) -> Request:
    """Send a proposal with one thing wrong, as one client after another.

    Parameters: ``causes``, of ``CAUSES``, in turns (all of them); ``clients``, how many of them send such bodies (all).
    """
    cause = str(occasion.turn("causes", tuple(CAUSES)))
    known = {name: key for name, key in occasion.means.api_keys.items() if name.startswith(CLIENTS)}
    names = sorted(known, key=len)[: occasion.parameter("clients", len(known))]
    principal = names[occasion.number % len(names)]
    flaw = CAUSES[cause]
    key = f"{occasion.stream.name}-{occasion.number}-{occasion.chance.getrandbits(32):08x}"
    headers = {
        "X-API-Key": known[principal],
        "Idempotency-Key": key,
        "Content-Type": "application/json",
        "User-Agent": f"agents/{'0.9' if cause == OLD_VERSION else '1.0'}",
    }
    facts = {"why": cause, "pointer": flaw.pointer, "rule": flaw.rule, "expected": flaw.status, "key": key}
    return occasion.writing(
        Kind.PROPOSE, _PROPOSALS, headers, _body(occasion, flaw, cause), principal=principal, **facts
    )


def _body(occasion: Occasion, flaw: Flaw, cause: str) -> bytes:
    canary = f"{MARKER}{occasion.chance.getrandbits(64):016x}"
    body = {
        "target": "agent-000",
        "base_version": 1,
        "base_digest": _DIGEST,
        "patch": [_OPERATION],
        "rationale": f"Shorter answers were preferred ({canary}).",
        **flaw.change,
    }
    if cause == OLD_VERSION:
        body["reason"] = body.pop("rationale")
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()
