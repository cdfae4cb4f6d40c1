"""The table of transitions, the instants' one spelling, and the leaf's bytes."""

import itertools
import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
import pytest

from app.core.documents import canonical, instants, strict_json
from app.core.documents.identifiers import EventId, Principal, ProposalId
from app.core.governed import lifecycle
from app.core.governed.lifecycle import State
from app.core.log import events
from app.core.log.events import Draft

AT = datetime(2026, 11, 23, 22, 17, 24, 123456, tzinfo=UTC)


def draft(**changes: object) -> Draft:
    given = Draft(
        kind="withdrawn",
        principal=Principal("ada"),
        body={"z": 1, "a": None},
        target="agents/router",
        proposal_id=ProposalId(UUID(int=7)),
        state_from=State.PENDING,
        state_to=State.WITHDRAWN,
    )
    return msgspec.structs.replace(given, **changes)


def test_each_step_stands_once_and_each_has_its_event() -> None:
    steps = [(step.state_from, step.state_to) for step in lifecycle.TRANSITIONS]

    assert len(steps) == len(set(steps))
    assert {step.event for step in lifecycle.TRANSITIONS} <= events.KINDS
    assert {step.number for step in lifecycle.TRANSITIONS} == set(range(1, 18))


def test_what_is_terminal_has_no_step_out_of_it() -> None:
    leaving = {step.state_from for step in lifecycle.TRANSITIONS}

    assert set(State) - leaving == lifecycle.TERMINAL


def test_every_state_can_be_reached() -> None:
    assert {step.state_to for step in lifecycle.TRANSITIONS} == set(State)


def test_a_pair_outside_the_table_is_no_step() -> None:
    known = {(step.state_from, step.state_to) for step in lifecycle.TRANSITIONS}
    for pair in itertools.product((None, *State), State):
        assert (lifecycle.transition(*pair) is None) == (pair not in known)


def test_an_instant_has_one_spelling() -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert instants.to_text(AT) == instants.to_text(elsewhere) == "2026-11-23T22:17:24.123456Z"
    assert instants.from_text(instants.to_text(AT)) == AT
    assert instants.to_text(AT.replace(microsecond=0)).endswith("24.000000Z")


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T22:17:24Z",
        "2026-11-23T22:17:24.123Z",
        "2026-11-23T22:17:24.123456+00:00",
        "2026-11-23T22:17:24.123456z",
        "2026-11-23 22:17:24.123456Z",
        "2026-13-23T22:17:24.123456Z",
        "2026-11-23T22:17:60.123456Z",
        "2026-11-23T22:17:24.123456Z\n",
        "٢026-11-23T22:17:24.123456Z",
        "",
    ],
)
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        instants.from_text(text)


def test_a_leaf_is_canonical_and_holds_neither_the_person_nor_the_body() -> None:
    event = events.seal(draft(), event_id=EventId(UUID(int=1)), at=AT, prev=None, actor_key=b"k")

    leaf = json.loads(event.leaf)
    assert canonical.encode(strict_json.decode(event.leaf)) == event.leaf
    assert list(leaf) == sorted(leaf)
    assert leaf["body"] == canonical.digest(b'{"a":null,"z":1}')
    assert leaf["at"] == "2026-11-23T22:17:24.123456Z"
    assert b"ada" not in event.leaf
    assert event.leaf_digest == canonical.digest(event.leaf)


def test_what_is_canonical_already_is_kept_byte_for_byte() -> None:
    body = {"b": msgspec.Raw(b'{"x":1e+21}'), "a": 0.5, "ä": "é"}

    encoded = events.encode_body(body)

    assert encoded == '{"a":0.5,"b":{"x":1e+21},"ä":"é"}'.encode()


@pytest.mark.parametrize("change", [{"kind": "invented"}, {"target": "x" * 5000}])
def test_an_unknown_kind_or_a_leaf_too_long_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"event of the kind|4096"):
        events.seal(draft(**change), event_id=EventId(UUID(int=1)), at=AT, prev=None, actor_key=b"k")
