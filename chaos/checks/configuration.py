"""Whether a wrong configuration is refused: by whom, how soon, in which words; and what the good one is made of. FM16.

A newcomer is a replica that came with the injection: the rolling update's first one. What became of it is told by what
runs the replicas, and by its own log.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from chaos.checks import windows
from chaos.checks.detection import replicas_of
from chaos.checks.findings import WindowCheck, cite, combine, failed, passed, seconds, unknown
from chaos.evidence import Row
from chaos.probes.replicas import REPLICAS
from chaos.probes.service_log import service_log
from chaos.result import EvidenceReference
from chaos.scenario import Case, Finding, Window

SETTINGS = "samples/settings.jsonl"
MISSING = "missing"
DEFAULT = "default"
STAGING = "staging"
_REFUSED = "setting_refused"
_STARTED = "service_started"
State = tuple[Row, Mapping[str, Any]]


def newcomers(case: Case, window: Window) -> dict[str, list[State]]:
    """Return the looks at each replica that came while the fault was there."""
    old = replicas_of(case)
    found: dict[str, list[State]] = {}
    for row in case.evidence.between(REPLICAS, *windows.fault(window)):
        for name, state in row.data.get("replicas", {}).items():
            if name not in old and state.get("environment") != STAGING:
                found.setdefault(name, []).append((row, state))
    return found


def each_newcomer(case: Case, window: Window, judge: Callable[[str, list[State]], Finding]) -> Finding:
    """Return the worst over all newcomers; ``unknown`` when none came, or nobody can tell who is old."""
    found = newcomers(case, window) if replicas_of(case) else {}
    if not found:
        return unknown("no new replica was seen")
    return combine([(name, judge(name, looks)) for name, looks in found.items()])


def ends_with(*, exit_code: int, ends_min: int) -> WindowCheck:
    """Every newcomer ends with ``exit_code`` again and again, and never with another one."""

    def judge(case: Case, window: Window) -> Finding:
        return each_newcomer(case, window, one)

    def one(_: str, looks: list[State]) -> Finding:
        ended = [(row, state) for row, state in looks if state.get("last_exit_code") is not None]
        if not ended:
            return failed("it did not end", [looks[-1][0]])
        other = [row for row, state in ended if state["last_exit_code"] != exit_code]
        if other:
            codes = sorted({str(state["last_exit_code"]) for _, state in ended})
            return failed(f"it ended with {', '.join(codes)}, not {exit_code}", other)
        ends = max(int(state["restarts"]) for _, state in ended)
        told = f"exit code {exit_code} at each of {ends} ends, {ends_min} needed"
        return (passed if ends >= ends_min else failed)(told, [ended[0][0], ended[-1][0]])

    return judge


def never_serves() -> WindowCheck:
    """No newcomer is ready at any look, and none says that it has started."""

    def judge(case: Case, window: Window) -> Finding:
        def one(name: str, looks: list[State]) -> Finding:
            ready = [row for row, state in looks if state.get("ready")]
            started = [row for row in _log(case, window, name) if row.data.get("event") == _STARTED]
            if ready or started:
                return failed("it served with a wrong configuration", [*ready, *started])
            return passed(f"not ready in {len(looks)} looks", [looks[0][0], looks[-1][0]])

        return each_newcomer(case, window, one)

    return judge


def fails_fast(*, exit_code: int, within_seconds: float) -> WindowCheck:
    """Every life of a newcomer ends by itself, with ``exit_code``, within the bound after its start."""

    def judge(case: Case, window: Window) -> Finding:
        return each_newcomer(case, window, one)

    def one(_: str, looks: list[State]) -> Finding:
        lives = {int(state["restarts"]): (row, state) for row, state in reversed(looks) if state.get("restarts")}
        measured = [(row, state) for row, state in lives.values() if state.get("last_seconds") is not None]
        if not measured:
            return failed("no life of it ended", [looks[-1][0]])
        slow = [(row, state) for row, state in measured if state["last_seconds"] > within_seconds]
        if slow:
            longest = max(float(state["last_seconds"]) for _, state in slow)
            return failed(
                f"a life lasted {seconds(longest)}, {seconds(within_seconds)} allowed", [row for row, _ in slow]
            )
        other = [row for row, state in measured if state["last_exit_code"] != exit_code]
        if other:
            return failed(f"a life ended with another exit code than {exit_code}", other)
        longest = max(float(state["last_seconds"]) for _, state in measured)
        return passed(
            f"{len(measured)} lives, the longest {seconds(longest)}, {seconds(within_seconds)} allowed",
            [row for row, _ in measured],
        )

    return judge


def settings_are_refused(problems: Mapping[str, str | None], *, within_seconds: float) -> WindowCheck:
    """Every newcomer names each of these settings in its log within the bound, with what it accepts.

    ``problems``: by setting, in which words (``missing``); ``None``: in any.
    """

    def judge(case: Case, window: Window) -> Finding:
        def one(name: str, _: list[State]) -> Finding:
            log = _log(case, window, name)
            if not log:
                return failed("it logged nothing")
            named = {setting: _first_refusal(log, setting, what) for setting, what in problems.items()}
            silent = sorted(setting for setting, row in named.items() if row is None)
            if silent:
                return failed(f"not refused: {', '.join(silent)}", log[:1])
            rows = [row for row in named.values() if row is not None]
            took = max(windows.since_injected(window, row.t) for row in rows)
            told = f"{len(rows)} settings named, the last after {seconds(took)}, {seconds(within_seconds)} allowed"
            return (passed if took <= within_seconds else failed)(told, rows)

        return each_newcomer(case, window, one)

    return judge


def log_keeps_to_lines(*, never: Sequence[str]) -> WindowCheck:
    """What a newcomer wrote has a line for each problem, no traceback, and none of the values that may be secrets."""

    def judge(case: Case, window: Window) -> Finding:
        def one(name: str, _: list[State]) -> Finding:
            path = case.evidence.folder / "logs" / f"{name}.log"
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            rows = [row for row in _log(case, window, name) if row.data.get("event") == _REFUSED]
            if not rows:
                return failed("it logged no refusal")
            shown = [value for value in never if value in text]
            if shown:
                return failed(f"{len(shown)} values that may be secrets are in its log", rows)
            if "Traceback" in text:
                return failed("there is a traceback in its log", rows)
            said = {f"{row.data['setting']}: {row.data['problem']}; accepted: {row.data['accepted']}" for row in rows}
            lines = set(text.splitlines())
            if said - lines:
                return failed(f"{len(said - lines)} problems have no line of their own", rows)
            return passed(f"{len(said)} problems, a line each", rows)

        return each_newcomer(case, window, one)

    return judge


def defaults_are_sensible(*, defaults: Sequence[Sequence[str]], never_defaulted: Sequence[str]) -> WindowCheck:
    """In the calm, what replicas were not told has the documented values, and nothing is guessed that may not be.

    From what the service says of a new replica's configuration, and from which settings it got.
    """

    def judge(case: Case, window: Window) -> Finding:
        start, end = windows.calm(window)
        looks = [row for row in case.evidence.between(SETTINGS, 0.0, end) if row.data.get("settings")]
        if not looks or start >= end:
            return unknown("the effective configuration was not seen before the fault")
        told: Mapping[str, Mapping[str, str]] = looks[-1].data["settings"]
        absent = [name for name in (*(name for name, _ in defaults), *never_defaulted) if name not in told]
        if absent:
            return unknown(f"nothing is known of {', '.join(absent)}", looks[-1:])
        guessed = [name for name in never_defaulted if told[name]["source"] == DEFAULT]
        if guessed:
            return failed(f"a default where none is safe: {', '.join(guessed)}", looks[-1:])
        left = [(name, value) for name, value in defaults if told[name]["source"] == DEFAULT]
        wrong = [
            f"{name} is {told[name]['value']}, not {value}" for name, value in left if told[name]["value"] != value
        ]
        if wrong:
            return failed(f"another default: {'; '.join(wrong)}", looks[-1:])
        if not left:
            return unknown("every setting was given, so no default was seen", looks[-1:])
        return passed(f"{len(left)} defaults as documented, {len(never_defaulted)} settings without one", looks[-1:])

    return judge


def starts_after_repair() -> WindowCheck:
    """Every newcomer is ready, after the repair began and before it was over."""

    def judge(case: Case, window: Window) -> Finding:
        if window.undo_started is None or window.undone is None:
            return unknown("there was no repair")
        names = newcomers(case, window)
        after = case.evidence.between(REPLICAS, window.undo_started, window.undone)
        if not names or not after:
            return unknown("no new replica was seen")
        ready = {
            name: [row for row in after if row.data.get("replicas", {}).get(name, {}).get("ready")] for name in names
        }
        never = sorted(name for name, rows in ready.items() if not rows)
        if never:
            return failed(f"not ready after the repair: {', '.join(never)}", after[-1:])
        return passed(f"ready after the repair: {', '.join(sorted(ready))}", [rows[0] for rows in ready.values()])

    return judge


def staging_starts_first() -> WindowCheck:
    """After the repair began, staging's replica is ready, and only then a newcomer."""

    def judge(case: Case, window: Window) -> Finding:
        if window.undo_started is None or window.undone is None:
            return unknown("there was no repair")
        names = newcomers(case, window)
        looks = case.evidence.between(REPLICAS, window.undo_started, window.undone)
        if not names or not looks:
            return unknown("no new replica was seen")
        staging = next((row for row in looks if _ready(row, [STAGING])), None)
        newcomer = next((row for row in looks if _ready(row, names)), None)
        if staging is None:
            return failed("no replica of staging was ready", looks[-1:])
        if newcomer is None or newcomer.t <= staging.t:
            return failed("no new replica was ready after staging's", [staging, newcomer or looks[-1]])
        return passed(f"ready in staging, and {seconds(newcomer.t - staging.t)} later here", [staging, newcomer])

    return judge


def _ready(row: Row, names: Iterable[str]) -> bool:
    states = row.data.get("replicas", {})
    return any(states.get(name, {}).get("ready") for name in names)


def refused_after(case: Case, window: Window) -> tuple[float | None, tuple[EvidenceReference, ...]]:
    """Read the clock of mitigation: seconds from the injection to the first end of a newcomer, whatever its code."""
    looks = [look for each in newcomers(case, window).values() for look in each]
    if not looks:
        return None, ()
    found = next((row for row, state in looks if state.get("last_exit_code") is not None), None)
    if found is None:
        return None, cite([looks[-1][0]])
    return windows.since_injected(window, found.t), (found.reference,)


def _log(case: Case, window: Window, name: str) -> list[Row]:
    start, end = windows.fault(window)
    return [row for row in service_log(case.evidence, name) if start <= row.t < end]


def _first_refusal(log: Sequence[Row], setting: str, what: str | None) -> Row | None:
    return next(
        (
            row
            for row in log
            if row.data.get("event") == _REFUSED
            and row.data.get("setting") == setting
            and row.data.get("accepted")
            and what in {None, row.data.get("problem")}
        ),
        None,
    )
