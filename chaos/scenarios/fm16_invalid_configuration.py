"""FM16: a rolling update to a configuration that is wrong.

Two that fail differently, each rolled out to a new replica while the old ones serve:

- ``wrong_settings``: wrong alone. A type, a range, a misspelt name, a required one left out, a secret file that is
  blank, a secret pasted where a number belongs: all must be named at once;
- ``contradictory_timeouts``: each right alone, wrong together. Only the last part of the validation can see it.

Both are also given to a replica of a staging environment, with a database of its own, which no client's request
reaches: its alert goes to the team alone, and it starts with the repaired configuration before production does.

There is none below detection: one refused start is already wrong, and the alert's own threshold (two ends) is shown by
its cases.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chaos.checks import proposals
from chaos.checks.availability import budget_is_kept, client_and_proxy_agree, generator_kept_up
from chaos.checks.configuration import (
    MISSING,
    STAGING,
    defaults_are_sensible,
    ends_with,
    fails_fast,
    log_keeps_to_lines,
    never_serves,
    refused_after,
    settings_are_refused,
    staging_starts_first,
    starts_after_repair,
)
from chaos.checks.detection import alert_fires, alert_goes_only_to, alert_is_delivered, first_active
from chaos.checks.findings import WindowCheck, all_of, bound
from chaos.checks.log import log_is_append_only
from chaos.checks.recovery import nothing_restarts, recovered_after, runbook_step_ran, stays_alive, steady_again
from chaos.checks.secrets import no_secret_anywhere
from chaos.faults.configuration import InvalidConfiguration
from chaos.scenario import Check, Injection, Load, Probe, Scenario, ScenarioClocks

if TYPE_CHECKING:
    from compose.stack import Stack, StackSpec

_ALERT = "ServiceNotStarting"
_PRODUCTION = "production"
_VERIFICATION = 0
_PASTED = "fm16-pasted-5f2c-where-a-port-belongs"  # stands for a secret: no log may show it
_WELL_KNOWN = "changeme"
_SETTINGS_EVERY_SECONDS = 10.0
# The alert may need 10 s (fast) or 150 s (documented).
_HOLD = {"fast": 11.0, "documented": 160.0}

_WRONG_TYPES: dict[str, str] = {
    "FIREWALL_POOL_CONNECTIONS_MAX": "many",
    "FIREWALL_QUERY_TIMEOUT_SECONDS": "30s",
    "FIREWALL_DATABASE_PORT": _PASTED,
}
_OTHERWISE_WRONG: dict[str, str] = {
    "FIREWALL_POOL_WAIT_SECONDS": "-1",
    "FIREWALL_BREAKER_FALURES": "5",
}
_REQUIRED = "FIREWALL_DATABASE_HOST"
_BLANK, _DEFAULTED = "FIREWALL_API_KEY_PEPPER_FILE", "FIREWALL_DATABASE_PASSWORD_FILE"
_CONTRADICTION = {"FIREWALL_REQUEST_DEADLINE_SECONDS": "1"}
_CONTRADICTED = (
    "FIREWALL_LOCK_TIMEOUT_SECONDS",
    "FIREWALL_POOL_WAIT_SECONDS",
    "FIREWALL_WAITING_ROOM_WAIT_SECONDS",
)
_NAMED: dict[str, dict[str, str | None]] = {
    "wrong_settings": dict.fromkeys((*_WRONG_TYPES, *_OTHERWISE_WRONG, _REQUIRED, _BLANK, _DEFAULTED)),
    "contradictory_timeouts": dict.fromkeys(_CONTRADICTED),
}
_WRONG, _TOGETHER = ("wrong_settings",), ("contradictory_timeouts",)
_ALL = (*_WRONG, *_TOGETHER)

_INJECTIONS = (
    Injection(
        "wrong_settings",
        InvalidConfiguration(
            values={**_WRONG_TYPES, **_OTHERWISE_WRONG},
            missing=(_REQUIRED,),
            secrets={_BLANK: " \n", _DEFAULTED: _WELL_KNOWN},
            in_staging=True,
        ),
        _HOLD,
        undone_by_runbook=True,
    ),
    Injection(
        "contradictory_timeouts",
        InvalidConfiguration(values=_CONTRADICTION, in_staging=True),
        _HOLD,
        undone_by_runbook=True,
    ),
)

Expectations = Mapping[str, Any]


async def _effective_settings(stack: "Stack") -> dict[str, Any]:
    """Let the service say what it makes of the configuration of a new replica, secrets left out."""
    trial = await stack.replicas.try_configuration()
    settings = json.loads(trial.output) if trial.exit_code == 0 else None
    return {"exit_code": trial.exit_code, "settings": settings}


def _with_staging(spec: "StackSpec") -> "StackSpec":
    return replace(spec, staging=True)


def _bound(check: Callable[[Expectations], WindowCheck], only: tuple[str, ...] = _ALL) -> Check:
    return bound(check, only)


def _problems_are_logged(expected: Expectations) -> WindowCheck:
    by_injection = {
        name: all_of(
            names=settings_are_refused(problems, within_seconds=expected["detect_seconds"]),
            lines=log_keeps_to_lines(never=(_PASTED, _WELL_KNOWN)),
        )
        for name, problems in _NAMED.items()
    }
    return lambda case, window: by_injection[window.injection](case, window)


def _refused(problems: Mapping[str, str | None]) -> Callable[[Expectations], WindowCheck]:
    return lambda expected: settings_are_refused(problems, within_seconds=expected["detect_seconds"])


_CHECKS: dict[str, Check] = {
    # Startup validation fails
    "FM16.D1": _bound(
        lambda expected: ends_with(exit_code=expected["exit_code"], ends_min=expected["ends_min"]),
    ),
    # Service refuses to start
    "FM16.D2": _bound(lambda _: never_serves()),
    # Error in logs
    "FM16.D3": _bound(_problems_are_logged),
    # Alert: `ServiceNotStarting`
    "FM16.D4": _bound(
        lambda expected: all_of(
            active=alert_fires(_ALERT, within_seconds=expected["detect_seconds"], env=_PRODUCTION),
            delivered=alert_is_delivered(_ALERT, within_seconds=2 * expected["detect_seconds"], env=_PRODUCTION),
        )
    ),
    # Configuration validated on startup (fail-fast)
    "FM16.M1": _bound(
        lambda expected: fails_fast(exit_code=expected["exit_code"], within_seconds=expected["exit_seconds"])
    ),
    # Type checking via Pydantic
    "FM16.M2": _bound(_refused(dict.fromkeys(_WRONG_TYPES)), _WRONG),
    # Required fields enforced
    "FM16.M3": _bound(_refused({_REQUIRED: MISSING}), _WRONG),
    # Sensible defaults where safe
    "FM16.M4": _bound(
        lambda expected: defaults_are_sensible(
            defaults=expected["defaults"], never_defaulted=expected["never_defaulted"]
        )
    ),
    # Manual: Fix configuration in ConfigMap/Secret
    "FM16.R1": _bound(
        lambda expected: all_of(
            runbook=runbook_step_ran(1), steady=steady_again(within_seconds=expected["recover_seconds"])
        )
    ),
    # Manual: Restart pods
    "FM16.R2": _bound(lambda _: all_of(runbook=runbook_step_ran(2), started=starts_after_repair())),
    # Manual: Verify with staging environment first
    "FM16.R3": _bound(lambda _: all_of(runbook=runbook_step_ran(3), staging=staging_starts_first())),
}

_INVARIANTS: dict[str, Check] = {
    "I1 no acknowledged proposal lost": proposals.no_acknowledged_proposal_lost,
    "I2 no ghost or altered proposal": proposals.no_ghost_or_altered_proposal,
    "I7 retries are idempotent": proposals.retries_are_idempotent,
    "I8 the log only grows": log_is_append_only,
    "I15 no secret anywhere": no_secret_anywhere,
    # The document says it of the SLO: "None if caught in lower env".
    "staging wakes nobody": _bound(
        lambda expected: alert_goes_only_to("team", _ALERT, env=STAGING, within_seconds=2 * expected["detect_seconds"])
    ),
    "the old replicas keep serving": _bound(lambda _: all_of(alive=stays_alive(), same_process=nothing_restarts())),
    "the runbook's verification": _bound(lambda _: runbook_step_ran(_VERIFICATION)),
    "error budget": _bound(lambda expected: budget_is_kept(share_max=expected["budget_share_max"], requests_min=100)),
    "clients and proxy agree": client_and_proxy_agree(),
    "load generator kept up": generator_kept_up(),
}

SCENARIO = Scenario(
    failure_mode="FM16",
    slug="fm16_invalid_configuration",
    injections=_INJECTIONS,
    checks=_CHECKS,
    invariants=_INVARIANTS,
    rests_on={"FM16.M2": _WRONG, "FM16.M3": _WRONG},
    clocks=ScenarioClocks(
        detect=lambda case, window: first_active(case, window, _ALERT, env=_PRODUCTION),
        mitigate=refused_after,
        recover=recovered_after,
    ),
    stack=_with_staging,
    load=Load(proposals_per_second=6.0, reads_per_second=6.0),
    alert=_ALERT,
    probes=(Probe("settings", _SETTINGS_EVERY_SECONDS, _effective_settings),),
)
