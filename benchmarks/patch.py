"""RFC 6902 with budgets, touched pointers and an inverse, beside `jsonpatch`, which has none of them."""

from typing import Any

import jsonpatch

from app.core.documents import canonical, patch
from benchmarks import samples
from benchmarks.measure import Pair, Side


def pairs() -> list[Pair]:
    """Return the pairs of this topic."""
    return [
        _pair("4 operations on 2 kB", samples.two_kilobytes(), samples.small_patch()),
        _pair("4 operations on 250 kB", samples.quarter_megabyte(), samples.small_patch()),
        _pair("1,000 operations on 2 kB", samples.two_kilobytes(), _thousand()),
    ]


def _pair(name: str, document: Any, changes: list[dict[str, Any]]) -> Pair:
    theirs = jsonpatch.JsonPatch(changes)
    return Pair(
        name=f"patch, {name}",
        ours=Side("patch.parse + apply", lambda: patch.apply(document, patch.parse(changes))),
        theirs=Side("jsonpatch apply", lambda: theirs.apply(document)),
        agree=lambda: (
            canonical.encode_value(patch.apply(document, patch.parse(changes)).value)
            == canonical.encode_value(theirs.apply(document))
        ),
    )


def _thousand() -> list[dict[str, Any]]:
    return [{"op": "add", "path": f"/tool_grants/new-{number}", "value": {"limit": number}} for number in range(1_000)]
