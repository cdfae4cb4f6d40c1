from pathlib import Path

import pytest

from app.migrations.catalogue import VERSIONS_FOLDER, Version, compare, expected

WANTED = (Version("0001_a", "x"), Version("0002_b", "y"))


@pytest.mark.parametrize(
    ("applied", "kind", "named"),
    [
        ({"0001_a": "x", "0002_b": "y"}, "compatible", "0002_b"),
        ({}, "missing", "no migration"),
        ({"0001_a": "x"}, "behind", "0002_b"),
        ({"0002_b": "y"}, "behind", "0001_a"),
        ({"0001_a": "x", "0002_b": "y", "0003_c": "z"}, "ahead", "0003_c"),
        ({"0001_a": "x", "0003_c": "z"}, "ahead", "0003_c"),
        ({"0001_a": "edited", "0002_b": "y"}, "edited", "0001_a"),
        ({"0001_a": "edited", "0003_c": "z"}, "edited", "0001_a"),
    ],
)
def test_what_a_database_has_is_named(applied: dict[str, str], kind: str, named: str) -> None:
    comparison = compare(WANTED, applied)

    assert comparison.kind == kind
    assert named in comparison.detail
    assert comparison.is_compatible == (kind == "compatible")


def test_every_version_can_be_taken_back() -> None:
    for version in expected():
        assert (VERSIONS_FOLDER / f"{version.id}.rollback.sql").read_text().strip()


def test_a_checksum_covers_both_files_and_not_the_line_ends(tmp_path: Path) -> None:
    def checksum(name: str, sql: bytes, rollback: bytes) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "0001_a.sql").write_bytes(sql)
        (folder / "0001_a.rollback.sql").write_bytes(rollback)
        return expected(folder)[0].checksum

    original = checksum("original", b"A;\nB;\n", b"C;\n")

    assert checksum("windows", b"A;\r\nB;\r\n", b"C;\r\n") == original
    assert checksum("edited", b"A;\nB ;\n", b"C;\n") != original
    assert checksum("edited rollback", b"A;\nB;\n", b"D;\n") != original
