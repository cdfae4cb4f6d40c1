"""What a change does to a document, as facts: numbers, texts, items and members, grants.

Rules see the facts as `diff`, risk points are given for them, people read them in the plan. They hold no values of the
document but numbers (as canonical text, since records carry no fractions) and names of members and grants. Arrays are
compared as bags: an item that only moved is neither added nor removed. A value is encoded at most twice for each level
it stands under, and there are at most 64.
"""

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import msgspec

from app.core.documents import canonical, pointer

BASIS_POINTS: Final = 10_000
CHANGE_BASIS_POINTS_MAX: Final = 1_000_000_000
"""Changes beyond a hundred thousandfold are not told apart."""
SHOWN_MAX: Final = 200
"""How many facts of each kind a record shows; the counts are of all."""
NAMES_SHOWN_MAX: Final = 50
ANY_AGENT: Final = "*"
_ABSENT: Final = object()
_encoder: Final = msgspec.json.Encoder(order="deterministic")

Path = tuple[str | int, ...]


@dataclass(slots=True)
class Facts:
    """Every difference, each list in document order.

    numbers: {"pointer", "before": text|null, "after": text|null, "direction": "up"|"down"|"any",
    "change_basis_points": int|null}; null and "any" when the number came, went, or was 0.
    texts: {"pointer", "characters_before", "characters_after"}. lists: {"pointer", "added", "removed", "reordered"}.
    members: {"pointer", "added": [name], "removed": [name]}. others: {"pointer", "before": kind, "after": kind}, a kind
    is null, true, false, number, text, list or object. grants: "tool@agent", "tool@*" for every agent.
    """

    numbers: list[dict[str, Any]] = field(default_factory=list)
    texts: list[dict[str, Any]] = field(default_factory=list)
    lists: list[dict[str, Any]] = field(default_factory=list)
    members: list[dict[str, Any]] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)
    grants_added: list[str] = field(default_factory=list)
    grants_removed: list[str] = field(default_factory=list)

    def variable(self) -> dict[str, Any]:
        """Return all facts, as rules see them: a rule is never shown less than everything."""
        return {
            "numbers": self.numbers,
            "texts": self.texts,
            "lists": self.lists,
            "members": self.members,
            "others": self.others,
            "grants_added": self.grants_added,
            "grants_removed": self.grants_removed,
        }

    def record(self) -> dict[str, Any]:
        """Return the facts as a record shows them: at most `SHOWN_MAX` of a kind, with the number of all."""
        everything = self.variable()
        shown = {kind: facts[:SHOWN_MAX] for kind, facts in everything.items()}
        shown["members"] = [
            {**fact, "added": fact["added"][:NAMES_SHOWN_MAX], "removed": fact["removed"][:NAMES_SHOWN_MAX]}
            for fact in shown["members"]
        ]
        return {**shown, "counts": {kind: len(facts) for kind, facts in everything.items()}}


def compare(before: Any, after: Any) -> Facts:
    """Return the differences between two documents (decoded from canonical bytes)."""
    walk = _Walk()
    walk.run(before, after)
    was, now = grants(before), grants(after)
    walk.facts.grants_added = sorted(now - was)
    walk.facts.grants_removed = sorted(was - now)
    return walk.facts


def grants(document: Any) -> set[str]:
    """Return who may use which tool, by the conventions of `shadow`: "tool@agent"; conditions are not looked at."""
    found: set[str] = set()
    listed = document.get("tool_grants") if isinstance(document, dict) else None
    for grant in listed if isinstance(listed, list) else ():
        if isinstance(grant, str):
            found.add(f"{grant}@{ANY_AGENT}")
        elif isinstance(grant, dict) and isinstance(grant.get("tool"), str):
            agents = grant.get("agents")
            named = agents if isinstance(agents, list) else [ANY_AGENT]
            found.update(f"{grant['tool']}@{agent}" for agent in named if isinstance(agent, str))
    return found


class _Walk:
    def __init__(self) -> None:
        self.facts = Facts()
        _prints: dict[int, bytes] = {}

    def run(self, before: Any, after: Any) -> None:
        pending: list[tuple[Path, Any, Any]] = [((), before, after)]
        while pending:
            path, old, new = pending.pop()
            if _print(old) == _print(new):
                continue
            was, now = _kind(old), _kind(new)
            if was == now:
                pending.extend(reversed(self._differ(path, was, old, new)))
                continue
            if old is not _ABSENT and new is not _ABSENT:
                self.facts.others.append({"pointer": pointer.join(path), "before": was, "after": now})
            pending.extend(reversed(self._differ(path, now, _ABSENT, new) + self._differ(path, was, old, _ABSENT)))

    def _differ(self, path: Path, kind: str, old: Any, new: Any) -> list[tuple[Path, Any, Any]]:
        """Note the difference between two values of one kind, one of which may be absent; return what is inside."""
        if kind == "number":
            self.facts.numbers.append(_number(path, old, new))
        elif kind == "text":
            lengths = [0 if text is _ABSENT else len(text) for text in (old, new)]
            self.facts.texts.append(
                {"pointer": pointer.join(path), "characters_before": lengths[0], "characters_after": lengths[1]}
            )
        elif kind == "list":
            return self._list(path, [] if old is _ABSENT else old, [] if new is _ABSENT else new)
        elif kind == "object":
            return self._object(path, {} if old is _ABSENT else old, {} if new is _ABSENT else new)
        return []

    def _list(self, path: Path, old: list[Any], new: list[Any]) -> list[tuple[Path, Any, Any]]:
        was = Counter(map(_print, old))
        now = Counter(map(_print, new))
        added, removed = (now - was).total(), (was - now).total()
        if not added and not removed and not was:
            return []
        self.facts.lists.append(
            {
                "pointer": pointer.join(path),
                "added": added,
                "removed": removed,
                "reordered": not added and not removed,
            }
        )
        if len(old) != len(new):
            return []
        return [((*path, place), one, other) for place, (one, other) in enumerate(zip(old, new, strict=True))]

    def _object(self, path: Path, old: dict[str, Any], new: dict[str, Any]) -> list[tuple[Path, Any, Any]]:
        added, removed = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
        if added or removed:
            self.facts.members.append({"pointer": pointer.join(path), "added": added, "removed": removed})
        return [((*path, key), old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in sorted(old.keys() | new.keys())]


def _print(value: Any) -> bytes:
    """Return bytes that are equal for equal JSON values, and different for 1 and true. Not canonical, but quick."""
    return b"" if value is _ABSENT else _encoder.encode(value)


def _kind(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "object"


def _number(path: Path, old: Any, new: Any) -> dict[str, Any]:
    direction, change = "any", None
    if old is not _ABSENT and new is not _ABSENT:
        direction = "up" if new > old else "down"
        if old != 0:
            # Exact: a binary fraction is a ratio of whole numbers.
            change = min(
                int(abs(Fraction(new) - Fraction(old)) * BASIS_POINTS / abs(Fraction(old))), CHANGE_BASIS_POINTS_MAX
            )
    texts = [None if number is _ABSENT else canonical.encode_value(number).decode() for number in (old, new)]
    return {
        "pointer": pointer.join(path),
        "before": texts[0],
        "after": texts[1],
        "direction": direction,
        "change_basis_points": change,
    }
