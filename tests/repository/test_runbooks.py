"""Every built failure mode has a runbook that follows the document, and no runbook stands alone."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from chaos import matrix, runbook
from chaos.runbook import Kind, Runbook, Stage
from slo import alerts, profiles, rules, severity

MODES = {mode.id: mode for mode in matrix.load_matrix().modes}
BUILT = sorted(set(MODES) - matrix.NOT_BUILT)
# A runbook may be written before its mode is built; then it is held to the same rules.
WRITTEN = sorted({*BUILT, *(path.stem[:4].upper() for path in runbook.FOLDER.glob("fm*.md"))})
ROOT = runbook.ROOT


OTHERS = {"_template.md", "index.md", "probe.py", "api_changes.py", "client_errors.py"}


def load(identifier: str) -> Runbook:
    return runbook.load(MODES[identifier].slug)


def test_there_is_a_runbook_to_look_at() -> None:
    assert "FM01" in WRITTEN


def test_every_file_of_the_folder_belongs_there() -> None:
    expected = {f"{MODES[identifier].slug}.md" for identifier in WRITTEN} | OTHERS

    assert {path.name for path in runbook.FOLDER.iterdir() if path.name != "__pycache__"} == expected


@pytest.mark.parametrize("identifier", WRITTEN)
def test_sections_are_complete_and_in_order(identifier: str) -> None:
    read = load(identifier)

    assert read.sections == runbook.SECTIONS
    assert read.title == f"{MODES[identifier].number}. {MODES[identifier].title}"


@pytest.mark.parametrize("identifier", WRITTEN)
def test_front_matter_says_what_catalogue_and_document_say(identifier: str) -> None:
    mode, front = MODES[identifier], load(identifier).front_matter
    meaning = severity.meaning(severity.failure_mode(identifier).severity)

    assert front.failure_mode == identifier
    assert front.severity == severity.failure_mode(identifier).severity
    assert (front.response_time, front.escalation) == (meaning.response_time, meaning.escalation)
    assert front.slo_impact == mode.slo_impact
    assert front.alert == (mode.alerts[0] if mode.alerts else None)
    assert front.scenario == f"chaos/scenarios/{mode.slug}.py"


@pytest.mark.parametrize("identifier", WRITTEN)
def test_recovery_has_the_documents_lines_word_for_word_and_in_order(identifier: str) -> None:
    documented = [claim.text for claim in MODES[identifier].claims if claim.kind is matrix.ClaimKind.RECOVERY]

    assert list(load(identifier).recovery) == documented


@pytest.mark.parametrize("identifier", WRITTEN)
def test_every_recovery_line_has_a_step_that_names_it(identifier: str) -> None:
    claims = [claim.id for claim in MODES[identifier].claims if claim.kind is matrix.ClaimKind.RECOVERY]
    steps = load(identifier).steps

    assert [claim for claim in claims if claim not in {step.claim for step in steps}] == []
    for step in steps:
        assert step.claim == (f"{identifier}.R{step.number}" if step.number else None)
    numbers = [step.number for step in steps if step.number]
    assert numbers == sorted(numbers)
    assert any(step.number == 0 and Stage.AFTER in step.stages for step in steps), "nothing under Verification"


@pytest.mark.parametrize("identifier", WRITTEN)
def test_an_act_names_what_it_says_and_a_diagnosis_has_its_word(identifier: str) -> None:
    for step in load(identifier).steps:
        if step.kind is Kind.ACT:
            assert step.expect is not None, f"line {step.line}: an act says what it did"
        if step.kind is Kind.CHECK and Stage.DURING in step.stages:
            assert step.during_expect is not None, f"line {step.line}"
            assert "outcome" in step.during_expect.groupindex, f"line {step.line}"


@pytest.mark.parametrize("identifier", WRITTEN)
def test_the_diagnosis_only_names_outcomes_that_its_steps_can_have(identifier: str) -> None:
    read = load(identifier)
    patterns = {step.number: step.during_expect for step in read.at(Stage.DURING) if step.during_expect is not None}

    assert read.diagnosis
    for row in read.diagnosis:
        for number, word in row.outcomes.items():
            alternatives = re.search(r"\?P<outcome>([^)]*)\)", patterns[number].pattern)
            assert alternatives is not None
            assert word in alternatives[1].split("|"), f"step {number} never says {word!r}"


@pytest.mark.parametrize("identifier", WRITTEN)
def test_every_step_is_a_shell_script_without_warnings(identifier: str, tmp_path: Path) -> None:
    for step in load(identifier).steps:
        if step.kind is Kind.HUMAN:
            continue
        script = tmp_path / f"line{step.line}.sh"
        # SC2086, SC2206: lists separated by spaces are meant to fall apart. SC2154: the environment is given.
        script.write_text(f"#!/bin/bash\n# shellcheck disable=SC2086,SC2206,SC2154\n{step.command}")
        program = Path(sys.executable).with_name("shellcheck")
        done = subprocess.run([program, script], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, f"{step.file}:{step.line}\n{done.stdout}"


def test_the_template_lists_exactly_the_fixed_environment() -> None:
    text = (runbook.FOLDER / "_template.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(AMGF_[A-Z_]+)` \| (.*) \|$", text, flags=re.MULTILINE))

    assert listed == dict(runbook.ENVIRONMENT)


def test_the_template_shows_the_sections() -> None:
    text = (runbook.FOLDER / "_template.md").read_text(encoding="utf-8")

    assert tuple(re.findall(r"^## (.*)$", text, flags=re.MULTILINE)) == runbook.SECTIONS


def test_the_alert_of_every_built_mode_leads_to_its_runbook_pinned_to_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    specified = alerts.load()

    assert specified.runbook_base_url.startswith("https://")
    assert specified.runbook_base_url.endswith(f"/v{version}/")
    for alert in specified.alerts:
        url = rules.annotations(alert, specified, profiles.load("documented"))["runbook_url"]
        name = url.removeprefix(specified.runbook_base_url)
        assert alert.failure_mode in matrix.NOT_BUILT or (runbook.FOLDER / name).exists(), name


def test_every_alert_the_document_names_for_a_written_mode_is_specified() -> None:
    names = {alert.name for alert in alerts.load().alerts}

    for identifier in WRITTEN:
        assert set(MODES[identifier].alerts) <= names


def test_links_between_runbooks_lead_somewhere() -> None:
    for path in runbook.FOLDER.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
