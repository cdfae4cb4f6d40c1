"""Ed25519, verified by libsodium (PyNaCl), and stricter: one key, one signature, one spelling each.

Below everything because the simulation's worker checks proofs of possession too. Pure: no key, no state but a bounded
memory of keys already looked at. Refused beyond RFC 8032: keys that are no point of the main subgroup (small order,
mixed order, not on the curve, second spellings) and S >= L.
"""

import functools
from typing import Final

from nacl import bindings
from nacl.exceptions import BadSignatureError

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
KEYS_REMEMBERED: Final = 1_024


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether `signature` (64 bytes) is the key's over `message`. False for everything that is malformed."""
    if len(signature) != SIGNATURE_BYTES or int.from_bytes(signature[32:], "little") >= GROUP_ORDER:
        return False
    if not is_point_of_main_subgroup(bytes(public_key)):
        return False
    try:
        bindings.crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


@functools.lru_cache(maxsize=KEYS_REMEMBERED)
def is_point_of_main_subgroup(public_key: bytes) -> bool:
    """Say whether 32 bytes are the only spelling of a point of order L."""
    return len(public_key) == KEY_BYTES and bindings.crypto_core_ed25519_is_valid_point(public_key)
