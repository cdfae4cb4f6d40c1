"""The documented numbers live twice on purpose; here the two places are held together before any run does it."""

import pytest

from app.settings.environment import ServiceEnvironment
from slo import expectations, profiles

FM06 = expectations.load("FM06", profiles.load("documented"))
FM01 = expectations.load("FM01", profiles.load("documented"))


@pytest.mark.parametrize(
    ("ours", "setting"),
    [
        ("backoff_initial_seconds", "database_backoff_initial_seconds"),
        ("backoff_cap_seconds", "database_backoff_max_seconds"),
        ("pool_connections_min", "pool_connections_min"),
        ("breaker_failures", "breaker_failures"),
        ("waiting_room_waiters_max", "waiting_room_waiters_max"),
        ("waiting_room_wait_seconds", "waiting_room_wait_seconds"),
        ("request_deadline_seconds", "request_deadline_seconds"),
    ],
)
def test_the_services_default_is_what_fm01_is_held_to(ours: str, setting: str) -> None:
    assert FM01[ours] == ServiceEnvironment.model_fields[setting].default


@pytest.mark.parametrize(
    ("ours", "setting"),
    [
        ("rate_per_minute", "rate_limit_per_minute"),
        ("burst", "rate_limit_burst"),
        ("rate_per_minute", "rate_limit_address_per_minute"),
        ("burst", "rate_limit_address_burst"),
    ],
)
def test_the_services_default_is_what_fm06_is_held_to(ours: str, setting: str) -> None:
    assert FM06[ours] == ServiceEnvironment.model_fields[setting].default


@pytest.mark.parametrize("name", profiles.names())
def test_a_profile_overrides_only_settings_that_exist(name: str) -> None:
    prefix = ServiceEnvironment.model_config.get("env_prefix", "")
    settings = {f"{prefix}{field}".upper() for field in ServiceEnvironment.model_fields}

    assert set(profiles.load(name).service) <= settings
