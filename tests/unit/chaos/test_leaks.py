import base64
import json
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from chaos.evidence import Evidence, EvidenceWriter, Origin
from chaos.history import MARKER
from chaos.probes.canaries import CANARIES, look_at_the_evidence, look_at_the_living, secrets_in
from chaos.probes.targets import Targets
from chaos.verifier.leaks import Leaks

SECRET = b'pa"ss/w\xc3\xb6rd+of the database'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"connecting with " + SECRET, id="plain"),
        pytest.param(b"connecting with " + SECRET[:8] + b"...", id="only its beginning"),
        pytest.param(f"/?p={quote(SECRET, safe='')}".encode(), id="in an address"),
        pytest.param(json.dumps({"p": SECRET.decode("latin-1")}).encode(), id="in JSON"),
        pytest.param(SECRET.hex().encode(), id="hexadecimal"),
        pytest.param(SECRET.hex().upper().encode(), id="hexadecimal, upper case"),
        *(
            pytest.param(base64.b64encode(b"abcde"[:offset] + SECRET + b"tail"), id=f"Base64 at offset {offset}")
            for offset in range(4)
        ),
        pytest.param(base64.urlsafe_b64encode(b"?" + SECRET), id="Base64 for addresses"),
    ],
)
def test_a_secret_is_found_in_every_spelling(text: bytes) -> None:
    (leak, *_) = Leaks({"the password": SECRET, "another": b"another secret"}).find(b"before " + text + b" after")

    assert leak.name == "the password"


def test_other_text_holds_no_secret() -> None:
    assert Leaks({"the password": SECRET}).find(b'pa"ss/w is not enough, nor is ' + SECRET[1:]) == []


def test_a_secret_that_could_be_anywhere_by_accident_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        Leaks({"the password": b"1234567"})


def test_a_search_of_forty_secrets_takes_a_second_for_ten_megabytes() -> None:
    leaks = Leaks({str(number): f"secret {number:04d} of many".encode()[7:] for number in range(40)})
    log = b'{"event": "request_finished", "status": 201, "path": "/api/v1/proposals"}\n' * 130_000
    began = time.process_time()

    assert leaks.find(log) == []

    assert time.process_time() - began < 5


@pytest.mark.anyio
async def test_what_leaks_is_told_by_name_and_place_and_a_bodys_word_may_stand_in_documents(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    (folder / "keys").mkdir(parents=True)
    (folder / "firewall_app.password").write_text("the password of the application")
    (folder / "api-key-ann").write_text("amgf_AAAAAAAAAAAA_0123456789abcdefghij")
    (folder / "keys" / "log.key").write_text(base64.b64encode(b"seed of the key of the log, 32 B").decode())
    secrets = secrets_in(folder)
    writer = EvidenceWriter(tmp_path / "evidence", Origin.now())
    writer.append("errors.jsonl", {"body": f"bad value {MARKER}0011"})
    writer.append("database.jsonl", {"body": MARKER})
    writer.append("logs/replica-1.log", {"key": b"seed of the key of the log, 32 B".hex()})
    writer.append("logs/replica-2.log", {"key": "amgf_AAAAAAAAAAAA_ is public"})

    await look_at_the_living(secrets, Targets(), writer)
    await look_at_the_evidence(secrets, writer)

    rows = {row.data["place"]: row.data for row in Evidence(writer.folder).rows(CANARIES)}
    assert rows["control"]["seen"] == rows["control"]["canaries"] == 4
    assert {place: [leak["name"] for leak in row["found"]] for place, row in rows.items() if row.get("found")} == {
        "errors.jsonl": ["a proposal's body"],
        "logs/replica-1.log": ["log.key, decoded"],
    }
    assert "password of the application" not in (writer.folder / CANARIES).read_text()
