"""Where the stack's programs are taken from, and what is said of those that are nowhere."""

from pathlib import Path

import pytest

from compose.programs import PROGRAMS, MissingProgram, find, postgres_folder, versions
from compose.settings import Settings, load


def executable(path: Path, *, says: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["postgres", "initdb", "pg_basebackup", "pg_amcheck", "pg_checksums", "valkey-server"])
def test_a_program_of_a_wheel_is_found_without_any_set_up(name: str, tmp_path: Path) -> None:
    found = find(name, settings=Settings(tools_folder=tmp_path))

    assert found.name == name
    assert "site-packages" in found.parts


def test_what_set_up_built_wins_over_path(tmp_path: Path) -> None:
    built = executable(tmp_path / "bin" / "haproxy")

    assert find("haproxy", settings=Settings(tools_folder=tmp_path)) == built


def test_a_missing_program_is_named_with_what_installs_it(tmp_path: Path) -> None:
    with pytest.raises(MissingProgram) as raised:
        find("toxiproxy-server", settings=Settings(tools_folder=tmp_path))

    assert raised.value.name == "toxiproxy-server"
    assert str(raised.value) == "toxiproxy-server is missing; `./justw setup` installs it."


def test_a_chosen_folder_without_a_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingProgram, match="holds no `postgres`"):
        postgres_folder(settings=Settings(postgres=str(tmp_path)))


def test_a_chosen_folder_is_used_for_every_program_of_postgres(tmp_path: Path) -> None:
    executable(tmp_path / "postgres")
    chosen = executable(tmp_path / "initdb")

    assert find("initdb", settings=Settings(postgres=str(tmp_path))) == chosen


@pytest.mark.parametrize(
    ("said", "accepted"), [("postgres (PostgreSQL) 15.9", False), ("postgres (PostgreSQL) 16.2", True)]
)
def test_a_server_on_path_older_than_16_is_refused(
    said: str, *, accepted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "postgres", says=said)
    monkeypatch.setenv("PATH", str(tmp_path))

    if accepted:
        assert postgres_folder(settings=Settings(postgres="system"), packaged=()) == tmp_path
    else:
        with pytest.raises(MissingProgram, match="16 or newer"):
            postgres_folder(settings=Settings(postgres="system"), packaged=())


def test_every_program_is_listed_with_path_and_version_or_with_what_installs_it(tmp_path: Path) -> None:
    known = versions(settings=Settings(tools_folder=tmp_path))

    assert set(known) == set(PROGRAMS)
    assert known["postgres"].version.startswith("18.")
    assert known["valkey-server"].version.startswith("9.")
    for found in known.values():
        assert (found.path is None) == bool(found.how_to_install)


@pytest.mark.parametrize(("says", "older"), [("2.9.0", True), ("2.12.0", False), ("3.0", False)])
def test_a_version_older_than_tested_is_known_as_such(says: str, *, older: bool, tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "toxiproxy-server", says=f"toxiproxy-server version {says}")

    assert versions(settings=Settings(tools_folder=tmp_path))["toxiproxy-server"].is_older_than_tested is older


def test_settings_come_from_the_environment_and_an_empty_value_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_TOOLS_FOLDER", "/elsewhere")
    monkeypatch.setenv("STACK_POSTGRES", "")

    assert load() == Settings(tools_folder=Path("/elsewhere"))
