"""Votes over HTTP, counted under the lock of the proposal (firewall.md sections 3, 4, 7 and 13)."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.core.documents import canonical
from app.core.governed.lifecycle import State
from app.core.signing import envelope, keys
from app.storage import ballot_box, proposals
from app.storage.proposals import Step
from tests.integration.service.gate import PEOPLE, PROPOSER, Founded, Party
from tests.integration.service.running import EVENTS, eventually
from tests.unit.service.electorate import private_key

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def approved(party: Party) -> tuple[str, dict[str, Any]]:
    """A proposal of the tier medium that robot and olga approved, and olga's receipt."""
    proposal = await party.simulated()
    assert (await party.vote(proposal, "robot")).status_code == 201
    receipt = (await party.vote(proposal, "olga")).json()
    assert receipt["state"] == "approved"
    return proposal, receipt


async def test_a_person_and_a_recompute_approve_a_change_of_medium_risk(party: Party, gate: Founded) -> None:
    proposal = await party.simulated()

    first = await party.vote(proposal, "robot")
    second = await party.vote(proposal, "olga")

    assert (first.status_code, first.json()["state"], first.json()["tally"]["met"]) == (201, "simulated", False)
    assert (second.status_code, second.json()["state"], second.json()["tally"]["met"]) == (201, "approved", True)
    assert gate.events(proposal) == [
        "proposal-created",
        "simulation-started",
        "simulated",
        "vote-cast",
        "vote-cast",
        "approved",
    ]
    with gate.server.connect() as connection:
        last = connection.execute(
            "SELECT transaction_id, at FROM events WHERE proposal_id = %s ORDER BY ordinal DESC LIMIT 2", [proposal]
        ).fetchall()
    assert last[0][0] == last[1][0]
    assert second.json()["tally"]["at"] == last[0][1].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    listed = await party.client.http.get(f"/api/v1/proposals/{proposal}/votes", headers=party.headers("reader"))
    assert [vote["validator"] for vote in listed.json()["items"]] == ["robot", "olga"]


async def test_the_same_envelope_again_is_the_same_vote(party: Party, gate: Founded) -> None:
    proposal = await party.simulated()
    signed = party.signed(await party.ballot(proposal), "olga")

    first = await party.send(proposal, "olga", signed, key="first")
    replayed = await party.send(proposal, "olga", signed, key="first")
    again = await party.send(proposal, "olga", signed)

    assert (first.status_code, replayed.status_code, again.status_code) == (201, 201, 200)
    assert replayed.headers["idempotency-replayed"] == "true"
    assert replayed.content == first.content
    assert again.json()["vote"] == first.json()["vote"]
    assert gate.events(proposal).count("vote-cast") == 1


async def test_a_vote_for_one_proposal_is_none_for_another(party: Party, gate: Founded) -> None:
    one, other = await party.simulated(), await party.simulated()
    signed = party.signed(await party.ballot(one), "olga")

    assert code(await party.send(other, "olga", signed)) == (422, "binding-mismatch")
    assert gate.events(other)[-1] == "simulated"


async def test_a_later_vote_supersedes_until_it_is_decided(party: Party) -> None:
    proposal = await party.simulated()

    await party.vote(proposal, "olga", "approve")
    await party.vote(proposal, "olga", "reject")
    answer = await party.vote(proposal, "robot")

    tally = answer.json()["tally"]
    assert answer.json()["state"] == "simulated"
    assert [(one["validator"], one["as"]) for one in tally["counted"] if one["validator"] == "olga"] == [
        ("olga", "reject")
    ]
    assert [(one["validator"], one["why"]) for one in tally["not_counted"]] == [("olga", "superseded")]


async def test_nobody_votes_twice_by_sending_two_votes_at_once(party: Party, gate: Founded) -> None:
    proposal = await party.simulated()
    ballot = await party.ballot(proposal)
    both = [party.signed(ballot, "olga", reason=f"number {n}") for n in range(2)]

    answers = await asyncio.gather(*(party.send(proposal, "olga", one) for one in both))

    assert [one.status_code for one in answers] == [201, 201]
    query = "SELECT count(*) FROM votes WHERE proposal_id = %s AND superseded_at IS NULL"
    assert gate.value(query, proposal) == 1


async def test_five_votes_at_once_approve_exactly_once(party: Party, gate: Founded) -> None:
    for _ in range(5):
        proposal = await party.simulated()
        ballot = await party.ballot(proposal)
        names = [*PEOPLE, "robot", "replica"]

        answers = await asyncio.gather(*(party.send(proposal, name, party.signed(ballot, name)) for name in names))

        assert {code(one) for one in answers} <= {(201, ""), (409, "ballot-closed")}
        assert gate.events(proposal).count("approved") == 1
        assert sum(one.status_code == 201 for one in answers) == gate.events(proposal).count("vote-cast")
        assert [one.json()["state"] for one in answers if one.status_code == 201].count("approved") == 1


async def test_a_vote_after_the_decision_is_too_late(party: Party, gate: Founded) -> None:
    proposal, _ = await approved(party)

    assert code(await party.vote(proposal, "sam", "reject")) == (409, "ballot-closed")
    assert gate.events(proposal)[-1] == "approved"


async def test_a_vote_before_the_simulation_is_too_early(party: Party) -> None:
    ballot = await party.ballot(await party.simulated())
    waiting = await party.propose()

    assert code(await party.send(waiting, "olga", party.signed(ballot, "olga"))) == (409, "not-simulated")
    answer = await party.client.http.get(f"/api/v1/proposals/{waiting}/ballot", headers=party.headers("reader"))
    assert code(answer) == (409, "not-simulated")
    await party.simulate(waiting)


async def test_the_proposer_has_no_vote(party: Party, gate: Founded) -> None:
    answer = await party.client.http.post(
        "/api/v1/proposals",
        json={
            "target": (name := gate.target()),
            "base_version": 1,
            "base_digest": gate.value("SELECT digest FROM targets WHERE name = %s", name),
            "patch": [{"op": "add", "path": "/notes/a", "value": 1}],
            "rationale": "mine",
        },
        headers=party.headers("olga-person"),
    )
    proposal = answer.json()["id"]
    await party.simulate(proposal)

    assert code(await party.vote(proposal, "olga")) == (403, "proposer-cannot-vote")


@pytest.mark.parametrize(
    ("signs", "sends", "expected"),
    [
        ("olga", "sam", (403, "not-eligible")),
        ("stranger", "olga", (403, "not-eligible")),
    ],
)
async def test_a_key_votes_only_for_its_holder(party: Party, signs: str, sends: str, expected: tuple[int, str]) -> None:
    proposal = await party.simulated()
    by = None if signs == "olga" else private_key(signs)

    signed = party.signed(await party.ballot(proposal), "olga", by=by)

    assert code(await party.send(proposal, sends, signed)) == expected


async def test_a_signature_of_other_bytes_is_refused(party: Party) -> None:
    proposal = await party.simulated()
    ballot = await party.ballot(proposal)
    yes, no = party.signed(ballot, "olga"), party.signed(ballot, "olga", "reject")
    forged = envelope.from_value({**yes.document(), "payload": no.document()["payload"]})

    assert code(await party.send(proposal, "olga", forged)) == (422, "bad-signature")


@pytest.mark.parametrize(
    "said",
    [
        {"role": "security"},
        {"validator": "sam"},
        {"recomputed": True},
        {"issued_at": datetime(2026, 1, 1, tzinfo=UTC)},
        {"expires_at": datetime(2036, 1, 1, tzinfo=UTC)},
    ],
    ids=str,
)
async def test_what_is_signed_is_what_is_on_the_ballot(party: Party, said: dict[str, Any]) -> None:
    proposal = await party.simulated()

    assert code(await party.vote(proposal, "olga", **said)) == (422, "binding-mismatch")


async def test_a_veto_rejects_and_the_tally_says_whose(party: Party, gate: Founded) -> None:
    proposal = await party.simulated(minimum_tier="high")

    answer = await party.vote(proposal, "sam", "reject")

    assert answer.json()["state"] == "rejected"
    assert answer.json()["tally"]["vetoed_by"] == ["sam"]
    assert gate.events(proposal)[-2:] == ["vote-cast", "rejected"]


async def test_a_change_that_nobody_can_carry_any_more_is_rejected(party: Party) -> None:
    proposal = await party.simulated(minimum_tier="high")

    # Owner and safety are both needed, and there is one owner.
    assert (await party.vote(proposal, "olga", "reject")).json()["state"] == "rejected"


async def test_taking_a_vote_back_loses_the_approval(party: Party, gate: Founded) -> None:
    proposal, receipt = await approved(party)

    done = await party.revoke(proposal, "olga", receipt)

    assert (done.status_code, done.json()["state"]) == (201, "simulated")
    assert done.json()["vote"]["revoked_at"] is not None
    assert gate.events(proposal)[-2:] == ["vote-revoked", "approval-lost"]
    assert gate.value("SELECT approved_at FROM proposals WHERE id = %s", proposal) is None
    assert (await party.vote(proposal, "sam")).json()["state"] == "approved"


async def test_a_vote_is_taken_back_once_and_by_who_gave_it(party: Party, gate: Founded) -> None:
    proposal, receipt = await approved(party)

    assert code(await party.revoke(proposal, "sam", receipt)) == (403, "not-eligible")
    assert (await party.revoke(proposal, "olga", receipt)).status_code == 201
    assert code(await party.revoke(proposal, "olga", receipt)) == (409, "ballot-closed")
    assert gate.events(proposal).count("vote-revoked") == 1


async def test_no_vote_is_taken_back_once_the_change_is_applied(party: Party) -> None:
    proposal, receipt = await approved(party)
    stored = await party.stored(proposal)

    async def apply(connection: Any) -> None:
        step = Step(
            proposal_id=stored.id,
            state_from=State.APPROVED,
            state_to=State.APPLYING,
            principal=stored.principal,
            body={},
        )
        await proposals.move(connection, EVENTS, step)

    await party.database.transact("proposal_create", apply, deadline=party.deadline())

    assert code(await party.revoke(proposal, "olga", receipt)) == (409, "already-applying")


async def test_a_vote_and_its_rival_revocation_leave_what_a_recount_finds(party: Party, gate: Founded) -> None:
    for _ in range(5):
        proposal = await party.simulated()
        receipt = (await party.vote(proposal, "olga")).json()

        revoked, voted = await asyncio.gather(party.revoke(proposal, "olga", receipt), party.vote(proposal, "robot"))

        assert (revoked.status_code, voted.status_code) == (201, 201)
        assert (await party.stored(proposal)).state == "simulated"
        kinds = gate.events(proposal)
        assert kinds.count("approved") == kinds.count("approval-lost")


async def test_a_vote_that_expires_takes_the_approval_with_it(party: Party, gate: Founded) -> None:
    proposal = await party.simulated()
    await party.vote(proposal, "robot")
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    assert (await party.vote(proposal, "olga", expires_at=soon)).json()["state"] == "approved"

    async def lost() -> bool:
        await party.janitor.once(deadline=party.deadline())
        return (await party.stored(proposal)).state == "simulated"

    await eventually(lost, within_seconds=10)
    await party.janitor.once(deadline=party.deadline())
    assert gate.events(proposal)[-1] == "approval-lost"


async def test_a_vote_written_past_the_service_counts_for_nothing(party: Party, gate: Founded) -> None:
    proposal = await party.simulated()
    ballot = await party.ballot(proposal)
    forged = party.signed(ballot, "robot", by=private_key("stranger"))
    with gate.server.connect() as connection:
        connection.execute(
            "INSERT INTO votes (id, proposal_id, epoch, principal, validator, role, keyid, decision, recomputed,"
            " envelope, digest, issued_at, expires_at, at) VALUES (%s, %s, 1, 'robot-person', 'robot', 'machine', %s,"
            " 'approve', true, %s, %s, now(), now() + interval '1 hour', now())",
            [uuid4(), proposal, keys.keyid(private_key("robot").public_key), forged.encode(), forged.digest()],
        )

    answer = await party.vote(proposal, "olga")

    assert answer.json()["state"] == "simulated"
    assert [one["validator"] for one in answer.json()["tally"]["counted"]] == ["olga"]


async def test_nobody_votes_without_end(party: Party) -> None:
    proposal = await party.simulated()
    ballot = await party.ballot(proposal)

    answers = [
        await party.send(proposal, "olga", party.signed(ballot, "olga", "abstain", reason=f"number {n}"))
        for n in range(17)
    ]

    assert [one.status_code for one in answers] == [201] * 16 + [409]
    assert answers[-1].json()["code"] == "too-many-votes"


async def test_the_role_the_header_and_the_proposal_are_required(party: Party) -> None:
    proposal = await party.simulated()
    path, body = f"/api/v1/proposals/{proposal}/votes", party.signed(await party.ballot(proposal), "olga").document()
    unknown = f"/api/v1/proposals/{uuid4()}/votes"
    keyless = {"X-API-Key": party.founded.keys["olga-person"]}

    assert code(await party.client.http.post(path, json=body, headers=party.headers(PROPOSER))) == (403, "forbidden")
    assert code(await party.client.http.post(path, json=body, headers=keyless)) == (400, "idempotency-key-missing")
    assert code(await party.client.http.post(unknown, json=body, headers=party.headers("olga-person"))) == (
        404,
        "not-found",
    )
    assert code(await party.client.http.get(unknown, headers=party.headers("reader"))) == (404, "not-found")


async def test_pages_of_votes_show_each_once(party: Party) -> None:
    proposal = await party.simulated()
    ballot = await party.ballot(proposal)
    for n in range(5):
        await party.send(proposal, "olga", party.signed(ballot, "olga", "abstain", reason=f"number {n}"))

    seen, cursor = [], None
    while True:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = await party.client.http.get(
            f"/api/v1/proposals/{proposal}/votes", params=query, headers=party.headers("reader")
        )
        seen += [vote["id"] for vote in page.json()["items"]]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            break

    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen)


async def test_the_database_itself_takes_no_second_active_vote(party: Party, gate: Founded) -> None:
    proposal = await party.simulated()
    await party.vote(proposal, "olga")
    stored = await party.stored(proposal)

    async def again(connection: Any) -> None:
        [vote] = await ballot_box.of_epoch(connection, stored.id, 1)
        values = {name: getattr(vote, name) for name in vote.__struct_fields__}
        values |= {"id": uuid4(), "envelope": secrets.token_bytes(8)}
        values["digest"] = canonical.digest(values["envelope"])
        await connection.execute(ballot_box.INSERT, values)

    with pytest.raises(Exception, match="votes_one_active_per_principal"):
        await party.database.transact("vote_cast", again, deadline=party.deadline())
    assert gate.value("SELECT count(*) FROM votes WHERE proposal_id = %s", proposal) == 1
