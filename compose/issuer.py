"""An issuer of tokens for a stack: what a client's identity provider would be.

``python -m compose.issuer KEY_FILE``: one token of the harness's editor, good for ten minutes, on standard output.
"""

import base64
import json
import math
import secrets
import sys
import time
from pathlib import Path
from typing import Any, Final

from nacl.signing import SigningKey

from compose.gate import AUDIENCE, ISSUER, ISSUER_KEY_ID

LIFETIME_SECONDS: Final = 600
EDITOR: Final = "harness-editor"


def token(key: SigningKey, *, expires: float, jti: str, **header: Any) -> str:
    """Return a token that expires at the next whole second from ``expires``; ``header``: other than it should be."""
    ends = math.ceil(expires)
    told = {"alg": "EdDSA", "kid": ISSUER_KEY_ID, "typ": "JWT", **header}
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": EDITOR,
        "jti": jti,
        "iat": ends - LIFETIME_SECONDS,
        "exp": ends,
        "roles": ["editor"],
    }
    signed = f"{_part(json.dumps(told).encode())}.{_part(json.dumps(claims).encode())}"
    return f"{signed}.{_part(key.sign(signed.encode()).signature)}"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the file
        sys.exit("usage: python -m compose.issuer KEY_FILE")
    seed = base64.b64decode(Path(sys.argv[1]).read_text(encoding="ascii"))
    made = token(SigningKey(seed), expires=time.time() + LIFETIME_SECONDS - 1, jti=secrets.token_hex(8))
    sys.stdout.write(f"{made}\n")
