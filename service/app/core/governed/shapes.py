r"""The small shapes that typed documents share, and the way from a decoded value to a strict struct.

Every pattern is closed with `\Z`: `$` also matches before a final line break.
"""

from typing import Annotated, Any, TypeVar

import msgspec

from app.core.documents.misfit import flaw_of
from app.core.documents.strict_json import NUMBER_MAX
from app.errors import Flaw

T = TypeVar("T")

Slug = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?\Z")]
PrincipalName = Slug
"""The principals that API keys can name."""
TargetName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?:/[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)*\Z", max_length=128
    ),
]
Uuid = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]
Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
DigestText = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
InstantText = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z\Z")
]
Key64 = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9+/]{43}=\Z")]
"""32 bytes in standard base64."""
Origin = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9](?:[a-z0-9./-]{0,253}[a-z0-9])?\Z")]
"""The log's name: a host and a path, without a scheme."""
Count = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
Version = Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version of a governed document, by number and by content."""

    version: Version
    digest: DigestText


class Misshapen(Exception):
    """A value has not the shape it should have; carries where and why."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.message)
        self.flaw = flaw


def convert(value: Any, kind: type[T]) -> T:
    """Return the struct of a decoded value.

    Raises:
        Misshapen: with the first flaw and its JSON pointer.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Misshapen(flaw_of(error)) from None


def plain(struct: msgspec.Struct) -> dict[str, Any]:
    """Return a struct as plain JSON values, as if it had just been decoded: arrays are lists."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(struct))
    return document
