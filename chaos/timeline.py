"""Evidence by instant: the rows of a file between two instants, from a finished folder or from one being written."""

import json
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from chaos.evidence import Evidence, Row
from chaos.probes.follower import LineFollower


class Timeline(Protocol):
    """Whatever can tell what was recorded when."""

    def between(self, name: str, start: float, end: float) -> Sequence[Row]:
        """Return the rows of a file with ``start <= t < end``, in order of ``t``."""


class Recorded:
    """A finished folder, searched by bisection: many questions, one reading."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._sorted: dict[str, tuple[list[float], list[Row]]] = {}

    def between(self, name: str, start: float, end: float) -> Sequence[Row]:
        """Return the rows of a file with ``start <= t < end``, in order of ``t``."""
        if name not in self._sorted:
            rows = sorted(self._evidence.rows(name), key=lambda row: row.t)
            self._sorted[name] = ([row.t for row in rows], rows)
        instants, rows = self._sorted[name]
        return rows[bisect_left(instants, start) : bisect_left(instants, end)]


class Growing:
    """A folder that is being written: reads what is new at each question and forgets what is older than it keeps."""

    def __init__(self, folder: Path, *, keep_seconds: float) -> None:
        self._folder = folder
        self._keep = keep_seconds
        self._followers: dict[str, LineFollower] = {}
        self._counts: dict[str, int] = {}
        self._rows: dict[str, list[Row]] = {}

    def between(self, name: str, start: float, end: float) -> Sequence[Row]:
        """Return the rows of a file with ``start <= t < end``, in order of ``t``."""
        follower = self._followers.setdefault(name, LineFollower(self._folder / name))
        rows = self._rows.setdefault(name, [])
        for line in follower.lines():
            self._counts[name] = self._counts.get(name, 0) + 1
            data = json.loads(line)
            rows.append(Row(file=name, line=self._counts[name], t=float(data["t"]), data=data))
        rows.sort(key=lambda row: row.t)
        if rows:
            del rows[: bisect_left([row.t for row in rows], rows[-1].t - self._keep)]
        return [row for row in rows if start <= row.t < end]
