"""What each failure mode is held to: bounds of the three clocks, documented constants, budget caps.

The engine writes them into ``environment.json`` at the start of a run; the judge reads them there.
"""

from functools import cache
from typing import Any

import msgspec

from slo import profiles, severity
from slo.files import SPECIFICATION, InvalidSpecificationError, read
from slo.profiles import Profile

_REQUIRED = ("detect_seconds", "mitigate_seconds", "recover_seconds", "budget_share_max")


class _ExpectationText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    failure_mode: str
    alert: str | None
    values: dict[str, Any]


def load(failure_mode: str, profile: Profile) -> dict[str, Any]:
    """Return the numbers of one failure mode ("FM01") under a profile: a flat mapping of JSON values.

    Besides the file's values: ``failure_mode``, ``slug``, ``alert``, ``severity``, ``response_time_seconds``.

    Raises:
        InvalidSpecificationError: the mode has no file, or the file is wrong.
    """
    text = _text(failure_mode)
    mode = severity.failure_mode(failure_mode)
    missing = [key for key in _REQUIRED if key not in text.values]
    if text.failure_mode != failure_mode or missing:
        raise InvalidSpecificationError(f"expectations of {failure_mode}: not its file, or it lacks {missing}")
    return {
        "failure_mode": failure_mode,
        "slug": mode.slug,
        "alert": text.alert,
        "severity": mode.severity,
        "response_time_seconds": severity.meaning(mode.severity).response_seconds,
        **{key: _of_profile(key, value, profile) for key, value in text.values.items()},
    }


def failure_modes() -> tuple[str, ...]:
    """Return the ids of the failure modes that have expectations."""
    return tuple(sorted(path.stem.upper() for path in (SPECIFICATION / "expectations").glob("*.yaml")))


@cache
def _text(failure_mode: str) -> _ExpectationText:
    return read(SPECIFICATION / "expectations" / f"{failure_mode.lower()}.yaml", _ExpectationText)


def _of_profile(key: str, value: Any, profile: Profile) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) != set(profiles.names()):
        raise InvalidSpecificationError(f"{key}: a value by profile names {', '.join(profiles.names())}, no others")
    return value[profile.name]
