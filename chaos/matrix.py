"""The document turned into data: 16 failure modes, 188 claims with stable ids, and what is owed for each.

``docs/failure-mode-matrix.md`` is parsed from Markdown tokens; a claim is a list item, word for word. Ids count
within their list (``FM01.D1``, ``FM01.M1``, ``FM01.R1``), which is why the document's digest is pinned: an edit
could move every id below it without anyone noticing.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "failure-mode-matrix.md"
DOCUMENT_SHA256 = "93ae97a478cbb04d4d0234e45c58c5f8b0361e13804e0b13da44b4ed7bb56149"

# Failure modes that a game day proves; the others are not built. The only such list.
_BUILT = {"FM01", "FM04", "FM05", "FM06", "FM12", "FM16"}
NOT_BUILT: frozenset[str] = frozenset(f"FM{number:02}" for number in range(1, 17)) - _BUILT


class DocumentError(ValueError):
    """The document does not have the shape, or is not the version, that the ids rest on."""


class ClaimKind(StrEnum):
    """The document's three lists."""

    DETECTION = "detection"
    MITIGATION = "mitigation"
    RECOVERY = "recovery"


_LETTER = {ClaimKind.DETECTION: "D", ClaimKind.MITIGATION: "M", ClaimKind.RECOVERY: "R"}


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of the document that must be true."""

    id: str  # "FM01.D1"
    failure_mode: str  # "FM01"
    kind: ClaimKind
    number: int  # from 1, within its list
    text: str  # verbatim Markdown of the list item
    line: int  # of the document, from 1
    alert: str | None  # the alert this sentence names
    actor: str | None  # of a recovery step: "Automated", "Manual", "Client fixes", "Rollback", "Hotfix"


@dataclass(frozen=True, slots=True)
class FailureMode:
    """One numbered section."""

    number: int
    title: str
    section: str  # "Database Failures"
    failure: str  # the **Failure** sentence
    slo_impact: str  # the **SLO Impact** sentence
    claims: tuple[Claim, ...]

    @property
    def id(self) -> str:
        """``FM06``."""
        return f"FM{self.number:02}"

    @property
    def slug(self) -> str:
        """``fm06_rate_limit_exceeded``: the name of everything that belongs to this mode."""
        words = re.findall(r"[a-z0-9]+", self.title.lower())
        return "_".join([f"fm{self.number:02}", *words])

    @property
    def alerts(self) -> tuple[str, ...]:
        """The alerts its detection list names, in order."""
        return tuple(claim.alert for claim in self.claims if claim.alert)

    def of_kind(self, kind: ClaimKind) -> tuple[Claim, ...]:
        """Return one of the three lists."""
        return tuple(claim for claim in self.claims if claim.kind is kind)


@dataclass(frozen=True, slots=True)
class SeveritySummary:
    """A row of the document's summary table."""

    severity: str
    count: int
    auto_recovery: int
    manual_recovery: int


@dataclass(frozen=True, slots=True)
class Escalation:
    """A row of the document's escalation table."""

    severity: str
    response_time: str
    path: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """The whole document."""

    modes: tuple[FailureMode, ...]
    summary: tuple[SeveritySummary, ...]
    escalation: tuple[Escalation, ...]

    @property
    def claims(self) -> dict[str, Claim]:
        """Every claim by id, in document order."""
        return {claim.id: claim for mode in self.modes for claim in mode.claims}

    def mode(self, failure_mode: str) -> FailureMode:
        """Return a mode by id; raises ``KeyError`` if there is none."""
        for mode in self.modes:
            if mode.id == failure_mode:
                return mode
        raise KeyError(failure_mode)


def load_matrix() -> Matrix:
    """Read the document.

    Raises:
        DocumentError: it was edited, or it cannot be parsed.
    """
    text = DOCUMENT.read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    if digest != DOCUMENT_SHA256:
        raise DocumentError(
            f"docs/{DOCUMENT.name} was edited (SHA-256 {digest}). Claim ids count list items, so an edit can move "
            "them. Either restore the file (it is kept verbatim), or: compare the ids that `parse` gives before and "
            "after, move the checks, runbook steps and waivers of every claim that moved or changed its words, "
            "then set DOCUMENT_SHA256 in chaos/matrix.py to the new digest."
        )
    return parse(text)


def parse(text: str) -> Matrix:
    """Parse the document's Markdown.

    Raises:
        DocumentError: a section lacks one of its five parts, or a list item is not a claim.
    """
    root = SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(text))
    section = ""
    modes: list[FailureMode] = []
    tables: dict[str, list[list[str]]] = {}
    nodes = root.children
    for index, node in enumerate(nodes):
        if node.type == "heading" and node.tag == "h2":
            section = _content(node)
        elif node.type == "heading" and node.tag == "h3":
            modes.append(_failure_mode(section, node, list(_until_heading(nodes[index + 1 :]))))
        elif node.type == "table":
            tables[section] = _table(node)
    if [mode.number for mode in modes] != list(range(1, len(modes) + 1)):
        raise DocumentError("the failure modes are not numbered 1, 2, 3 ...")
    return Matrix(
        modes=tuple(modes),
        summary=tuple(
            SeveritySummary(severity, int(count), int(automatic), int(manual))
            for severity, count, automatic, manual in tables.get("Summary Statistics", [])
        ),
        escalation=tuple(Escalation(*row) for row in tables.get("Escalation Matrix", [])),
    )


def _until_heading(nodes: Sequence[SyntaxTreeNode]) -> Iterator[SyntaxTreeNode]:
    for node in nodes:
        if node.type == "heading":
            return
        yield node


def _failure_mode(section: str, heading: SyntaxTreeNode, body: Sequence[SyntaxTreeNode]) -> FailureMode:
    number, dot, title = _content(heading).partition(". ")
    if not dot or not number.isdigit():
        raise DocumentError(f"line {_line(heading)}: not a numbered failure mode: {_content(heading)!r}")
    mode_id = f"FM{int(number):02}"
    sentences: dict[str, str] = {}
    claims: list[Claim] = []
    label = ""
    for node in body:
        if node.type == "paragraph":
            label, sentence = _labelled(node)
            sentences[label] = sentence
        elif node.type in {"bullet_list", "ordered_list"}:
            claims.extend(_claims(mode_id, label, node))
    missing = [name for name in ("Failure", "SLO Impact") if not sentences.get(name)]
    missing += [kind.value for kind in ClaimKind if not any(claim.kind is kind for claim in claims)]
    if missing:
        raise DocumentError(f"{mode_id} has no {', '.join(missing)}")
    return FailureMode(
        number=int(number),
        title=title,
        section=section,
        failure=sentences["Failure"],
        slo_impact=sentences["SLO Impact"],
        claims=tuple(claims),
    )


def _claims(mode_id: str, label: str, items: SyntaxTreeNode) -> Iterator[Claim]:
    try:
        kind = ClaimKind(label.lower())
    except ValueError:
        raise DocumentError(f"line {_line(items)}: a list under {label!r}") from None
    for number, item in enumerate(items.children, start=1):
        text = _content(item.children[0])
        yield Claim(
            id=f"{mode_id}.{_LETTER[kind]}{number}",
            failure_mode=mode_id,
            kind=kind,
            number=number,
            text=text,
            line=_line(item),
            alert=_alert(item.children[0]),
            actor=text.partition(":")[0] if kind is ClaimKind.RECOVERY else None,
        )


def _labelled(paragraph: SyntaxTreeNode) -> tuple[str, str]:
    """Split ``**Label**: sentence``; a paragraph without a label keeps an empty one."""
    first, *rest = _spans(paragraph)
    if first.type != "strong":
        return "", _content(paragraph)
    return first.children[0].content, "".join(span.content for span in rest).removeprefix(":").strip()


def _alert(paragraph: SyntaxTreeNode) -> str | None:
    match _spans(paragraph):
        case [SyntaxTreeNode(type="text", content="Alert: "), SyntaxTreeNode(type="code_inline", content=name), *_]:
            return name
    return None


def _table(table: SyntaxTreeNode) -> list[list[str]]:
    return [[_content(cell) for cell in row.children] for row in table.children[1].children]


def _spans(paragraph: SyntaxTreeNode) -> list[SyntaxTreeNode]:
    inline = paragraph.children[0].children
    return [span for span in inline if span.type != "text" or span.content]


def _content(block: SyntaxTreeNode) -> str:
    return block.children[0].content


def _line(block: SyntaxTreeNode) -> int:
    return (block.map or (0, 0))[0] + 1
