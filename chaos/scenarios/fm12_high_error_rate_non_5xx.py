"""FM12: a growing share of requests is refused, and nothing is broken.

Two ways to get there, and two that only look like it:

- ``breaking_release``: our own new version demands a field that no client sends; the runbook rolls it back;
- ``old_version_clients``: all clients of an older API version come back and are refused, each for the same field;
- ``one_bad_client``: one of a hundred clients tries addresses, louder than all others: nobody is woken;
- ``few_refusals``: bodies wrong in every way there is, from every client, just below the tenth: nobody is woken.

The background comes from a hundred principals, so that it matters how many of them are refused.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chaos.checks import proposals
from chaos.checks.availability import budget_is_kept, client_and_proxy_agree, generator_kept_up
from chaos.checks.client_errors import (
    description_is_of_what_runs,
    first_clear_refusal,
    it_was_the_noise_it_claims,
    refusals_are_clear,
    refusals_are_logged,
    series_stay_as_they_are,
    share_is_seen,
)
from chaos.checks.detection import alert_fires, alert_is_delivered, first_active
from chaos.checks.findings import all_of, bound
from chaos.checks.listeners import only_known_listeners
from chaos.checks.recovery import recovered_after, runbook_step_ran, steady_again
from chaos.checks.secrets import no_secret_anywhere
from chaos.faults.release import BreakingRelease
from chaos.faults.traffic import OnlyTraffic
from chaos.probes.client_errors import look_at_counters, look_at_descriptions
from chaos.probes.listeners import look_at_listeners
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

if TYPE_CHECKING:
    from compose.stack import StackSpec

_ALERT = "HighClientErrorRate"
_VERIFICATION = 0
_CLIENTS = 100
_DIAGNOSIS = frozenset({1, 2})
_INCLUDING_ROLLBACK = frozenset({1, 2, 4})
# Fast: a share fills a tenth of the 5 s window within a second or two, `for` is 3 s. A rollout reaches half of the
# clients when its first replica is checked twice. Documented: 8.2 minutes.
_HOLD = {"fast": 9.0, "documented": 500.0}
_HOLD_RELEASE = {"fast": 12.0, "documented": 510.0}
_HOLD_QUIET = {"fast": 11.0, "documented": 620.0}

# Few proposals: one in a hundred uses its key again and is refused, rightly.
_LOAD = Load(proposals_per_second=2.0, reads_per_second=20.0, retry_share=0.2)
# What a release breaks is proposals: most of what is asked for while it is rolled out.
_PROPOSALS = Load(proposals_per_second=14.0, reads_per_second=8.0, retry_share=0.2)
_OLD_VERSION = Stream("old_version", "misshapen_proposal", 12.0, {"causes": ["old_version"], "clients": 40})
_SCAN = Stream("scan", "unknown_path", 12.0)
_EVERY_FLAW = Stream("every_flaw", "misshapen_proposal", 1.8)
_SILENT = ExpectedAlerts()

_RELEASE = ("breaking_release",)
_FIRING = ("breaking_release", "old_version_clients")
_ALL = (*_FIRING, "one_bad_client", "few_refusals")

_INJECTIONS = (
    Injection(
        "breaking_release",
        BreakingRelease(),
        _HOLD_RELEASE,
        undone_by_runbook=True,
        runbook_steps=_INCLUDING_ROLLBACK,
        load=_PROPOSALS,
    ),
    Injection(
        "old_version_clients",
        OnlyTraffic(per_second_min=8.0),
        _HOLD,
        runbook_steps=_DIAGNOSIS,
        load=replace(_LOAD, streams=(_OLD_VERSION,)),
    ),
    Injection(
        "one_bad_client",
        OnlyTraffic(per_second_min=8.0),
        _HOLD_QUIET,
        judged_by_clocks=False,
        load=replace(_LOAD, streams=(_SCAN,)),
        alerts=_SILENT,
    ),
    Injection(
        "few_refusals",
        OnlyTraffic(per_second_min=1.0),
        _HOLD_QUIET,
        judged_by_clocks=False,
        load=replace(_LOAD, streams=(_EVERY_FLAW,)),
        alerts=_SILENT,
    ),
)

Expectations = Mapping[str, Any]


def _many_clients(spec: "StackSpec") -> "StackSpec":
    # All of them come from one address, and new replicas know none of their keys: that limit is mode 6's matter.
    limits = {f"FIREWALL_RATE_LIMIT_{name}": "60000" for name in ("PER_MINUTE", "BURST", "ADDRESS_PER_MINUTE")}
    settings = {**spec.settings, **limits, "FIREWALL_RATE_LIMIT_ADDRESS_BURST": "60000"}
    return replace(spec, clients=_CLIENTS, settings=settings)


_CHECKS: dict[str, Check] = {
    # `REQUEST_COUNT` shows high 4xx rate
    "FM12.D1": bound(
        lambda expected: share_is_seen(above=expected["client_error_share"], within_seconds=expected["detect_seconds"]),
        _FIRING,
    ),
    # Alert: `HighClientErrorRate` (> 10%)
    "FM12.D2": bound(
        lambda expected: all_of(
            active=alert_fires(_ALERT, within_seconds=expected["detect_seconds"]),
            delivered=alert_is_delivered(_ALERT, within_seconds=2 * expected["detect_seconds"]),
        ),
        _FIRING,
    ),
    # Errors logged with request details
    "FM12.M1": bound(lambda expected: refusals_are_logged(refusals_min=expected["refusals_min"]), _ALL),
    # Validation errors provide clear messages
    "FM12.M2": bound(lambda expected: refusals_are_clear(causes_min=expected["causes_min"]), ("few_refusals",)),
    # API documentation updated
    "FM12.M3": bound(lambda expected: description_is_of_what_runs(answers_min=expected["answers_min"]), _ALL),
    # Manual: Analyze error patterns
    "FM12.R1": bound(lambda _: runbook_step_ran(1), _FIRING),
    # Manual: Check if API changes broke clients
    "FM12.R2": bound(lambda _: runbook_step_ran(2), _FIRING),
    # Rollback: Restore old API version if breaking change
    "FM12.R4": bound(
        lambda expected: all_of(
            runbook=runbook_step_ran(4), steady=steady_again(within_seconds=expected["recover_seconds"])
        ),
        _RELEASE,
    ),
}

_INVARIANTS: dict[str, Check] = {
    "I1 no acknowledged proposal lost": proposals.no_acknowledged_proposal_lost,
    "I2 no ghost or altered proposal": proposals.no_ghost_or_altered_proposal,
    "I7 retries are idempotent": proposals.retries_are_idempotent,
    "I15 no secret anywhere": no_secret_anywhere,
    "a loud client was loud": bound(
        lambda expected: it_was_the_noise_it_claims(above=2 * expected["client_error_share"], below=1.0, clients=1),
        ("one_bad_client",),
    ),
    "few refusals were just below the threshold": bound(
        lambda expected: it_was_the_noise_it_claims(
            above=expected["client_error_share"] / 2, below=expected["client_error_share"]
        ),
        ("few_refusals",),
    ),
    "addresses make no series": bound(
        lambda expected: series_stay_as_they_are(requests_min=expected["addresses_min"]), ("one_bad_client",)
    ),
    "nothing listens that is not in the list": only_known_listeners,
    "the runbook's verification": bound(lambda _: runbook_step_ran(_VERIFICATION), _FIRING),
    "error budget": bound(
        lambda expected: budget_is_kept(share_max=expected["budget_share_max"], requests_min=100), _ALL
    ),
    "clients and proxy agree": client_and_proxy_agree(),
    "load generator kept up": generator_kept_up(),
}

SCENARIO = Scenario(
    failure_mode="FM12",
    slug="fm12_high_error_rate_non_5xx",
    injections=_INJECTIONS,
    checks=_CHECKS,
    invariants=_INVARIANTS,
    rests_on={
        "FM12.D1": _FIRING,
        "FM12.D2": _FIRING,
        "FM12.M2": ("few_refusals",),
        "FM12.R1": _FIRING,
        "FM12.R2": _FIRING,
        "FM12.R4": _RELEASE,
        "a loud client was loud": ("one_bad_client",),
        "few refusals were just below the threshold": ("few_refusals",),
        "addresses make no series": ("one_bad_client",),
        "the runbook's verification": _FIRING,
    },
    clocks=ScenarioClocks(
        detect=lambda case, window: first_active(case, window, _ALERT),
        mitigate=first_clear_refusal,
        recover=recovered_after,
    ),
    load=_LOAD,
    alert=_ALERT,
    probes=(
        Probe("client_errors", 1.0, look_at_counters),
        Probe("descriptions", 3.0, look_at_descriptions),
        Probe("listeners", 5.0, look_at_listeners),
    ),
    stack=_many_clients,
)
