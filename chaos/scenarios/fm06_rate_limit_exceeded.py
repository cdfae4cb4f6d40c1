"""FM06: a client exceeds its rate limit (250 requests a minute).

Three replicas share the buckets. One principal too often, but too little to matter, and four floods:

- ``a_few_too_many``: less than a twentieth of all requests is refused; nobody is paged;
- ``address_floods``: one address without credentials; known clients behind the same address notice nothing;
- ``valkey_refused``, ``valkey_silent``: a flood while the shared buckets are gone; each replica counts alone;
- ``principal_floods``: one principal at twenty times its limit, and the whole runbook.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chaos.checks import proposals
from chaos.checks.availability import budget_is_kept, client_and_proxy_agree, generator_kept_up
from chaos.checks.detection import (
    alert_fires,
    alert_is_delivered,
    counter_increases,
    first_active,
    log_event_appears,
)
from chaos.checks.findings import WindowCheck, all_of, bound
from chaos.checks.rate_limit import (
    bucket_is_exact,
    nobody_is_paged_for_a_few,
    only_the_flood_is_refused,
    others_are_unharmed,
    refusals_say_when,
    refused_after,
    refused_are_named,
    too_many_are_refused,
)
from chaos.checks.recovery import recovered_after, runbook_step_ran, stays_alive, steady_again
from chaos.checks.secrets import no_secret_anywhere
from chaos.faults.proxies import ProxyDown, SilentProxy
from chaos.faults.traffic import OnlyTraffic
from chaos.scenario import (
    Case,
    Check,
    ExpectedAlerts,
    Finding,
    Injection,
    Load,
    Scenario,
    ScenarioClocks,
    Stream,
    Window,
)

if TYPE_CHECKING:
    from compose.stack import StackSpec

_ALERT = "HighRateLimitRejections"
_REPLICAS = 3
_FLOOD = "flood"
_STREAMS = frozenset({_FLOOD})
_ADDRESS = "127.0.0.1"  # of every client here, as the balancer sees it
_FLOODING = {"valkey_refused": "greedy-1", "valkey_silent": "greedy-2", "principal_floods": "greedy-3"}
_HARNESS = "harness-editor"  # whose limit no load of ours reaches
_NARROW = "narrow"
_NARROW_PER_MINUTE = 6
_PER_SECOND = 80.0
_SOME_PER_SECOND = 40.0  # refused at the front, at least, once a bucket is empty
_DIAGNOSIS = frozenset({3})
# Detection may take 13 s (fast) or 190 s. Traffic bites once the bucket is empty, a proxy that is gone at once.
_HOLD = {"fast": 9.0, "documented": 195.0}
_HOLD_WITHOUT_VALKEY = {"fast": 14.0, "documented": 200.0}
_HOLD_OF_A_FEW = {"fast": 7.0, "documented": 60.0}

_POLITE = Stream("polite", "reading_as", 2.0, {"principal": "polite"})
_LOAD = Load(proposals_per_second=6.0, reads_per_second=4.0, retry_share=0.2, streams=(_POLITE,))


def _with(*streams: Stream) -> Load:
    return replace(_LOAD, streams=(_POLITE, *streams))


def _flood_of(injection: str) -> Load:
    return _with(Stream(_FLOOD, "reading_as", _PER_SECOND, {"principal": _FLOODING[injection]}))


_INJECTIONS = (
    Injection(
        "a_few_too_many",
        # 2.2 a second, of which 2.1 are refused: of 46 requests a second in all, less than one in twenty.
        OnlyTraffic(per_second_min=1.5),
        _HOLD_OF_A_FEW,
        judged_by_clocks=False,
        load=_with(
            Stream("few", "reading_as", 2.2, {"principal": _NARROW}),
            Stream("many", "reading_as", 32.0, {"principal": _HARNESS}),
        ),
    ),
    Injection(
        "address_floods",
        OnlyTraffic(per_second_min=_SOME_PER_SECOND),
        _HOLD,
        runbook_steps=_DIAGNOSIS,
        load=_with(Stream(_FLOOD, "reading_as", _PER_SECOND)),
        # What is not refused yet has no key, which is failure mode 4's alert, and rightly.
        alerts=ExpectedAlerts(
            firing=frozenset({_ALERT}),
            co_alerts=frozenset({"HighAuthFailureRate"}),
            suppressed=frozenset({"HighClientErrorRate"}),
        ),
    ),
    Injection(
        "valkey_refused",
        ProxyDown(dependency="valkey"),
        _HOLD_WITHOUT_VALKEY,
        runbook_steps=_DIAGNOSIS,
        load=_flood_of("valkey_refused"),
    ),
    Injection(
        "valkey_silent",
        SilentProxy(dependency="valkey"),
        _HOLD_WITHOUT_VALKEY,
        runbook_steps=_DIAGNOSIS,
        load=_flood_of("valkey_silent"),
    ),
    Injection(
        "principal_floods",
        OnlyTraffic(per_second_min=_SOME_PER_SECOND),
        _HOLD,
        load=_flood_of("principal_floods"),
        # Steps 4 and 5 start replicas, which cannot reach the database before they have started: in the fast profile
        # that alert's patience is 3 s.
        alerts=ExpectedAlerts(
            firing=frozenset({_ALERT}),
            co_alerts=frozenset({"ServiceNetworkFailure"}),
            suppressed=frozenset({"HighClientErrorRate"}),
        ),
    ),
)

_FLOODS = ("address_floods", "valkey_refused", "valkey_silent", "principal_floods")
_SHARED = ("address_floods", "principal_floods")
_GONE = ("valkey_refused", "valkey_silent")
_LAST = ("principal_floods",)

Expectations = Mapping[str, Any]


def _named(_: Expectations) -> WindowCheck:
    """Every refusal is logged with who it was: the principal of the flood, or its address."""

    def judged(case: Case, window: Window) -> Finding:
        principal = _FLOODING.get(window.injection)
        facts = {"principal": principal, "scope": "principal"} if principal else {"scope": "address"}
        return refused_are_named(facts={**facts, "client_address": _ADDRESS})(case, window)

    return judged


def _counted_apart(expected: Expectations) -> WindowCheck:
    """Refusals are counted by what the client was known by, and fall on nobody but the flood."""

    def judged(case: Case, window: Window) -> Finding:
        scope = "principal" if window.injection in _FLOODING else "address"
        series = f'firewall_rate_limit_rejections_total{{scope="{scope}"}}'
        return all_of(
            counted=counter_increases(series, within_seconds=expected["detect_seconds"]),
            named=_named(expected),
            others=only_the_flood_is_refused(streams=_STREAMS),
        )(case, window)

    return judged


def _bucket(expected: Expectations) -> WindowCheck:
    """Hold the flood to the exact bucket; where each replica counts alone, to one more (I13)."""

    def judged(case: Case, window: Window) -> Finding:
        return bucket_is_exact(
            streams=_STREAMS,
            rate_per_minute=expected["rate_per_minute"],
            burst=expected["burst"],
            buckets=2 if window.injection in _GONE else 1,
            # Three shares are used up one after the other; and an address has other strangers than the flood.
            is_full_at_first=window.injection in _LAST,
        )(case, window)

    return judged


def _others(expected: Expectations) -> WindowCheck:
    return others_are_unharmed(
        streams=_STREAMS,
        added_seconds_max=expected["latency_added_seconds_max"],
        waits_max=expected["waits_max"],
    )


_CHECKS: dict[str, Check] = {
    # 429 Too Many Requests response
    "FM06.D1": bound(
        lambda expected: too_many_are_refused(streams=_STREAMS, within_seconds=expected["mitigate_seconds"]), _FLOODS
    ),
    # `RATE_LIMIT_REJECTIONS` metric increases
    "FM06.D2": bound(
        lambda expected: counter_increases(
            "firewall_rate_limit_rejections_total", within_seconds=expected["detect_seconds"]
        ),
        _FLOODS,
    ),
    # Client IP/user logged
    "FM06.D3": bound(
        lambda expected: all_of(
            every_replica=log_event_appears(
                "rate_limited",
                within_seconds=expected["detect_seconds"],
                facts={"client_address": {_ADDRESS}},
            ),
            who=_named(expected),
        ),
        _FLOODS,
    ),
    # Alert: `HighRateLimitRejections` (if sustained)
    "FM06.D4": bound(
        lambda expected: all_of(
            active=alert_fires(_ALERT, within_seconds=expected["detect_seconds"]),
            delivered=alert_is_delivered(_ALERT, within_seconds=2 * expected["detect_seconds"]),
        ),
        _FLOODS,
    ),
    # Token bucket algorithm with burst allowance
    "FM06.M1": bound(_bucket, _SHARED),
    # Retry-After header indicates wait time
    "FM06.M2": bound(
        lambda expected: refusals_say_when(streams=_STREAMS, seconds_max=expected["retry_after_seconds_max"]), _FLOODS
    ),
    # Legitimate traffic prioritized
    "FM06.M3": bound(_others, _FLOODS),
    # Per-client tracking (IP or user)
    "FM06.M4": bound(_counted_apart, _SHARED),
    # Client fixes: Implement backoff/retry logic
    "FM06.R1": bound(
        lambda expected: all_of(
            client=runbook_step_ran(1), steady=steady_again(within_seconds=expected["recover_seconds"])
        ),
        _LAST,
    ),
    # Client fixes: Reduce request rate
    "FM06.R2": bound(lambda _: runbook_step_ran(2), _LAST),
    # Manual: Investigate if attack or legitimate spike
    "FM06.R3": bound(lambda _: runbook_step_ran(3), _FLOODS),
    # Manual: Adjust rate limits if needed
    "FM06.R4": bound(lambda _: runbook_step_ran(4), _LAST),
    # Manual: Add more replicas if capacity issue
    "FM06.R5": bound(lambda _: runbook_step_ran(5), _LAST),
}

_INVARIANTS: dict[str, Check] = {
    "I1 no acknowledged proposal lost": proposals.no_acknowledged_proposal_lost,
    "I2 no ghost or altered proposal": proposals.no_ghost_or_altered_proposal,
    "I7 retries are idempotent": proposals.retries_are_idempotent,
    "I13 the limiter is an exact bucket": bound(_bucket, _FLOODS),
    "I15 no secret anywhere": no_secret_anywhere,
    "a few too many page nobody": bound(lambda _: nobody_is_paged_for_a_few(stream="few"), ("a_few_too_many",)),
    "liveness": bound(lambda _: stays_alive(), _FLOODS),
    "the runbook's verification": bound(lambda _: runbook_step_ran(0), _LAST),
    "error budget": bound(lambda expected: budget_is_kept(share_max=expected["budget_share_max"]), _FLOODS),
    "clients and proxy agree": client_and_proxy_agree(),
    "load generator kept up": generator_kept_up(),
}


def _stack(spec: "StackSpec") -> "StackSpec":
    """Return three replicas, and clients under the documented limit."""
    clients = ("polite", "patient", _NARROW, *_FLOODING.values())
    return replace(
        spec,
        replicas=_REPLICAS,
        principals=dict.fromkeys(clients, ("viewer",)),
        rate_limits={_NARROW: _NARROW_PER_MINUTE},
    )


SCENARIO = Scenario(
    failure_mode="FM06",
    slug="fm06_rate_limit_exceeded",
    injections=_INJECTIONS,
    checks=_CHECKS,
    invariants=_INVARIANTS,
    rests_on={
        **dict.fromkeys(("FM06.D1", "FM06.D2", "FM06.D3", "FM06.D4", "FM06.M2", "FM06.M3", "FM06.R3"), _FLOODS),
        **dict.fromkeys(("FM06.M1", "FM06.M4"), _SHARED),
        **dict.fromkeys(("FM06.R1", "FM06.R2", "FM06.R4", "FM06.R5"), _LAST),
        **dict.fromkeys(("I13 the limiter is an exact bucket", "liveness"), _FLOODS),
        "a few too many page nobody": ("a_few_too_many",),
        "the runbook's verification": _LAST,
        "error budget": _FLOODS,
    },
    clocks=ScenarioClocks(
        detect=lambda case, window: first_active(case, window, _ALERT),
        mitigate=refused_after,
        recover=recovered_after,
    ),
    load=_LOAD,
    alert=_ALERT,
    suppressed_alerts=frozenset({"HighClientErrorRate"}),
    stack=_stack,
)
