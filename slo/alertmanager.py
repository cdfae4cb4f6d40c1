"""Renders Alertmanager's configuration: the document's escalation matrix as routes, and the inhibitions.

Alertmanager knows no acknowledgement and no escalation. Both are made of what it has: a silence acknowledges, and
each further person is a route whose group wait is the time the ones before had.
"""

from typing import Any

import msgspec

from slo import alerts, severity, yaml_text
from slo.files import SPECIFICATION, read
from slo.profiles import Profile

RECEIVERS = ("page", "lead", "director", "ticket", "team", "watchdog")
GROUP_BY = ("env", "service", "alertname", "run")
_LOWER_ENVIRONMENTS = "development|staging"
_OFFICE_HOURS = "office-hours"


class RouteCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An alert's labels and the receivers it must reach, in order."""

    labels: dict[str, str]
    receivers: tuple[str, ...]


def route_cases() -> tuple[RouteCase, ...]:
    """Return the routes' test cases."""
    return read(SPECIFICATION / "routes.yaml", tuple[RouteCase, ...])


def render(profile: Profile, receiver_address: str) -> str:
    """Return ``alertmanager.yml``; each receiver posts to ``<receiver_address>/<its name>``.

    ``receiver_address``: such as ``http://127.0.0.1:9095``, without a slash at the end.
    """
    return yaml_text.dump(
        {
            "global": {"resolve_timeout": profile.durations["resolve"]},
            "route": {
                "receiver": "team",
                "group_by": list(GROUP_BY),
                **_timing(profile, "low"),
                "routes": [
                    {
                        "receiver": "watchdog",
                        "matchers": ['alertname="Watchdog"'],
                        "repeat_interval": profile.durations["repeat_watchdog"],
                    },
                    {"receiver": "team", "matchers": [f'env=~"{_LOWER_ENVIRONMENTS}"']},
                    *(_of_severity(profile, one) for one in severity.SEVERITIES),
                ],
            },
            "inhibit_rules": [_inhibition(one) for one in alerts.load_inhibitions().inhibitions],
            "receivers": [
                {
                    "name": name,
                    "webhook_configs": [{"url": f"{receiver_address}/{name}", "send_resolved": True}],
                }
                for name in RECEIVERS
            ],
            "time_intervals": [
                {
                    "name": _OFFICE_HOURS,
                    "time_intervals": [
                        {"weekdays": ["monday:friday"], "times": [{"start_time": "09:00", "end_time": "17:00"}]}
                    ],
                }
            ],
        },
        comment=f"Alertmanager, profile {profile.name}.",
    )


def _timing(profile: Profile, level: str) -> dict[str, str]:
    return {
        "group_wait": profile.durations[f"group_wait_{level}"],
        "group_interval": profile.durations["group_interval"],
        "repeat_interval": profile.durations[f"repeat_{level}"],
    }


def _of_severity(profile: Profile, level: severity.Severity) -> dict[str, Any]:
    receivers = severity.meaning(level).receivers
    route: dict[str, Any] = {
        "receiver": next(iter(receivers)),
        "matchers": [f'severity="{level}"'],
        **_timing(profile, level),
    }
    if level == "low":
        route["active_time_intervals"] = [_OFFICE_HOURS]  # "Next business day"
    if len(receivers) > 1:
        route["routes"] = [
            {"receiver": name, "continue": True, **({"group_wait": f"{after}s"} if after else {})}
            for name, after in receivers.items()
        ]
    return route


def _inhibition(inhibition: alerts.Inhibition) -> dict[str, Any]:
    return {
        "source_matchers": [f'alertname="{inhibition.cause}"'],
        "target_matchers": [f'alertname=~"{"|".join(inhibition.symptoms)}"'],
        "equal": list(inhibition.equal),
    }
