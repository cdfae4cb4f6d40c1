"""What JSON values are to each other: equality by JSON's types, and size.

Python says `True == 1`; JSON does not. Iterative, so that depth costs no stack.
"""

from itertools import chain
from typing import Any


def are_equal(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON value (RFC 6902 section 4.6): `1` is `1.0`, `true` is not `1`.

    Takes as many steps as the smaller value has nodes.
    """
    pending = [(one, other)]
    while pending:
        left, right = pending.pop()
        kind = type(left)
        if kind is dict:
            if type(right) is not dict or left.keys() != right.keys():
                return False
            pending.extend((value, right[key]) for key, value in left.items())
        elif kind is list:
            if type(right) is not list or len(left) != len(right):
                return False
            pending.extend(zip(left, right, strict=True))
        elif (kind is bool) != (type(right) is bool) or left != right:
            return False
    return True


def measure(value: Any, *, nodes_max: int) -> tuple[int, int]:
    """Return how many nodes a value has and how many levels of objects and arrays (a text has none, `[]` one).

    What stands twice is counted twice. Stops beyond `nodes_max`: the count is larger than that then, and not the whole.
    """
    nodes, levels = 1, 0
    level = [value] if type(value) is dict or type(value) is list else []
    while level:
        levels += 1
        nodes += sum(map(len, level))
        if nodes > nodes_max:
            break
        members = chain.from_iterable([each.values() if type(each) is dict else each for each in level])
        level = [member for member in members if type(member) is dict or type(member) is list]
    return nodes, levels
