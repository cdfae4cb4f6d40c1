"""What is generated agrees with the specification, passes the tools, and its cases can fail."""

import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from slo import alertmanager, alerts, generate, profiles, programs, rule_tests, rules
from slo.__main__ import main

FAST = profiles.load("fast")
MUTANTS = [alert.name for alert in alerts.load().alerts if alert.role != "watchdog"]


def test_the_checked_in_files_agree_with_the_specification() -> None:
    assert generate.drift() == "", "run: python -m slo generate"


def test_a_changed_threshold_shows_as_a_diff(tmp_path: Path) -> None:
    for path, text in generate.generated(tmp_path).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert generate.drift(tmp_path) == ""

    rules_file = generate.rules_file(FAST, tmp_path)
    rules_file.write_text(rules_file.read_text().replace("> 0.01", "> 0.02"))

    difference = generate.drift(tmp_path)
    assert "+" in difference
    assert "> 0.02" in difference
    assert generate.write(tmp_path) == [Path("slo/generated/fast/rules.yaml")]


def test_a_stray_file_beside_the_generated_ones_shows_as_a_diff(tmp_path: Path) -> None:
    generate.write(tmp_path)
    (tmp_path / "slo/generated/fast/old.yaml").write_text("left: behind\n")

    assert "left: behind" in generate.drift(tmp_path)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", profiles.names())
def test_promtool_accepts_rules_and_cases(name: str) -> None:
    assert programs.check_rules(programs.find("promtool"), profiles.load(name)) == []


@pytest.mark.parametrize("name", profiles.names())
def test_amtool_accepts_the_configuration_and_every_route_leads_where_it_must(name: str) -> None:
    assert programs.check_alertmanager(programs.find("amtool"), profiles.load(name)) == []
    assert {receiver for case in alertmanager.route_cases() for receiver in case.receivers} == set(
        alertmanager.RECEIVERS
    )


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.parametrize("mutation", ["never fires", "always fires", "another patience"])
def test_a_broken_rule_fails_its_cases(name: str, mutation: str, tmp_path: Path) -> None:
    """The cases are worth something: without this, an empty suite would pass."""
    # A bare vector() has no labels and would fail for the wrong reason.
    labelled = 'label_replace(label_replace(vector(1), "service", "firewall", "", ""), "env", "production", "", "")'
    alert = alerts.load().named(name)
    broken = {
        "never fires": msgspec.structs.replace(alert, expression=f"{labelled} == 0"),
        "always fires": msgspec.structs.replace(alert, expression=f"{labelled} == 1"),
        "another patience": msgspec.structs.replace(alert, for_=None if alert.for_ else "${for_critical}"),
    }[mutation]

    assert complaints_about(broken, tmp_path) != []


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("DatabaseConnectionDown", "max by", "min by"),
        ("DatabaseSlowQueries", ">= 3", ">= 2"),
        ("DatabaseSlowQueries", "0.99", "0.999"),
        ("MigrationMismatch", "== 65", "== 78"),
        ("MigrationMismatch", "and on (namespace, pod, container)", "or on (namespace, pod, container)"),
        ("HighAuthFailureRate", "> 0.10", ">= 0.10"),
        ("HighAuthFailureRate", 'status="invalid"', 'status!="valid"'),
        ("ServiceNetworkFailure", "container_status_running", "container_status_ready"),
        ("ServiceNetworkFailure", "max_over_time(", "min_over_time("),
        ("HighClientErrorRate", "> 0.10", ">= 0.10"),
        ("HighClientErrorRate", ">= 20", ">= 2"),
        ("HighServerErrorRate", "> 0.01", ">= 0.01"),
        ("HighServerErrorRate", ">= 20", ">= 2"),
        ("HighServerErrorRate", 'route_class!="health", ', ""),
        ("ServiceNotStarting", ">= 2", ">= 1"),
        ("FirewallAvailabilityBurnFast", "14.4 * 0.001", "13.9 * 0.001"),
        ("FirewallAvailabilityBurnFast", "5xx", "4xx"),
        ("FirewallAvailabilityBurnSlow", "3 * 0.001", "2.8 * 0.001"),
        ("ServiceNotStarting", "max by (service, env, pod)", "max by (service, env)"),
        ("MetricsTargetDown", 'job!="firewall"', 'job!=""'),
    ],
)
def test_a_threshold_or_condition_slightly_off_fails_its_cases(
    name: str, right: str, wrong: str, tmp_path: Path
) -> None:
    alert = alerts.load().named(name)
    assert right in alert.expression
    broken = msgspec.structs.replace(alert, expression=alert.expression.replace(right, wrong))

    assert complaints_about(broken, tmp_path) != []


def test_a_service_that_refused_its_schema_is_not_one_that_does_not_start(tmp_path: Path) -> None:
    """Exit code 65 is told apart in another alert's cases: each of them names all that fire."""
    alert = alerts.load().named("ServiceNotStarting")
    broken = msgspec.structs.replace(alert, expression=alert.expression.replace("== 65", "== 66"))

    complaints = complaints_about(broken, tmp_path, cases_of="MigrationMismatch")

    assert len(re.findall(r"^\s+got:.*ServiceNotStarting", complaints[0], flags=re.MULTILINE)) == 2


def complaints_about(broken: alerts.Alert, folder: Path, *, cases_of: str | None = None) -> list[str]:
    """Run one alert's cases on the rules with the broken alert put in place of the specified one."""
    specified = alerts.load()
    kept = cases_of or broken.name
    mutant = [broken if one.name == broken.name else one for one in specified.alerts]
    others_without_cases = [
        one if one.name == kept else msgspec.structs.replace(one, cases=()) for one in specified.alerts
    ]
    cases = generate.cases_file(FAST, folder)
    cases.parent.mkdir(parents=True)
    generate.rules_file(FAST, folder).write_text(
        rules.render(msgspec.structs.replace(specified, alerts=tuple(mutant)), FAST)
    )
    cases.write_text(rule_tests.render(msgspec.structs.replace(specified, alerts=tuple(others_without_cases)), FAST))
    return programs.run([programs.find("promtool"), "test", "rules", cases])


def test_the_commands_answer() -> None:
    runner = CliRunner()

    assert "2.31%" in runner.invoke(main, ["budget", "--seconds", "60"]).output
    assert runner.invoke(main, ["budget", "--objective", "nothing"]).exit_code == 2
    assert "FM01  critical" in runner.invoke(main, ["severity"]).output
    assert "nothing to do" in runner.invoke(main, ["generate"]).output
