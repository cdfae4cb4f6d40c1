"""Draws a timeline: everything about one scenario on one time axis, as SVG that lives inside a page.

Deterministic (fixed hash salt, no date). Colours are CSS variables of the page, so one picture serves light and
dark. Text stays text. Labels come from evidence and are treated as hostile: no mathematics, no control characters.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from chaos.report.timeline import OUTCOMES, Bar, Mark, Timeline

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"

# A colour matplotlib can parse stands for each CSS variable of the page.
_VARIABLE = MappingProxyType(
    {
        "ink": "#010101",
        "muted": "#010102",
        "grid": "#010103",
        "fault": "#010104",
        "good": "#010105",
        "bad": "#010106",
        "doubt": "#010107",
        "accent": "#010108",
        "quiet": "#010109",
    }
)
_OUTCOME = MappingProxyType({"ok": "good", "fail": "bad", "info": "doubt"})
_STATE = MappingProxyType(
    {
        "ready": "good",
        "not ready": "bad",
        "no answer": "doubt",
        "closed": "good",
        "half-open": "doubt",
        "open": "bad",
        "pending": "doubt",
        "suppressed": "quiet",
        "active": "bad",
    }
)
_MARK = MappingProxyType(
    {
        "injected": ("bad", "solid"),
        "bitten": ("bad", "dotted"),
        "detected": ("accent", "solid"),
        "mitigated": ("accent", "dashed"),
        "undone": ("good", "dotted"),
        "recovered": ("good", "solid"),
    }
)
_LEFT_INCHES, _RIGHT_INCHES = 2.75, 0.15
_ACROSS_INCHES_MIN, _INCHES_PER_SECOND = 9.6, 0.04
_COORDINATES = frozenset({"d", "x", "y", "transform"})
_USED_ID = re.compile(r"(?:url\(#|href=\"#)([^)\"]+)")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")  # a hundredth of a point is fine enough for any screen
_CHARACTER_INCHES, _TEXT_INCHES = 0.062, 0.75
_ROW_INCHES, _GAP_INCHES = 0.27, 0.16
_LABEL_MAX = 30
_BAR_SHARE_MIN = 0.003  # of the axis
_BAR_SHARE_NAMED = 0.05


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    inches: float


def draw(timeline: Timeline, *, name: str, bounds: tuple[float, float] | None = None) -> str:
    """Return an ``<svg>`` element; ``name`` makes its ids unique within the page, ``bounds`` zooms."""
    start, end = bounds or (timeline.start, timeline.end)
    end += _TEXT_INCHES * (end - start) / _inches_across((start, end))  # room for what is written at the last mark
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 8.5, "font.family": "DejaVu Sans"}):
        figure = _figure(timeline, (start, end))
        written = io.BytesIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_page(written.getvalue(), name)


def _figure(timeline: Timeline, bounds: tuple[float, float]) -> Figure:
    rows = _rows_of_bars(timeline)
    panels = [
        _Panel("marks", 1.1),
        _Panel("requests / s", 1.25),
        _Panel("latency", 1.05),
        *(_Panel(title, _ROW_INCHES * max(1, len(bars)) + 0.1) for title, bars in rows),
        _Panel("connection\nattempts", _ROW_INCHES * max(1, len(timeline.attempts)) + 0.1),
    ]
    height = sum(panel.inches + _GAP_INCHES for panel in panels) + 0.45
    width = _LEFT_INCHES + _inches_across(bounds) + _RIGHT_INCHES
    figure = Figure(figsize=(width, height))
    axes = _axes(figure, panels, width, height)
    marks, requests, latency, *bars, attempts = axes
    _draw_marks(marks, timeline, bounds)
    _draw_requests(requests, timeline)
    _draw_latency(latency, timeline)
    for axis, (_, series) in zip(bars, rows, strict=True):
        _draw_bars(axis, series, bounds)
    _draw_notifications(bars[1], timeline)
    _draw_attempts(attempts, timeline, bounds)
    for axis in axes:
        _dress(axis, timeline, bounds, is_last=axis is attempts, has_lines=axis is not marks)
    return figure


def _rows_of_bars(timeline: Timeline) -> tuple[tuple[str, Mapping[str, Sequence[Bar]]], ...]:
    return (("readiness", timeline.readiness), ("alerts", timeline.alerts), ("circuit", timeline.circuits))


def _axes(figure: Figure, panels: Iterable[_Panel], width: float, height: float) -> list[Axes]:
    axes = []
    top = height - 0.02
    for panel in panels:
        bottom = top - panel.inches
        axis = figure.add_axes(
            (
                _LEFT_INCHES / width,
                bottom / height,
                (width - _LEFT_INCHES - _RIGHT_INCHES) / width,
                panel.inches / height,
            )
        )
        if panel.title != "marks":
            x = -(_LEFT_INCHES - 0.02) / (width - _LEFT_INCHES - _RIGHT_INCHES)
            axis.text(x, 0.5, panel.title, transform=axis.transAxes, va="center", color=_VARIABLE["ink"], weight="bold")
        axes.append(axis)
        top = bottom - _GAP_INCHES
    return axes


def _draw_marks(axis: Axes, timeline: Timeline, bounds: tuple[float, float]) -> None:
    """Name the injections, and below each its instants in order, so that no line crosses a text."""
    axis.set_ylim(0, len(_MARK) + 2)
    named = [window for window in timeline.windows if window.injected is not None]
    for number, window in enumerate(named):
        if bounds[0] <= (window.injected or 0.0) <= bounds[1]:
            axis.annotate(
                _label(window.injection),
                (window.injected or 0.0, len(_MARK) + 0.4 + number % 2),  # neighbours on lines of their own
                va="center",
                color=_VARIABLE["ink"],
                weight="bold",
                parse_math=False,  # a dollar sign in a name is no formula
            )
    per_second = _inches_across(bounds) / (bounds[1] - bounds[0])
    ranked = [(mark, _rank(mark, timeline)) for mark in _visible(timeline.marks, bounds)]
    for mark, rank in ranked:
        y = len(_MARK) - rank - 0.5
        color, style = _MARK[mark.kind]
        axis.plot([mark.t, mark.t], [0, y], color=_VARIABLE[color], linestyle=style, linewidth=0.9)
        axis.plot([mark.t], [y], marker="o", markersize=3, color=_VARIABLE[color])
        text = f"{mark.kind} {_since(mark, timeline)}"
        wide = _CHARACTER_INCHES * len(text)
        following = min((other.t for other, same in ranked if same == rank and other.t > mark.t), default=None)
        if following is not None and (following - mark.t) * per_second < wide:
            continue  # no room before the next one; the closer pictures say it
        is_late = (bounds[1] - mark.t) * per_second < wide
        axis.annotate(
            text,
            (mark.t, y),
            xytext=(-5 if is_late else 5, 0),
            textcoords="offset points",
            ha="right" if is_late else "left",
            va="center",
            fontsize=7.5,
            color=_VARIABLE["muted"],
        )
    axis.set_yticks([])


def _rank(mark: Mark, timeline: Timeline) -> int:
    return sum(other.t < mark.t for other in timeline.marks if other.injection == mark.injection)


def _inches_across(bounds: tuple[float, float]) -> float:
    """Return how wide the time axis is: long scenarios get more room, and the page scrolls."""
    return max(_ACROSS_INCHES_MIN, (bounds[1] - bounds[0]) * _INCHES_PER_SECOND)


def _since(mark: Mark, timeline: Timeline) -> str:
    window = next(window for window in timeline.windows if window.injection == mark.injection)
    origin = window.undone if mark.kind == "recovered" else window.injected
    if mark.kind in {"injected", "undone"} or origin is None:
        return f"at {mark.t:.1f} s"
    return f"+{mark.t - origin:.1f} s"


def _draw_requests(axis: Axes, timeline: Timeline) -> None:
    counted = {second for outcome in OUTCOMES for second in timeline.requests[outcome]} or {0}
    seconds = range(min(counted), max(counted) + 1)
    edges = [*seconds, seconds.stop]
    below = [0] * len(seconds)
    for outcome in OUTCOMES:
        above = [low + timeline.requests[outcome].get(second, 0) for low, second in zip(below, seconds, strict=True)]
        axis.stairs(above, edges, baseline=below, fill=True, color=_VARIABLE[_OUTCOME[outcome]], linewidth=0)
        below = above
    axis.set_ylim(0, max([1, *below]) * 1.15)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))


def _draw_latency(axis: Axes, timeline: Timeline) -> None:
    axis.set_yscale("log")
    for series, style, width in ((timeline.p99, "solid", 1.4), (timeline.p50, "dotted", 1.1)):
        axis.plot(
            [second + 0.5 for second in series],
            [max(value, 1e-4) for value in series.values()],
            linestyle=style,
            linewidth=width,
            color=_VARIABLE["accent"],
        )
    highest = max([1.0, *timeline.p99.values()])
    axis.set_ylim(5e-4, highest * 3)
    axis.set_yticks([0.001, 0.01, 0.1, 1.0] + ([10.0] if highest > 3 else []))  # noqa: PLR2004 - seconds
    axis.yaxis.set_major_formatter(FuncFormatter(_milliseconds))
    axis.minorticks_off()


def _milliseconds(seconds: float, _position: object) -> str:
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def _draw_bars(axis: Axes, series: Mapping[str, Sequence[Bar]], bounds: tuple[float, float]) -> None:
    shortest = _BAR_SHARE_MIN * (bounds[1] - bounds[0])  # seen once is seen
    for row, bars in enumerate(series.values()):
        for bar in bars:
            start, end = max(bar.start, bounds[0]), min(max(bar.end, bar.start + shortest), bounds[1])
            if end <= start:
                continue
            color = _VARIABLE[_STATE.get(bar.state, "quiet")]
            axis.broken_barh([(start, end - start)], (row + 0.18, 0.64), facecolors=color, linewidth=0)
            if (end - start) / (bounds[1] - bounds[0]) > _BAR_SHARE_NAMED and bar.state not in {"ready", "closed"}:
                color = _VARIABLE["ink"]
                axis.text((start + end) / 2, row + 0.5, bar.state, ha="center", va="center", fontsize=7, color=color)
    _name_rows(axis, list(series), "no data")


def _draw_notifications(axis: Axes, timeline: Timeline) -> None:
    rows = list(timeline.alerts)
    for t, name, status in timeline.notifications:
        if name in rows:
            color = _VARIABLE["ink"]
            marker = "v" if status == "firing" else "^"
            axis.plot([t], [rows.index(name) + 0.5], marker=marker, markersize=5.5, color=color, linestyle="none")


def _draw_attempts(axis: Axes, timeline: Timeline, bounds: tuple[float, float]) -> None:
    for row, attempts in enumerate(timeline.attempts.values()):
        for t, outcome in attempts:
            if bounds[0] <= t <= bounds[1]:
                color = _VARIABLE["good" if outcome == "succeeded" else "bad"]
                axis.plot([t, t], [row + 0.15, row + 0.85], color=color, linewidth=1.6, solid_capstyle="butt")
    _name_rows(axis, list(timeline.attempts), "none logged")


def _name_rows(axis: Axes, names: Sequence[str], nothing: str) -> None:
    axis.set_ylim(max(1, len(names)), 0)
    axis.set_yticks([row + 0.5 for row in range(max(1, len(names)))])
    axis.set_yticklabels([_label(name) for name in names] or [nothing], parse_math=False)


def _dress(axis: Axes, timeline: Timeline, bounds: tuple[float, float], *, is_last: bool, has_lines: bool) -> None:
    axis.set_xlim(*bounds)
    axis.set_axisbelow(True)
    axis.grid(axis="x", color=_VARIABLE["grid"], linewidth=0.6)
    for window in timeline.windows:
        if window.injected is not None:
            end = window.undone if window.undone is not None else timeline.end
            axis.axvspan(window.injected, end, color=_VARIABLE["fault"], zorder=0, linewidth=0)
    for mark in _visible(timeline.marks, bounds) if has_lines else ():
        color, style = _MARK[mark.kind]
        axis.axvline(mark.t, color=_VARIABLE[color], linestyle=style, linewidth=0.9, zorder=1.5)
    axis.tick_params(colors=_VARIABLE["ink"], length=2.5, labelbottom=is_last)
    for side, spine in axis.spines.items():
        spine.set_color(_VARIABLE["grid"])
        spine.set_visible(side in {"left", "bottom"})
    axis.xaxis.set_major_locator(MaxNLocator(nbins=14, steps=[1, 2, 3, 5, 6, 10]))
    if is_last:
        axis.set_xlabel("seconds since the scenario began", color=_VARIABLE["ink"])


def _visible(marks: Iterable[Mark], bounds: tuple[float, float]) -> Iterable[Mark]:
    return (mark for mark in marks if bounds[0] <= mark.t <= bounds[1])


def _label(text: str) -> str:
    """Cut a name short and take out what an SVG cannot hold."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable if len(printable) <= _LABEL_MAX else printable[: _LABEL_MAX - 1] + "…"


def _for_page(written: bytes, name: str) -> str:
    """Make matplotlib's document a part of a page: own ids, page's colours, no size of its own."""
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ET.fromstring(written)  # noqa: S314 - our own output
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    prefix = re.sub(r"[^a-zA-Z0-9]", "-", name)
    used = set(_USED_ID.findall(written.decode()))
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{prefix}-{value}")
            elif key == _LINK and value.startswith("#"):
                element.set(key, f"#{prefix}-{value[1:]}")
            elif key in _COORDINATES:
                element.set(key, _LONG_NUMBER.sub(_two_decimals, value))
            else:
                element.set(key, _with_variables(value.replace("url(#", f"url(#{prefix}-")))
    points = float(root.attrib.pop("width").removesuffix("pt"))
    root.attrib.pop("height")
    root.set("style", f"min-width: {points:.0f}px")  # narrower pages scroll
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-caption")
    return ET.tostring(root, encoding="unicode")


def _two_decimals(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}"


def _with_variables(value: str) -> str:
    for variable, color in _VARIABLE.items():
        value = value.replace(color, f"var(--{variable})")
    return value
