"""What JSON values are to each other: equality by JSON's types, and size.

Python says `True == 1`; JSON does not. Iterative, so that depth costs no stack.
"""

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

    What stands twice is counted twice. Stops soon after `nodes_max`: then the count is larger than that, and wrong.
    """
    nodes, levels = 1, 0
    level = [value] if type(value) in (dict, list) else []
    while level and nodes <= nodes_max:
        levels += 1
        below: list[Any] = []
        for container in level:
            nodes += len(container)
            if nodes > nodes_max:
                break
            children = container.values() if type(container) is dict else container
            below += [child for child in children if type(child) is dict or type(child) is list]
        level = below
    return nodes, levels
