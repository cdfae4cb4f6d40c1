"""The evidence of one scenario: append-only files in its folder, written during the run.

The judge reads nothing else, so ``judge`` repeats a verdict offline. Every line of every ``.jsonl`` file is a
JSON object with ``t``: seconds (float) of CLOCK_MONOTONIC since the scenario's origin, which
``environment.json`` keeps as ``origin_monotonic_ns`` and ``origin_wall_ns``.

| file | written by | one line is |
|---|---|---|
| ``environment.json`` | engine | origin, profile, seed, isolation, versions, host capabilities, expectations |
| ``journal.jsonl`` | engine | ``{t, event, phase, injection, ...}``: what the harness did |
| ``receipts.jsonl`` | engine | ``{t, injection, proves: bite|undo, ok, observation}`` |
| ``undo.jsonl`` | undo ledger | intent before the act, completion after it (fsync) |
| ``history.jsonl`` | traffic | ``{t, op, type: invoke|ok|fail|info, kind, stream?, ...}``: what clients saw |
| ``samples/health.jsonl`` | probe | ``{t, replica, path, status, ms, error}`` |
| ``samples/direct.jsonl`` | probe | ``{t, replica, status, code, retry_after, ms}``: a request past the proxy |
| ``samples/metrics.jsonl`` | probe | ``{t, replica, series: {sample: value}}`` or ``{t, replica, error}`` |
| ``samples/alerts.jsonl`` | probe | ``{t, alerts: [{name, state: active|suppressed, inhibited_by, labels}]}`` |
| ``samples/sessions.jsonl`` | probe | ``{t, sessions: {"replica-1": 4, ...}, ages: {...}}`` or ``{t, error}`` |
| ``samples/checkpoints.jsonl`` | witness | ``{t, replica, note}``: the log's checkpoint as each replica shows it |
| ``samples/replicas.jsonl`` | probe | ``{t, replicas: {name: {pid, restarts, ready, last_exit_code}}}`` |
| ``samples/<name>.jsonl`` | probe | whatever a probe of the scenario's own saw, or ``{t, error}`` |
| ``notifications.jsonl`` | receiver | ``{t, receiver, status, alerts: [...]}``: what Alertmanager delivered |
| ``runbook.jsonl`` | runbook | ``{t, injection, stage, step, kind, command, exit_code, output, seconds, ok}`` |
| ``errors.jsonl`` | traffic | ``{t, status, headers, body}`` of answers that were no success |
| ``database.jsonl`` | engine, at the end | ``{t, table, xmin, row: {...}}``: proposals, events, votes, log, ... |
| ``replay.jsonl``, ``replay/`` | probe | the log folded by the offline command; what it was given |
| ``canaries.jsonl`` | probe | ``{t, place, bytes, found}``: where secrets were looked for |
| ``logs/*.log`` | stack | the parts' own output; ``logs/replica-N.log`` is one JSON object a line |
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from chaos.result import EvidenceReference


@dataclass(frozen=True, slots=True)
class Origin:
    """The instant all ``t`` count from, on both clocks, in nanoseconds."""

    monotonic_ns: int
    wall_ns: int

    @classmethod
    def now(cls) -> "Origin":
        """Read both clocks."""
        return cls(monotonic_ns=time.monotonic_ns(), wall_ns=time.time_ns())

    def elapsed(self) -> float:
        """Seconds since the origin, now."""
        return (time.monotonic_ns() - self.monotonic_ns) / 1e9

    def of_wall(self, wall_seconds: float) -> float:
        """Seconds since the origin of a wall-clock instant (a log line's), in epoch seconds."""
        return wall_seconds - self.wall_ns / 1e9


class EvidenceWriter:
    """Appends lines to the files of one folder; each line is flushed, so a kill loses nothing written."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        self.folder = folder
        self.origin = origin
        self._files: dict[str, int] = {}

    def append(self, name: str, row: dict[str, Any], *, durable: bool = False) -> float:
        """Write one line to ``name`` and return its ``t``; ``durable`` also waits for the disk."""
        t = row.get("t", self.origin.elapsed())
        line = json.dumps({"t": round(t, 6), **{k: v for k, v in row.items() if k != "t"}}, ensure_ascii=False)
        descriptor = self._files.get(name)
        if descriptor is None:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._files[name] = descriptor
        os.write(descriptor, line.encode() + b"\n")
        if durable:
            os.fsync(descriptor)
        return float(t)

    def close(self) -> None:
        """Close every file."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of evidence and where it stands."""

    file: str
    line: int
    t: float
    data: dict[str, Any]

    @property
    def reference(self) -> EvidenceReference:
        """The place to cite."""
        return EvidenceReference(file=self.file, place=f"line {self.line}")


class Evidence:
    """A recorded scenario, read only. Missing files are empty: no evidence, hence no pass."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, tuple[Row, ...]] = {}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """``environment.json``, or an empty dictionary."""
        path = self.folder / "environment.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @cached_property
    def origin(self) -> Origin:
        """The origin of all ``t``."""
        return Origin(monotonic_ns=self.environment["origin_monotonic_ns"], wall_ns=self.environment["origin_wall_ns"])

    def rows(self, name: str) -> tuple[Row, ...]:
        """Return the lines of a ``.jsonl`` file in file order; a torn last line is left out."""
        if name not in self._rows:
            self._rows[name] = tuple(self._read(name))
        return self._rows[name]

    def between(self, name: str, start: float, end: float) -> tuple[Row, ...]:
        """Return the lines with ``start <= t < end``."""
        return tuple(row for row in self.rows(name) if start <= row.t < end)

    def _read(self, name: str) -> Iterator[Row]:
        path = self.folder / name
        if not path.exists():
            return
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith("\n"):
                    return
                data = json.loads(line)
                yield Row(file=name, line=number, t=float(data["t"]), data=data)
