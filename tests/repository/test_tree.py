"""The tree is as docs/architecture.md draws it, and everything of a built failure mode carries its slug."""

import os
import subprocess
import sys

import pytest
import yaml

from chaos.matrix import NOT_BUILT, FailureMode, load_matrix
from slo import severity
from tests.repository.files import ROOT, is_ignored
from tests.repository.tree import drawn_folders, real_folders

PAGES = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"}
ROOT_FILES = PAGES | {"pyproject.toml", "requirements.txt", "justfile", "justw"}
MODES = load_matrix().modes
BUILT = [mode for mode in MODES if mode.id not in NOT_BUILT]
SLUGS = {mode.slug for mode in MODES}


def test_every_folder_of_the_tree_is_drawn() -> None:
    stray = real_folders() - {*drawn_folders()}

    assert not stray, (
        f"docs/architecture.md, The tree: add {', '.join(sorted(stray))}, or move it into a folder that is there"
    )


def test_every_folder_that_is_drawn_exists() -> None:
    drawn = {name: there for name, there in drawn_folders().items() if not is_ignored(name)}

    missing = sorted(name for name, there in drawn.items() if there and name not in real_folders())
    arrived = sorted(name for name, there in drawn.items() if not there and name in real_folders())

    assert not missing, f"docs/architecture.md draws {', '.join(missing)}: mark it (not there yet) or make it"
    assert not arrived, f"docs/architecture.md says (not there yet) of {', '.join(arrived)}, which is there"


def test_no_stray_file_lies_at_the_top() -> None:
    here = {path.name for path in ROOT.iterdir() if path.is_file() and not is_ignored(path.name)}

    stray = {name for name in here - ROOT_FILES if not name.startswith(".")}

    assert not stray, f"Move {', '.join(sorted(stray))} into a folder, or name it in tests/repository/test_tree.py"
    assert here >= ROOT_FILES, f"{', '.join(sorted(ROOT_FILES - here))} is missing"


@pytest.mark.parametrize("name", ["justw", ".ci/run"])
def test_entry_points_are_executable_scripts(name: str) -> None:
    path = ROOT / name

    assert path.read_bytes().startswith(b"#!"), f"{name} needs a #! line"
    assert os.access(path, os.X_OK), f"chmod +x {name}"


@pytest.mark.parametrize("mode", BUILT, ids=lambda mode: mode.id)
def test_one_slug_names_everything_of_a_built_mode(mode: FailureMode) -> None:
    wanted = [
        f"chaos/scenarios/{mode.slug}.py",
        f"runbooks/{mode.slug}.md",
        f"tests/failure_modes/test_{mode.slug}.py",
        f"slo/spec/expectations/{mode.id.lower()}.yaml",
    ]

    missing = [name for name in wanted if not (ROOT / name).is_file()]

    assert not missing, f"{mode.id} is not in NOT_BUILT (chaos/matrix.py), so add {', '.join(missing)}"


@pytest.mark.parametrize("profile", ["documented", "fast"])
@pytest.mark.parametrize("mode", [mode for mode in BUILT if mode.alerts], ids=lambda mode: mode.id)
def test_the_alert_group_of_a_built_mode_carries_its_slug(mode: FailureMode, profile: str) -> None:
    path = ROOT / "slo" / "generated" / profile / "rules.yaml"

    groups = {group["name"]: group["rules"] for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]}

    alerts = {rule.get("alert") for rule in groups.get(mode.slug, ())}
    assert alerts >= {*mode.alerts}, f"slo/spec/alerts.yaml: group {mode.slug} must hold {', '.join(mode.alerts)}"


@pytest.mark.parametrize(
    ("folder", "prefix", "suffix"),
    [("chaos/scenarios", "", ".py"), ("runbooks", "", ".md"), ("tests/failure_modes", "test_", ".py")],
)
def test_no_file_carries_a_slug_that_the_document_does_not_give(folder: str, prefix: str, suffix: str) -> None:
    named = {path.stem.removeprefix(prefix) for path in (ROOT / folder).glob(f"{prefix}fm[0-9]*{suffix}")}

    assert named <= SLUGS, f"{folder}: {', '.join(sorted(named - SLUGS))} is no slug of the document's headings"


def test_the_severity_catalogue_uses_the_documents_slugs() -> None:
    assert {mode.id: mode.slug for mode in severity.failure_modes()} == {mode.id: mode.slug for mode in MODES}


def test_the_layers_hold() -> None:
    search = os.pathsep.join([str(ROOT / "service"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"],
        cwd=ROOT,
        env={"PYTHONPATH": search, "PATH": os.defpath, "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, f"An import points up ([tool.importlinter] in pyproject.toml):\n{done.stdout[-3000:]}"
