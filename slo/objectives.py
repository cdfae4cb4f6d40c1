"""What the service promises over 30 days, as ``objectives.yaml`` says it."""

from functools import cache

import msgspec

from slo.files import SPECIFICATION, InvalidSpecificationError, read

_SECONDS_PER_DAY = 86_400


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One promise: the share of valid events that must be good. ``bad`` and ``valid`` say what is counted."""

    objective: float
    bad: str
    valid: str
    threshold_seconds: float | None = None

    @property
    def allowed_share(self) -> float:
        """The share of valid events that may be bad; 0 is an invariant, which has no budget."""
        return 1 - self.objective


class BurnRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Multiples of the rate that just spends the budget within the window."""

    page: float
    ticket: float


class Objectives(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of ``objectives.yaml``."""

    window_days: int
    objectives: dict[str, Objective]
    burn_rates: BurnRates

    @property
    def window_seconds(self) -> int:
        """The window all budgets are counted over."""
        return self.window_days * _SECONDS_PER_DAY

    def named(self, name: str) -> Objective:
        """Return one objective.

        Raises:
            InvalidSpecificationError: there is none of that name.
        """
        if name not in self.objectives:
            raise InvalidSpecificationError(f"no objective {name!r}; there are: {', '.join(self.objectives)}")
        return self.objectives[name]


@cache
def load() -> Objectives:
    """Return the objectives.

    Raises:
        InvalidSpecificationError: one of them is no share.
    """
    objectives = read(SPECIFICATION / "objectives.yaml", Objectives)
    for name, one in objectives.objectives.items():
        if not 0 < one.objective <= 1:
            raise InvalidSpecificationError(f"objective {name}: {one.objective} is not between 0 and 1")
    return objectives
