"""An issuer of tokens for tests: its key file, its tokens, good and bad, written without the library under test."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from app.settings import TokenPolicy

ISSUER = "https://issuer.test"
AUDIENCE = "firewall"


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwk_of(key: SigningKey) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": base64url(bytes(key.verify_key))}


class Issuer:
    """Signs with Ed25519; ``file`` is the firewall's table of its keys."""

    def __init__(self, folder: Path, *, roles: Sequence[str] = ("editor",), kid: str = "first") -> None:
        self.key = SigningKey.generate()
        self.kid = kid
        self.file = folder / "token-keys.json"
        self.entries: list[dict[str, Any]] = [
            {"kid": kid, "alg": "EdDSA", "roles": list(roles), "key": jwk_of(self.key)}
        ]
        self.write()

    def write(self, *, revoked: Sequence[str] = (), content: str | None = None) -> None:
        """Put the table where the firewall reads it, in one step."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"keys": self.entries, "revoked": [*revoked]}) if content is None else content)
        new.chmod(0o600)
        new.replace(self.file)

    def add_shared_secret(self, kid: str) -> bytes:
        """Let tokens of ``kid`` be signed with a secret, HS256; return it."""
        secret = secrets.token_bytes(32)
        key = {"kty": "oct", "k": base64url(secret)}
        self.entries.append({"kid": kid, "alg": "HS256", "roles": ["editor"], "key": key})
        self.write()
        return secret

    def policy(self) -> TokenPolicy:
        return TokenPolicy(keys_file=self.file, issuer=ISSUER, audience=AUDIENCE)

    def claims(
        self, *, roles: Sequence[str] = ("editor",), now: float | None = None, expired_seconds_ago: float = -600
    ) -> dict[str, Any]:
        expires = int((time.time() if now is None else now) - expired_seconds_ago)
        return {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ann",
            "jti": secrets.token_hex(8),
            "iat": expires - 900,
            "exp": expires,
            "roles": [*roles],
        }

    def token(
        self, *, roles: Sequence[str] = ("editor",), now: float | None = None, expired_seconds_ago: float = -600
    ) -> str:
        return self.sign(self.claims(roles=roles, now=now, expired_seconds_ago=expired_seconds_ago))

    def sign(self, claims: Any, *, key: SigningKey | None = None, **header: Any) -> str:
        """Return a token of these claims (an object, or bytes as they are); a header of ``None`` is left out."""
        told = {"alg": "EdDSA", "kid": self.kid, "typ": "JWT", **header}
        first = json.dumps({name: value for name, value in told.items() if value is not None}).encode()
        second = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        signed = f"{base64url(first)}.{base64url(second)}"
        return f"{signed}.{base64url((key or self.key).sign(signed.encode()).signature)}"


def shared_secret(issuer: Issuer, told: Any, *, secret: bytes, alg: str = "HS256", **header: Any) -> str:
    """Return a token of these claims that is signed with a shared secret."""
    first = json.dumps({"alg": alg, "kid": issuer.kid, **header}).encode()
    signed = f"{base64url(first)}.{base64url(json.dumps(told).encode())}"
    return f"{signed}.{base64url(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
