"""The streams of FM12 send what they say, as the clients they name."""

import json
import random

import pytest

from chaos.exchange import Request
from chaos.scenario import Stream
from chaos.streams import KINDS, Means, Occasion
from chaos.streams.bodies import CAUSES, OLD_VERSION

KEYS = {"alice": "key of alice", **{f"client-{number}": f"key of client-{number}" for number in range(1, 13)}}


def made(kind: str, number: int, **parameters: object) -> Request:
    chance = random.Random(number)  # noqa: S311 - reproducible
    occasion = Occasion(Stream("s", kind, 1.0, parameters), number, 0.0, chance, Means(api_keys=KEYS))
    return KINDS[kind](occasion)


@pytest.mark.parametrize(("number", "cause"), list(enumerate(CAUSES)))
def test_every_cause_has_its_turn_and_says_what_must_be_said_of_it(number: int, cause: str) -> None:
    request = made("misshapen_proposal", number)

    flaw = CAUSES[cause]
    said = {name: request.facts[name] for name in ("stream", "why", "pointer", "rule", "expected")}
    assert said == {
        "stream": "s",
        "why": cause,
        "pointer": flaw.pointer,
        "rule": flaw.rule,
        "expected": flaw.status,
    }
    body = json.loads(request.body)
    assert ("rationale" in body) == (cause not in {OLD_VERSION, "missing_field"})
    assert ("reason" in body) == (cause == OLD_VERSION)


def test_clients_take_turns_and_others_send_nothing_of_the_kind() -> None:
    all_of_them = {made("misshapen_proposal", number).principal for number in range(60)}
    some = {made("misshapen_proposal", number, clients=3).principal for number in range(60)}

    assert all_of_them == {*KEYS} - {"alice"}
    assert some == {"client-1", "client-2", "client-3"}
    request = made("misshapen_proposal", 5)
    assert request.headers["X-API-Key"] == KEYS[request.principal]


def test_no_two_unknown_addresses_are_alike_and_all_are_below_the_api() -> None:
    paths = [made("unknown_path", number).path for number in range(200)]

    assert len({*paths}) == len(paths)
    assert all(path.startswith("/api/") for path in paths)
    assert made("unknown_path", 0).headers == {}
    assert made("unknown_path", 0, as_client="alice").headers == {"X-API-Key": "key of alice"}
