"""Decision shadow: recorded decisions, made again by the document before and after a change.

A governed document may have five declarative parts. Each may be missing: then nothing is decided by it, and a document
without any of them has no flips. A part that is there and not of this shape decides "deny" (`malformed:<part>`).

    "tool_grants": ["search", {"tool": "shell", "agents": ["ops"], "when": [CONDITION]}]     one must match, or deny
    "guard_rules": [{"id": "no-secrets", "effect": "deny", "when": [CONDITION]}]             the first match decides
    "routing":     [{"route": "small-model", "when": [CONDITION]}]                           the first match decides
    "budgets":     {"tokens_per_request": 8000}                                              more is denied
    "prompts":     {"greeting": "Hello {{ name }}, ..."}                                     all variables must be given

    CONDITION = {"field": JSON pointer into the case, "op": an `Operator`, "value": any}; all of a list must hold,
    an empty list holds. A field that is not there makes a condition false, except absent, not_equals and not_in.

The corpus, the document of `governance/corpus`, is `{"v": 1, "cases": [Case]}`. No model is called and nothing is
looked up: a case carries everything it needs. All texts are compared by code points; there are no patterns.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec

from app.core.documents import canonical, pointer, values
from app.core.documents.misfit import flaw_of
from app.core.documents.patch import POINTER_PATTERN
from app.core.governance.policy_set import Globs
from app.core.governed.target import matches
from app.errors import Flaw, InvalidCorpus

CASES_MAX: Final = 5_000
RENDERED_CHARACTERS_MAX: Final = 262_144
FLIPS_SHOWN_MAX: Final = 500
FLIP_KINDS: Final = ("allow_to_deny", "deny_to_allow", "prompt", "route")
PLACEHOLDER: Final = re.compile(r"\{\{([^{}]{0,80})\}\}")
_VARIABLE: Final = re.compile(r"\A\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*\Z")

Operator = Literal[
    "equals", "not_equals", "in", "not_in", "prefix", "suffix", "contains", "at_least", "at_most", "present", "absent"
]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Unknown fields are refused: a misspelt condition would otherwise widen a grant."""


class Case(_Strict, frozen=True):
    """One recorded decision: an agent that makes a request, calls a tool, or has a prompt rendered."""

    id: Name
    agent: Name
    targets: Globs | None = None
    tool: Name | None = None
    arguments: dict[str, Any] = {}
    request: dict[str, Any] = {}
    spend: dict[str, int] = {}
    prompt: Name | None = None
    variables: dict[str, str] = {}

    def context(self) -> dict[str, Any]:
        """Return what conditions may look at."""
        return {"agent": self.agent, "tool": self.tool, "arguments": self.arguments, "request": self.request}


class Corpus(_Strict, frozen=True):
    """The recorded decisions; ids are unique."""

    v: Literal[1]
    cases: Annotated[list[Case], msgspec.Meta(max_length=CASES_MAX)]


class Condition(_Strict, frozen=True):
    """What must hold of a case."""

    field: Annotated[str, msgspec.Meta(pattern=POINTER_PATTERN, max_length=512)]
    op: Operator
    value: Any = None


class Grant(_Strict, frozen=True):
    """Who may use a tool, and when; `agents` None means everybody."""

    tool: Name
    agents: list[Name] | None = None
    when: list[Condition] = []


class GuardRule(_Strict, frozen=True):
    """Denies what matches, or exempts it from the rules behind it."""

    id: Name
    effect: Literal["deny", "allow"]
    when: list[Condition]


class Route(_Strict, frozen=True):
    """Where a request goes."""

    route: Name
    when: list[Condition] = []


_PARTS: Final[Mapping[str, Any]] = {
    "tool_grants": list[Name | Grant],
    "guard_rules": list[GuardRule],
    "routing": list[Route],
    "budgets": dict[str, int | float],
    "prompts": dict[str, str],
}
DEFAULT: Final = Corpus(v=1, cases=[])


@dataclass(frozen=True, slots=True)
class Decision:
    """How a document decides a case. `prompt`: digest of the rendered text."""

    outcome: Literal["allow", "deny"]
    reason: str
    route: str | None
    prompt: str | None


@dataclass(frozen=True, slots=True)
class Flips:
    """The cases that are decided otherwise after the change, in the corpus's order of ids; counts are of all."""

    flips: tuple[dict[str, Any], ...]
    counts: dict[str, int]
    cases: int


class _Malformed(Exception):
    """A part of the document is not of the convention's shape."""


def parse(document: Any) -> Corpus:
    """Return the corpus of a decoded document.

    Raises:
        InvalidCorpus: with the flaws.
    """
    try:
        corpus = msgspec.convert(document, Corpus)
    except msgspec.ValidationError as error:
        raise InvalidCorpus([flaw_of(error)]) from None
    twice = [case for case, count in Counter(case.id for case in corpus.cases).items() if count > 1]
    if twice:
        raise InvalidCorpus([Flaw("/cases", "duplicate-id", "a case's id stands twice")])
    return corpus


def compare(corpus: Corpus, target: str, before: Any, after: Any) -> Flips:
    """Return which of the target's cases flip between two documents."""
    cases = sorted((case for case in corpus.cases if matches(target, case.targets)), key=lambda case: case.id)
    old, new = Interpreter(before), Interpreter(after)
    found = [flip for case in cases for flip in _flips(case.id, old.decide(case), new.decide(case))]
    counted = Counter(flip["kind"] for flip in found)
    return Flips(tuple(found), {kind: counted[kind] for kind in FLIP_KINDS}, len(cases))


def _flips(case: str, old: Decision, new: Decision) -> Iterator[dict[str, Any]]:
    if old.outcome != new.outcome:
        yield {
            "case": case,
            "kind": f"{old.outcome}_to_{new.outcome}",
            "before": f"{old.outcome}: {old.reason}",
            "after": f"{new.outcome}: {new.reason}",
        }
    for kind in ("prompt", "route"):
        was, now = getattr(old, kind), getattr(new, kind)
        if was != now:
            yield {"case": case, "kind": kind, "before": was, "after": now}


class Interpreter:
    """Decides cases by the declarative parts of one document."""

    def __init__(self, document: Any) -> None:
        self._parts: dict[str, Any] = {}
        self._malformed: str | None = None
        present = document if isinstance(document, dict) else {}
        for name, shape in _PARTS.items():
            if name in present:
                try:
                    self._parts[name] = msgspec.convert(present[name], shape)
                except msgspec.ValidationError:
                    self._malformed = self._malformed or name

    def decide(self, case: Case) -> Decision:
        """Return how the document decides a case: the first of guards, grants, budgets and prompt that denies."""
        if self._malformed:
            return Decision("deny", f"malformed:{self._malformed}", None, None)
        context = case.context()
        route = next((one.route for one in self._parts.get("routing", ()) if _hold(one.when, context)), None)
        reason = self._guarded(context) or self._ungranted(case, context) or self._overspent(case)
        prompt = None
        if case.prompt is not None and "prompts" in self._parts:
            rendered = render(self._parts["prompts"].get(case.prompt), case.variables)
            if rendered is None:
                reason = reason or "prompt-not-renderable"
            else:
                prompt = canonical.digest(rendered.encode())
        return Decision("deny" if reason else "allow", reason or "nothing-against", route, prompt)

    def _guarded(self, context: dict[str, Any]) -> str | None:
        for rule in self._parts.get("guard_rules", ()):
            if _hold(rule.when, context):
                return f"guard:{rule.id}" if rule.effect == "deny" else None
        return None

    def _ungranted(self, case: Case, context: dict[str, Any]) -> str | None:
        if case.tool is None or "tool_grants" not in self._parts:
            return None
        for grant in self._parts["tool_grants"]:
            if isinstance(grant, str):
                if grant == case.tool:
                    return None
            elif (
                grant.tool == case.tool
                and (grant.agents is None or case.agent in grant.agents)
                and _hold(grant.when, context)
            ):
                return None
        return "no-grant"

    def _overspent(self, case: Case) -> str | None:
        budgets = self._parts.get("budgets", {})
        over = (name for name in sorted(case.spend) if name in budgets and case.spend[name] > budgets[name])
        name = next(over, None)
        return f"budget:{name}" if name is not None else None


def render(template: str | None, variables: Mapping[str, str]) -> str | None:
    """Return a prompt's text; None if there is no template, a variable is missing or misspelt, or it grows too long."""
    if template is None:
        return None
    pieces: list[str] = []
    length = position = 0
    for place in PLACEHOLDER.finditer(template):
        name = _VARIABLE.match(place[1])
        if name is None or name[1] not in variables:
            return None
        pieces += [template[position : place.start()], variables[name[1]]]
        length += len(pieces[-2]) + len(pieces[-1])
        if length > RENDERED_CHARACTERS_MAX:
            return None
        position = place.end()
    pieces.append(template[position:])
    return "".join(pieces) if length + len(pieces[-1]) <= RENDERED_CHARACTERS_MAX else None


def _hold(conditions: Sequence[Condition], context: dict[str, Any]) -> bool:
    return all(_holds(condition, context) for condition in conditions)


def _holds(condition: Condition, context: dict[str, Any]) -> bool:
    found = pointer.resolve(context, condition.field)
    if found is pointer.MISSING:
        return condition.op in {"absent", "not_equals", "not_in"}
    return _COMPARISONS[condition.op](found, condition.value)


def _is_in(found: Any, wanted: Any) -> bool:
    return isinstance(wanted, list) and any(values.are_equal(found, one) for one in wanted)


def _contains(found: Any, wanted: Any) -> bool:
    return _is_in(wanted, found) or (_are_texts(found, wanted) and wanted in found)


def _are_texts(found: Any, wanted: Any) -> bool:
    return isinstance(found, str) and isinstance(wanted, str)


def _are_numbers(found: Any, wanted: Any) -> bool:
    return all(isinstance(one, int | float) and not isinstance(one, bool) for one in (found, wanted))


_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "equals": values.are_equal,
    "not_equals": lambda found, wanted: not values.are_equal(found, wanted),
    "in": _is_in,
    "not_in": lambda found, wanted: not _is_in(found, wanted),
    "contains": _contains,
    "prefix": lambda found, wanted: _are_texts(found, wanted) and found.startswith(wanted),
    "suffix": lambda found, wanted: _are_texts(found, wanted) and found.endswith(wanted),
    "at_least": lambda found, wanted: _are_numbers(found, wanted) and found >= wanted,
    "at_most": lambda found, wanted: _are_numbers(found, wanted) and found <= wanted,
    "present": lambda _found, _wanted: True,
    "absent": lambda _found, _wanted: False,
}
