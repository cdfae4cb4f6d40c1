"""Signed notes and checkpoints: a published one, ours, and every way of being wrong."""

import base64

import pytest
from nacl.signing import SigningKey

from app.core.log import checkpoint as checkpoints
from app.core.log.checkpoint import Checkpoint, CheckpointFlaw
from app.ed25519 import verify

ORIGIN = "firewall.example/log"
KEY = SigningKey(bytes(range(32)))
PUBLIC = bytes(KEY.verify_key)
CHECKPOINT = Checkpoint(ORIGIN, 1234, bytes(range(32)))

PUBLISHED_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PUBLISHED_TEXT = (
    b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
PUBLISHED_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
"""The example of golang.org/x/mod/sumdb/note, which C2SP signed-note describes."""


def sign(message: bytes) -> bytes:
    return KEY.sign(message).signature


def opened(note: bytes, public_key: bytes = PUBLIC, origin: str = ORIGIN) -> Checkpoint:
    return checkpoints.opened(note, origin=origin, public_key=public_key, verify=verify)


NOTE = checkpoints.signed(CHECKPOINT, public_key=PUBLIC, sign=sign)


def test_the_published_note_has_our_key_id_and_verifies() -> None:
    name, _, packed = PUBLISHED_KEY.split("+", 2)
    public_key = base64.b64decode(packed)[1:]
    signature = base64.b64decode(PUBLISHED_SIGNATURE)

    assert checkpoints.verifier_key(name, public_key) == PUBLISHED_KEY
    assert signature[:4] == checkpoints.key_id(name, public_key)
    assert verify(public_key, PUBLISHED_TEXT, signature[4:])


def test_a_checkpoint_is_spelled_as_the_specification_says() -> None:
    root = base64.b64encode(bytes(range(32))).decode()
    packed = base64.b64encode(checkpoints.key_id(ORIGIN, PUBLIC) + sign(CHECKPOINT.text)).decode()

    assert NOTE.decode() == f"{ORIGIN}\n1234\n{root}\n\n— {ORIGIN} {packed}\n"
    assert opened(NOTE) == CHECKPOINT


def test_signatures_of_others_are_tolerated_and_not_believed() -> None:
    witness = base64.b64encode(b"abcd" + b"w" * 72).decode()
    line = f"— witness.example/w1 {witness}\n".encode()
    head, tail = NOTE.split(b"\n\n")

    assert opened(NOTE + line) == CHECKPOINT
    assert opened(head + b"\n\n" + line + tail) == CHECKPOINT
    with pytest.raises(CheckpointFlaw, match="has not signed"):
        opened(head + b"\n\n" + line)


def test_a_second_line_of_our_key_must_be_right_too() -> None:
    wrong = base64.b64encode(checkpoints.key_id(ORIGIN, PUBLIC) + b"x" * 64).decode()
    with pytest.raises(CheckpointFlaw, match="wrong"):
        opened(NOTE + f"— {ORIGIN} {wrong}\n".encode())


def test_every_flipped_bit_is_refused() -> None:
    for position in range(len(NOTE)):
        for bit in range(8):
            with pytest.raises(CheckpointFlaw):
                opened(NOTE[:position] + bytes([NOTE[position] ^ 1 << bit]) + NOTE[position + 1 :])


def test_another_log_and_another_key_are_refused() -> None:
    other = SigningKey(bytes(32))
    with pytest.raises(CheckpointFlaw, match="another log"):
        opened(NOTE, origin="other.example/log")
    with pytest.raises(CheckpointFlaw, match="has not signed"):
        opened(NOTE, public_key=bytes(other.verify_key))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n1234\n", "\n01234\n"),
        ("\n1234\n", "\n+1234\n"),
        ("\n1234\n", "\n-1\n"),
        ("\n1234\n", "\n\n"),
        ("\n1234\n", "\n1234\r\n"),
        ("\n1234\n", "\n12345678901234567\n"),
        ("\n1234\n", "\n9007199254740992\n"),
        ("\n1234\n", "\n\u0661\n"),
        ("\n\n", "\nextension\n\n"),
        ("\n\n", "\n"),
        ("\n\n", "\n\n\n"),
        ("— ", "- "),
        ("— ", "—  "),
        (f"{ORIGIN}\n", " \n"),
        (f"{ORIGIN}\n", "a+b\n"),
        (f"{ORIGIN}\n", "\ufeff\x01\n"),
        ("Hh8=", "Hh9="),
        ("Hh8=", "Hh8"),
        ("Hh8=", "Hh8=\t"),
        ("Hh8=", ""),
    ],
)
def test_another_spelling_is_refused(old: str, new: str) -> None:
    assert old in NOTE.decode()
    with pytest.raises(CheckpointFlaw):
        opened(NOTE.decode().replace(old, new, 1).encode())


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n\n",
        b"\xff",
        NOTE[:-1],
        NOTE.split(b"\n\n")[0] + b"\n\n",
        NOTE + b"x",
        NOTE * 2,
        NOTE + b"\xe2\x80\x94 a AAAA\n",
    ],
    ids=["empty", "blank", "not-utf8", "no-last-feed", "no-signature", "tail", "twice", "short-signature"],
)
def test_what_is_no_note_is_refused(note: bytes) -> None:
    with pytest.raises(CheckpointFlaw):
        opened(note)


def test_a_note_is_bounded() -> None:
    line = b"\xe2\x80\x94 w.example " + base64.b64encode(b"abcd" + b"w" * 64) + b"\n"
    with pytest.raises(CheckpointFlaw, match="at most"):
        opened(NOTE + line * 1000)
    with pytest.raises(CheckpointFlaw, match="1 to 100"):
        opened(NOTE + line * 100)


def test_a_checkpoint_that_cannot_be_is_not_made() -> None:
    for origin, size, root in ((" ", 1, bytes(32)), (ORIGIN, -1, bytes(32)), (ORIGIN, 1, bytes(31))):
        with pytest.raises(CheckpointFlaw):
            Checkpoint(origin, size, root)
    with pytest.raises(CheckpointFlaw):
        checkpoints.signed(CHECKPOINT, public_key=PUBLIC, sign=lambda _: b"short")
