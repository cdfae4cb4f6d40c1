"""Sees every connection a replica tries to make to a dependency, from Toxiproxy's own log.

Toxiproxy stamps its lines with whole seconds, too coarse for a backoff that begins at one second. So the log is
followed while it is written and each line is stamped on sight, ``POLL_SECONDS`` late at most.

Writes ``samples/attempts.jsonl``: ``{t, proxy, outcome, client, logged_at}``, ``outcome`` being ``accepted`` or
``upstream_unreachable``. A proxy that is down refuses in the kernel and logs nothing: attempts against it are read
from the service's log, see ``chaos.checks.mitigation``. Toxiproxy must log at level info: "Accepted client" is one.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from chaos.evidence import EvidenceWriter
from chaos.probes.follower import LineFollower
from chaos.probes.sampler import every

ATTEMPTS = "samples/attempts.jsonl"
POLL_SECONDS = 0.05

# Toxiproxy 2.12.0, proxy.go: the two lines of a connection attempt.
_OUTCOMES = {"Accepted client": "accepted", "Unable to open connection to upstream": "upstream_unreachable"}


def attempt_of(line: str) -> dict[str, Any] | None:
    """Return the connection attempt a log line tells of, or ``None``."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    outcome = _OUTCOMES.get(entry.get("message", "")) if isinstance(entry, dict) else None
    if outcome is None:
        return None
    return {
        "proxy": entry.get("name"),
        "outcome": outcome,
        "client": entry.get("client"),
        "logged_at": entry.get("time"),
    }


async def watch_attempts(proxy_log: Path | None, writer: EvidenceWriter) -> None:
    """Follow the log until cancelled. What was logged before is left out: it has no instant of its own."""
    if proxy_log is None:
        return
    follower = LineFollower(proxy_log)
    follower.lines()
    await every(POLL_SECONDS, partial(_record_new, follower, writer))


async def _record_new(follower: LineFollower, writer: EvidenceWriter) -> None:
    for line in follower.lines():
        attempt = attempt_of(line)
        if attempt is not None:
            writer.append(ATTEMPTS, attempt)
