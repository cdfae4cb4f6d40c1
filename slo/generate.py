"""The files that are derived from the specification and checked in, and whether they still agree with it."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from slo import alerts, profiles, rule_tests, rules
from slo.files import GENERATED


def generated() -> Mapping[Path, str]:
    """Return every derived file, by its path relative to ``slo/generated``, with what it must say."""
    specified = alerts.load()
    files = {}
    for name in profiles.names():
        profile = profiles.load(name)
        files[Path(name, "rules.yaml")] = rules.render(specified, profile)
        files[Path(name, "tests.yaml")] = rule_tests.render(specified, profile)
    return files


def rules_file(profile: profiles.Profile) -> Path:
    """Return where the rules of a profile lie: what Prometheus loads."""
    return GENERATED / profile.name / "rules.yaml"


def write(folder: Path = GENERATED) -> list[Path]:
    """Write every derived file that differs from what it must say, and return those."""
    written = []
    for path, text in generated().items():
        target = folder / path
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def drift(folder: Path = GENERATED) -> str:
    """Return the differences between the files and the specification as a diff; empty when they agree."""
    expected = generated()
    present = {path.relative_to(folder) for path in folder.rglob("*.yaml")}
    lines: list[str] = []
    for path in sorted(present | set(expected)):
        there = (folder / path).read_text(encoding="utf-8") if path in present else ""
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
