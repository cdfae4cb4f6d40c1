"""FM05: tokens that were good and have expired. Here the traffic is the fault, and nobody is paged for it.

- ``expired_tokens``: tokens that expired between 11 and 12 seconds ago, beside others that did 8 to 9 seconds ago;
- ``expired_and_forged``: expired tokens that somebody else signed: they are refused like any other bad credential.

Both stay below a tenth of all requests: above it refusals of any kind are failure mode 12. A replica with a wrong clock
cannot be made here (there is one clock for all, and nobody sets a host's): tests/integration/service shows it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chaos.checks import proposals
from chaos.checks.availability import client_and_proxy_agree, generator_kept_up
from chaos.checks.credentials import (
    answered_with,
    expired_says_so,
    first_refused,
    others_are_served,
    refused_at_once,
    within_tolerance_is_served,
)
from chaos.checks.detection import counter_increases, first_increase
from chaos.checks.findings import WindowCheck, all_of, bound
from chaos.checks.recovery import nothing_restarts, recovered_since_undo, runbook_step_ran, steady_again
from chaos.checks.secrets import no_secret_anywhere
from chaos.faults.traffic import OnlyTraffic
from chaos.scenario import Check, ExpectedAlerts, Injection, Load, Scenario, ScenarioClocks, Stream

_VERIFICATION = 0
_HOLD = {"fast": 11.0, "documented": 60.0}
_EXPIRED_COUNTER = 'firewall_auth_attempts_total{status="expired"}'
_OLD, _YOUNG, _FORGED = "expired", "just expired", "expired and forged"

_LOAD = Load(proposals_per_second=2.0, reads_per_second=45.0, retry_share=0.0)  # each proposal is simulated
_EXPIRED_LOAD = replace(  # refused: 3.5 of 51.5, 7 %; each replica sees several a second
    _LOAD,
    streams=(
        Stream(_OLD, "expired_token", 3.5, {"seconds_ago": 12.0}),
        Stream(_YOUNG, "expired_token", 1.0, {"seconds_ago": 9.0}),
    ),
)
_FORGED_LOAD = replace(_LOAD, streams=(Stream(_FORGED, "invalid_token", 3.5, {"causes": ["expired_and_forged"]}),))

_INJECTIONS = (
    Injection("expired_tokens", OnlyTraffic(per_second_min=1.5), _HOLD, load=_EXPIRED_LOAD, alerts=ExpectedAlerts()),
    Injection("expired_and_forged", OnlyTraffic(per_second_min=1.5), _HOLD, judged_by_clocks=False, load=_FORGED_LOAD),
)
_EXPIRED, _FORGERY = ("expired_tokens",), ("expired_and_forged",)

Expectations = Mapping[str, Any]


def _says_so(expected: Expectations) -> WindowCheck:
    return expired_says_so({_OLD}, code=expected["expired_code"], words=expected["expired_words"])


_CHECKS: dict[str, Check] = {
    # 401 Unauthorized with "token expired" message
    "FM05.D1": bound(_says_so, _EXPIRED),
    # `AUTH_ATTEMPTS` metric labeled as "expired"
    "FM05.D2": bound(
        lambda expected: counter_increases(_EXPIRED_COUNTER, within_seconds=expected["metric_seconds"]), _EXPIRED
    ),
    # Token expiry checked before processing
    "FM05.M1": bound(lambda expected: refused_at_once({_OLD}, answer_seconds=expected["answer_seconds"]), _EXPIRED),
    # Clock skew tolerance: 10 seconds
    "FM05.M2": bound(
        lambda expected: all_of(
            within=within_tolerance_is_served({_YOUNG}, skew_seconds=expected["skew_seconds"]),
            beyond=answered_with({_OLD}, statuses={expected["expired_status"]}),
        ),
        _EXPIRED,
    ),
    # Clear error message for client
    "FM05.M3": bound(_says_so, _EXPIRED),
    # Client fixes: Request new token
    "FM05.R1": bound(
        lambda expected: all_of(
            runbook=runbook_step_ran(1), steady=steady_again(within_seconds=expected["recover_seconds"])
        ),
        _EXPIRED,
    ),
    # Manual: Verify system clocks in sync (NTP)
    "FM05.R2": bound(lambda _: runbook_step_ran(2), _EXPIRED),
}

_INVARIANTS: dict[str, Check] = {
    "I1 no acknowledged proposal lost": proposals.no_acknowledged_proposal_lost,
    "I2 no ghost or altered proposal": proposals.no_ghost_or_altered_proposal,
    "I15 no secret anywhere": no_secret_anywhere,
    "a forged token learns nothing": bound(
        lambda expected: answered_with(
            {_FORGED}, statuses={expected["expired_status"]}, codes={expected["generic_code"]}
        ),
        _FORGERY,
    ),
    "others are served": bound(
        lambda expected: others_are_served(p99_seconds=expected["steady_p99_seconds"]), (*_EXPIRED, *_FORGERY)
    ),
    "nothing restarts": bound(lambda _: nothing_restarts(), (*_EXPIRED, *_FORGERY)),
    "the runbook's verification": bound(lambda _: runbook_step_ran(_VERIFICATION), _EXPIRED),
    "clients and proxy agree": client_and_proxy_agree(),
    "load generator kept up": generator_kept_up(),
}

SCENARIO = Scenario(
    failure_mode="FM05",
    slug="fm05_jwt_token_expiration",
    injections=_INJECTIONS,
    checks=_CHECKS,
    invariants=_INVARIANTS,
    rests_on={
        **dict.fromkeys(_CHECKS, _EXPIRED),
        "a forged token learns nothing": _FORGERY,
        "the runbook's verification": _EXPIRED,
    },
    clocks=ScenarioClocks(
        detect=lambda case, window: first_increase(case, window, _EXPIRED_COUNTER),
        mitigate=lambda case, window: first_refused(case, window, {_OLD}),
        recover=recovered_since_undo,
    ),
    load=_LOAD,
    alert=None,
)
