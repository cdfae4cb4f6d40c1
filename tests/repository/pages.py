"""The repository's Markdown pages, read as Markdown: links, paths in code spans, headings, shell commands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.repository.files import ROOT, all_files, relative


@dataclass(frozen=True)
class Page:
    path: Path
    tokens: tuple[Token, ...]

    @property
    def name(self) -> str:
        return relative(self.path)

    def links(self) -> Iterator[str]:
        for token in self._spans():
            target = token.attrs.get("href") or token.attrs.get("src")
            if isinstance(target, str):
                yield target

    def code_spans(self) -> Iterator[str]:
        return (token.content for token in self._spans() if token.type == "code_inline")

    def anchors(self) -> set[str]:
        """Return the ids that headings get when the page is shown."""
        titles = [
            self.tokens[place + 1].content for place, token in enumerate(self.tokens) if token.type == "heading_open"
        ]
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    def commands(self) -> Iterator[str]:
        """Yield the lines of ``sh`` blocks without comments."""
        for token in self.tokens:
            if token.type == "fence" and token.info.split()[:1] == ["sh"]:
                for line in token.content.splitlines():
                    if command := line.partition("#")[0].strip():
                        yield command

    def _spans(self) -> Iterator[Token]:
        return (child for token in self.tokens for child in token.children or ())


def page(path: Path) -> Page:
    markdown = MarkdownIt("commonmark").enable("table")
    return Page(path=path, tokens=tuple(markdown.parse(path.read_text(encoding="utf-8"))))


def pages() -> list[Page]:
    return [page(path) for path in all_files() if path.suffix == ".md"]


README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
