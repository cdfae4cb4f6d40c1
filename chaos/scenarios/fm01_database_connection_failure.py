"""FM01: unable to establish a connection to the database.

Four faults that fail differently, and one too short to be a failure:

- ``brief_interruption``: refused, back before anybody gives up; requests wait and are served (M4), nobody is paged;
- ``proxy_down``: connections closed, new ones refused;
- ``postgres_stopped``: the server dies at once and recovers from its log; long enough to show the backoff's cap;
- ``silent_proxy``: TCP acknowledges, nothing is forwarded: only an application's own deadline sees it;
- ``packets_dropped``: nothing is acknowledged either; established connections hang in the kernel.

And one that is no failure to connect: ``sessions_ended`` takes all connections away while nobody asks for one, because
only then a pool shows that it keeps a minimum (M2).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from chaos.checks import proposals
from chaos.checks.attempts import schedule_of
from chaos.checks.audit import every_effect_is_logged
from chaos.checks.availability import budget_is_kept, client_and_proxy_agree, generator_kept_up
from chaos.checks.detection import (
    alert_fires,
    alert_is_delivered,
    counter_increases,
    first_active,
    health_turns_red,
    log_event_appears,
)
from chaos.checks.fail_closed import fails_closed
from chaos.checks.findings import WindowCheck, all_of, bound
from chaos.checks.heads import head_reads_never_go_back, heads_are_chains, roll_backs_restore
from chaos.checks.log import log_is_append_only
from chaos.checks.mitigation import (
    attempts_are_bounded,
    attempts_follow_backoff,
    circuit_opens,
    mitigated_after,
    pool_fills_unasked,
    pool_keeps_its_minimum,
    refusals_are_fast,
    requests_are_queued,
    waiting_is_bounded,
)
from chaos.checks.quorum import nothing_applied_without_a_quorum, one_vote_a_voter
from chaos.checks.recovery import (
    nothing_restarts,
    reconnects_by_itself,
    recovered_after,
    runbook_step_ran,
    stays_alive,
    steady_again,
)
from chaos.checks.replay import replay_gives_the_same_heads
from chaos.checks.secrets import no_secret_anywhere
from chaos.faults.packets import PacketsDropped
from chaos.faults.postgres import PostgresStopped, SessionsEnded
from chaos.faults.proxies import ProxyDown, SilentProxy
from chaos.scenario import Check, Injection, Load, Scenario, ScenarioClocks
from compose.stack import StackSpec

_ALERT = "DatabaseConnectionDown"
_VERIFICATION = 0  # the runbook's own section, which carries no number
_DIAGNOSIS = frozenset({1, 2, 3, 4})
_INCLUDING_RESTART = frozenset({1, 2, 3, 4, 5})
# Detection needs 8 s (fast) or 73 s (documented). The stopped server stays away until a replica has paused
# 1, 2, 4, 8 and once more the longest step: 23 s where that is 8, 61 s where it is 30 (its next pause ends at 91).
_HOLD = {"fast": 10.0, "documented": 80.0}
_HOLD_FOR_BACKOFF = {"fast": 25.0, "documented": 95.0}
_HOLD_QUIET = {"fast": 6.0, "documented": 6.0}
_HOLD_BRIEF = {"fast": 0.5, "documented": 0.5}
# A life is some fifteen requests, a simulation in two processes, votes and an application.
_LOAD = Load(proposals_per_second=10.0, reads_per_second=8.0, retry_share=0.2, lives_per_second=0.5)
# Half a second long: so many that some writes fall into it, whatever the seed.
_MANY = dataclasses.replace(_LOAD, proposals_per_second=40.0)
_NOBODY = Load(proposals_per_second=0.0, reads_per_second=0.0)
_DATABASE_PORTS = (15431, 15432, 15433, 15434)  # slots 1 to 4; packets are dropped only where ports are fixed

_BRIEF = ("brief_interruption",)
_QUIET = ("sessions_ended",)
_FAULTS = ("proxy_down", "postgres_stopped", "silent_proxy", "packets_dropped")
_HANGING = ("silent_proxy", "packets_dropped")
_SEEN_BY_TOXIPROXY = ("postgres_stopped", "silent_proxy")
_WITHOUT_RESTART = ("proxy_down", "silent_proxy", "packets_dropped")
_LONG = ("postgres_stopped",)

_INJECTIONS = (
    Injection("brief_interruption", ProxyDown(), _HOLD_BRIEF, judged_by_clocks=False, load=_MANY),
    Injection("sessions_ended", SessionsEnded(), _HOLD_QUIET, judged_by_clocks=False, load=_NOBODY),
    Injection("proxy_down", ProxyDown(), _HOLD, runbook_steps=_DIAGNOSIS),
    Injection(
        "postgres_stopped",
        PostgresStopped(mode="immediate"),
        _HOLD_FOR_BACKOFF,
        undone_by_runbook=True,
        runbook_steps=_INCLUDING_RESTART,
    ),
    Injection("silent_proxy", SilentProxy(), _HOLD, runbook_steps=_DIAGNOSIS),
    Injection("packets_dropped", PacketsDropped(ports=_DATABASE_PORTS), _HOLD, runbook_steps=_DIAGNOSIS),
)

Expectations = Mapping[str, Any]
# As many as a replica may have: half of the requests that may be under way, and its own workers, need fewer.
_POOL_CONNECTIONS_MIN = 8


def _with_a_larger_minimum(spec: StackSpec) -> StackSpec:
    settings = {**spec.settings, "FIREWALL_POOL_CONNECTIONS_MIN": str(_POOL_CONNECTIONS_MIN)}
    return dataclasses.replace(spec, settings=settings)


def _timeouts_are_named(expected: Expectations) -> WindowCheck:
    return log_event_appears(
        "database_unreachable", within_seconds=expected["detect_seconds"], facts={"error_type": {"timeout"}}
    )


def _circuit_breaker(expected: Expectations) -> WindowCheck:
    return all_of(
        circuit=circuit_opens(within_seconds=expected["mitigate_seconds"]),
        refusals=refusals_are_fast(answer_seconds=expected["open_circuit_answer_seconds"]),
        attempts=attempts_are_bounded(per_replica_max=len(expected["backoff_sequence_seconds"]) + 3),
        liveness=stays_alive(),
    )


_CHECKS: dict[str, Check] = {
    # Health check endpoint returns 503
    "FM01.D1": bound(
        lambda expected: all_of(
            health=health_turns_red(within_seconds=expected["health_red_seconds"], path="/health"),
            readiness=health_turns_red(
                # one more look of the probe: 0.25 s
                within_seconds=expected["readiness_red_seconds"] + 0.25,
                path="/health/ready",
            ),
        ),
        _FAULTS,
    ),
    # Connection timeout errors in logs
    "FM01.D2": bound(_timeouts_are_named, _HANGING),
    # `DB_ERRORS` metric increases
    "FM01.D3": bound(
        lambda expected: counter_increases("firewall_db_errors_total", within_seconds=expected["detect_seconds"]),
        _FAULTS,
    ),
    # Alert: `DatabaseConnectionDown`
    "FM01.D4": bound(
        lambda expected: all_of(
            active=alert_fires(_ALERT, within_seconds=expected["detect_seconds"]),
            delivered=alert_is_delivered(_ALERT, within_seconds=2 * expected["detect_seconds"]),
        ),
        _FAULTS,
    ),
    # Exponential backoff retry (1s, 2s, 4s, 8s, max 30s)
    "FM01.M1": bound(
        lambda expected: attempts_follow_backoff(
            schedule_of(expected), attempts_min=len(expected["backoff_sequence_seconds"]), seen_from_outside=True
        ),
        _LONG,
    ),
    # Connection pool maintains minimum connections
    "FM01.M2": bound(
        lambda _: pool_fills_unasked(
            connections_min=_POOL_CONNECTIONS_MIN + 1,  # and the one whose loss says that the database is gone
            within_seconds=_HOLD_QUIET["fast"],
            in_flight_max=_POOL_CONNECTIONS_MIN,
        ),
        _QUIET,
    ),
    # Circuit breaker prevents cascade failures
    "FM01.M3": bound(_circuit_breaker, _FAULTS),
    # Requests queued temporarily
    "FM01.M4": bound(
        lambda expected: requests_are_queued(wait_seconds_max=expected["request_deadline_seconds"]), _BRIEF
    ),
    # Automated: Service retries connection automatically
    "FM01.R1": bound(
        lambda expected: all_of(
            reconnected=reconnects_by_itself(within_seconds=expected["recover_seconds"]),
            steady=steady_again(within_seconds=expected["recover_seconds"]),
            runbook=runbook_step_ran(1),
            same_process=nothing_restarts(),
        ),
        _WITHOUT_RESTART,
    ),
    # Manual: Verify database is running
    "FM01.R2": bound(lambda _: runbook_step_ran(2), _FAULTS),
    # Manual: Check network connectivity
    "FM01.R3": bound(lambda _: runbook_step_ran(3), _FAULTS),
    # Manual: Verify credentials in secrets
    "FM01.R4": bound(lambda _: runbook_step_ran(4), _FAULTS),
    # Rollback: Restart service if connection restored
    "FM01.R5": bound(lambda _: runbook_step_ran(5), _LONG),
}

_INVARIANTS: dict[str, Check] = {
    "I1 no acknowledged proposal lost": proposals.no_acknowledged_proposal_lost,
    "I2 no ghost or altered proposal": proposals.no_ghost_or_altered_proposal,
    "I3 nothing applied without a quorum": nothing_applied_without_a_quorum,
    "I4 one vote a voter": one_vote_a_voter,
    "I5 heads are chains": heads_are_chains,
    "I6 a head that was read never goes back": head_reads_never_go_back,
    "I7 retries are idempotent": proposals.retries_are_idempotent,
    "I8 the log only grows": log_is_append_only,
    "I9 every effect is logged": every_effect_is_logged,
    "I10 it fails closed": fails_closed(),
    "I11 a roll-back restores": roll_backs_restore,
    "I12 the log alone gives the state": replay_gives_the_same_heads,
    "I15 no secret anywhere": no_secret_anywhere,
    "waiting is bounded": bound(
        lambda expected: waiting_is_bounded(
            wait_seconds_max=expected["request_deadline_seconds"] + 0.5,
            waiters_max=expected["waiting_room_waiters_max"],
        ),
        _FAULTS,
    ),
    "the pool after the other faults": bound(
        lambda expected: pool_keeps_its_minimum(
            connections_min=expected["pool_connections_min"], within_seconds=expected["recover_seconds"]
        ),
        _WITHOUT_RESTART,
    ),
    "backoff of the other faults": bound(
        lambda expected: attempts_follow_backoff(schedule_of(expected), seen_from_outside=False), _WITHOUT_RESTART
    ),
    "the runbook's verification": bound(lambda _: runbook_step_ran(_VERIFICATION), _FAULTS),
    "error budget": bound(
        # The brief interruption and its recovery last some six seconds, at thirty requests a second.
        lambda expected: budget_is_kept(share_max=expected["budget_share_max"], requests_min=100),
        (*_BRIEF, *_FAULTS),
    ),
    "clients and proxy agree": client_and_proxy_agree(),
    "load generator kept up": generator_kept_up(),
}

SCENARIO = Scenario(
    failure_mode="FM01",
    slug="fm01_database_connection_failure",
    injections=_INJECTIONS,
    checks=_CHECKS,
    invariants=_INVARIANTS,
    rests_on={
        "FM01.D1": _FAULTS,
        "FM01.D2": _HANGING,
        "FM01.D3": _FAULTS,
        "FM01.D4": _FAULTS,
        "FM01.M1": _LONG,
        "FM01.M2": _QUIET,
        "FM01.M3": _FAULTS,
        "FM01.M4": _BRIEF,
        "FM01.R1": _WITHOUT_RESTART,
        "FM01.R2": _FAULTS,
        "FM01.R3": _FAULTS,
        "FM01.R4": _FAULTS,
        "FM01.R5": _LONG,
        "waiting is bounded": _FAULTS,
        "the runbook's verification": _FAULTS,
        "the pool after the other faults": _WITHOUT_RESTART,
        "backoff of the other faults": _WITHOUT_RESTART,
    },
    clocks=ScenarioClocks(
        detect=lambda case, window: first_active(case, window, _ALERT),
        mitigate=mitigated_after,
        recover=recovered_after,
    ),
    load=_LOAD,
    stack=_with_a_larger_minimum,
    alert=_ALERT,
    suppressed_alerts=frozenset(
        {
            "HighServerErrorRate",
            "FirewallAvailabilityBurnFast",
            "FirewallAvailabilityBurnSlow",
            "DatabaseSlowQueries",
            "ServiceNetworkFailure",
        }
    ),
)
