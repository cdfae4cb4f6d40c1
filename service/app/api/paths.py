"""Names of targets in addresses: one segment, percent-encoded, whatever slashes it holds.

Servers decode a path before it is routed, and `agents%2Frouter` would become two segments. So the segment is put back,
from the raw path, before routing; a handler decodes it by `target_in`.
"""

import re
from typing import Annotated, Any, Final
from urllib.parse import quote, unquote

from litestar.params import PathParameter

from app.core.governed.proposal import SLUG_PATTERN, TARGET_CHARACTERS_MAX
from app.errors import UnknownTarget

TARGETS: Final = "/api/v1/targets"
_PREFIX: Final = TARGETS.encode() + b"/"
_NAME: Final = re.compile(SLUG_PATTERN)

TargetPath = Annotated[
    str, PathParameter(description="The target's name, percent-encoded: `agents%2Frouter`.", max_length=512)
]


def keep_encoded(scope: Any) -> None:
    """Let the segment after /targets/ stay one segment, in one spelling."""
    raw: bytes = scope.get("raw_path") or b""
    if raw.startswith(_PREFIX):
        name, *rest = raw[len(_PREFIX) :].decode("ascii", "replace").split("/")
        scope["path"] = "/".join([TARGETS, quote(unquote(name), safe=""), *(unquote(one) for one in rest)])


def target_in(segment: str) -> str:
    """Return the name in a segment of a path.

    Raises:
        UnknownTarget: no target can have that name.
    """
    name = unquote(segment)
    if len(name) > TARGET_CHARACTERS_MAX or not _NAME.match(name):
        raise UnknownTarget
    return name


def address(name: str) -> str:
    """Return where a target is read."""
    return f"{TARGETS}/{quote(name, safe='')}"
