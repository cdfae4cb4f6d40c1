"""Durations as Prometheus writes them ("1h30m"), and ``${name}`` places where a profile's durations go.

All values are whole milliseconds: every duration of ours is a multiple of one.
"""

import re
from collections.abc import Mapping

from slo.files import InvalidSpecificationError

_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")
_PLACE = re.compile(r"\$\{([^}]*)\}")


def milliseconds(text: str) -> int:
    """Return the length of a Prometheus duration.

    Raises:
        InvalidSpecificationError: it is not one, or it is empty.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise InvalidSpecificationError(f"{text!r} is not a duration")
    return sum(int(count or 0) * size for count, size in zip(match.groups(), _UNITS_MS.values(), strict=True))


def text(length_ms: int) -> str:
    """Write a length the shortest way Prometheus reads: 390000 is "6m30s"."""
    if length_ms == 0:
        return "0s"
    parts = []
    for unit, size in _UNITS_MS.items():
        count, length_ms = divmod(length_ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def places(template: str) -> tuple[str, ...]:
    """Return the names between ``${`` and ``}``, in order."""
    return tuple(_PLACE.findall(template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put the named durations into a template.

    Raises:
        InvalidSpecificationError: a name is unknown.
    """
    unknown = [name for name in places(template) if name not in values]
    if unknown:
        raise InvalidSpecificationError(f"unknown duration ${{{unknown[0]}}} in {template.strip()!r}")
    return _PLACE.sub(lambda match: values[match[1]], template)


def length(expression: str, values: Mapping[str, str]) -> int:
    """Return the milliseconds of a sum such as ``${for_high} + ${window} - 2 ${scrape}``.

    A term is an optional whole factor and one named duration; literal lengths are refused, because they would
    not follow the profile.

    Raises:
        InvalidSpecificationError: the sum cannot be read or names an unknown duration.
    """
    total = 0
    rest = expression.strip()
    term = re.compile(r"([+-]?)\s*(?:(\d+)\s*)?\$\{([^}]*)\}\s*")
    if rest == "0":
        return 0
    while rest:
        match = term.match(rest)
        if match is None:
            raise InvalidSpecificationError(f"{expression!r} is not a sum of named durations")
        sign, factor, name = match.groups()
        value = milliseconds(fill(f"${{{name}}}", values)) * int(factor or 1)
        total += -value if sign == "-" else value
        rest = rest[match.end() :]
    return total
