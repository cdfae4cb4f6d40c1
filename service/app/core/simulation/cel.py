"""Rules in CEL, the Common Expression Language, within limits of our own (firewall.md section 12).

The engine is Google's cel-cpp through `cel-expr-python`. What it does not limit, or gets wrong, is stopped here:

- an expression has at most 2,000 characters, is type-checked against the declared variables, must give a bool, and
  nests comprehensions at most 2 deep (counted in the checked syntax tree, not in the text);
- U+0000 never reaches it: it would cut a text off there and make it equal to its beginning;
- a variable that holds a text of more than 16,384 bytes is an error to every rule that looks at it;
- an ERROR or UNKNOWN value, a value that is not a bool, or an exception is the outcome `error`, never `pass`;
- maps are walked in an order that differs from process to process, so comprehensions walk only what is known to be a
  list: `items(x)`, ours, gives a list's items, or a map's keys in ascending order.

Its own limits: 10,000 iterations in one evaluation, 32 levels of brackets, 100,000 code points. Memory it does not
limit; the worker process does.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Final, Literal

import msgspec
from cel_expr_python import cel

from app.core.governance.policy_set import EXPRESSION_CHARACTERS_MAX, Rule
from app.core.simulation import cel_syntax

NESTING_MAX: Final = 2
TEXT_BYTES_MAX: Final = 16_384
FLAWS_MAX: Final = 20
COMPILED_MAX: Final = 512
"""Compiled expressions that a process keeps."""
MESSAGE_CHARACTERS_MAX: Final = 300
_PLACE: Final = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): ([^\n]*)")

Outcome = Literal["pass", "fire", "error"]


@dataclass(frozen=True, slots=True)
class RuleFlaw:
    """Why an expression does not compile; line and column from 1, 0 when it is the whole of it."""

    line: int
    column: int
    message: str


class RuleRefused(Exception):
    """The expression does not compile."""

    def __init__(self, flaws: Sequence[RuleFlaw]) -> None:
        super().__init__(flaws[0].message)
        self.flaws = tuple(flaws)


class UnsafeText(Exception):
    """A value holds U+0000 or half of a surrogate pair: the strict decoder was passed by. Nothing is evaluated."""


class _TooLong:
    """Stands for a value with a text that is too long: no CEL value, so an error wherever a rule looks."""


def _items(value: list[Any] | dict[str, Any]) -> list[Any]:
    """`items(x)` of the rules. What is raised here is an ERROR value there."""
    return sorted(value) if isinstance(value, dict) else value


@cache
def _environment() -> cel.Env:
    kind = cel.Type
    members = kind.Map(kind.STRING, kind.DYN)
    anything = kind.List(kind.DYN)
    # Two overloads: of one that takes a DYN the engine finds no implementation.
    items = cel.FunctionDecl(
        "items",
        [
            cel.Overload(id="items_list", return_type=anything, parameters=[anything], impl=_items),
            cel.Overload(id="items_map", return_type=anything, parameters=[kind.Map(kind.DYN, kind.DYN)], impl=_items),
        ],
    )
    return cel.NewEnv(
        functions=[items],
        variables={
            "proposal": members,
            "actor": members,
            "target": members,
            "before": kind.DYN,
            "after": kind.DYN,
            "diff": members,
            "touched": kind.List(kind.STRING),
            "sim": members,
            "params": members,
            "now": kind.TIMESTAMP,
        },
    )


def compile_rule(expression: str) -> cel.Expression:
    """Return the checked expression.

    Raises:
        RuleRefused: with every flaw that is known, the first first.
    """
    if len(expression) > EXPRESSION_CHARACTERS_MAX:
        raise RuleRefused([RuleFlaw(0, 0, f"more than {EXPRESSION_CHARACTERS_MAX} characters")])
    if "\0" in expression or any("\ud800" <= character <= "\udfff" for character in expression):
        raise RuleRefused([RuleFlaw(0, 0, "U+0000 or half of a surrogate pair")])
    try:
        compiled = _environment().compile(expression)
    except RuntimeError as error:
        raise RuleRefused(list(_flaws(str(error)))) from None
    if compiled.return_type() != cel.Type.BOOL:
        raise RuleRefused([RuleFlaw(0, 0, "a rule says true or false")])
    walks = cel_syntax.walks(compiled.serialize())
    if walks.depth > NESTING_MAX:
        raise RuleRefused([RuleFlaw(0, 0, f"comprehensions nest more than {NESTING_MAX} deep")])
    if not walks.only_lists:
        raise RuleRefused([RuleFlaw(0, 0, "comprehensions walk lists: write items(x).all(...) for x.all(...)")])
    return compiled


def evaluate(rules: Sequence[Rule], variables: Mapping[str, Any]) -> list[Outcome]:
    """Return each rule's outcome, in their order.

    Args:
        rules: those that apply to the target.
        variables: JSON values by the names that are declared above; `now` an aware datetime.

    Raises:
        UnsafeText: before anything is evaluated.
        MemoryError: a rule met the process's limit; the process should end.
    """
    activation = _environment().Activation({name: _bindable(value) for name, value in variables.items()})
    return [_outcome(rule, activation) for rule in rules]


def _outcome(rule: Rule, activation: cel.Activation) -> Outcome:
    try:
        value = _compiled(rule.expression).eval(activation)
        # Only a bool counts: an ERROR value is a text to Python, and true in an `if`.
        if value.type() != cel.Type.BOOL:
            return "error"
        return "pass" if value.plain_value() is True else "fire"
    except RuleRefused:
        return "error"
    except RuntimeError as error:
        if "bad_alloc" in str(error):
            raise MemoryError from None
        return "error"


_compiled = lru_cache(maxsize=COMPILED_MAX)(compile_rule)


def _bindable(value: Any) -> Any:
    """Return the value as rules may see it."""
    if isinstance(value, datetime):
        return value
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise UnsafeText("half of a surrogate pair") from None
    # Nothing in a short value is long, and an escaped U+0000 is the only way to write one.
    if len(encoded) <= TEXT_BYTES_MAX and rb"\u0000" not in encoded:
        return value
    pending = [value]
    is_too_long = False
    for one in pending:
        if isinstance(one, str):
            is_too_long |= _is_too_long(one)
        elif isinstance(one, Mapping):
            # Every key is looked at: one with U+0000 must not hide behind one that is too long.
            is_too_long |= max(map(_is_too_long, one), default=False)
            pending += one.values()
        elif isinstance(one, list | tuple):
            pending += one
    return _TooLong() if is_too_long else value


def _is_too_long(text: str) -> bool:
    if "\0" in text:
        raise UnsafeText("U+0000")
    if text.isascii():
        return len(text) > TEXT_BYTES_MAX
    try:
        return len(text.encode()) > TEXT_BYTES_MAX
    except UnicodeEncodeError:
        raise UnsafeText("half of a surrogate pair") from None


def _flaws(message: str) -> Iterable[RuleFlaw]:
    found = _PLACE.findall(message)[:FLAWS_MAX]
    for line, column, sentence in found:
        yield RuleFlaw(max(0, int(line)), max(0, int(column)), sentence[:MESSAGE_CHARACTERS_MAX])
    if not found:
        yield RuleFlaw(0, 0, message.partition("\n")[0][:MESSAGE_CHARACTERS_MAX])
