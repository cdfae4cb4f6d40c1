import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.client.__main__ import amgf, run
from app.core.log.entry import Raw
from tests.unit.service.book import TARGET, Book
from tests.unit.service.bundles import attestation, bundle_of
from tests.unit.service.test_verification import MORE, applied

PEOPLE = ("ann:human:owner:north", "cleo:human:safety:south", "eve:human:security:north", "robot:machine:machine:south")


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run([str(one) for one in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    for name in ("log", "service", "one", "two", *(one.partition(":")[0] for one in PEOPLE)):
        assert call(capsys, "key", "new", tmp_path / f"{name}.key")[0] == 0
    return tmp_path


def founding(keys: Path, *people: str, origin: str = "firewall.example/log") -> list[object]:
    told: list[object] = ["root", "init", "--origin", origin, "--out", keys / "genesis.json"]
    told += ["--log-key", keys / "log.key", "--service-key", keys / "service.key"]
    for name in ("one", "two"):
        told += ["--founder", f"{name}={keys / name}.key"]
    for one in people:
        told += ["--validator", f"{one}={keys / one.partition(':')[0]}.key"]
    return told


def test_a_founding_made_here_is_lawful_and_shown(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, *founding(keys, *PEOPLE))

    assert code == 0, out
    code, shown, _ = call(capsys, "--json", "root", "show", keys / "genesis.json")
    assert code == 0
    assert json.loads(shown)["validators"] == ["ann", "cleo", "eve", "robot"]


def test_an_unlawful_founding_is_refused_with_every_reason(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, *founding(keys, *PEOPLE[:1]))

    assert code == 65
    assert "lawful" in err
    assert not (keys / "genesis.json").exists()


def test_a_founding_never_writes_over_another(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (keys / "genesis.json").write_text("mine")

    code, _, _ = call(capsys, *founding(keys, *PEOPLE))

    assert code == 73
    assert (keys / "genesis.json").read_text() == "mine"


def test_keys_are_private_and_never_overwritten(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = keys / "ann.key"
    before = file.read_bytes()

    assert file.stat().st_mode & 0o777 == 0o600
    assert call(capsys, "key", "new", file)[0] == 73
    assert file.read_bytes() == before
    file.chmod(0o644)
    code, _, err = call(capsys, "key", "show", file)
    assert code == 65
    assert "chmod 600" in err


def test_a_proof_of_possession_names_validator_and_log(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--validator", "ann", "--principal", "ann", "--origin", "firewall.example/log", "--challenge", "c"]

    code, out, _ = call(capsys, "key", "prove", keys / "ann.key", *told)

    assert code == 0
    assert b'"challenge":"c"' in base64.b64decode(json.loads(out)["payload"])


def exported(path: Path, entries: Sequence[Raw], *notes: bytes) -> Path:
    lines = [
        {
            "index": one.index,
            "leaf": base64.b64encode(one.leaf).decode(),
            "body": None if one.body is None else base64.b64encode(one.body).decode(),
        }
        for one in entries
    ]
    notes_lines: list[dict[str, Any]] = [{"checkpoint": note.decode()} for note in notes]
    path.write_text("".join(json.dumps(one) + "\n" for one in [*lines, *notes_lines]))
    return path


def test_a_log_is_replayed_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book, _, _ = applied()
    (tmp_path / "genesis.json").write_bytes(book.genesis.encode())
    file = exported(tmp_path / "log", book.entries, book.note())

    code, out, _ = call(capsys, "--json", "log", "replay", file, "--trust", tmp_path / "genesis.json")

    told = json.loads(out)
    assert (code, told["failure"], told["checkpoints"]) == (0, None, 1)
    assert told["heads"][TARGET]["digest"] == book.targets[TARGET].digest


def test_the_first_entry_that_does_not_follow_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book, _, _ = applied()
    file = exported(tmp_path / "log", [*book.entries[:4], *book.entries[5:]])

    code, out, _ = call(capsys, "--json", "log", "replay", file)

    assert code == 1
    assert json.loads(out)["failure"]["index"] == 5


@pytest.mark.parametrize("line", ["", "[]", '{"index":0,"leaf":"!"}', "\x00", '{"index":"0"}'])
def test_a_file_that_is_no_export_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    (tmp_path / "log").write_text(f"{line}\n")

    code, _, _ = call(capsys, "log", "replay", tmp_path / "log")

    assert code in {1, 65}


def test_a_bundle_is_verified_from_a_file_and_the_checkpoint_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book, change, base = applied()
    (tmp_path / "genesis.json").write_bytes(book.genesis.encode())
    (tmp_path / "bundle.json").write_bytes(bundle_of(book, change, base=base).encode())
    told = ["--trust", tmp_path / "genesis.json", "--kept", tmp_path / "kept", "--no-simulate"]

    code, out, _ = call(capsys, "verify", "bundle", tmp_path / "bundle.json", *told)

    assert code == 3, out
    assert "simulation, run again: epoch 1: not run, as asked" in out
    assert (tmp_path / "kept").read_bytes() == book.note()
    again = call(capsys, "verify", "bundle", tmp_path / "bundle.json", *told)[1]
    assert "it extends the one seen at size" in again


def test_a_bundle_of_another_engine_is_judged_but_for_the_simulation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book, change, base = applied()
    (tmp_path / "genesis.json").write_bytes(book.genesis.encode())
    (tmp_path / "bundle.json").write_bytes(bundle_of(book, change, base=base).encode())

    code, out, _ = call(capsys, "verify", "bundle", tmp_path / "bundle.json", "--trust", tmp_path / "genesis.json")

    assert code == 3, out
    assert "engine unavailable, digest unchecked" in out


def test_a_forged_bundle_ends_with_the_number_of_its_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book, change, base = applied()
    (tmp_path / "genesis.json").write_bytes(book.genesis.encode())
    value = json.loads(bundle_of(book, change, base=base).encode())
    value["base"]["share"] = 0.25
    (tmp_path / "bundle.json").write_text(json.dumps(value))

    code, _, _ = call(capsys, "verify", "bundle", tmp_path / "bundle.json", "--trust", tmp_path / "genesis.json")

    assert code == 13


def test_an_attestation_in_a_file_is_checked_as_a_runtime_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = Book()
    book.create()
    change = book.propose(MORE)
    book.carry(change)
    (tmp_path / "genesis.json").write_bytes(book.genesis.encode())
    (tmp_path / "attestation.json").write_text(json.dumps(attestation(book, change, hours=-1)))
    told = [
        "--trust",
        tmp_path / "genesis.json",
        "--state",
        tmp_path / "state",
        "--file",
        tmp_path / "attestation.json",
    ]

    code, _, err = call(capsys, "attest", "check", TARGET, *told)

    assert code == 1
    assert "do not run" in err


WRONG: dict[str, tuple[int, list[str]]] = {
    "no such command": (64, ["vanish"]),
    "an option missing": (64, ["root", "init"]),
    "a file that is not there": (65, ["root", "show", "/nowhere"]),
    "no API key": (64, ["list"]),
    "a trust that is none": (65, ["verify", "bundle", "/dev/null", "--trust", "/dev/null"]),
    "recompute what": (65, ["recompute", "--key", "/nowhere"]),
}


@pytest.mark.parametrize(("code", "arguments"), WRONG.values(), ids=WRONG)
def test_what_is_asked_wrongly_is_one_sentence_and_a_code(
    capsys: pytest.CaptureFixture[str], code: int, arguments: list[str]
) -> None:
    found, _, err = call(capsys, *arguments)

    assert found == code
    assert err.strip()
    assert "Traceback" not in err


def test_every_command_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    for name in amgf.commands:
        code, out, _ = call(capsys, name, "--help")

        assert code == 0
        assert "Usage: amgf" in out
