"""The client history: what was asked, what was answered, and what cannot be known.

``history.jsonl`` holds, for each operation, an invoke row written before the first byte is sent and a completion
row written after the answer (or after the deadline). Chapter and verse: Knossos and Jepsen's set-full checker.

| field | rows | meaning |
|---|---|---|
| ``op`` | both | number of the operation, unique in the run |
| ``type`` | both | ``invoke``, then ``ok``, ``fail`` or ``info``; ``dropped``: never sent, the pool was full |
| ``kind`` | both | see ``Kind`` |
| ``life`` | both | number of the whole life (``chaos.lives``) that the operation is a step of |
| ``stream`` | both | name of the stream (``chaos.streams``) that the operation belongs to |
| ``principal`` | invoke | who asked ("client-1"); never the API key |
| ``key``, ``body_sha256`` | invoke, writes | Idempotency-Key; SHA-256 of the very bytes sent |
| ``of`` | invoke | the operation that is repeated, whose key is used again, or whose acknowledgement is read back |
| ``target`` | both | whose head is read or moved |
| ``validator``, ``decision``, ``vote`` | invoke of a vote | who says what; the envelope's digest |
| ``why`` | invoke, ``forbidden_vote`` and streams | what is wrong with it |
| ``pointer``, ``rule`` | invoke, streams | where the refusal must point, and which rule it must name |
| ``to_version`` | invoke, ``rollback`` | the version to restore |
| ``proposal`` | both | identity asked for by ``get``, or given by an acknowledgement |
| ``after`` | invoke, ``list`` | last identity of the page before this one; absent on a first page |
| ``intended`` | invoke | when it was due; ``t`` is when it was sent, the difference is the generator's lag |
| ``status``, ``replica``, ``request`` | completion | of the answer: status, X-Replica, X-Request-Id |
| ``code``, ``retry_after`` | completion | the problem's code; Retry-After as sent |
| ``media_type``, ``flaws`` | completion, refused | of the problem: its type; pointer, code, message of each flaw |
| ``error`` | completion | why there was no answer: ``timeout``, ``refused``, ``reset``, ``malformed``, ``abandoned`` |
| ``digest`` | completion of a proposal | SHA-256 of the answer's canonical JSON |
| ``proposal_digest``, ``state``, ``revision`` | completion of a proposal | as the service states them |
| ``replayed`` | completion | ``true``: an earlier answer given again (Idempotency-Replayed) |
| ``version``, ``snapshot``, ``stale`` | completion, ``current`` | the head; whether the answer says it may be old |
| ``ids``, ``more`` | completion, ``list`` | identities on the page in order; whether it gave a further cursor |
| ``ms`` | completion | from the *intended* start: what a user of an open system waits |

``fail`` promises no effect; ``info`` is "unknown" and stays so until the database tells.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chaos.evidence import Row

HISTORY = "history.jsonl"
# Begins the canary in the body of every proposal: a word that may stand in documents and nowhere else.
MARKER = "xcanaryx"

# Problem codes by which the service promises that nothing was begun (firewall.md, section 4).
NOT_STARTED_CODES = frozenset({"database-unavailable"})
_UNAVAILABLE = 503
_CLIENT_ERRORS = range(400, 500)
_SUCCESSES = range(200, 300)
_SERVER_ERRORS_FROM = 500


class Outcome(StrEnum):
    """What is known about an operation's effect."""

    OK = "ok"
    FAIL = "fail"
    INFO = "info"


class Kind(StrEnum):
    """What an operation does."""

    PROPOSE = "propose"
    RETRY = "retry"  # of a proposal: same key, same body
    REUSE = "reuse"  # same key, another body: must be refused
    LIST = "list"
    GET = "get"  # one proposal
    BALLOT = "ballot"
    VOTE = "vote"
    FORBIDDEN_VOTE = "forbidden_vote"  # must be refused
    REVOKE = "revoke"  # a vote
    WITHDRAW = "withdraw"
    APPLY = "apply"
    ROLLBACK = "rollback"
    CURRENT = "current"  # the head of a target
    ATTESTATION = "attestation"

    @property
    def writes(self) -> bool:
        """Whether the operation may leave something behind."""
        return self not in _READS

    @property
    def proposes(self) -> bool:
        """Whether a success means a proposal that was asked for in these very bytes."""
        return self in _PROPOSALS


_READS = frozenset({Kind.LIST, Kind.GET, Kind.BALLOT, Kind.CURRENT, Kind.ATTESTATION})
_PROPOSALS = frozenset({Kind.PROPOSE, Kind.RETRY, Kind.REUSE})


def outcome_of_answer(kind: Kind, *, status: int, code: str | None, replica: str | None) -> Outcome:
    """Classify an answer by what it promises about its effect.

    A 503 without the replica's header was made by the proxy in front, which found no server to forward to.
    Every other server error on a write leaves the effect open, a 503 with an unknown code included.
    """
    if status in _SUCCESSES:
        return Outcome.OK
    if status in _CLIENT_ERRORS or not kind.writes:
        return Outcome.FAIL
    if status == _UNAVAILABLE and (replica is None or code in NOT_STARTED_CODES):
        return Outcome.FAIL
    return Outcome.INFO


def outcome_of_silence(kind: Kind, *, sent: bool) -> Outcome:
    """Classify an operation that got no answer: open if it was a write and any byte may have left."""
    return Outcome.INFO if kind.writes and sent else Outcome.FAIL


def sha256(content: bytes) -> str:
    """Return the hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def digest_of_answer(content: bytes) -> str:
    """Return the digest of an answer's canonical JSON (field order does not matter), or of its bytes if not JSON."""
    try:
        document = json.loads(content)
    except ValueError:
        return sha256(content)
    return sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its invocation and, if there was one, its completion."""

    number: int
    kind: Kind
    invocation: Row
    completion: Row | None

    @property
    def outcome(self) -> Outcome:
        """What is known; an operation cut off by the end of the run is open."""
        if self.completion is None:
            return outcome_of_silence(self.kind, sent=True)
        return Outcome(self.completion.data["type"])

    @property
    def invoked(self) -> float:
        """When it was sent."""
        return self.invocation.t

    @property
    def intended(self) -> float:
        """When it was due."""
        return float(self.invocation.data.get("intended", self.invocation.t))

    @property
    def completed(self) -> float | None:
        """When it was answered or given up."""
        return None if self.completion is None else self.completion.t

    @property
    def seconds(self) -> float | None:
        """From the intended start to the end."""
        return None if self.completion is None else self.completion.t - self.intended

    @property
    def principal(self) -> str:
        """Who asked."""
        return str(self.invocation.data.get("principal", ""))

    @property
    def stream(self) -> str | None:
        """The stream it belongs to, or ``None``: background traffic."""
        return self.invocation.data.get("stream")

    @property
    def key(self) -> str | None:
        """The Idempotency-Key."""
        return self.invocation.data.get("key")

    @property
    def body_sha256(self) -> str | None:
        """Digest of the bytes sent."""
        return self.invocation.data.get("body_sha256")

    @property
    def status(self) -> int | None:
        """HTTP status, or ``None`` without an answer."""
        return None if self.completion is None else self.completion.data.get("status")

    @property
    def proposal(self) -> str | None:
        """Identity given by an acknowledgement, or asked for by a read."""
        given = None if self.completion is None else self.completion.data.get("proposal")
        return given or self.invocation.data.get("proposal")

    @property
    def is_bad(self) -> bool:
        """Whether a user would call it a failure of the service: a server error, or no answer at all.

        Refusals that are the client's doing (4xx) are not (slo.md, section 2).
        """
        return self.completion is None or self.status is None or self.status >= _SERVER_ERRORS_FROM

    def answer(self, field: str) -> Any:
        """Return a field of the completion, or ``None``."""
        return None if self.completion is None else self.completion.data.get(field)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows to cite."""
        return (self.invocation,) if self.completion is None else (self.invocation, self.completion)


def operations(rows: Iterable[Row]) -> tuple[Operation, ...]:
    """Pair invocations with completions, in order of invocation. Dropped arrivals are left out."""
    invocations: dict[int, Row] = {}
    completions: dict[int, Row] = {}
    for row in rows:
        match row.data["type"]:
            case "invoke":
                invocations[row.data["op"]] = row
            case "ok" | "fail" | "info":
                completions[row.data["op"]] = row
            case _:
                pass
    return tuple(
        Operation(number, Kind(row.data["kind"]), row, completions.get(number)) for number, row in invocations.items()
    )


def dropped(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return the arrivals that were never sent."""
    return tuple(row for row in rows if row.data["type"] == "dropped")


def lags(rows: Iterable[Row]) -> list[float]:
    """Return the generator's lag of every arrival, in seconds: sent minus due."""
    return [row.t - float(row.data["intended"]) for row in rows if "intended" in row.data]


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the nearest-rank quantile, ``share`` in 0..1, or ``None`` of no values."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
