"""What must be true of the specification beyond its types, in both profiles. ``problems`` names every breach.

Each rule has an id; a test plants a breach of each. PromQL is read as a tree, never by pattern.
"""

import re
from collections.abc import Iterator

import promql_parser as promql

from slo import alertmanager, alerts, durations, objectives, profiles, rules, severity
from slo.alerts import Alert, Alerts, Inhibition, Inhibitions
from slo.files import InvalidSpecificationError
from slo.metrics import Metrics
from slo.profiles import Profile
from slo.promql_tree import ranges, selectors, walk

NAME_CHARACTERS_MAX = 40
GROUP_RULES_MAX = 20
RANGE_SCRAPES_MIN = 5
ABSENT_SCRAPES_MIN = 2
_OF_COUNTERS = frozenset({"rate", "increase", "irate", "resets"})
_EXTERNAL_LABELS = frozenset({"run"})  # put on by Prometheus on the way to Alertmanager
_RULE_NAME = re.compile(r"[A-Z][A-Za-z0-9]+")
_REQUIRED_CASES = ("firing", "boundary", "quiet", "missing")


def problems(
    specified: Alerts | None = None,
    inhibitions: Inhibitions | None = None,
    known: Metrics | None = None,
    used_profiles: tuple[Profile, ...] | None = None,
) -> list[str]:
    """Return one sentence for each breach; without arguments, of what is checked in."""
    chosen = specified or alerts.load()
    declared = known or Metrics.load()
    both = used_profiles or tuple(profiles.load(name) for name in profiles.names())
    silencing = inhibitions or alerts.load_inhibitions()
    found = [
        *_names(chosen),
        *_texts(chosen),
        *_cases(chosen),
        *_inhibitions(chosen, silencing),
        *_burn_rates(chosen),
    ]
    for profile in both:
        for alert in chosen.alerts:
            try:
                expression = promql.parse(rules.rule(alert, chosen, profile)["expr"])
            except (InvalidSpecificationError, ValueError) as problem:
                found.append(f"expression: {alert.name}, {profile.name}: {problem}")
                continue
            found.extend(f"{text} ({profile.name})" for text in _expression(alert, expression, declared, profile))
        found.extend(_race(chosen, silencing, profile))
    return found


def _names(specified: Alerts) -> Iterator[str]:
    names = [alert.name for alert in specified.alerts]
    expressions: dict[str, str] = {}
    groups: dict[str, int] = {}
    for alert in specified.alerts:
        if not _RULE_NAME.fullmatch(alert.name) or len(alert.name) > NAME_CHARACTERS_MAX:
            yield f"name: {alert.name} is not CamelCase of at most {NAME_CHARACTERS_MAX} characters"
        if names.count(alert.name) > 1:
            yield f"duplicate: {alert.name} is there more than once"
        same = expressions.setdefault(" ".join(alert.expression.split()), alert.name)
        if same != alert.name:
            yield f"duplicate: {alert.name} and {same} ask the same"
        groups[alert.group_name] = groups.get(alert.group_name, 0) + 1
    for name, count in groups.items():
        if count > GROUP_RULES_MAX:
            yield f"group: {name} has {count} rules, more than {GROUP_RULES_MAX}"


def _texts(specified: Alerts) -> Iterator[str]:
    for alert in specified.alerts:
        if not alert.summary.endswith(".") or "{{" in alert.summary or "\n" in alert.summary:
            yield f"summary: {alert.name}: one sentence, without templates, with a full stop"
        if not alert.description.strip().endswith("."):
            yield f"description: {alert.name}: it ends with a full stop"
        if (alert.failure_mode is None) == (alert.advice is None):
            yield f"advice: {alert.name}: a failure mode's alert has a runbook, any other has advice"
        if (alert.severity == "none") != (alert.role == "watchdog"):
            yield f"severity: {alert.name}: only a watchdog has none"
        if alert.failure_mode is not None and alert.severity != severity.failure_mode(alert.failure_mode).severity:
            yield f"severity: {alert.name} is {alert.severity}, its failure mode is not"


def _cases(specified: Alerts) -> Iterator[str]:
    names = {alert.name for alert in specified.alerts}
    for alert in specified.alerts:
        if alert.role == "watchdog":
            continue
        kinds = [case.kind for case in alert.cases]
        yield from (f"cases: {alert.name} has no case '{kind}'" for kind in _REQUIRED_CASES if kind not in kinds)
        if not any(case.kind == "firing" and case.description is not None for case in alert.cases):
            yield f"cases: no case of {alert.name} says how its description reads"
        for case in alert.cases:
            yield from (f"cases: {alert.name}: no alert {name!r}" for name in case.beside if name not in names)


def _expression(alert: Alert, expression: promql.Expr, known: Metrics, profile: Profile) -> Iterator[str]:
    for selector, function in selectors(expression):
        yield from _selector(alert, selector, function, known)
    for matrix in ranges(expression):
        scrapes = matrix.range.total_seconds() / profile.scrape_interval_seconds
        if scrapes < RANGE_SCRAPES_MIN:
            yield f"range: {alert.name}: a range of {scrapes:g} scrapes, fewer than {RANGE_SCRAPES_MIN}"
    if any(isinstance(node, promql.Call) and node.func.name.startswith("absent") for node in walk(expression)):
        patience_ms = durations.length(alert.for_, profile.durations) if alert.for_ else 0
        if patience_ms < ABSENT_SCRAPES_MIN * profile.scrape_interval_seconds * 1000:
            yield f"absent: {alert.name}: absent() without `for` of {ABSENT_SCRAPES_MIN} scrapes fires at each restart"
    yield from _denominators(alert, expression)
    yield from _buckets(alert, expression, known)


def _selector(alert: Alert, selector: promql.VectorSelector, function: str | None, known: Metrics) -> Iterator[str]:
    name = selector.name or ""
    try:
        _, metric = known.family(name)
    except InvalidSpecificationError as problem:
        yield f"metric: {alert.name}: {problem}"
        return
    counts = metric.type == "counter" or (metric.type == "histogram" and name not in known.metrics)
    if counts and function not in _OF_COUNTERS:
        yield f"counter: {alert.name}: {name} is a counter, its value says nothing; use rate or increase"
    if not counts and function in _OF_COUNTERS:
        yield f"counter: {alert.name}: {name} is no counter, {function} of it says nothing"
    for matcher in selector.matchers.matchers:
        if matcher.name not in known.labels_of(name):
            yield f"label: {alert.name}: {name} has no label {matcher.name}"


def _denominators(alert: Alert, expression: promql.Expr) -> Iterator[str]:
    """A division by a rate that is zero gives NaN, by one of no series nothing; ``> 0`` makes both nothing."""
    for node in walk(expression):
        if isinstance(node, promql.BinaryExpr) and str(node.op) == "/":
            divisor = node.rhs
            while isinstance(divisor, promql.ParenExpr):
                divisor = divisor.expr
            guarded = isinstance(divisor, promql.BinaryExpr) and str(divisor.op) == ">"
            if not guarded and not isinstance(divisor, promql.NumberLiteral):
                yield f"denominator: {alert.name}: a divisor without `> 0` may be zero"


def _buckets(alert: Alert, expression: promql.Expr, known: Metrics) -> Iterator[str]:
    """A quantile compared with a number is only as exact as the bucket limits: the number must be one of them."""
    for node in walk(expression):
        if not isinstance(node, promql.BinaryExpr) or not isinstance(node.rhs, promql.NumberLiteral):
            continue
        if isinstance(node.lhs, promql.Call) and node.lhs.func.name == "histogram_quantile":
            for selector, _ in selectors(node.lhs):
                family = (selector.name or "").removesuffix("_bucket")
                metric = known.metrics.get(family)
                if metric is not None and node.rhs.val not in metric.buckets:
                    yield f"bucket: {alert.name}: {family} has no bucket limit at {node.rhs.val:g}"


def _inhibitions(specified: Alerts, silencing: Inhibitions) -> Iterator[str]:
    by_name = {alert.name: alert for alert in specified.alerts}
    for inhibition in silencing.inhibitions:
        names = (inhibition.cause, *inhibition.symptoms)
        yield from (f"inhibition: no alert {name!r}" for name in names if name not in by_name)
        if inhibition.cause in by_name:
            for symptom in (by_name[name] for name in inhibition.symptoms if name in by_name):
                yield from _silenced(by_name[inhibition.cause], symptom, inhibition, silencing)


def _silenced(cause: Alert, symptom: Alert, inhibition: Inhibition, silencing: Inhibitions) -> Iterator[str]:
    pair = f"{cause.name} -> {symptom.name}"
    if severity.rank(cause.severity) > severity.rank(symptom.severity):
        yield f"inhibition: {pair}: a less severe alert may not silence a more severe one"
    if symptom.name in silencing.never_inhibited:
        yield f"inhibition: {pair}: nothing may silence {symptom.name}"
    if symptom.keep_firing_for is not None:
        # Its own tail would outlive its cause's, and page after the repair.
        yield f"inhibition: {pair}: a symptom that is held on may outlive its cause"
    for alert in (cause, symptom):
        lacking = set(inhibition.equal) - _EXTERNAL_LABELS - _labels(alert)
        if lacking:
            yield f"inhibition: {pair}: {alert.name} has no label {', '.join(sorted(lacking))}"
    ungrouped = set(inhibition.equal) - set(alertmanager.GROUP_BY)
    if ungrouped:
        yield f"inhibition: {pair}: notifications are not grouped by {', '.join(sorted(ungrouped))}"


def _labels(alert: Alert) -> set[str]:
    """Return the labels of the firing series, which promtool proves in the alert's own cases.

    An alert from the absence of everything cannot name an environment; it counts by its other cases.
    """
    given: set[str] = set()
    for case in alert.cases:
        if case.kind == "firing":
            given |= {key for key, value in {"env": "x", "service": "x", **case.labels}.items() if value}
    return given


def _race(specified: Alerts, silencing: Inhibitions, profile: Profile) -> Iterator[str]:
    """A symptom may be notified before its cause is active, unless its group waits long enough.

    group_wait >= longest ``for`` of its causes - its own ``for`` + 2 evaluations.
    """
    by_name = {alert.name: alert for alert in specified.alerts}
    for inhibition in silencing.inhibitions:
        for name in inhibition.symptoms:
            if inhibition.cause not in by_name or name not in by_name:
                continue
            cause, symptom = by_name[inhibition.cause], by_name[name]
            needed = (
                _patience_seconds(cause, profile)
                - _patience_seconds(symptom, profile)
                + 2 * profile.evaluation_interval_seconds
            )
            waits = profile.seconds(f"group_wait_{symptom.severity}")
            if waits < needed:
                yield (
                    f"race: {symptom.name} is notified after {waits:g} s, {cause.name} may need {needed:g} s"
                    f" ({profile.name})"
                )


def _patience_seconds(alert: Alert, profile: Profile) -> float:
    return durations.length(alert.for_, profile.durations) / 1000 if alert.for_ else 0.0


def _burn_rates(specified: Alerts) -> Iterator[str]:
    """The objectives say at which burn rates to alert, and the expressions spell them out."""
    wanted = objectives.load()
    allowed = f"{wanted.named('availability').allowed_share:g}"
    for alert in specified.alerts:
        if alert.group_name == "slo_availability":
            rate = wanted.burn_rates.page if severity.rank(alert.severity) == 0 else wanted.burn_rates.ticket
            named = set(re.findall(r"> ([0-9.]+) \* ([0-9.]+)", alert.expression))
            if named != {(f"{rate:g}", allowed)}:
                yield f"burn: {alert.name} compares with {sorted(named)}, the objectives say {rate:g} * {allowed}"
