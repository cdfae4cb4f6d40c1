"""What the service and a worker say to each other: MessagePack in frames of four bytes of length and the content.

The worker says `Ready` once, then one answer to each request. Both sides check lengths before they read, and decode
into these types only: a worker that was taken over can waste its deadline, nothing more.
"""

import struct
from typing import Any, Final, Literal

import msgspec

from app.core.simulation.inputs import INPUT_BYTES_MAX

HEADER: Final = struct.Struct(">I")
REQUEST_BYTES_MAX: Final = INPUT_BYTES_MAX + 1024
ANSWER_BYTES_MAX: Final = 16 * 1_048_576

Reason = Literal[
    "deadline",
    "crashed",
    "memory-limit",
    "cpu-limit",
    "protocol",
    "invalid-inputs",
    "engine-mismatch",
    "nondeterministic",
    "unavailable",
]


class _Tagged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True, array_like=True):
    """One message."""


class Simulate(_Tagged, frozen=True):
    """Simulate these inputs."""

    inputs: bytes


class CheckPolicies(_Tagged, frozen=True):
    """Compile the rules of a policy set: (id, expression) each."""

    rules: list[tuple[str, str]]


class CheckDocument(_Tagged, frozen=True):
    """Check a schema, and a document against it."""

    schema: Any
    document: Any


class Ready(_Tagged, frozen=True):
    """The worker has its limits and takes requests."""


class Simulated(_Tagged, frozen=True):
    """The canonical record, and the resulting content."""

    record: bytes
    after: bytes | None


class Flaws(_Tagged, frozen=True):
    """(where, line, column, code or rule, message) each."""

    flaws: list[tuple[str, int, int, str, str]]


class Refused(_Tagged, frozen=True):
    """No answer, and why; after `memory-limit` the worker ends."""

    reason: Reason
    detail: str


Request = Simulate | CheckPolicies | CheckDocument
Answer = Ready | Simulated | Flaws | Refused

_encoder: Final = msgspec.msgpack.Encoder()
_requests: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_answers: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


class Rubbish(Exception):
    """The bytes are no message of ours."""


def encode(message: Request | Answer) -> bytes:
    """Return the frame of a message."""
    content = _encoder.encode(message)
    return HEADER.pack(len(content)) + content


def length_of(header: bytes, *, bytes_max: int) -> int:
    """Return how many bytes follow a header.

    Raises:
        Rubbish: more than `bytes_max`.
    """
    (length,) = HEADER.unpack(header)
    if length > bytes_max:
        raise Rubbish(f"a frame of {length} bytes")
    return int(length)


def decode_request(content: bytes) -> Request:
    """Return the request.

    Raises:
        Rubbish: it is none.
    """
    try:
        return _requests.decode(content)
    except (msgspec.DecodeError, RecursionError):
        raise Rubbish("not a request") from None


def decode_answer(content: bytes) -> Answer:
    """Return the answer.

    Raises:
        Rubbish: it is none.
    """
    try:
        return _answers.decode(content)
    except (msgspec.DecodeError, RecursionError):
        raise Rubbish("not an answer") from None
