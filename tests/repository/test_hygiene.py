"""What must be in no file, and what must be true of the lock file, the scripts and the changelog."""

import re
import tomllib

import pytest

from tests.repository.files import ROOT, all_files, relative, text_files

# A character class keeps each pattern from matching itself here.
MACHINE_PATHS = re.compile(r"/wor[k]/|/hom[e]/\w|/User[s]/\w|/roo[t]/\w|/tmp/scratc[h]|[A-Z]:\\User[s]")
REGISTRY_ADDRESSES = re.compile(
    r"https?://[\w.:@-]*(?:pyp[i]|pythonhoste[d]|npmj[s]|gopro[x]y|proxy\.golan[g])"
    r"|(?:index-ur[l]|PIP_INDEX_UR[L]|UV_INDEX_UR[L]|UV_DEFAULT_INDE[X]|GOPROX[Y])[\s\"']*[= ][\s\"']*https?:"
)
# package -> the oldest version that is safe or does what the code rests on
FLOORS = {
    "litestar": ("2.20", "the fixes of CVE-2025-59152 and CVE-2026-25479"),
    "psycopg": ("3.3.9", "a cancelled query on a silent connection comes back"),
    "psycopg-pool": ("3.3.3", "the same fix, in the pool"),
    "redis": ("4.5.5", "replies no longer cross after a cancellation"),
    "joserfc": ("1.8", "the fix of CVE-2026-49852"),
}
CHANGE_KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def locked() -> dict[str, str]:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.MULTILINE))


def version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in text_files()
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATHS.search(line)
    ]

    assert not found, "Write paths relative to the repository or take them from settings:\n" + "\n".join(found)


def test_no_file_holds_the_address_of_a_package_registry() -> None:
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in text_files()
        for number, line in enumerate(text.splitlines(), start=1)
        if REGISTRY_ADDRESSES.search(line)
    ]

    assert not found, "The installer's own configuration says where packages come from (ADR 8):\n" + "\n".join(found)


def test_the_patterns_above_do_find_what_they_are_for() -> None:
    for line in ("/" + "work/main/x", "/" + "home/ann/x", "/" + "Users/ann"):
        assert MACHINE_PATHS.search(line), line
    for line in ("https://files.python" + "hosted.org/packages/x", "--index-" + "url=http://mirror.example"):
        assert REGISTRY_ADDRESSES.search(line), line


def test_every_locked_package_has_a_hash() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)

    without = [entry.split()[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry]

    assert not without, f"Run ./justw lock; these have no hash: {', '.join(without)}"


def test_every_dependency_of_pyproject_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for group in project["optional-dependencies"].values() for name in group),
    ]

    names = {re.match(r"[\w.-]+", entry).group().lower() for entry in wanted}  # type: ignore[union-attr]

    missing = sorted(names - {*locked()})
    assert not missing, f"Run ./justw lock; requirements.txt lacks {', '.join(missing)}"


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_locked_version_is_not_below_its_floor(package: str) -> None:
    floor, reason = FLOORS[package]
    found = locked().get(package)

    assert found is None or version(found) >= version(floor), (
        f"{package} {found} is locked; {reason} needs {floor}: raise the bound in pyproject.toml and run ./justw lock"
    )


def test_scripts_and_only_scripts_are_executable() -> None:
    wrong = []
    for path in all_files():
        with path.open("rb") as file:
            is_script = file.read(2) == b"#!"
        if is_script != bool(path.stat().st_mode & 0o111):
            wrong.append(f"{relative(path)}: {'chmod +x' if is_script else 'chmod -x, or give it a #! line'}")

    assert not wrong, "\n".join(wrong)


def test_changelog_keeps_the_form() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    releases = [line for line in lines if line.startswith("## ")]
    kinds = [line.removeprefix("### ") for line in lines if line.startswith("### ")]

    assert lines[0] == "# Changelog"
    assert releases[:1] == ["## [Unreleased]"], "CHANGELOG.md: its first section is ## [Unreleased]"
    for line in releases[1:]:
        assert re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", line), f"CHANGELOG.md: {line!r} is no release"
    numbers = [version(line.split("]")[0]) for line in releases[1:]]
    assert numbers == sorted(numbers, reverse=True), "CHANGELOG.md: newest release first"
    assert {*kinds} <= {*CHANGE_KINDS}, f"CHANGELOG.md: sections are {', '.join(CHANGE_KINDS)}"
    for section in re.split(r"^### ", "\n".join(lines), flags=re.MULTILINE)[1:]:
        assert re.search(r"^- ", section, re.MULTILINE), f"CHANGELOG.md: {section.splitlines()[0]} is empty"
