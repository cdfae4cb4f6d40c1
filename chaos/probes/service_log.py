"""Reads a replica's own log as rows of evidence: JSON lines whose wall-clock stamp is put on the scenario's clock."""

import json
from collections.abc import Iterator
from datetime import datetime

from chaos.evidence import Evidence, Row


def service_log(evidence: Evidence, replica: str) -> tuple[Row, ...]:
    """Return the lines of ``logs/<replica>.log`` that are JSON objects with a timestamp; nothing without a log."""
    return tuple(_read(evidence, f"logs/{replica}.log"))


def _read(evidence: Evidence, name: str) -> Iterator[Row]:
    path = evidence.folder / name
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                data = json.loads(line)
                stamp = datetime.fromisoformat(data["timestamp"])
            except (ValueError, KeyError, TypeError):
                continue  # a traceback of the interpreter, a torn line
            yield Row(file=name, line=number, t=evidence.origin.of_wall(stamp.timestamp()), data=data)
