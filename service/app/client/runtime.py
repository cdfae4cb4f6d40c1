"""What a governed runtime embeds: may I run this document? Copy this file; it needs PyNaCl and nothing else of ours.

The firewall attests, signed and with an expiry, which version of a target is current. A runtime offers each attestation
it can get (with the document it names) and asks `standing` before it acts. Everything is verified here, offline:

- signature: DSSE over an in-toto Statement, Ed25519, by one of the service keys that were handed to the runtime;
- freshness: an expired attestation is refused; when no fresh one comes the runtime sees that somebody holds it back
  (freeze attack), and keeps what it has with an alarm, or stops: its own choice, made beforehand;
- order: a version lower than the last one, the same version with other content, or an older statement about it is
  refused (rollback attack). A lawful rollback is a new, higher version with old content.

What was last accepted is kept in a file, replaced atomically, so that a restart forgets nothing.
"""

import base64
import binascii
import enum
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://amgf.example/attestation/v1"
ENVELOPE_BYTES_MAX: Final = 65_536
SKEW_SECONDS: Final = 300.0
"""How far in the future a statement may have been made: the two clocks differ."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class Refused(Exception):
    """An attestation that must not be believed; `code` is stable."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class WithoutFresh(enum.Enum):
    """What a runtime does when its last attestation has expired and no fresh one comes."""

    KEEP_AND_ALARM = "keep-and-alarm"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Attested:
    """What the firewall said; times in seconds since 1970 UTC."""

    target: str
    version: int
    digest: str
    created_at: float
    expires_at: float
    log_size: int


@dataclass(frozen=True, slots=True)
class Standing:
    """May the runtime act; `alarm` is None, or why somebody should look; `last` is what it may act on."""

    may_run: bool
    alarm: str | None
    last: Attested | None


class Runtime:
    """Remembers the newest attestation of one target."""

    def __init__(
        self,
        *,
        target: str,
        service_keys: Sequence[bytes],
        kept_in: Path,
        without_fresh: WithoutFresh = WithoutFresh.KEEP_AND_ALARM,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._target = target
        self._keys = {_keyid(key): VerifyKey(key) for key in service_keys}
        self._kept_in = kept_in
        self._without_fresh = without_fresh
        self._clock = clock
        self._last = _load(kept_in, target)

    def offer(self, envelope: bytes, *, document: bytes | None = None) -> Attested:
        """Verify an attestation, and the canonical bytes of the document it names; keep it.

        Raises:
            Refused: nothing was changed. Codes: malformed, untrusted-key, bad-signature, other-target, from-the-future,
                expired, rollback, fork, older, other-document.
        """
        attested = self._read(_open(envelope, self._keys))
        now = self._now()
        if attested.created_at > now + SKEW_SECONDS:
            raise Refused("from-the-future", "the attestation was made after this clock's now")
        if attested.expires_at <= now:
            raise Refused("expired", "the attestation has expired")
        if self._last is not None:
            _require_order(self._last, attested)
        if document is not None and f"sha256:{hashlib.sha256(document).hexdigest()}" != attested.digest:
            raise Refused("other-document", "the document is not the attested one")
        _store(self._kept_in, attested)
        self._last = attested
        return attested

    def standing(self) -> Standing:
        """Say whether the runtime may act now, on what, and with which alarm."""
        if self._last is None:
            return Standing(may_run=False, alarm="never-attested", last=None)
        if self._now() < self._last.expires_at:
            return Standing(may_run=True, alarm=None, last=self._last)
        keeps = self._without_fresh is WithoutFresh.KEEP_AND_ALARM
        return Standing(may_run=keeps, alarm="attestation-expired", last=self._last)

    def _now(self) -> float:
        """Return the time; never before what was already proven to be past: a clock set back hides no expiry."""
        return max(self._clock(), self._last.created_at if self._last else 0.0)

    def _read(self, payload: bytes) -> Attested:
        statement = _strict(payload)
        try:
            subject = statement["subject"]
            stated = statement["predicate"]
            attested = Attested(
                target=_typed(stated["target"], str),
                version=_typed(stated["version"], int),
                digest=_typed(stated["digest"], str),
                created_at=_seconds(stated["time_created"]),
                expires_at=_seconds(stated["expires_at"]),
                log_size=_typed(stated["log"]["size"], int),
            )
            is_right = statement["_type"] == STATEMENT_TYPE and statement["predicateType"] == PREDICATE_TYPE
            is_named = any("sha256:" + one["digest"]["sha256"] == attested.digest for one in subject)
        except (KeyError, TypeError, ValueError):
            raise Refused("malformed", "the payload is not an attestation") from None
        if not (is_right and is_named and _DIGEST.fullmatch(attested.digest)):
            raise Refused("malformed", "the payload is not an attestation")
        if attested.target != self._target:
            raise Refused("other-target", "the attestation is about another target")
        return attested


def _require_order(last: Attested, offered: Attested) -> None:
    if offered.version < last.version:
        raise Refused("rollback", f"version {offered.version} after version {last.version}")
    if offered.version == last.version and offered.digest != last.digest:
        raise Refused("fork", f"version {offered.version} has two contents")
    if offered.created_at < last.created_at or offered.log_size < last.log_size:
        raise Refused("older", "an earlier statement than the last one accepted")


def _open(envelope: bytes, keys: dict[str, VerifyKey]) -> bytes:
    """Return the payload of a DSSE envelope that one of the keys has signed."""
    if len(envelope) > ENVELOPE_BYTES_MAX:
        raise Refused("malformed", "the envelope is too large")
    parsed = _strict(envelope)
    try:
        payload = base64.b64decode(parsed["payload"], validate=True)
        payload_type = _typed(parsed["payloadType"], str)
        signatures = [
            (_typed(one["keyid"], str), base64.b64decode(one["sig"], validate=True)) for one in parsed["signatures"]
        ]
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise Refused("malformed", "this is not a DSSE envelope") from None
    if payload_type != PAYLOAD_TYPE:
        raise Refused("malformed", "the payload is of another type")
    known = [(keys[keyid], signature) for keyid, signature in signatures if keyid in keys]
    if not known:
        raise Refused("untrusted-key", "no key of the service has signed")
    # DSSE v1, PAE: what is signed names its type and both lengths.
    kind = payload_type.encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    for key, signature in known:
        try:
            key.verify(signed, signature)
        except (CryptoError, ValueError):
            raise Refused("bad-signature", "the signature is not of that key") from None
    return payload


def _strict(content: bytes) -> dict[str, Any]:
    """Return a JSON object in which no key stands twice: two readers of it must not see two things."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice")
        return found

    try:
        value = json.loads(content.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise Refused("malformed", "this is not JSON") from None
    if not isinstance(value, dict):
        raise Refused("malformed", "this is not a JSON object")
    return value


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value


def _seconds(text: Any) -> float:
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise ValueError("not a time")
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()


def _keyid(key: bytes) -> str:
    return f"sha256:{hashlib.sha256(key).hexdigest()}"


def _load(path: Path, target: str) -> Attested | None:
    """Return what was kept.

    Raises:
        Refused: the file is damaged or another target's; a runtime that forgot would accept a rollback.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        last = Attested(**_strict(content))
    except TypeError:
        raise Refused("malformed", "the kept state is damaged") from None
    if last.target != target:
        raise Refused("other-target", "the kept state is of another target")
    return last


def _store(path: Path, attested: Attested) -> None:
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(json.dumps(asdict(attested)).encode())
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
