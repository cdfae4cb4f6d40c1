"""What becomes of a document, in lines that a person can read before they sign."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from app.client import shown
from app.core.documents import pointer as pointers
from app.core.documents.difference import between

ADDED: Final = "+"
REMOVED: Final = "-"
CHANGED: Final = "~"
LINES_MAX: Final = 500


def lines(old: Any, new: Any) -> Iterator[str]:
    """Return the lines that tell a person what becomes of a document, at most `LINES_MAX` and how many more."""
    told = [line for operation in between(old, new) for line in _told(old, operation)]
    yield from told[:LINES_MAX]
    if len(told) > LINES_MAX:
        yield f"… and {len(told) - LINES_MAX} lines more"


def _told(old: Any, operation: Mapping[str, Any]) -> Iterator[str]:
    where = shown.text(operation["path"] or "(the whole document)")
    before = pointers.resolve(old, operation["path"]) if operation["op"] != "add" else pointers.MISSING
    if operation["op"] == "replace":
        yield f"{CHANGED} {where}"
        yield f"    {REMOVED} {shown.value(before)}"
        yield f"    {ADDED} {shown.value(operation['value'])}"
    elif operation["op"] == "remove":
        yield f"{REMOVED} {where}   {'' if before is pointers.MISSING else shown.value(before)}".rstrip()
    else:
        yield f"{ADDED} {where}   {shown.value(operation['value'])}"
