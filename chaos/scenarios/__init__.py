"""The scenarios that exist, by failure mode. One module a mode, named by its slug."""

from collections.abc import Iterable, Mapping

from chaos.scenario import Scenario
from chaos.scenarios import (
    fm01_database_connection_failure,
    fm04_invalid_authentication_credentials,
    fm05_jwt_token_expiration,
    fm06_rate_limit_exceeded,
    fm12_high_error_rate_non_5xx,
    fm16_invalid_configuration,
)

SCENARIOS: Mapping[str, Scenario] = {
    scenario.failure_mode: scenario
    for scenario in (
        fm01_database_connection_failure.SCENARIO,
        fm04_invalid_authentication_credentials.SCENARIO,
        fm05_jwt_token_expiration.SCENARIO,
        fm06_rate_limit_exceeded.SCENARIO,
        fm12_high_error_rate_non_5xx.SCENARIO,
        fm16_invalid_configuration.SCENARIO,
    )
}


class UnknownScenarioError(ValueError):
    """A name that stands for no scenario; the message lists those that exist."""


def select(names: Iterable[str]) -> tuple[Scenario, ...]:
    """Return the scenarios named ("fm01", "1", or the slug; case does not matter); of no names, all of them.

    Raises ``UnknownScenarioError``.
    """
    wanted = [_named(name) for name in names]
    chosen = {scenario.failure_mode: scenario for scenario in (wanted or SCENARIOS.values())}
    return tuple(chosen.values())


def _named(name: str) -> Scenario:
    plain = name.strip().lower()
    for scenario in SCENARIOS.values():
        mode = scenario.failure_mode.lower()
        if plain in {mode, scenario.slug, mode.removeprefix("fm"), mode.removeprefix("fm").lstrip("0")}:
            return scenario
    known = ", ".join(f"{scenario.failure_mode.lower()} ({scenario.slug})" for scenario in SCENARIOS.values())
    raise UnknownScenarioError(f"no scenario {name!r}; there is {known}")
