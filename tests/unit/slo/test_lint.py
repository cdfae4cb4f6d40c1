"""Each lint refuses a specification that breaks it, and what is checked in breaks none."""

from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from slo import alerts, lint, profiles, rule_tests
from slo.alerts import Alerts, Inhibition, Inhibitions
from slo.files import InvalidSpecificationError
from slo.profiles import Profile

CAUSE = "DatabaseConnectionDown"


def changed(which: str, /, **changes: Any) -> Alerts:
    specified = alerts.load()
    every = tuple(
        msgspec.structs.replace(alert, **changes) if alert.name == which else alert for alert in specified.alerts
    )
    return msgspec.structs.replace(specified, alerts=every)


def with_expression(expression: str) -> Alerts:
    return changed("DatabaseSlowQueries", expression=expression)


def test_what_is_checked_in_has_no_problem() -> None:
    assert lint.problems() == []


@pytest.mark.parametrize(
    ("specified", "says"),
    [
        (changed(CAUSE, name="database_down"), "name: database_down is not CamelCase"),
        (changed(CAUSE, name="A" * 41), "not CamelCase of at most 40"),
        (changed(CAUSE, name="DatabaseSlowQueries"), "duplicate: DatabaseSlowQueries"),
        (changed(CAUSE, expression="vector(1)"), "duplicate:"),
        (changed(CAUSE, summary="No full stop"), "summary:"),
        (changed(CAUSE, summary="Pod {{ $labels.pod }} is down."), "summary:"),
        (changed(CAUSE, description="No full stop"), "description:"),
        (changed(CAUSE, severity="medium"), "severity: DatabaseConnectionDown is medium"),
        (changed(CAUSE, severity="none"), "only a watchdog has none"),
        (changed(CAUSE, advice="Pray."), "advice:"),
        (changed("MetricsTargetDown", advice=None), "advice:"),
        (changed(CAUSE, cases=()), "has no case 'firing'"),
        (with_expression("rate(firewall_unknown_total[${window}]) > 1"), "no metric 'firewall_unknown_total'"),
        (with_expression("firewall_requests_total > 1"), "counter: DatabaseSlowQueries: firewall_requests_total is a"),
        (with_expression("rate(firewall_dependency_up[${window}]) > 1"), "is no counter"),
        (with_expression('firewall_dependency_up{pot="x"} == 0'), "has no label pot"),
        (with_expression("rate(firewall_requests_total[${scrape}]) > 1"), "range: DatabaseSlowQueries"),
        (with_expression("rate(firewall_requests_total[5m]) > 1"), "named duration"),
        (with_expression("rate(firewall_requests_total[${windw}]) > 1"), "unknown duration"),
        (with_expression("sum(("), "expression: DatabaseSlowQueries"),
        (
            with_expression(
                "sum(rate(firewall_requests_total[${window}])) / sum(rate(firewall_requests_total[${window}])) > 1"
            ),
            "denominator:",
        ),
        (
            with_expression(
                "histogram_quantile(0.99, sum by (le) (rate(firewall_db_query_duration_seconds_bucket[${window}]))) > 2"
            ),
            "bucket: DatabaseSlowQueries: firewall_db_query_duration_seconds has no bucket limit at 2",
        ),
        (
            changed("DatabaseSlowQueries", expression='absent(up{job="firewall"})', for_=None),
            "absent: DatabaseSlowQueries",
        ),
        (changed("HighServerErrorRate", keep_firing_for="${hold_cause}"), "a symptom that is held on"),
        (
            changed(
                "FirewallAvailabilityBurnFast",
                expression=alerts.load().named("FirewallAvailabilityBurnFast").expression.replace("14.4", "14"),
            ),
            "burn: FirewallAvailabilityBurnFast",
        ),
    ],
)
def test_a_breach_is_named(specified: Alerts, says: str) -> None:
    found = lint.problems(specified)

    assert any(says in text for text in found), found


@pytest.mark.parametrize(
    ("inhibition", "says"),
    [
        (Inhibition(cause="Nobody", symptoms=("HighServerErrorRate",), equal=("env",)), "no alert 'Nobody'"),
        (Inhibition(cause=CAUSE, symptoms=("Nobody",), equal=("env",)), "no alert 'Nobody'"),
        (
            Inhibition(cause="DatabaseSlowQueries", symptoms=("HighServerErrorRate",), equal=("env",)),
            "less severe alert may not silence",
        ),
        (Inhibition(cause=CAUSE, symptoms=("MetricsTargetDown",), equal=("env",)), "nothing may silence"),
        (
            Inhibition(cause=CAUSE, symptoms=("ServiceNetworkFailure",), equal=("env", "pod")),
            "DatabaseConnectionDown has no label pod",
        ),
        (
            Inhibition(cause="ServiceNotStarting", symptoms=("ServiceNetworkFailure",), equal=("pod",)),
            "not grouped by pod",
        ),
    ],
)
def test_an_inhibition_that_hides_too_much_or_never_matches_is_named(inhibition: Inhibition, says: str) -> None:
    silencing = Inhibitions(inhibitions=(inhibition,), never_inhibited=alerts.load_inhibitions().never_inhibited)

    found = lint.problems(inhibitions=silencing)

    assert any(says in text for text in found), found


def test_a_group_wait_too_short_for_the_cause_to_be_seen_is_named() -> None:
    fast = profiles.load("fast")
    hasty = Profile(
        name="hasty",
        durations=MappingProxyType({**fast.durations, "group_wait_high": "1s"}),
        service=fast.service,
    )

    found = lint.problems(used_profiles=(hasty,))

    assert "race: DatabaseSlowQueries is notified after 1 s, DatabaseConnectionDown may need 2 s (hasty)" in found


def test_too_many_rules_in_one_group_are_named() -> None:
    specified = alerts.load()
    more = tuple(
        msgspec.structs.replace(specified.named("Watchdog"), name=f"Watchdog{number}", expression=f"vector({number})")
        for number in range(lint.GROUP_RULES_MAX)
    )

    found = lint.problems(msgspec.structs.replace(specified, alerts=(*specified.alerts, *more)))

    assert any(text.startswith("group: monitoring has 22 rules") for text in found)


@pytest.mark.parametrize("text", ["", "1abc{", 'x{a="1" b="2"}', "x{a=1}", "Rate(x)"])
def test_a_series_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecificationError):
        rule_tests.parse_series(text)


def test_a_series_is_the_same_whatever_the_order_of_its_labels() -> None:
    parse = rule_tests.parse_series

    assert parse('x{a="1",b="2"}') == parse('x{b="2", a="1"}')
