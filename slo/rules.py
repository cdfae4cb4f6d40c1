"""Renders the alerts as Prometheus rules of one profile.

Only durations differ between the profiles; a place that names an unknown duration is an error, so is a literal one.
"""

import re
from typing import Any

from slo import durations, severity, yaml_text
from slo.alerts import Alert, Alerts
from slo.files import InvalidSpecificationError
from slo.profiles import Profile

_LITERAL_RANGE = re.compile(r"\[\s*\d")
# A label of this name would be the alert's own failure mode, e.g. FM01; alerts beyond the document have none.
_MODE_LABEL = "failure_mode"


def render(alerts: Alerts, profile: Profile) -> str:
    """Return ``rules.yaml``: one group a failure mode, named by its slug."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for alert in alerts.alerts:
        groups.setdefault(alert.group_name, []).append(rule(alert, alerts, profile))
    return yaml_text.dump(
        {
            "groups": [
                {"name": name, "interval": profile.durations["evaluation"], "rules": rules}
                for name, rules in groups.items()
            ]
        },
        comment=f"Alert rules, profile {profile.name}.",
    )


def rule(alert: Alert, alerts: Alerts, profile: Profile) -> dict[str, Any]:
    """Return one rule as Prometheus reads it.

    Raises:
        InvalidSpecificationError: a duration is unknown or literal.
    """
    if _LITERAL_RANGE.search(alert.expression):
        raise InvalidSpecificationError(f"{alert.name}: a range must be a named duration")
    rendered: dict[str, Any] = {
        "alert": alert.name,
        "expr": durations.fill(alert.expression, profile.durations).strip(),
    }
    if alert.for_ is not None:
        rendered["for"] = durations.fill(alert.for_, profile.durations)
    if alert.keep_firing_for is not None:
        rendered["keep_firing_for"] = durations.fill(alert.keep_firing_for, profile.durations)
    rendered["labels"] = labels(alert, alerts)
    rendered["annotations"] = annotations(alert, alerts, profile)
    return rendered


def labels(alert: Alert, alerts: Alerts) -> dict[str, str]:
    """Return the labels a rule adds to its series."""
    fixed = {"severity": alert.severity, "role": alert.role, "team": alerts.team}
    return {_MODE_LABEL: alert.failure_mode, **fixed} if alert.failure_mode is not None else fixed


def annotations(alert: Alert, alerts: Alerts, profile: Profile) -> dict[str, str]:
    """Return what a person who is woken reads; the description is still a template."""
    texts = {
        "summary": alert.summary,
        "description": durations.fill(alert.description, profile.durations),
        "runbook_url": alerts.runbook_base_url + alert.runbook,
    }
    if alert.severity != "none":
        meaning = severity.meaning(alert.severity)
        texts |= {"response_time": meaning.response_time, "escalation": meaning.escalation}
    return texts
