"""The harness's tokens, read by the service: good ones are taken, and each wrong one is wrong as it says."""

import json
import random
import time
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from app.errors import TokenExpired, Unauthenticated
from app.security.token_keys import KeyFile
from app.security.tokens import Tokens
from app.settings import TokenPolicy
from chaos.scenario import Stream
from chaos.streams import KINDS, Means, Occasion
from chaos.streams.tokens import TOKEN_CAUSES
from compose.gate import AUDIENCE, ISSUER, ISSUER_KEY_ID
from tests.unit.service.signed_tokens import jwk_of

NOW = 1_800_000_000.25
KEY = SigningKey(b"k" * 32)


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    path = tmp_path / "keys.json"
    entry = {"kid": ISSUER_KEY_ID, "alg": "EdDSA", "roles": ["editor"], "key": jwk_of(KEY)}
    path.write_text(json.dumps({"keys": [entry]}))
    path.chmod(0o600)
    policy = TokenPolicy(keys_file=path, issuer=ISSUER, audience=AUDIENCE)
    return Tokens(KeyFile(path, clock=lambda: 0.0), policy, wall=lambda: NOW)


def sent(kind: str, **parameters: object) -> str:
    one = Stream(name="tokens", kind=kind, per_second=1, parameters=parameters)
    means = Means(api_keys={}, token_key=KEY, wall=lambda: NOW)
    occasion = Occasion(one, 1, time.monotonic(), random.Random(1), means)  # noqa: S311
    return KINDS[kind](occasion).headers["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("seconds", [-60.0, 0.0, 9.0])
def test_a_token_that_just_expired_is_taken(tokens: Tokens, seconds: float) -> None:
    assert tokens.authenticate(sent("expired_token", seconds_ago=seconds)).principal == "harness-editor"


def test_a_token_that_expired_eleven_seconds_ago_is_refused_as_expired(tokens: Tokens) -> None:
    with pytest.raises(TokenExpired):
        tokens.authenticate(sent("expired_token", seconds_ago=12.0))


@pytest.mark.parametrize("cause", TOKEN_CAUSES)
def test_a_wrong_token_is_refused_and_never_as_expired(tokens: Tokens, cause: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        tokens.authenticate(sent("invalid_token", causes=[cause]))

    assert type(refused.value) is Unauthenticated


def test_without_an_issuer_no_token_is_made() -> None:
    one = Stream(name="tokens", kind="expired_token", per_second=1)
    with pytest.raises(ValueError, match="no issuer"):
        KINDS["expired_token"](Occasion(one, 0, 0.0, random.Random(1), Means()))  # noqa: S311
