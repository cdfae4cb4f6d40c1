"""The files that are derived from the specification and checked in, and whether they still agree with it."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from slo import alerts, profiles, rule_tests, rules, runbook_index
from slo.files import SLO_FOLDER

ROOT = SLO_FOLDER.parent
_GENERATED = Path("slo", "generated")
_RUNBOOKS = Path("runbooks")


def generated(root: Path = ROOT) -> Mapping[Path, str]:
    """Return every derived file, by its path below the repository, with what it must say."""
    specified = alerts.load()
    files = {}
    for name in profiles.names():
        profile = profiles.load(name)
        files[_GENERATED / name / "rules.yaml"] = rules.render(specified, profile)
        files[_GENERATED / name / "tests.yaml"] = rule_tests.render(specified, profile)
    files[_RUNBOOKS / "index.md"] = runbook_index.render(specified, root / _RUNBOOKS)
    return files


def rules_file(profile: profiles.Profile, root: Path = ROOT) -> Path:
    """Return where the rules of a profile lie: what Prometheus loads."""
    return root / _GENERATED / profile.name / "rules.yaml"


def cases_file(profile: profiles.Profile, root: Path = ROOT) -> Path:
    """Return where the promtool cases of a profile lie, beside its rules."""
    return root / _GENERATED / profile.name / "tests.yaml"


def write(root: Path = ROOT) -> list[Path]:
    """Write every derived file that differs from what it must say, and return those."""
    written = []
    for path, text in generated(root).items():
        target = root / path
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def drift(root: Path = ROOT) -> str:
    """Return the differences between the files and the specification as a diff; empty when they agree."""
    expected = generated(root)
    stray = {path.relative_to(root) for path in (root / _GENERATED).rglob("*") if path.is_file()} - set(expected)
    lines: list[str] = []
    for path in sorted({*expected, *stray}):
        there = (root / path).read_text(encoding="utf-8") if (root / path).exists() else ""
        lines.extend(
            difflib.unified_diff(
                there.splitlines(),
                expected.get(path, "").splitlines(),
                f"checked in: {path}",
                f"specified: {path}",
                lineterm="",
            )
        )
    return "\n".join(lines)
