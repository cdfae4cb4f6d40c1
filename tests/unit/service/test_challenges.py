"""Challenges hold for one validator, principal and key, and for ten minutes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.errors import ProofFailed
from app.security.challenges import LIFETIME, Challenges

NOW = datetime(2026, 11, 23, 12, 0, 0, 500_000, tzinfo=UTC)
ASKED: dict[str, Any] = {"validator": "olga", "principal": "olga-person", "public_key": bytes(range(32))}


def test_a_challenge_holds_until_it_ends() -> None:
    challenges = Challenges(b"k" * 32)

    text, ends = challenges.issue(**ASKED, now=NOW)

    challenges.require(text, **ASKED, now=NOW)
    challenges.require(text, **ASKED, now=ends - timedelta(microseconds=1))
    assert NOW < ends <= NOW + LIFETIME


def test_another_replica_with_the_same_pepper_accepts_it() -> None:
    text, _ = Challenges(b"k" * 32).issue(**ASKED, now=NOW)

    Challenges(b"k" * 32).require(text, **ASKED, now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"validator": "sam"},
        {"principal": "sam-person"},
        {"public_key": bytes(32)},
        {"validator": "olga\0olga-person", "principal": ""},
        {"now": NOW + LIFETIME},
    ],
    ids=str,
)
def test_a_challenge_for_something_else_is_refused(change: dict[str, Any]) -> None:
    challenges = Challenges(b"k" * 32)
    text, _ = challenges.issue(**ASKED, now=NOW)

    with pytest.raises(ProofFailed):
        challenges.require(text, **{**ASKED, "now": NOW, **change})


def test_a_challenge_that_was_altered_or_invented_is_refused() -> None:
    challenges = Challenges(b"k" * 32)
    text, _ = challenges.issue(**ASKED, now=NOW)
    foreign, _ = Challenges(b"x" * 32).issue(**ASKED, now=NOW)

    # The second character carries bits of the expiry, the last but one of the tag.
    for wrong in ("", "genesis", "ü" * 56, text[:-1], text + "=", foreign, text[:10] + "Z" + text[11:], f" {text[1:]}"):
        with pytest.raises(ProofFailed):
            challenges.require(wrong, **ASKED, now=NOW)
