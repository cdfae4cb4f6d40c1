"""Every kind of stream the traffic can carry: arrivals of one more sort beside the background (FM04, FM05, FM06, FM12).

A kind is a function that makes one request (``chaos.streams.base.Maker``). A stream is such a kind, a rate and its
parameters; each line of the history that it causes carries its name as ``stream``. A new kind is a function in a module
of this folder and a line in ``KINDS``.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from chaos.scenario import Stream
from chaos.streams import bodies, credentials, paths, rates, tokens
from chaos.streams.base import Maker, Means, Occasion

__all__ = ["KINDS", "Maker", "Means", "Occasion", "UnknownStreamError", "require_known"]

KINDS: Final[Mapping[str, Maker]] = MappingProxyType(
    {
        "invalid_key": credentials.invalid_key,
        "invalid_token": tokens.invalid_token,
        "expired_token": tokens.expired_token,
        "reading_as": rates.reading_as,
        "misshapen_proposal": bodies.misshapen_proposal,
        "unknown_path": paths.unknown_path,
    }
)


class UnknownStreamError(ValueError):
    """A load asks for a kind of stream that nobody has built."""


def require_known(streams: Iterable[Stream]) -> None:
    """Refuse kinds that do not exist.

    Raises:
        UnknownStreamError: with their names.
    """
    unknown = sorted({one.kind for one in streams} - set(KINDS))
    if unknown:
        raise UnknownStreamError(f"traffic knows no stream of kind {', '.join(unknown)}")
