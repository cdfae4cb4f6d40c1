"""The generated table, the index of decisions and the glossary are in order."""

import re
from pathlib import Path

import pytest

from chaos import readme_table
from tests.repository.files import ROOT
from tests.repository.pages import README

DECISIONS = ROOT / "docs" / "adr"


def test_the_table_of_the_sixteen_modes_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")

    assert readme_table.with_table(text) == text, "Run: python -m chaos.readme_table"


def test_a_page_without_marks_gets_no_table() -> None:
    with pytest.raises(readme_table.MarksMissingError):
        readme_table.with_table("no marks here")


def test_every_decision_is_in_the_index_under_its_title() -> None:
    listed = re.findall(
        r"^\| \[(\d+)\]\((.+?)\) \| (.+) \|$", (DECISIONS / "README.md").read_text("utf-8"), re.MULTILINE
    )
    titles = []
    for path in sorted(DECISIONS.glob("[0-9]*.md")):
        number, _, title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").partition(". ")
        titles.append((number, path.name, title))

    assert listed == titles, "docs/adr/README.md: one row a decision, in order, with the page's own title"
    assert [int(number) for number, _, _ in titles] == list(range(1, len(titles) + 1)), "decisions are numbered 1, 2, 3"


@pytest.mark.parametrize("path", sorted(DECISIONS.glob("[0-9]*.md")), ids=lambda path: path.stem)
def test_a_decision_says_status_context_decision_and_consequences(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert re.search(r"^Status: (accepted|superseded by \d+)$", text, re.MULTILINE), f"{path.name}: no status"
    for heading in ("Context", "Decision", "Consequences"):
        assert f"\n## {heading}\n" in text, f"{path.name}: no section {heading}"
    assert path.name.startswith(f"{int(text.split('.')[0].removeprefix('# ')):04}-"), (
        f"{path.name}: number and file differ"
    )


def test_a_word_stands_in_the_glossary_once() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \|[^|]+\|[^|]+\|$", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.MULTILINE
    )
    words = [word.strip() for row in rows for word in row.split(",") if word.strip() not in {"word", "---"}]

    twice = sorted({word for word in words if words.count(word) > 1})

    assert len(words) > 50
    assert not twice, f"docs/glossary.md explains twice: {', '.join(twice)}"
