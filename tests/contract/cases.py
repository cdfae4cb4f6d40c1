"""Many requests from few: Schemathesis generates some, and their parts are put together anew and damaged.

Generating a case from a schema costs ten times what asking and judging it does. So each operation has some generated,
the document's own example among them, and the rest takes path, query, headers and body from different ones of those,
with something wrong put into every other body. Schemathesis judges all of them alike.
"""

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings

WRONG: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1.5, 2**53, 2**64, -(2**63), 1e308, 1e-320, "", " ", "x" * 300, "\0", "\ud7ff", "é"),
    *([], {}, [[]], {"": {}}, [None] * 50, {"a": {"a": {"a": {"a": 1}}}}, "2026-02-30T00:00:00.000000Z", "sha256:"),
    *("__proto__", "../../etc/passwd", "' OR 1=1 --", "%00", "{{7*7}}", "\u202e", "\U0001f600"),
)


def generated(operation: Any, count: int) -> list[Any]:
    """Return what Schemathesis makes of an operation's schema and examples; the same every time."""
    cases: list[Any] = []

    @given(case=operation.as_strategy())
    @settings(
        max_examples=count,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    def keep(case: Any) -> None:
        cases.append(case)

    keep()
    return cases


def recombined(operation: Any, cases: Sequence[Any], count: int, chance: random.Random) -> Iterator[Any]:
    """Yield cases whose parts come from different ones, every other body with something wrong in it."""
    content = operation.definition.raw.get("requestBody", {}).get("content", {}).get("application/json", {})
    examples = [content["example"]] * (len(cases) // 2) if "example" in content else []
    bodies = [*(one.body for one in cases), *examples]
    for _ in range(count):
        one = chance.choice(cases)
        body = chance.choice(bodies)
        parts: dict[str, Any] = {
            "path_parameters": dict(chance.choice(cases).path_parameters or {}),
            "query": dict(chance.choice(cases).query or {}),
            "headers": dict(chance.choice(cases).headers or {}),
        }
        if isinstance(body, dict | list):
            body = damaged(copy.deepcopy(body), chance) if chance.random() < 0.5 else body
        yield operation.Case(method=one.method, body=body, media_type=one.media_type, **parts)


def damaged(value: Any, chance: random.Random) -> Any:
    """Return a document with one or two things wrong: a value replaced, a key left out, renamed or added."""
    for _ in range(chance.choice((1, 1, 2))):
        places = list(_places(value))
        if not places:
            return chance.choice(WRONG)
        holder, key = chance.choice(places)
        match chance.randrange(4):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[f"{key}{chance.choice(('', 's', '_', ' '))}x"] = holder.pop(key)
            case 2 if isinstance(holder, dict):
                added = chance.choice(("extra", "id", "state", "principal", "__class__"))
                holder[added] = copy.deepcopy(chance.choice(WRONG))  # the next thing wrong may be put into it
            case _:
                holder[key] = copy.deepcopy(chance.choice(WRONG))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key, member in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(member)
