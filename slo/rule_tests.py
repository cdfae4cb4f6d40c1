"""Renders the alerts' cases as promtool unit tests of one profile.

Each case starts from the healthy world, changes some series, and states which alerts fire: all of them, read from
Prometheus's own ``ALERTS`` series. So no case passes because a name is misspelt, and each proves every other alert
silent. promtool keeps a series for five minutes after its last sample: inputs always reach the end of their case.
"""

import re
from typing import Any

from slo import durations, rules, yaml_text
from slo.alerts import Alert, Alerts, Behaviour, Case
from slo.files import InvalidSpecificationError
from slo.metrics import Metrics
from slo.profiles import Profile

_SERIES = re.compile(r"([a-z_]+)(?:\{(.*)\})?")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
_ENVIRONMENT = "production"
_SERVICE = "firewall"
_ALWAYS = "Watchdog"

Series = tuple[str, frozenset[tuple[str, str]]]


def render(alerts: Alerts, profile: Profile) -> str:
    """Return ``tests.yaml`` for ``promtool test rules``, to lie beside ``rules.yaml``."""
    return yaml_text.dump(
        {
            "rule_files": ["rules.yaml"],
            "evaluation_interval": profile.durations["evaluation"],
            "tests": [
                _Renderer(alerts, alert, case, profile).test() for alert in alerts.alerts for case in alert.cases
            ],
        },
        comment=f"Cases of the alert rules, profile {profile.name}.",
    )


def count(alerts: Alerts) -> int:
    """Return how many cases there are."""
    return sum(len(alert.cases) for alert in alerts.alerts)


def parse_series(text: str) -> Series:
    """Split ``name{label="value"}``.

    Raises:
        InvalidSpecificationError: it is not of that form.
    """
    match = _SERIES.fullmatch(text.strip())
    if match is None:
        raise InvalidSpecificationError(f"{text!r} is not a series")
    name, inner = match[1], match[2] or ""
    found = _LABEL.findall(inner)
    if ",".join(f'{key}="{value}"' for key, value in found) != inner.replace(", ", ","):
        raise InvalidSpecificationError(f"{text!r}: labels cannot be read")
    return name, frozenset(found)


class _Renderer:
    """One case under one profile."""

    def __init__(self, alerts: Alerts, alert: Alert, case: Case, profile: Profile) -> None:
        self._alerts = alerts
        self._alert = alert
        self._case = case
        self._profile = profile
        self._scrape_ms = self._length("${scrape}")
        patience = alert.for_ or "0"
        self._fires_ms = self._length(case.settles) + self._length(patience)
        if case.observe is not None:
            self._observe_ms = self._length(case.observe)
        elif case.kind == "firing":
            self._observe_ms = self._fires_ms
        else:
            raise InvalidSpecificationError(f"{alert.name}, {case.name}: no time to observe")

    def test(self) -> dict[str, Any]:
        """Return the promtool test."""
        checks = [self._complete_set()]
        rendered: dict[str, Any] = {
            "name": f"{self._alert.name} {self._case.kind}: {self._case.name}",
            "interval": self._profile.durations["scrape"],
            "input_series": [
                {"series": self._full_name(series), "values": self._values(series, behaviour)}
                for series, behaviour in self._inputs().items()
            ],
        }
        if self._case.kind == "firing":
            checks = [*self._turning_point(), *checks]
        rendered["promql_expr_test"] = checks
        if self._case.description is not None:
            rendered["alert_rule_test"] = [self._annotations()]
        return rendered

    def _length(self, expression: str) -> int:
        return durations.length(expression, self._profile.durations)

    def _inputs(self) -> dict[Series, float | Behaviour]:
        gone = [parse_series(text) for text in self._case.without]
        inputs: dict[Series, float | Behaviour] = {
            series: behaviour
            for series, behaviour in ((parse_series(text), one) for text, one in self._alerts.healthy.items())
            if not any(series[0] == name and labels <= series[1] for name, labels in gone)
        }
        return inputs | {parse_series(text): behaviour for text, behaviour in self._case.series.items()}

    def _full_name(self, series: Series) -> str:
        """Add the labels that Prometheus puts on: the job's, for the one job that exposes the series."""
        name, labels = series
        given = dict(labels)
        job = given.get("job") or Metrics.load().job_of(name)
        target = {"env": _ENVIRONMENT, "job": job}
        if "service" in Metrics.load().jobs[job]:
            target["service"] = _SERVICE
        everything = {**target, **given}
        return name + "{" + ", ".join(f'{key}="{everything[key]}"' for key in sorted(everything)) + "}"

    def _values(self, series: Series, behaviour: float | Behaviour) -> str:
        steps = _steps_of(behaviour)
        samples = max(self._observe_ms, self._fires_ms) // self._scrape_ms + 2
        parts: list[str] = []
        standing = 0.0
        left = samples
        for place, step in enumerate(steps):
            last = place == len(steps) - 1
            if last == (step.lasts is not None):
                raise InvalidSpecificationError(f"{series[0]}: every step but the last one says how long it lasts")
            number = left if last else min(left, self._length(step.lasts or "0") // self._scrape_ms)
            if number <= 0:
                break
            if step.value is not None:
                parts.append(_run(step.value, 0, number))
                standing = step.value
            else:
                growth = self._growth(step)
                parts.append(_run(standing, growth, number))
                standing += growth * number
            left -= number
        return " ".join(parts)

    def _growth(self, step: Behaviour) -> float:
        if step.per_scrape is not None:
            return step.per_scrape
        if step.per_second is None:
            raise InvalidSpecificationError(f"{self._case.name}: a series needs a value or a growth")
        return step.per_second * self._scrape_ms / 1000

    def _turning_point(self) -> list[dict[str, Any]]:
        """Return two checks: not there one evaluation before its time, there at its time."""
        own = f'ALERTS{{alertname="{self._alert.name}", alertstate="firing"}}'
        checks: list[dict[str, Any]] = []
        before = self._fires_ms - self._length("${evaluation}")
        if before >= 0:
            checks.append({"expr": own, "eval_time": durations.text(before), "exp_samples": []})
        checks.append(
            {
                "expr": own,
                "eval_time": durations.text(self._fires_ms),
                "exp_samples": [self._sample(self._alert, self._case.labels)],
            }
        )
        return checks

    def _complete_set(self) -> dict[str, Any]:
        firing = [self._sample(self._alerts.named(_ALWAYS), {"service": "", "env": ""})]
        if self._case.kind in {"firing", "held"}:
            firing.append(self._sample(self._alert, self._case.labels))
        firing.extend(self._sample(self._alerts.named(name), {}) for name in self._case.beside)
        return {
            "expr": 'ALERTS{alertstate="firing"}',
            "eval_time": durations.text(self._observe_ms),
            "exp_samples": firing,
        }

    def _series_labels(self, changes: dict[str, str]) -> dict[str, str]:
        everything = {"service": _SERVICE, "env": _ENVIRONMENT, **changes}
        return {key: value for key, value in everything.items() if value}

    def _sample(self, alert: Alert, changes: dict[str, str]) -> dict[str, Any]:
        labels = {
            "alertname": alert.name,
            "alertstate": "firing",
            **self._series_labels(changes),
            **rules.labels(alert, self._alerts),
        }
        inner = ", ".join(f'{key}="{labels[key]}"' for key in sorted(labels))
        return {"labels": f"ALERTS{{{inner}}}", "value": 1}

    def _annotations(self) -> dict[str, Any]:
        annotations = rules.annotations(self._alert, self._alerts, self._profile)
        annotations["description"] = durations.fill(self._case.description or "", self._profile.durations)
        return {
            "eval_time": durations.text(self._fires_ms),
            "alertname": self._alert.name,
            "exp_alerts": [
                {
                    "exp_labels": {**self._series_labels(self._case.labels), **rules.labels(self._alert, self._alerts)},
                    "exp_annotations": annotations,
                }
            ],
        }


def _steps_of(behaviour: float | Behaviour) -> tuple[Behaviour, ...]:
    if not isinstance(behaviour, Behaviour):
        return (Behaviour(value=behaviour),)
    return behaviour.steps or (behaviour,)


def _run(start: float, growth: float, samples: int) -> str:
    """Write ``samples`` samples in promtool's notation: first value, growth, repetitions after the first."""
    sign = "-" if growth < 0 else "+"
    return f"{_number(start)}{sign}{_number(abs(growth))}x{samples - 1}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
