"""Settings, read once at start, all problems reported at once (FM16).

`load` turns the environment into narrow frozen structs; nothing else in the service reads the environment or knows
pydantic. `environment` lists the settings, `kinds` what they accept, `contradictions` what they must not be together,
`policies` is what the other parts of the service are given. `python -m app.settings` shows what is in force.
"""

from typing import Final

from app.settings.environment import NAMES, PREFIX
from app.settings.kinds import read_token_keys
from app.settings.policies import (
    DatabaseAddress,
    DatabasePolicy,
    DeliveryPolicy,
    Environment,
    HttpPolicy,
    KeyCreationSettings,
    KeyPolicy,
    LogPolicy,
    LogRecoverySettings,
    MigratorSettings,
    RateLimit,
    RateLimitPolicy,
    Secret,
    ServerPolicy,
    Settings,
    TokenPolicy,
    ValkeyAddress,
    ValkeyPolicy,
    WorkerPolicy,
)
from app.settings.reading import load, load_key_creation, load_log_recovery, load_migrator, process_environment

__all__ = [
    "EXIT_INVALID_SETTINGS",
    "NAMES",
    "PREFIX",
    "DatabaseAddress",
    "DatabasePolicy",
    "DeliveryPolicy",
    "Environment",
    "HttpPolicy",
    "KeyCreationSettings",
    "KeyPolicy",
    "LogPolicy",
    "LogRecoverySettings",
    "MigratorSettings",
    "RateLimit",
    "RateLimitPolicy",
    "Secret",
    "ServerPolicy",
    "Settings",
    "TokenPolicy",
    "ValkeyAddress",
    "ValkeyPolicy",
    "WorkerPolicy",
    "load",
    "load_key_creation",
    "load_log_recovery",
    "load_migrator",
    "process_environment",
    "read_token_keys",
]

EXIT_INVALID_SETTINGS: Final = 78
"""EX_CONFIG of sysexits.h; a documented exit code (docs/adr/0006)."""
