"""Finds secrets in bytes, in the spellings that leaks come in. Pure; of a secret only its first eight bytes are sought.

Eight bytes of a secret are no accident, and whoever logs "only the beginning" is found as well. Each is sought as it
is, percent-encoded, JSON-escaped, in hexadecimal (both cases) and in Base64 (both alphabets) at each of the three
offsets at which Base64 can begin.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import ahocorasick_rs

PREFIX_BYTES: Final = 8
_FOUND_MAX: Final = 20
_OFFSETS: Final = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret that was found: which, in which spelling, and how many bytes into the text."""

    name: str
    spelling: str
    at: int


class Leaks:
    """Looks for a set of secrets.

    Args:
        secrets: by a name that may be told. One shorter than eight bytes is refused: it could be anywhere by accident.

    Raises:
        ValueError: a secret is too short.
    """

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        short = sorted(name for name, secret in secrets.items() if len(secret) < PREFIX_BYTES)
        if short:
            raise ValueError(f"too short to be looked for: {', '.join(short)}")
        self._sought = {
            pattern: (name, spelling)
            for name, secret in secrets.items()
            for spelling, pattern in spellings(secret[:PREFIX_BYTES])
        }
        self._patterns = tuple(self._sought)
        self._automaton = ahocorasick_rs.BytesAhoCorasick(self._patterns)  # looks for all of them at once

    def __len__(self) -> int:
        return len(self._sought)

    def find(self, text: bytes) -> list[Leak]:
        """Return the first few leaks in a text, in order."""
        return self.find_all(text)[:_FOUND_MAX]

    def find_all(self, text: bytes) -> list[Leak]:
        """Return the first place of every spelling that is in a text, in order."""
        places: dict[int, int] = {}
        for pattern, at, _ in self._automaton.find_matches_as_indexes(text, overlapping=True):
            places.setdefault(pattern, at)
        found = [Leak(*self._sought[self._patterns[pattern]], at) for pattern, at in places.items()]
        return sorted(found, key=lambda leak: leak.at)


def spellings(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield every spelling of a secret's bytes, each once."""
    seen: set[bytes] = set()
    for name, pattern in _all(secret):
        if pattern not in seen:
            seen.add(pattern)
            yield name, pattern


def _all(secret: bytes) -> Iterator[tuple[str, bytes]]:
    yield "plain", secret
    yield "percent-encoded", quote(secret, safe="").encode()
    text = secret.decode("latin-1")
    yield "JSON", json.dumps(text)[1:-1].encode()
    yield "hexadecimal", secret.hex().encode()
    yield "HEXADECIMAL", secret.hex().upper().encode()
    for offset in _OFFSETS:
        padded = base64.b64encode(bytes(offset) + secret)
        # The characters that only these bytes decide: none that share bits with what stands before or after.
        first = -(-offset * 8 // 6)
        last = (offset + len(secret)) * 8 // 6
        whole = padded[first:last]
        yield f"Base64 at offset {offset}", whole
        yield f"Base64url at offset {offset}", whole.replace(b"+", b"-").replace(b"/", b"_")
