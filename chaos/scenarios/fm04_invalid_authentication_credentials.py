"""FM04: requests with invalid API keys or tokens. Here the traffic is the fault.

- ``just_below``: eight in a hundred requests are bad; that is an ordinary day, nobody is paged;
- ``bad_credentials``: a third of all requests, nine causes in turns, half of them API keys, half tokens;
- ``brute_force``: one address guesses faster than a bucket refills; the rest of its guesses is not even looked at;
- ``key_store_gone``: the database is away: a key that nobody remembers gets 503, never 401 or 200, and a key that was
  good lately goes on being known.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chaos.checks import proposals
from chaos.checks.availability import client_and_proxy_agree, generator_kept_up
from chaos.checks.credentials import (
    answered_with,
    answers_are_alike,
    every_cause_is_tried,
    first_refused,
    guessing_is_limited,
    key_stays_known,
    others_are_served,
    refused_at_once,
)
from chaos.checks.detection import alert_fires, alert_is_delivered, counter_increases, first_active, log_event_appears
from chaos.checks.findings import WindowCheck, all_of, bound
from chaos.checks.recovery import nothing_restarts, recovered_since_undo, runbook_step_ran, steady_again
from chaos.checks.secrets import no_secret_anywhere
from chaos.faults.proxies import ProxyDown
from chaos.faults.traffic import OnlyTraffic
from chaos.probes.known_key import KNOWN_KEY, look_with_a_known_key
from chaos.scenario import (
    Check,
    ExpectedAlerts,
    Injection,
    Load,
    Probe,
    Scenario,
    ScenarioClocks,
    Stream,
)
from chaos.streams.credentials import KEY_CAUSES
from chaos.streams.tokens import TOKEN_CAUSES

if TYPE_CHECKING:
    from compose.stack import StackSpec

_ALERT = "HighAuthFailureRate"
_SYMPTOMS = frozenset({"HighClientErrorRate"})
_OUTAGE = ExpectedAlerts(
    firing=frozenset({"DatabaseConnectionDown"}),
    suppressed=frozenset(
        {
            "HighServerErrorRate",
            "FirewallAvailabilityBurnFast",
            "FirewallAvailabilityBurnSlow",
            "DatabaseSlowQueries",
            "ServiceNetworkFailure",
        }
    ),
)
# Most guesses get 429: those are client errors that no rate of bad credentials explains.
_GUESSED = ExpectedAlerts(firing=frozenset({_ALERT}), co_alerts=_SYMPTOMS | {"HighRateLimitRejections"})
_VERIFICATION = 0
_STEPS = frozenset({1, 2, 3, 4})
_HOLD = {"fast": 11.0, "documented": 300.0}
_HOLD_BRUTE = {"fast": 8.0, "documented": 60.0}
_HOLD_BELOW = {"fast": 9.0, "documented": 320.0}

_LOAD = Load(proposals_per_second=2.0, reads_per_second=12.0, retry_share=0.0)  # each proposal is simulated
_KEYS, _TOKENS, _GUESSES, _STRANGERS = "bad keys", "bad tokens", "guesses", "strangers"
_BAD = (_KEYS, _TOKENS)


def _bad(keys: float, tokens: float) -> Load:
    return replace(
        _LOAD,
        streams=(
            Stream(_KEYS, "invalid_key", keys),
            Stream(_TOKENS, "invalid_token", tokens),
        ),
    )


_BELOW_LOAD = _bad(0.5, 0.5)  # of 15: 7 %
_BAD_LOAD = _bad(3.5, 3.5)  # of 21: a third
_BRUTE_LOAD = replace(_LOAD, streams=(Stream(_GUESSES, "invalid_key", 60.0, {"causes": ["unknown", "wrong_secret"]}),))
_GONE_LOAD = replace(
    _LOAD,
    streams=(Stream(_STRANGERS, "invalid_key", 2.0, {"causes": ["unknown", "wrong_secret"]}),),
)

_INJECTIONS = (
    Injection("just_below", OnlyTraffic(per_second_min=0.5), _HOLD_BELOW, judged_by_clocks=False, load=_BELOW_LOAD),
    Injection("bad_credentials", OnlyTraffic(per_second_min=3.0), _HOLD, runbook_steps=_STEPS, load=_BAD_LOAD),
    Injection(
        "brute_force",
        OnlyTraffic(per_second_min=20.0),
        _HOLD_BRUTE,
        judged_by_clocks=False,
        load=_BRUTE_LOAD,
        alerts=_GUESSED,
    ),
    Injection("key_store_gone", ProxyDown(), _HOLD_BRUTE, judged_by_clocks=False, load=_GONE_LOAD, alerts=_OUTAGE),
)
_BELOW, _FAULTS, _BRUTE, _GONE = ("just_below",), ("bad_credentials",), ("brute_force",), ("key_store_gone",)

Expectations = Mapping[str, Any]


def _stack(spec: "StackSpec") -> "StackSpec":
    """Ask the key store each second, so that believing a key without it is shown and not only a short memory."""
    return replace(spec, settings={**spec.settings, "FIREWALL_API_KEY_FRESH_SECONDS": "1"})


def _refused(expected: Expectations) -> WindowCheck:
    return all_of(
        answers=answered_with(
            _BAD, statuses={expected["refused_status"]}, codes={expected["refused_code"]}, answers_min=40
        ),
        causes=every_cause_is_tried(_BAD, (*KEY_CAUSES, *TOKEN_CAUSES)),
    )


_CHECKS: dict[str, Check] = {
    # 401 Unauthorized response
    "FM04.D1": bound(_refused, _FAULTS),
    # `AUTH_ATTEMPTS` metric shows failures
    "FM04.D2": bound(
        lambda expected: counter_increases(
            'firewall_auth_attempts_total{status="invalid"}', within_seconds=expected["metric_seconds"]
        ),
        _FAULTS,
    ),
    # Warning logs with client identifier
    "FM04.D3": bound(
        lambda expected: log_event_appears(
            "authentication_failed",
            within_seconds=expected["metric_seconds"],
            facts={"level": {"warning"}, "code": {expected["refused_code"]}},
        ),
        _FAULTS,
    ),
    # Alert: `HighAuthFailureRate` (if > 10% of requests)
    "FM04.D4": bound(
        lambda expected: all_of(
            active=alert_fires(_ALERT, within_seconds=expected["detect_seconds"]),
            delivered=alert_is_delivered(_ALERT, within_seconds=2 * expected["detect_seconds"]),
        ),
        _FAULTS,
    ),
    # Request immediately rejected (no processing)
    "FM04.M1": bound(lambda expected: refused_at_once(_BAD, answer_seconds=expected["answer_seconds"]), _FAULTS),
    # Rate limiting prevents brute force
    "FM04.M2": bound(
        lambda expected: guessing_is_limited(
            {_GUESSES}, per_minute=expected["address_per_minute"], burst=expected["address_burst"]
        ),
        _BRUTE,
    ),
    # Client IP logged for security analysis
    "FM04.M3": bound(
        lambda expected: log_event_appears(
            "authentication_failed", within_seconds=expected["metric_seconds"], facts={"client_address": {"127.0.0.1"}}
        ),
        _FAULTS,
    ),
    # No sensitive information in error response
    "FM04.M4": bound(lambda _: answers_are_alike(answers_min=40), _FAULTS),
    # Client fixes: Provide valid credentials
    "FM04.R1": bound(
        lambda expected: all_of(
            runbook=runbook_step_ran(1), steady=steady_again(within_seconds=expected["recover_seconds"])
        ),
        _FAULTS,
    ),
    # Manual: Verify API keys in secrets
    "FM04.R2": bound(lambda _: runbook_step_ran(2), _FAULTS),
    # Manual: Check JWT secret configuration
    "FM04.R3": bound(lambda _: runbook_step_ran(3), _FAULTS),
    # Manual: Investigate if coordinated attack
    "FM04.R4": bound(lambda _: runbook_step_ran(4), _FAULTS),
}

_INVARIANTS: dict[str, Check] = {
    "I1 no acknowledged proposal lost": proposals.no_acknowledged_proposal_lost,
    "I2 no ghost or altered proposal": proposals.no_ghost_or_altered_proposal,
    "I15 no secret anywhere": no_secret_anywhere,
    "others are served": bound(
        lambda expected: others_are_served(p99_seconds=expected["steady_p99_seconds"]), (*_BELOW, *_FAULTS, *_BRUTE)
    ),
    "an unknown key is not turned away": bound(
        lambda _: answered_with({_STRANGERS}, statuses={503}, answers_min=5), _GONE
    ),
    "a known key stays known": bound(lambda _: key_stays_known(looks_min=3), _GONE),
    "nothing restarts": bound(lambda _: nothing_restarts(), (*_FAULTS, *_BRUTE, *_GONE)),
    "the runbook's verification": bound(lambda _: runbook_step_ran(_VERIFICATION), _FAULTS),
    "clients and proxy agree": client_and_proxy_agree(),
    "load generator kept up": generator_kept_up(),
}

SCENARIO = Scenario(
    failure_mode="FM04",
    slug="fm04_invalid_authentication_credentials",
    injections=_INJECTIONS,
    checks=_CHECKS,
    invariants=_INVARIANTS,
    rests_on={
        **{f"FM04.{claim}": _FAULTS for claim in ("D1", "D2", "D3", "D4", "M1", "M3", "M4", "R1", "R2", "R3", "R4")},
        "FM04.M2": _BRUTE,
        "others are served": (*_BELOW, *_FAULTS, *_BRUTE),
        "an unknown key is not turned away": _GONE,
        "a known key stays known": _GONE,
        "nothing restarts": (*_FAULTS, *_BRUTE, *_GONE),
        "the runbook's verification": _FAULTS,
    },
    clocks=ScenarioClocks(
        detect=lambda case, window: first_active(case, window, _ALERT),
        mitigate=lambda case, window: first_refused(case, window, _BAD),
        recover=recovered_since_undo,
    ),
    load=_LOAD,
    alert=_ALERT,
    suppressed_alerts=_SYMPTOMS,
    probes=(Probe(KNOWN_KEY, 2.0, look_with_a_known_key),),
    stack=_stack,
)
