"""A fault is what its record says, or a clear error."""

import json
from typing import Any

import pytest

from chaos.faults import (
    KINDS,
    BreakingRelease,
    InvalidConfiguration,
    InvalidFault,
    OnlyTraffic,
    PacketsDropped,
    PostgresPaused,
    PostgresStopped,
    ProxyDown,
    ProxyLatency,
    SessionsEnded,
    SilentProxy,
    from_record,
)
from chaos.scenario import Fault

EVERY_FAULT: list[Fault] = [
    ProxyDown(),
    ProxyDown(dependency="valkey", replicas=("replica-1", "replica-3")),
    SilentProxy(replicas=("replica-2",)),
    ProxyLatency(latency_ms=250),
    PostgresStopped(),
    PostgresStopped(mode="fast"),
    PostgresPaused(),
    SessionsEnded(),
    PacketsDropped(ports=(15431, 15432)),
    InvalidConfiguration(values={"FIREWALL_PORT": "x"}),
    InvalidConfiguration(missing=("FIREWALL_DATABASE_HOST",), secrets={"FIREWALL_API_KEY_PEPPER_FILE": " "}),
    BreakingRelease(),
    OnlyTraffic(),
    OnlyTraffic(answers="2xx", per_second_min=0.5),
]


@pytest.mark.parametrize("fault", EVERY_FAULT, ids=str)
def test_a_fault_is_rebuilt_from_its_record_on_disk(fault: Fault) -> None:
    record = json.loads(json.dumps({"kind": fault.kind, "parameters": fault.parameters()}))

    assert from_record(record["kind"], record["parameters"]) == fault


def test_every_kind_has_a_fault_in_this_table() -> None:
    assert {fault.kind for fault in EVERY_FAULT} == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        pytest.param("proxy_dwn", {}, "unknown kind", id="unknown kind"),
        pytest.param("proxy_down", {"dependence": "database"}, "no parameter dependence", id="misspelt parameter"),
        pytest.param("proxy_down", {"dependency": "oracle"}, "dependency must be", id="unknown dependency"),
        pytest.param("proxy_down", {"replicas": "replica-1"}, "replicas", id="a name instead of a list"),
        pytest.param("proxy_down", {"replicas": []}, "at least one", id="nobody cut off"),
        pytest.param("proxy_down", {"replicas": ["database-1"]}, "not a replica", id="not a replica"),
        pytest.param("silent_proxy", {"replicas": ["replica-0"]}, "not a replica", id="slots count from 1"),
        pytest.param("proxy_latency", {"latency_ms": -5}, "latency_ms", id="negative latency"),
        pytest.param("proxy_latency", {"latency_ms": 0}, "latency_ms", id="no latency"),
        pytest.param("proxy_latency", {"latency_ms": "5"}, "int", id="text for a number"),
        pytest.param("proxy_latency", {"latency_ms": 10**9}, "latency_ms", id="latency beyond any deadline"),
        pytest.param("postgres_stopped", {"mode": "gently"}, "mode|Invalid", id="unknown mode"),
        pytest.param("only_traffic", {"answers": "401"}, "answers must be one of", id="a status for a class"),
        pytest.param("only_traffic", {"per_second_min": 0}, "more than 0", id="no traffic at all"),
        pytest.param("packets_dropped", {}, "ports", id="missing parameter"),
        pytest.param("packets_dropped", {"ports": []}, "at least one", id="no port"),
        pytest.param("packets_dropped", {"ports": [80, 80]}, "each once", id="a port twice"),
        pytest.param("invalid_configuration", {}, "at least one", id="nothing wrong"),
        pytest.param("invalid_configuration", {"values": {"PATH": "x"}}, "not a setting", id="somebody else's name"),
        pytest.param(
            "invalid_configuration",
            {"values": {"FIREWALL_PORT": "x"}, "missing": ["FIREWALL_PORT"]},
            "each in one way",
            id="changed and left out",
        ),
        pytest.param("packets_dropped", {"ports": [70000]}, "not a port", id="not a port"),
    ],
)
def test_a_wrong_record_is_a_clear_error(kind: str, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidFault, match=said):
        from_record(kind, parameters)


def test_the_rules_drop_both_directions_and_replace_what_is_there() -> None:
    script = PacketsDropped(ports=(15431, 15432)).ruleset().splitlines()

    assert script[:2] == ["add table inet amgf_faults", "delete table inet amgf_faults"]
    assert "tcp dport { 15431, 15432 } counter drop" in script
    assert "tcp sport { 15431, 15432 } counter drop" in script
