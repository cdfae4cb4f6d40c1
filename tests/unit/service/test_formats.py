"""docs/formats.md promises a whole voter in one block: it is run here, and its vote is counted."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from markdown_it import MarkdownIt

from app.core.documents import instants
from app.core.quorum import votes
from app.core.signing import envelope, statement
from app.security.signatures import verify
from tests.repository.files import ROOT
from tests.unit.service.electorate import NOW, PROPOSER, ballot, founding_set, private_key

PAGE: Path = ROOT / "docs" / "formats.md"


def voter() -> dict[str, Any]:
    blocks = [one.content for one in MarkdownIt().parse(PAGE.read_text(encoding="utf-8")) if one.info == "python"]
    assert len(blocks) == 1
    names: dict[str, Any] = {}
    exec(blocks[0], names)  # noqa: S102 - running the page is the test
    return names


def test_the_pages_voter_casts_a_vote_that_is_verified() -> None:
    offered = json.loads(statement.encode(ballot()))
    seed = bytes(private_key("olga")._key)

    body = voter()["vote"](
        offered,
        seed,
        validator="olga",
        role="owner",
        decision="approve",
        recomputed=False,
        reason='ärger\n\u2028\x7f \U0001f512 "quoted" / \\ \x01',
        issued_at=instants.to_text(NOW),
        expires_at=instants.to_text(NOW + timedelta(hours=1)),
    )

    verified = votes.check(
        envelope.decode(body),
        ballot=ballot(),
        ballot_expires_at=NOW + timedelta(hours=24),
        electorate=founding_set(),
        proposer=PROPOSER,
        principal="olga-person",
        now=NOW,
        verify=verify,
    )
    assert verified.decision == "approve"
    assert envelope.decode(body).encode() == body


def test_the_page_names_every_field_of_ballot_and_vote() -> None:
    text = PAGE.read_text(encoding="utf-8")

    for field in msgspec.structs.fields(statement.VotePredicate):
        assert f"`{field.name}`" in text or f"`.{field.name}`" in text or f"`predicate.{field.name}`" in text, (
            field.name
        )
    for kind in (envelope.IN_TOTO, envelope.KEY_POSSESSION, envelope.GENESIS):
        assert f"`{kind}`" in text
