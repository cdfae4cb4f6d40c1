"""What the harness did, in order: the vocabulary of ``journal.jsonl``, its writer and its reader.

One line is ``{t, event, phase, injection?, ...facts}``. The engine writes them as they happen; the judge reads
the windows of the injections back. An event that names no injection belongs to the whole scenario.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from chaos.evidence import Evidence, EvidenceWriter, Row
from chaos.scenario import Window

JOURNAL = "journal.jsonl"


class Phase(StrEnum):
    """The part of the run an event belongs to, in the order of the run."""

    WORLD = "world"
    BASELINE = "baseline"
    INJECT = "inject"
    HOLD = "hold"
    UNDO = "undo"
    RECOVER = "recover"
    DRAIN = "drain"
    END = "end"


class Event(StrEnum):
    """Everything the engine may say; the facts that go with each stand behind it."""

    SCENARIO_STARTED = "scenario_started"  # failure_mode, slug, profile, seed, isolation
    WORLD_UP = "world_up"
    BASELINE_STARTED = "baseline_started"  # injection
    BASELINE_STEADY = "baseline_steady"  # injection
    BASELINE_FAILED = "baseline_failed"  # injection, reason; nothing is injected
    INJECTION_STARTED = "injection_started"  # injection, kind, parameters; before the act
    INJECTED = "injected"  # injection; the act returned
    BITTEN = "bitten"  # injection, observation
    NOT_BITTEN = "not_bitten"  # injection, observation
    HOLD_ENDED = "hold_ended"  # injection
    UNDO_STARTED = "undo_started"  # injection
    UNDONE = "undone"  # injection, observation; the receipt of undo was taken
    NOT_UNDONE = "not_undone"  # injection, observation
    RECOVERY_STARTED = "recovery_started"  # injection
    RECOVERED = "recovered"  # injection; steady state seen again
    NOT_RECOVERED = "not_recovered"  # injection, reason; the deadline passed
    DRAINED = "drained"  # injection; no request of this injection is in flight any more
    INJECTION_SKIPPED = "injection_skipped"  # injection, reason; this host cannot
    CLAIM_SKIPPED = "claim_skipped"  # claim, reason; this host cannot show it
    ABORTED = "aborted"  # reason, signal (number or null); the undo follows
    SCENARIO_FINISHED = "scenario_finished"
    HARNESS_ERROR = "harness_error"  # exception, message; the harness is at fault, not the service


_SCENARIO_WIDE = frozenset(
    {
        Event.SCENARIO_STARTED,
        Event.WORLD_UP,
        Event.CLAIM_SKIPPED,
        Event.ABORTED,
        Event.SCENARIO_FINISHED,
        Event.HARNESS_ERROR,
    }
)

PHASE_OF = MappingProxyType(
    {
        Event.SCENARIO_STARTED: Phase.WORLD,
        Event.WORLD_UP: Phase.WORLD,
        Event.INJECTION_SKIPPED: Phase.WORLD,
        Event.CLAIM_SKIPPED: Phase.WORLD,
        Event.BASELINE_STARTED: Phase.BASELINE,
        Event.BASELINE_STEADY: Phase.BASELINE,
        Event.BASELINE_FAILED: Phase.BASELINE,
        Event.INJECTION_STARTED: Phase.INJECT,
        Event.INJECTED: Phase.INJECT,
        Event.BITTEN: Phase.INJECT,
        Event.NOT_BITTEN: Phase.INJECT,
        Event.HOLD_ENDED: Phase.HOLD,
        Event.UNDO_STARTED: Phase.UNDO,
        Event.UNDONE: Phase.UNDO,
        Event.NOT_UNDONE: Phase.UNDO,
        Event.RECOVERY_STARTED: Phase.RECOVER,
        Event.RECOVERED: Phase.RECOVER,
        Event.NOT_RECOVERED: Phase.RECOVER,
        Event.DRAINED: Phase.DRAIN,
        Event.ABORTED: Phase.END,
        Event.SCENARIO_FINISHED: Phase.END,
        Event.HARNESS_ERROR: Phase.END,
    }
)


class Journal:
    """Writes the journal of one scenario; ``echo``, if given, is shown every line (live progress)."""

    def __init__(self, writer: EvidenceWriter, *, echo: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._writer = writer
        self._echo = echo

    def write(self, event: Event, *, injection: str | None = None, t: float | None = None, **facts: Any) -> float:
        """Write one event and return its ``t``; ``t`` is given only for an instant noted earlier.

        Raises:
            ValueError: an event of an injection does not name it, or one of the whole scenario does.
        """
        if (injection is None) != (event in _SCENARIO_WIDE):
            raise ValueError(f"{event}: injection={injection!r}")
        row: dict[str, Any] = {"event": event.value, "phase": PHASE_OF[event].value}
        if injection is not None:
            row["injection"] = injection
        if t is not None:
            row["t"] = t
        row |= facts
        written_at = self._writer.append(JOURNAL, row)
        if self._echo is not None:
            self._echo({"t": written_at, **row})
        return written_at


@dataclass(frozen=True, slots=True)
class Account:
    """The journal of one scenario, read back."""

    rows: tuple[Row, ...]

    def first(self, event: Event, *, injection: str | None = None) -> Row | None:
        """Return the first such event, of one injection if named."""
        return next(iter(self.all(event, injection=injection)), None)

    def all(self, event: Event, *, injection: str | None = None) -> tuple[Row, ...]:
        """Return every such event in order."""
        return tuple(
            row
            for row in self.rows
            if row.data.get("event") == event and (injection is None or row.data.get("injection") == injection)
        )

    def at(self, event: Event, injection: str) -> float | None:
        """Return the instant of the first such event of an injection."""
        row = self.first(event, injection=injection)
        return None if row is None else row.t

    @property
    def skipped_injections(self) -> dict[str, str]:
        """Injections this host cannot make, and why."""
        return {row.data["injection"]: str(row.data.get("reason", "")) for row in self.all(Event.INJECTION_SKIPPED)}

    @property
    def skipped_claims(self) -> dict[str, str]:
        """Claims this host cannot show, and why."""
        return {row.data["claim"]: str(row.data.get("reason", "")) for row in self.all(Event.CLAIM_SKIPPED)}


def read_account(evidence: Evidence) -> Account:
    """Return what the harness says it did; nothing at all when there is no journal."""
    return Account(rows=evidence.rows(JOURNAL))


def read_windows(evidence: Evidence) -> tuple[Window, ...]:
    """Return one window for each injection the journal names, in order, without those that were skipped."""
    account = read_account(evidence)
    named = dict.fromkeys(row.data["injection"] for row in account.rows if "injection" in row.data)
    return tuple(_window(account, name) for name in named if name not in account.skipped_injections)


def _window(account: Account, injection: str) -> Window:
    return Window(
        injection=injection,
        baseline_started=account.at(Event.BASELINE_STARTED, injection),
        baseline_steady=account.at(Event.BASELINE_STEADY, injection),
        injection_started=account.at(Event.INJECTION_STARTED, injection),
        injected=account.at(Event.INJECTED, injection),
        bitten=account.at(Event.BITTEN, injection),
        hold_ended=account.at(Event.HOLD_ENDED, injection),
        undo_started=account.at(Event.UNDO_STARTED, injection),
        undone=account.at(Event.UNDONE, injection),
        recovered=account.at(Event.RECOVERED, injection),
        drained=account.at(Event.DRAINED, injection),
    )
