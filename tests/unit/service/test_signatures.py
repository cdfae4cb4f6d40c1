"""Ed25519 at its edges. The points and the cases are computed here, from the curve's equation."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings
from nacl.exceptions import BadSignatureError

from app import ed25519
from app.core.signing import keys
from app.errors import WeakKey
from app.security import signatures
from app.security.signatures import KeyFileUnusable, PrivateKey
from tests.unit.service.electorate import private_key

P = keys.FIELD_PRIME
L = keys.GROUP_ORDER
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
IDENTITY = (0, 1)

Point = tuple[int, int]


def x_of(y: int) -> int | None:
    """A square root of (y^2 - 1) / (d y^2 + 1): the curve is -x^2 + y^2 = 1 + d x^2 y^2."""
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    root = pow(square, (P + 3) // 8, P)
    if root * root % P != square:
        root = root * ROOT_OF_MINUS_ONE % P
    return root if root * root % P == square else None


def add(one: Point, other: Point) -> Point:
    (a, b), (c, d) = one, other
    product = D * a * b * c * d
    return (
        (a * d + b * c) * pow(1 + product, P - 2, P) % P,
        (b * d + a * c) * pow(1 - product, P - 2, P) % P,
    )


def times(scalar: int, point: Point) -> Point:
    result = IDENTITY
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def encoded(y: int, sign: int) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


def point_of(encoding: bytes) -> Point:
    number = int.from_bytes(encoding, "little")
    y = number % (1 << 255) % P
    x = x_of(y)
    assert x is not None
    return (x if x % 2 == number >> 255 else P - x), y


def torsion() -> list[Point]:
    """The eight points of small order: L times points of the curve, until one has order eight."""
    for y in range(2, 100):
        x = x_of(y)
        generator = times(L, (x, y)) if x is not None else IDENTITY
        if times(4, generator) != IDENTITY:
            return [times(count, generator) for count in range(8)]
    raise AssertionError("no generator found")


def small_order_encodings() -> list[bytes]:
    """Every 32 bytes that decode to one of the eight: y or y + p where it fits, and both signs where x is 0."""
    found = set()
    for x, y in torsion():
        for spelled in (y, y + P):
            if spelled < 1 << 255:
                found |= {encoded(spelled, sign) for sign in ((0, 1) if x == 0 else (x % 2,))}
    return sorted(found)


ENCODINGS = small_order_encodings()
PAIR = private_key("olga")
MESSAGE = b"a vote"
GOOD = PAIR.sign(MESSAGE)


def test_there_are_fourteen_small_order_encodings() -> None:
    assert len(ENCODINGS) == 14


@pytest.mark.parametrize("encoding", ENCODINGS, ids=bytes.hex)
def test_a_small_order_key_is_refused_and_verifies_nothing(encoding: bytes) -> None:
    with pytest.raises(WeakKey) as refused:
        signatures.check_public_key(encoding)

    assert refused.value.reason == "small-order"
    # R = the identity, S = 0: with the identity as key this is a good signature of everything, if nobody looks.
    assert not ed25519.verify(encoding, MESSAGE, encoded(1, 0) + bytes(32))
    for number in range(32):
        assert not ed25519.verify(encoding, b"%d" % number, encoding + bytes(32))


NON_CANONICAL = [encoded(P + extra, sign) for extra in range(19) for sign in (0, 1)]


@pytest.mark.parametrize("encoding", NON_CANONICAL, ids=bytes.hex)
def test_a_second_spelling_of_a_point_is_refused(encoding: bytes) -> None:
    assert keys.weakness(encoding) is not None
    with pytest.raises(WeakKey):
        signatures.check_public_key(encoding)


def test_a_key_of_mixed_order_is_refused() -> None:
    """A good key plus a small point: some verifiers accept its signatures, others do not."""
    for x, y in torsion()[1:]:
        mixed = add(point_of(PAIR.public_key), (x, y))
        with pytest.raises(WeakKey) as refused:
            signatures.check_public_key(encoded(mixed[1], mixed[0] % 2))
        assert refused.value.reason == "not-in-main-subgroup"


def test_bytes_that_are_no_point_are_refused() -> None:
    no_point = next(encoded(y, 0) for y in range(2, 100) if x_of(y) is None)

    with pytest.raises(WeakKey):
        signatures.check_public_key(no_point)
    for length in (0, 31, 33, 64):
        with pytest.raises(WeakKey):
            signatures.check_public_key(bytes(length))


def test_a_good_key_and_its_signature_are_accepted() -> None:
    signatures.check_public_key(PAIR.public_key)
    assert ed25519.verify(PAIR.public_key, MESSAGE, GOOD)
    assert ed25519.verify(PAIR.public_key, b"", PAIR.sign(b""))


R, S = GOOD[:32], int.from_bytes(GOOD[32:], "little")
BAD: list[tuple[str, bytes]] = [
    ("S + L", R + (S + L).to_bytes(32, "little")),
    ("S + 2 L", R + (S + 2 * L).to_bytes(32, "little")),
    ("S = L", R + L.to_bytes(32, "little")),
    ("S = 0", R + bytes(32)),
    ("-S", R + (L - S).to_bytes(32, "little")),
    ("the largest S", R + b"\xff" * 32),
    ("R = the identity", encoded(1, 0) + GOOD[32:]),
    ("R = 0", bytes(32) + GOOD[32:]),
    ("R with the other sign", R[:31] + bytes([R[31] ^ 0x80]) + GOOD[32:]),
    ("no R", GOOD[32:]),
    ("nothing", b""),
    ("a byte more", GOOD + b"\0"),
    ("a byte less", GOOD[:-1]),
    ("twice", GOOD + GOOD),
    ("zeros", bytes(64)),
    ("another message's", PAIR.sign(b"another vote")),
    ("another key's", private_key("sam").sign(MESSAGE)),
]


@pytest.mark.parametrize(("_name", "signature"), BAD, ids=[one[0] for one in BAD])
def test_a_signature_is_refused(_name: str, signature: bytes) -> None:
    assert not ed25519.verify(PAIR.public_key, MESSAGE, signature)


def test_a_signature_with_a_small_r_is_refused() -> None:
    """R of small order and S = k a: the equation holds, but R commits to nothing."""
    for encoding in ENCODINGS:
        assert not ed25519.verify(PAIR.public_key, MESSAGE, encoding + GOOD[32:])


@given(st.integers(0, 511))
def test_any_flipped_bit_is_noticed(bit: int) -> None:
    altered = bytearray(GOOD)
    altered[bit // 8] ^= 1 << bit % 8

    assert not ed25519.verify(PAIR.public_key, MESSAGE, bytes(altered))


@given(st.binary(max_size=40), st.binary(max_size=70))
def test_any_bytes_are_refused_without_an_error(public_key: bytes, signature: bytes) -> None:
    assert not ed25519.verify(public_key, MESSAGE, signature)


def test_ours_refuses_what_the_library_alone_would_take() -> None:
    """Why the subgroup is asked for: libsodium verifies with a key of mixed order, for one nonce in eight or so."""
    scalar = bindings.crypto_core_ed25519_scalar_reduce(b"\x07" * 64)
    base = point_of(bindings.crypto_scalarmult_ed25519_base_noclamp(scalar))
    taken_by_the_library = 0
    for point in torsion()[1:]:
        x, y = add(base, point)
        public_key = encoded(y, x % 2)
        for message in (b"%d" % number for number in range(8)):
            signature = forged(scalar, public_key, message)
            taken_by_the_library += is_taken_by_the_library(public_key, message, signature)
            assert not ed25519.verify(public_key, message, signature)

    assert taken_by_the_library > 0


def is_taken_by_the_library(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        bindings.crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


def forged(scalar: bytes, public_key: bytes, message: bytes) -> bytes:
    """What the holder of `scalar` signs under any public key of their choice."""
    nonce = bindings.crypto_core_ed25519_scalar_reduce(message.ljust(64, b"n"))
    commitment = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
    challenge = bindings.crypto_core_ed25519_scalar_reduce(
        bindings.crypto_hash_sha512(commitment + public_key + message)
    )
    answer = bindings.crypto_core_ed25519_scalar_add(nonce, bindings.crypto_core_ed25519_scalar_mul(challenge, scalar))
    return commitment + answer


# Key files.


def test_a_key_file_gives_back_its_key_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "olga.key"

    signatures.write_key(path, PAIR)

    assert path.stat().st_mode & 0o777 == 0o600
    assert signatures.read_key(path).public_key == PAIR.public_key
    assert path.read_text(encoding="ascii").strip() not in repr(signatures.read_key(path))
    with pytest.raises(FileExistsError):
        signatures.write_key(path, PAIR)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_file_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "olga.key"
    signatures.write_key(path, PAIR)
    path.chmod(mode)

    with pytest.raises(KeyFileUnusable, match="chmod 600"):
        signatures.read_key(path)


CONTENTS = [
    b"",
    b"\n",
    b"AAAA\n",
    keys.to_base64(bytes(31)).encode(),
    b"A" * 300,
    b"\xff" * 44,
    keys.to_base64(bytes(32)).encode() + b"\n\n",
]


@pytest.mark.parametrize("content", CONTENTS, ids=repr)
def test_a_file_without_a_key_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "olga.key"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(KeyFileUnusable) as refused:
        signatures.read_key(path)

    assert str(refused.value).startswith(f"{path}: ")
    assert "AAAA" not in str(refused.value)


def test_a_link_a_folder_a_pipe_and_nothing_are_no_key_files(tmp_path: Path) -> None:
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    signatures.write_key(real, PAIR)
    link.symlink_to(real)
    os.mkfifo(pipe, 0o600)

    for path in (link, tmp_path, pipe, tmp_path / "absent"):
        with pytest.raises(KeyFileUnusable):
            signatures.read_key(path)


def test_generated_keys_differ_and_do_not_show_their_seed() -> None:
    one, other = signatures.generate(), signatures.generate()

    assert one.public_key != other.public_key
    assert repr(one) == f"PrivateKey({one.keyid})"
    assert PrivateKey(keys.from_base64(one.seed_line().decode().strip())).keyid == one.keyid
