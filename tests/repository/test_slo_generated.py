"""What is generated agrees with the specification, passes the tools, and its cases can fail."""

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
@pytest.mark.parametrize("mutation", ["never fires", "always fires", "no patience"])
def test_a_broken_rule_fails_its_cases(name: str, mutation: str, tmp_path: Path) -> None:
    """The cases are worth something: without this, an empty suite would pass."""
    specified = alerts.load()
    alert = specified.named(name)
    if mutation == "no patience":
        broken = msgspec.structs.replace(alert, for_=None)
    else:
        # vector() has no labels, which would fail for the wrong reason.
        value = 1 if mutation == "always fires" else 0
        always = 'label_replace(label_replace(vector(1), "service", "firewall", "", ""), "env", "production", "", "")'
        broken = msgspec.structs.replace(alert, expression=f"{always} == {value}")
    mutant = msgspec.structs.replace(
        specified, alerts=tuple(broken if one.name == name else one for one in specified.alerts)
    )
    only_its_cases = msgspec.structs.replace(
        specified,
        alerts=tuple(one if one.name == name else msgspec.structs.replace(one, cases=()) for one in specified.alerts),
    )
    generate.rules_file(FAST, tmp_path).parent.mkdir(parents=True)
    generate.rules_file(FAST, tmp_path).write_text(rules.render(mutant, FAST))
    generate.cases_file(FAST, tmp_path).write_text(rule_tests.render(only_its_cases, FAST))

    assert programs.run([programs.find("promtool"), "test", "rules", generate.cases_file(FAST, tmp_path)]) != []


def test_the_commands_answer() -> None:
    runner = CliRunner()

    assert "2.31%" in runner.invoke(main, ["budget", "--seconds", "60"]).output
    assert runner.invoke(main, ["budget", "--objective", "nothing"]).exit_code == 2
    assert "FM01  critical" in runner.invoke(main, ["severity"]).output
    assert "nothing to do" in runner.invoke(main, ["generate"]).output
