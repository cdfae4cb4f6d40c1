"""Tokens: which are good, for how long, and that nothing they say of themselves chooses how they are checked."""

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from app.errors import InvalidSettings, TokenExpired, Unauthenticated
from app.security.roles import IMPLIED
from app.security.token_keys import KeyFile, parse
from app.security.tokens import LIFETIME_SECONDS_MAX, TOKEN_CHARACTERS_MAX, Tokens
from tests.unit.service.signed_tokens import AUDIENCE, ISSUER, Issuer, base64url, jwk_of, shared_secret

NOW = 1_800_000_000.0


class Clock:
    """Both clocks, moved by hand: the wall's and the monotonic one."""

    def __init__(self) -> None:
        self.wall = NOW

    def __call__(self) -> float:
        return self.wall


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


@pytest.fixture
def tokens(issuer: Issuer, clock: Clock) -> Tokens:
    return Tokens(KeyFile(issuer.file, clock=clock), issuer.policy(), wall=clock)


def claims(issuer: Issuer, **changes: Any) -> dict[str, Any]:
    told = {**issuer.claims(now=NOW), **changes}
    return {name: value for name, value in told.items() if value is not ...}


def test_a_good_token_is_who_it_says_with_what_its_roles_imply(tokens: Tokens, issuer: Issuer) -> None:
    found = tokens.authenticate(issuer.token(now=NOW))

    assert found.principal == "ann"
    assert found.roles == IMPLIED["editor"]


def test_a_token_is_at_most_what_its_key_allows(tokens: Tokens, issuer: Issuer) -> None:
    found = tokens.authenticate(issuer.token(now=NOW, roles=["admin", "editor", "emperor"]))

    assert found.roles == IMPLIED["editor"]
    assert tokens.authenticate(issuer.token(now=NOW, roles=["admin"])).roles == frozenset()


@pytest.mark.parametrize("seconds", [-1, 0, 9, 9.9, 10])
def test_a_token_is_good_until_ten_seconds_after_it_expired(tokens: Tokens, issuer: Issuer, seconds: float) -> None:
    token = issuer.sign(claims(issuer, exp=int(NOW), iat=int(NOW) - 60))

    assert Tokens(tokens._keys, issuer.policy(), wall=lambda: NOW + seconds).authenticate(token).principal == "ann"


@pytest.mark.parametrize("seconds", [10.1, 11, 3600, 10**8])
def test_later_it_is_said_that_it_expired(tokens: Tokens, issuer: Issuer, clock: Clock, seconds: float) -> None:
    token = issuer.sign(claims(issuer, exp=int(NOW), iat=int(NOW) - 60))
    tokens.authenticate(token)  # a signature that is remembered is no reason to believe it longer

    clock.wall = NOW + seconds

    with pytest.raises(TokenExpired, match="token expired"):
        tokens.authenticate(token)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_of_the_near_future_is_good_and_of_a_farther_one_is_not(
    tokens: Tokens, issuer: Issuer, claim: str
) -> None:
    assert tokens.authenticate(issuer.sign(claims(issuer, **{claim: int(NOW) + 10}))).principal == "ann"
    with pytest.raises(Unauthenticated) as refused:
        tokens.authenticate(issuer.sign(claims(issuer, **{claim: int(NOW) + 11})))
    assert type(refused.value) is Unauthenticated


def forged(issuer: Issuer, told: dict[str, Any]) -> str:
    return issuer.sign(told, key=SigningKey.generate())


def public_half(issuer: Issuer) -> bytes:
    return bytes(issuer.key.verify_key)


def without(name: str, issuer: Issuer, told: dict[str, Any]) -> str:
    return issuer.sign({claim: value for claim, value in told.items() if claim != name})


Attack = Callable[[Issuer, dict[str, Any]], str]
ATTACKS: dict[str, Attack] = {
    "another key's signature": forged,
    "no signature": lambda i, c: i.sign(c).rpartition(".")[0] + ".",
    "two parts": lambda i, c: i.sign(c).rpartition(".")[0],
    "four parts": lambda i, c: i.sign(c) + ".e30",
    "five parts, as if encrypted": lambda i, c: i.sign(c) + ".e30.e30",
    "alg none": lambda i, c: i.sign(c, alg="none"),
    "alg none without a signature": lambda i, c: i.sign(c, alg="none").rpartition(".")[0] + ".",
    "alg nOnE": lambda i, c: i.sign(c, alg="nOnE"),
    "no alg": lambda i, c: i.sign(c, alg=None),
    "alg as a list": lambda i, c: i.sign(c, alg=["EdDSA"]),
    "the public key as a shared secret": lambda i, c: shared_secret(i, c, secret=public_half(i)),
    "the public key's text as a shared secret": lambda i, c: shared_secret(i, c, secret=jwk_of(i.key)["x"].encode()),
    "an empty secret": lambda i, c: shared_secret(i, c, secret=b""),
    "another spelling of the algorithm": lambda i, c: i.sign(c, alg="Ed25519"),
    "an unknown kid": lambda i, c: i.sign(c, kid="second"),
    "no kid": lambda i, c: i.sign(c, kid=None),
    "kid as a path": lambda i, c: i.sign(c, kid="../../../../dev/null"),
    "kid as SQL": lambda i, c: i.sign(c, kid="x' UNION SELECT 'key'--"),
    "kid with NUL": lambda i, c: i.sign(c, kid="first\0"),
    "kid as a number": lambda i, c: i.sign(c, kid=1),
    "jwk of its own": lambda i, c: i.sign(c, jwk=jwk_of(i.key)),
    "jku": lambda i, c: i.sign(c, jku="https://evil.test/keys"),
    "x5u": lambda i, c: i.sign(c, x5u="https://evil.test/certificate"),
    "x5c": lambda i, c: i.sign(c, x5c=["MII="]),
    "crit": lambda i, c: i.sign(c, crit=["exp"]),
    "crit of b64": lambda i, c: i.sign(c, crit=["b64"], b64=False),
    "zip": lambda i, c: i.sign(c, zip="DEF"),
    "typ of something else": lambda i, c: i.sign(c, typ="logout+jwt"),
    "typ as a number": lambda i, c: i.sign(c, typ=1),
    "padding": lambda i, c: i.sign(c) + "==",
    "padding inside": lambda i, c: i.sign(c).replace(".", "=.", 1),
    "white space": lambda i, c: " " + i.sign(c),
    "a line break": lambda i, c: i.sign(c) + "\n",
    "standard base64": lambda i, c: i.sign({**c, "x": "\u00ff\u00fe?>"}).replace("-", "+").replace("_", "/") + "+",
    "spare bits in the last character": lambda i, c: spare_bits(i.sign(c)),
    "a signature cut short": lambda i, c: i.sign(c)[:-4],
    "duplicate claims": lambda i, c: i.sign(json.dumps(c)[:-1].encode() + b', "sub": "root"}'),
    "claims that are a list": lambda i, c: i.sign([c]),
    "claims that are no JSON": lambda i, _: i.sign(b"{"),
    "claims that are no UTF-8": lambda i, _: i.sign(b'{"sub": "\xff"}'),
    "claims nested deeply": lambda i, c: i.sign({**c, "x": json.loads("[" * 20 + "]" * 20)}),
    "too long": lambda i, c: i.sign({**c, "x": "y" * TOKEN_CHARACTERS_MAX}),
    "another issuer": lambda i, c: i.sign({**c, "iss": ISSUER + "/"}),
    "issuers": lambda i, c: i.sign({**c, "iss": [ISSUER]}),
    "another audience": lambda i, c: i.sign({**c, "aud": "other"}),
    "other audiences": lambda i, c: i.sign({**c, "aud": ["other", AUDIENCE + "s"]}),
    "no subject": lambda i, c: i.sign({**c, "sub": ""}),
    "a subject that is no principal": lambda i, c: i.sign({**c, "sub": "Ann Müller"}),
    "a subject with a line break": lambda i, c: i.sign({**c, "sub": "ann\n"}),
    "a subject that is a number": lambda i, c: i.sign({**c, "sub": 1}),
    "an empty jti": lambda i, c: i.sign({**c, "jti": ""}),
    "a long jti": lambda i, c: i.sign({**c, "jti": "x" * 129}),
    "no roles": lambda i, c: i.sign({**c, "roles": []}),
    "roles as a text": lambda i, c: i.sign({**c, "roles": "admin"}),
    "exp as a text": lambda i, c: i.sign({**c, "exp": str(c["exp"])}),
    "exp as a fraction": lambda i, c: i.sign({**c, "exp": c["exp"] + 0.5}),
    "exp as true": lambda i, c: i.sign({**c, "exp": True}),
    "exp beyond all time": lambda i, c: i.sign({**c, "exp": 10**15}),
    "exp below zero": lambda i, c: i.sign({**c, "exp": -1}),
    "exp not a number": lambda i, c: i.sign(json.dumps({**c, "exp": float("inf")}).encode()),
    "a life of more than an hour": lambda i, c: i.sign({**c, "exp": c["iat"] + LIFETIME_SECONDS_MAX + 1}),
    "over before it began": lambda i, c: i.sign({**c, "exp": c["iat"]}),
    "nbf as a text": lambda i, c: i.sign({**c, "nbf": "1"}),
}
ATTACKS.update(
    {f"without {name}": partial(without, name) for name in ("iss", "aud", "sub", "jti", "iat", "exp", "roles")}
)


def spare_bits(token: str) -> str:
    """Spell the signature otherwise: its last character has bits that decoding ignores."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]
    assert base64.urlsafe_b64decode(other.rpartition(".")[2] + "==") == base64.urlsafe_b64decode(
        token.rpartition(".")[2] + "=="
    )
    return other


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_like_any_other_bad_token(tokens: Tokens, issuer: Issuer, attack: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        tokens.authenticate(ATTACKS[attack](issuer, claims(issuer)))

    assert type(refused.value) is Unauthenticated


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_with_an_expired_token_learns_nothing_of_its_age(tokens: Tokens, issuer: Issuer, attack: str) -> None:
    old = claims(issuer, iat=int(NOW) - 3600, exp=int(NOW) - 1800)

    with pytest.raises(Unauthenticated) as refused:
        tokens.authenticate(ATTACKS[attack](issuer, old))

    assert type(refused.value) is Unauthenticated


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(place=st.integers(0, 10_000), character=st.characters(min_codepoint=1, max_codepoint=0x17F))
def test_a_token_with_one_character_changed_is_refused(
    tokens: Tokens, issuer: Issuer, place: int, character: str
) -> None:
    token = issuer.token(now=NOW)
    at = place % len(token)
    changed = token[:at] + character + token[at + 1 :]
    if changed != token:
        with pytest.raises(Unauthenticated):
            tokens.authenticate(changed)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200))
def test_any_text_is_no_token(tokens: Tokens, text: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.authenticate(text)


def test_keys_rotate_without_a_restart_and_take_their_tokens_with_them(
    tokens: Tokens, issuer: Issuer, clock: Clock
) -> None:
    old = issuer.token(now=NOW)
    next_key = SigningKey.generate()
    tokens.authenticate(old)

    issuer.entries.append({"kid": "second", "alg": "EdDSA", "roles": ["viewer"], "key": jwk_of(next_key)})
    issuer.write()
    clock.wall += 1.0
    new = issuer.sign(claims(issuer), key=next_key, kid="second")
    assert tokens.authenticate(old).roles == IMPLIED["editor"]
    assert tokens.authenticate(new).roles == frozenset()  # an editor's token, by a key for viewers

    del issuer.entries[0]
    issuer.write()
    clock.wall += 1.0
    tokens.authenticate(new)
    with pytest.raises(Unauthenticated):
        tokens.authenticate(old)


def test_a_token_that_was_taken_back_is_refused_whatever_else_it_says(
    tokens: Tokens, issuer: Issuer, clock: Clock
) -> None:
    taken, other = claims(issuer, jti="taken"), claims(issuer)
    tokens.authenticate(issuer.sign(taken))

    issuer.write(revoked=["taken"])
    clock.wall += 1.0

    for spelling in (taken, {**taken, "more": 1}):
        with pytest.raises(Unauthenticated):
            tokens.authenticate(issuer.sign(spelling))
    tokens.authenticate(issuer.sign(other))


@pytest.mark.parametrize("content", ["", "{", '{"keys": [{}]}', '{"keys": [], "keys": []}'])
def test_a_file_that_became_wrong_changes_nothing(tokens: Tokens, issuer: Issuer, clock: Clock, content: str) -> None:
    issuer.write(content=content)
    clock.wall += 1.0

    assert tokens.authenticate(issuer.token(now=NOW)).principal == "ann"


def test_a_file_that_others_may_read_or_that_is_gone_changes_nothing(
    tokens: Tokens, issuer: Issuer, clock: Clock
) -> None:
    issuer.file.chmod(0o644)
    clock.wall += 1.0
    assert tokens.authenticate(issuer.token(now=NOW)).principal == "ann"

    issuer.file.unlink()
    clock.wall += 1.0
    assert tokens.authenticate(issuer.token(now=NOW)).principal == "ann"


def test_remembered_signatures_are_bounded(issuer: Issuer, clock: Clock) -> None:
    bounded = Tokens(KeyFile(issuer.file, clock=clock), replace(issuer.policy(), entries_max=3), wall=clock)
    for _ in range(10):
        bounded.authenticate(issuer.token(now=NOW))

    assert len(bounded._signed) == 3


SHARED = base64url(secrets.token_bytes(32))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        pytest.param({"alg": "none"}, "alg is none of", id="alg none"),
        pytest.param({"alg": "RS256"}, "alg is none of", id="an algorithm we do not take"),
        pytest.param({"alg": "ES256"}, "no JWK for ES256", id="another type of key"),
        pytest.param({"key": {"kty": "OKP", "crv": "Ed25519"}}, "no JWK", id="half a key"),
        pytest.param({"key": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}}, "no JWK", id="a short key"),
        pytest.param({"key": {"kty": "OKP", "crv": "Ed448", "x": "A" * 76}}, "curve|no JWK", id="another curve"),
        pytest.param({"key": {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}}, "weak", id="a small-order key"),
        pytest.param({"roles": ["emperor"]}, "roles are of", id="no role of ours"),
        pytest.param({"roles": []}, "it is not", id="for nobody"),
        pytest.param({"kid": "a b"}, "it is not", id="kid with a blank"),
        pytest.param({"more": 1}, "it is not", id="a member we do not know"),
        pytest.param(
            {"alg": "HS256", "key": {"kty": "oct", "k": base64url(b"x" * 31)}}, "less than 32", id="short secret"
        ),
        pytest.param({"alg": "HS256", "key": {"kty": "oct", "k": ""}}, "no JWK|less than", id="empty secret"),
    ],
)
def test_a_table_that_would_be_unsafe_is_refused_and_says_which_key(
    issuer: Issuer, entry: dict[str, Any], said: str
) -> None:
    content = json.dumps({"keys": [{**issuer.entries[0], **entry}]}).encode()

    with pytest.raises(ValueError, match=said) as refused:
        parse(content)

    assert SHARED[:20] not in str(refused.value)


def test_a_private_half_and_a_kid_twice_are_refused(issuer: Issuer) -> None:
    private = {**jwk_of(issuer.key), "d": base64url(bytes(issuer.key))}
    with pytest.raises(ValueError, match="private key"):
        parse(json.dumps({"keys": [{**issuer.entries[0], "key": private}]}).encode())
    with pytest.raises(ValueError, match="earlier one"):
        parse(json.dumps({"keys": [issuer.entries[0], issuer.entries[0]]}).encode())


def test_a_shared_secret_of_32_bytes_signs_tokens_too(issuer: Issuer, clock: Clock) -> None:
    secret = secrets.token_bytes(32)
    key = {"kty": "oct", "k": base64url(secret)}
    issuer.entries = [{"kid": "first", "alg": "HS256", "roles": ["editor"], "key": key}]
    issuer.write()
    tokens = Tokens(KeyFile(issuer.file, clock=clock), issuer.policy(), wall=clock)

    assert tokens.authenticate(shared_secret(issuer, claims(issuer), secret=secret)).principal == "ann"
    with pytest.raises(Unauthenticated):
        tokens.authenticate(shared_secret(issuer, claims(issuer), secret=secret, alg="HS512"))


def test_a_first_table_that_is_none_ends_the_start(issuer: Issuer, clock: Clock) -> None:
    issuer.write(content="{}")

    with pytest.raises(InvalidSettings) as refused:
        KeyFile(issuer.file, clock=clock)

    (problem,) = refused.value.problems
    assert str(problem).startswith("FIREWALL_TOKEN_KEYS_FILE: it is not {keys: [")
