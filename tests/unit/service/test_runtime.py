import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from app.client.runtime import Refused, Runtime, WithoutFresh

SERVICE = SigningKey(bytes(range(32)))
STRANGER = SigningKey(bytes(32))
NOW = 1_800_000_000.0
HOUR = 3_600.0
DOCUMENT = b'{"tone":"calm"}'


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def digest(document: bytes) -> str:
    return "sha256:" + hashlib.sha256(document).hexdigest()


def text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def statement(
    version: int = 3, document: bytes = DOCUMENT, created: float = NOW, hours: float = 24, target: str = "agents/router"
) -> dict[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "snapshot", "digest": {"sha256": digest(document)[7:]}}],
        "predicateType": "https://amgf.example/attestation/v1",
        "predicate": {
            "target": target,
            "version": version,
            "digest": digest(document),
            "policy_set": {"version": 1, "digest": digest(b"p")},
            "validator_set": {"version": 1, "digest": digest(b"v")},
            "tier": "low",
            "proposal": None,
            "time_created": text(created),
            "expires_at": text(created + hours * HOUR),
            "log": {"origin": "firewall.example/log", "size": 40},
        },
    }


def envelope(stated: dict[str, Any], *, key: SigningKey = SERVICE, keyid_of: SigningKey | None = None) -> bytes:
    payload = json.dumps(stated, sort_keys=True, separators=(",", ":")).encode()
    kind = b"application/vnd.in-toto+json"
    signature = key.sign(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)).signature
    keyid = digest(bytes((keyid_of or key).verify_key))
    signatures = [{"keyid": keyid, "sig": base64.b64encode(signature).decode()}]
    return json.dumps(
        {"payload": base64.b64encode(payload).decode(), "payloadType": kind.decode(), "signatures": signatures}
    ).encode()


def runtime(folder: Path, clock: Clock, **options: Any) -> Runtime:
    return Runtime(
        target="agents/router",
        service_keys=[bytes(SERVICE.verify_key)],
        kept_in=folder / "last.json",
        clock=clock,
        **options,
    )


def test_a_fresh_attestation_with_its_document_lets_the_runtime_act(tmp_path: Path) -> None:
    subject = runtime(tmp_path, Clock())

    attested = subject.offer(envelope(statement()), document=DOCUMENT)

    assert (attested.version, attested.digest) == (3, digest(DOCUMENT))
    assert subject.standing().may_run
    assert subject.standing().alarm is None


def test_without_any_attestation_nothing_may_run(tmp_path: Path) -> None:
    standing = runtime(tmp_path, Clock()).standing()

    assert not standing.may_run
    assert standing.alarm == "never-attested"


@pytest.mark.parametrize(("policy", "may_run"), [(WithoutFresh.KEEP_AND_ALARM, True), (WithoutFresh.STOP, False)])
def test_when_nothing_fresh_comes_the_runtime_alarms_and_does_what_it_chose(
    tmp_path: Path, policy: WithoutFresh, *, may_run: bool
) -> None:
    clock = Clock()
    subject = runtime(tmp_path, clock, without_fresh=policy)
    subject.offer(envelope(statement()))

    clock.now += 24 * HOUR

    assert subject.standing().alarm == "attestation-expired"
    assert subject.standing().may_run is may_run


def test_a_clock_set_back_hides_no_expiry(tmp_path: Path) -> None:
    clock = Clock()
    subject = runtime(tmp_path, clock)
    subject.offer(envelope(statement()))
    clock.now = NOW - 30 * HOUR

    with pytest.raises(Refused) as refused:
        subject.offer(envelope(statement(version=4, created=NOW - 30 * HOUR)))

    assert refused.value.code == "expired"


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    runtime(tmp_path, Clock()).offer(envelope(statement(version=5)))
    restarted = runtime(tmp_path, Clock())

    with pytest.raises(Refused) as refused:
        restarted.offer(envelope(statement(version=4)))

    assert refused.value.code == "rollback"
    last = restarted.standing().last
    assert last is not None
    assert last.version == 5


def test_old_content_under_a_higher_version_is_a_lawful_rollback(tmp_path: Path) -> None:
    subject = runtime(tmp_path, Clock())
    subject.offer(envelope(statement(version=3)))
    subject.offer(envelope(statement(version=4, document=b"{}")))

    attested = subject.offer(envelope(statement(version=5)))

    assert attested.digest == digest(DOCUMENT)


def altered(change: Callable[[dict[str, Any]], None]) -> bytes:
    parsed = json.loads(envelope(statement(version=4)))
    change(parsed)
    return json.dumps(parsed).encode()


def with_predicate(**fields: Any) -> bytes:
    stated = statement(version=4)
    stated["predicate"].update(fields)
    return envelope(stated)


def with_subject(name_of: bytes) -> bytes:
    stated = statement(version=4)
    stated["subject"][0]["digest"]["sha256"] = digest(name_of)[7:]
    return envelope(stated)


REFUSED = {
    "lower version": ("rollback", envelope(statement(version=2))),
    "same version, other content": ("fork", envelope(statement(document=b"{}"))),
    "same version, said before": ("older", envelope(statement(created=NOW - 60))),
    "expired": ("expired", envelope(statement(version=4, created=NOW - 25 * HOUR))),
    "made tomorrow": ("from-the-future", envelope(statement(version=4, created=NOW + 301))),
    "other target": ("other-target", envelope(statement(version=4, target="agents/other"))),
    "stranger's key": ("untrusted-key", envelope(statement(version=4), key=STRANGER)),
    "stranger's signature under our key id": (
        "bad-signature",
        envelope(statement(version=4), key=STRANGER, keyid_of=SERVICE),
    ),
    "payload exchanged": (
        "bad-signature",
        altered(lambda parsed: parsed.update(payload=json.loads(envelope(statement(version=9)))["payload"])),
    ),
    "no signature": ("untrusted-key", altered(lambda parsed: parsed.update(signatures=[]))),
    "other payload type": ("malformed", altered(lambda parsed: parsed.update(payloadType="text/plain"))),
    "not base64": ("malformed", altered(lambda parsed: parsed.update(payload="!"))),
    "signature of another kind": ("malformed", altered(lambda parsed: parsed.update(signatures=[{"keyid": 1}]))),
    "not JSON": ("malformed", b"{"),
    "not an object": ("malformed", b"[]"),
    "not UTF-8": ("malformed", b"\xff"),
    "deep": ("malformed", b"[" * 60_000),
    "a key twice": ("malformed", envelope(statement(version=4))[:-1] + b',"payload":""}'),
    "too large": ("malformed", b" " * 65_537),
    "version is no number": ("malformed", with_predicate(version=True)),
    "time is no time": ("malformed", with_predicate(expires_at="2027-01-15T08:00:00Z")),
    "time does not exist": ("malformed", with_predicate(expires_at="2027-13-15T08:00:00.000000Z")),
    "digest not the subject's": ("malformed", with_subject(b"{}")),
}


@pytest.mark.parametrize(("code", "offered"), REFUSED.values(), ids=REFUSED)
def test_what_must_not_be_believed_is_refused_and_changes_nothing(tmp_path: Path, code: str, offered: bytes) -> None:
    subject = runtime(tmp_path, Clock())
    subject.offer(envelope(statement()))
    before = (tmp_path / "last.json").read_bytes()

    with pytest.raises(Refused) as refused:
        subject.offer(offered)

    assert refused.value.code == code
    assert (tmp_path / "last.json").read_bytes() == before


def test_another_document_than_the_attested_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        runtime(tmp_path, Clock()).offer(envelope(statement()), document=b"{}")

    assert refused.value.code == "other-document"


@pytest.mark.parametrize("kept", [b"", b"{}", b'{"target":"agents/other"}', b"null"])
def test_a_damaged_memory_is_refused_rather_than_forgotten(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "last.json").write_bytes(kept)

    with pytest.raises(Refused):
        runtime(tmp_path, Clock())


def test_the_runtime_part_imports_nothing_of_the_service() -> None:
    source = Path(__file__).parents[3] / "service/app/client/runtime.py"

    assert "from app" not in source.read_text()
    assert "import app" not in source.read_text()
