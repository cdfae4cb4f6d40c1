"""``report.html``: one file, opens offline, no script, no font, no address outside; light and dark.

Everything comes from the report and the evidence folders. Logs and answers are hostile input: every value passes
Jinja's autoescape, only pictures we drew ourselves are markup, and the page's own policy forbids scripts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from chaos.evidence import Evidence, Row
from chaos.matrix import NOT_BUILT, ClaimKind, FailureMode, load_matrix
from chaos.report.picture import draw
from chaos.report.tally import claims, clocks, inert, is_shortened, problems, seconds
from chaos.report.timeline import Timeline, read_timeline
from chaos.result import EvidenceReference, Report, ScenarioResult
from chaos.verdict import Verdict, worst

TEMPLATES = Path(__file__).resolve().parent / "templates"
_EXCERPTS_MAX = 3  # of one claim
_EXCERPT_CHARACTERS_MAX = 400
_OUTPUT_CHARACTERS_MAX = 2000
_ZOOM_MARGIN_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of the heat map."""

    state: str  # a verdict, "not run" or "not built"
    text: str


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One failure mode in the heat map."""

    mode: FailureMode
    verdict: str
    cells: tuple[Cell, ...]
    anchor: str | None


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A place in the evidence, with a link and the words that stand there."""

    place: str
    link: str
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn timeline and its caption's id."""

    id: str
    title: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class ScenarioView:
    """What the template needs of one scenario beside its result."""

    result: ScenarioResult
    mode: FailureMode
    overview: Picture
    zooms: tuple[Picture, ...]
    excerpts: Mapping[str, tuple[Excerpt, ...]]  # claim or invariant id
    runbook: tuple[Mapping[str, Any], ...]
    expectations: Mapping[str, Any]
    files: tuple[tuple[str, str], ...]  # name, link


def page(report: Report, run_folder: Path) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": seconds, "figure": _figure, "sentence": _sentence, "clauses": _clauses}
    matrix = load_matrix()
    counted = claims(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        problems=problems(report),
        is_shortened=is_shortened(report),
        passed=counted[Verdict.PASS],
        counted={verdict.value: counted[verdict] for verdict in Verdict},
        claims_in_all=len(matrix.claims),
        heat=[_heat_row(mode, report) for mode in matrix.modes],
        views=[_view(result, matrix.mode(result.failure_mode), run_folder) for result in report.scenarios],
        capabilities=dict(_capabilities(report.host)),
        facts={key: value for key, value in report.host.items() if not _is_capability(value)},
        clocks=clocks,
        kinds=[(kind.value, f".{kind.value[0].upper()}") for kind in ClaimKind],
    )


def _heat_row(mode: FailureMode, report: Report) -> HeatRow:
    result = next((each for each in report.scenarios if each.failure_mode == mode.id), None)
    if result is None:
        state = "not built" if mode.id in NOT_BUILT else "not run"
        cells = tuple(Cell(state, f"0/{len(mode.of_kind(kind))}") for kind in ClaimKind)
        return HeatRow(mode, state, cells, None)
    verdicts = {claim.id: claim.verdict for claim in result.claims}
    return HeatRow(mode, result.verdict.value, tuple(_cell(mode, kind, verdicts) for kind in ClaimKind), mode.id)


def _cell(mode: FailureMode, kind: ClaimKind, verdicts: Mapping[str, Verdict]) -> Cell:
    wanted = [verdicts.get(claim.id, Verdict.UNKNOWN) for claim in mode.of_kind(kind)]
    return Cell(worst(wanted).value, f"{wanted.count(Verdict.PASS)}/{len(wanted)}")


def _view(result: ScenarioResult, mode: FailureMode, run_folder: Path) -> ScenarioView:
    evidence = Evidence(run_folder / result.evidence_folder)
    timeline = read_timeline(evidence, result)
    return ScenarioView(
        result=result,
        mode=mode,
        overview=_picture(timeline, f"{mode.id}-0", f"{mode.id}: the whole scenario"),
        zooms=tuple(_zooms(timeline, mode.id)),
        excerpts={
            each.id: tuple(_excerpt(evidence, result, reference) for reference in each.evidence[:_EXCERPTS_MAX])
            for each in (*result.claims, *result.invariants)
        },
        runbook=tuple(_runbook(evidence)),
        expectations=_expectations(evidence),
        files=tuple(_files(evidence.folder, result)),
    )


def _picture(timeline: Timeline, identity: str, title: str, bounds: tuple[float, float] | None = None) -> Picture:
    svg = draw(timeline, name=identity, bounds=bounds)
    return Picture(identity, title, Markup(svg))  # noqa: S704 - drawn and serialised by us, labels escaped by it


def _zooms(timeline: Timeline, mode: str) -> Iterator[Picture]:
    injected = [window for window in timeline.windows if window.injected is not None]
    for number, window in enumerate(injected if len(injected) > 1 else (), start=1):
        start = (window.injected or 0.0) - _ZOOM_MARGIN_SECONDS
        end = (window.recovered or window.undone or timeline.end) + _ZOOM_MARGIN_SECONDS
        yield _picture(timeline, f"{mode}-{number}", window.injection, (max(0.0, start), end))


def _excerpt(evidence: Evidence, result: ScenarioResult, reference: EvidenceReference) -> Excerpt:
    link = quote(f"{result.evidence_folder}/{reference.file}")
    return Excerpt(f"{reference.file} {reference.place}", link, _line_of(evidence, reference))


def _line_of(evidence: Evidence, reference: EvidenceReference) -> str:
    """Return the cited line, cut; empty when it is not there (the judge has already said so)."""
    number = reference.place.removeprefix("line ")
    path = evidence.folder / reference.file
    if not number.isdigit() or not path.resolve().is_relative_to(evidence.folder.resolve()) or not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as lines:
        line = next((line for count, line in enumerate(lines, start=1) if count == int(number)), "")
    return _cut(line.strip(), _EXCERPT_CHARACTERS_MAX)


def _runbook(evidence: Evidence) -> Iterator[Mapping[str, Any]]:
    fields = ("injection", "stage", "step", "kind", "command", "exit_code", "seconds", "ok")
    for row in _rows(evidence, "runbook.jsonl"):
        output = _cut(str(row.data.get("output") or ""), _OUTPUT_CHARACTERS_MAX)
        yield {**{field: row.data.get(field) for field in fields}, "output": output, "t": row.t}


def _rows(evidence: Evidence, name: str) -> Sequence[Row]:
    try:
        return evidence.rows(name)
    except (OSError, ValueError, KeyError):
        return ()


def _expectations(evidence: Evidence) -> Mapping[str, Any]:
    try:
        found = evidence.environment.get("expectations", {})
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _files(folder: Path, result: ScenarioResult) -> Iterator[tuple[str, str]]:
    if not folder.is_dir():
        return
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        yield name, quote(f"{result.evidence_folder}/{name}")


def _capabilities(host: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, value in host.items():
        if _is_capability(value) and isinstance(value, Mapping):
            yield name, {key: value.get(key) for key in ("available", "reason", "unlocks")}


def _is_capability(value: object) -> bool:
    return isinstance(value, Mapping) and "available" in value


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else f"{text[:characters_max]} … ({len(text)} characters)"


def _printable(value: Any) -> Any:
    """Take control characters out of whatever is about to be written; pictures and numbers stay as they are."""
    return inert(value, keep="\n\t") if type(value) is str else value


def _sentence(markdown: str) -> Markup:
    """Set what stands between backquotes as code; everything is escaped."""
    parts = markdown.split("`")
    is_paired = len(parts) % 2 == 1
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if is_paired and index % 2 else part for index, part in enumerate(parts)
    )


def _clauses(reason: str) -> list[str]:
    """Split a reason into what it strings together, so that a reader can stop after the first."""
    return reason.split("; ")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
