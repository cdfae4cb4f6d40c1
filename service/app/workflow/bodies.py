"""Bodies of requests: decoded strictly, large ones beside the event loop."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from app.core.documents import canonical, strict_json
from app.core.governed.shapes import Misshapen, convert
from app.errors import InvalidBody

OFF_LOOP_BYTES: Final = 64 * 1024
"""Larger bodies are decoded in a thread: 1 MiB takes some 50 ms, and the loop answers probes (FM08)."""

Body = TypeVar("Body")
Accepted = TypeVar("Accepted")


def body_as(kind: type[Body], body: bytes) -> Body:
    """Return a small body as a strict struct.

    Raises:
        MalformedBody, InvalidBody: it is not one.
    """
    try:
        return convert(strict_json.decode(body).value, kind)
    except Misshapen as error:
        raise InvalidBody([error.flaw]) from None


async def accepted(work: Callable[[bytes], Accepted], body: bytes) -> Accepted:
    """Return what `work` makes of a body."""
    return await asyncio.to_thread(work, body) if len(body) > OFF_LOOP_BYTES else work(body)


def fingerprint(body: bytes) -> str:
    """Return the digest of a small body's canonical bytes: two spellings of one content are one request.

    Raises:
        MalformedBody: it is not acceptable JSON.
    """
    return canonical.digest(canonical.encode(strict_json.decode(body)))
