"""From two documents to the JSON Patch between them (RFC 6902): for proposers, and for the way back of a rollback.

The patch is small rather than smallest: objects member by member, arrays by what they have in common at both ends and
then element by element. It is tried before it is handed out: applied to the old document it gives the new one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.core.documents import patch as patches
from app.core.documents import pointer as pointers
from app.core.documents import values


def between(old: Any, new: Any) -> list[dict[str, Any]]:
    """Return the JSON Patch (RFC 6902) that makes `new` of `old`; empty if they are equal."""
    patch = list(_between(old, new, ()))
    made = patches.apply(old, patches.parse(patch)).value
    if not values.are_equal(made, new):
        raise AssertionError("a difference leads from the old document to the new")
    return patch


def _between(old: Any, new: Any, path: tuple[str | int, ...]) -> Iterator[dict[str, Any]]:
    if values.are_equal(old, new):
        return
    if type(old) is dict and type(new) is dict:
        yield from _between_objects(old, new, path)
    elif type(old) is list and type(new) is list:
        yield from _between_arrays(old, new, path)
    else:
        yield {"op": "replace", "path": pointers.join(path), "value": new}


def _between_objects(
    old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str | int, ...]
) -> Iterator[dict[str, Any]]:
    for key in sorted(old.keys() - new.keys()):
        yield {"op": "remove", "path": pointers.join((*path, key))}
    for key in sorted(new):
        if key in old:
            yield from _between(old[key], new[key], (*path, key))
        else:
            yield {"op": "add", "path": pointers.join((*path, key)), "value": new[key]}


def _between_arrays(old: Sequence[Any], new: Sequence[Any], path: tuple[str | int, ...]) -> Iterator[dict[str, Any]]:
    common = min(len(old), len(new))
    begin = next((place for place in range(common) if not values.are_equal(old[place], new[place])), common)
    rest = common - begin
    end = next((place for place in range(rest) if not values.are_equal(old[-1 - place], new[-1 - place])), rest)
    removed, added = len(old) - begin - end, len(new) - begin - end
    both = min(removed, added)
    for place in range(begin, begin + both):
        yield from _between(old[place], new[place], (*path, place))
    # From behind, so that no index moves before it is used.
    for place in range(begin + removed - 1, begin + both - 1, -1):
        yield {"op": "remove", "path": pointers.join((*path, place))}
    for place in range(begin + both, begin + added):
        yield {"op": "add", "path": pointers.join((*path, place)), "value": new[place]}
