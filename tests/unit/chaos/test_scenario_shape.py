"""The parts of a scenario's shape that decide something: which alerts, which traffic."""

from dataclasses import dataclass, field, replace
from typing import Any

from chaos.scenario import ExpectedAlerts, Injection, Load, Observation, Scenario, ScenarioClocks, Stream


@dataclass
class NoFault:
    kind: str = "none"
    needs: frozenset[str] = field(default_factory=frozenset)

    def parameters(self) -> dict[str, Any]:
        return {}

    async def inject(self, stack: object) -> None: ...

    async def bites(self, stack: object) -> Observation:
        return Observation(ok=stack is not None, text="nothing to bite")

    async def undo(self, stack: object) -> None: ...

    async def is_gone(self, stack: object) -> Observation:
        return Observation(ok=stack is not None, text="nothing to undo")


PLAIN = Injection(name="plain", fault=NoFault(), hold_seconds={"fast": 1.0})
SCENARIO = Scenario(
    failure_mode="FM07",
    slug="fm07_memory_pressure_oom",
    injections=(PLAIN,),
    checks={},
    clocks=ScenarioClocks(
        detect=lambda _case, _window: (None, ()),
        mitigate=lambda _case, _window: (None, ()),
        recover=lambda _case, _window: (None, ()),
    ),
    alert="HighMemoryUsage",
    suppressed_alerts=frozenset({"ServiceNetworkFailure"}),
    co_alerts=frozenset({"HighServerErrorRate"}),
)


def test_an_injection_expects_its_scenarios_alerts() -> None:
    expected = SCENARIO.expected_alerts(PLAIN)

    assert expected == ExpectedAlerts(
        firing=frozenset({"HighMemoryUsage"}),
        co_alerts=frozenset({"HighServerErrorRate"}),
        suppressed=frozenset({"ServiceNetworkFailure"}),
    )


def test_an_injection_with_alerts_of_its_own_expects_only_those() -> None:
    own = ExpectedAlerts(firing=frozenset({"PodOOMKilled"}), suppressed=frozenset({"HighMemoryUsage"}))

    assert SCENARIO.expected_alerts(replace(PLAIN, alerts=own)) == own


def test_an_injection_below_detection_expects_no_alert_at_all() -> None:
    assert SCENARIO.expected_alerts(replace(PLAIN, judged_by_clocks=False)) == ExpectedAlerts()


def test_a_mode_without_alert_expects_none_to_fire() -> None:
    expected = replace(SCENARIO, alert=None).expected_alerts(PLAIN)

    assert expected.firing == frozenset()


def test_traffic_of_an_injection_replaces_the_scenarios_while_it_holds() -> None:
    flood = Load(streams=(Stream(name="greedy", kind="proposal", per_second=9.0),))

    assert SCENARIO.load_during(PLAIN) == SCENARIO.load
    assert SCENARIO.load_during(replace(PLAIN, load=flood)) == flood
