"""RFC 8785, beside the `rfc8785` package."""

from typing import Any

import rfc8785

from app.core.documents import canonical
from app.core.documents.strict_json import Document
from benchmarks import samples
from benchmarks.measure import Goal, Pair, Side


def pairs() -> list[Pair]:
    """Return the pairs of this topic."""
    plain, mixed = samples.two_kilobytes(has_fractions=False), samples.two_kilobytes()
    return [
        _pair("2 kB decoded, whole numbers", plain, is_plain=True, goal=Goal(microseconds_max=40, ratio_min=5)),
        _pair("2 kB decoded, fractions", mixed, is_plain=False, goal=Goal(microseconds_max=40, ratio_min=3)),
        _pair("2 kB decoded, emoji as a key", {"\U0001f600": 1, **mixed}, is_plain=False),
        _pair("2 kB of our own, whole numbers", plain, is_plain=None, goal=Goal(microseconds_max=40)),
        _pair("250 kB decoded, fractions", samples.quarter_megabyte(), is_plain=False),
    ]


def _pair(name: str, value: Any, *, is_plain: bool | None, goal: Goal | None = None) -> Pair:
    if is_plain is None:
        ours = Side("canonical.encode_value", lambda: canonical.encode_value(value))
    else:
        document = Document(value, is_plain=is_plain)
        ours = Side("canonical.encode", lambda: canonical.encode(document))
    return Pair(
        name=f"canonical form, {name}",
        ours=ours,
        theirs=Side("rfc8785.dumps", lambda: rfc8785.dumps(value)),
        goal=goal,
        agree=lambda: ours.work() == rfc8785.dumps(value),
    )
