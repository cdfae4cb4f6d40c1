"""Strict decoding, beside `json.loads`, which lets half of what we refuse pass."""

import json
from typing import Any

from app.core.documents import strict_json
from benchmarks import samples
from benchmarks.measure import Pair, Side


def pairs() -> list[Pair]:
    """Return the pairs of this topic."""
    return [
        _pair("2 kB", samples.two_kilobytes()),
        _pair("2 kB, all escaped", {"text": "\u00e9\u4e2d\u6587" * 60, **samples.configuration(2)}),
        _pair("250 kB", samples.quarter_megabyte()),
    ]


def _pair(name: str, document: Any) -> Pair:
    body = json.dumps(document).encode()
    return Pair(
        name=f"strict decode, {name}",
        ours=Side("strict_json.decode", lambda: strict_json.decode(body)),
        theirs=Side("json.loads", lambda: json.loads(body)),
        agree=lambda: strict_json.decode(body).value == json.loads(body) == document,
    )
