"""New keys of validators are proven, never in force by themselves; lost ones stop counting at once."""

import base64
import secrets
from typing import Any

import pytest

from app import ed25519
from app.core.signing import envelope
from app.core.signing.keys import keyid, to_base64
from app.core.signing.possession import Possession
from app.core.simulation import constitution
from app.security.signatures import PrivateKey, generate
from tests.integration.service.gate import Founded, Party, policies
from tests.unit.service import electorate
from tests.unit.service.electorate import ORIGIN, private_key

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def ask(party: Party, validator: str, key: bytes, principal: str) -> Any:
    return await party.client.http.post(
        f"/api/v1/validators/{validator}/key-challenges",
        json={"public_key": to_base64(key)},
        headers=party.headers(principal),
    )


async def prove(party: Party, validator: str, pair: PrivateKey, payload: bytes, principal: str) -> Any:
    return await party.client.http.post(
        f"/api/v1/validators/{validator}/keys",
        json=pair.seal(payload, envelope.KEY_POSSESSION).document(),
        headers=party.headers(principal),
    )


async def challenged(party: Party, validator: str, pair: PrivateKey, principal: str) -> bytes:
    answer = await ask(party, validator, pair.public_key, principal)
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["payload"])


async def test_a_proven_key_is_what_a_proposal_may_put_into_the_set(party: Party) -> None:
    pair = generate()
    payload = await challenged(party, "olga", pair, "olga-person")

    made = await prove(party, "olga", pair, payload, "olga-person")
    again = await prove(party, "olga", pair, payload, "olga-person")

    assert (made.status_code, again.status_code) == (201, 201)
    assert made.content == again.content
    assert made.json()["keyid"] == keyid(pair.public_key)
    before = electorate.founding()
    after = electorate.founding()
    next(one for one in after["validators"] if one["id"] == "olga")["keys"].append(made.json()["entry"])
    assert constitution.check("governance/validators", before, after, verify=ed25519.verify, policies=policies()) == []
    shown = await party.client.http.get("/api/v1/validators", headers=party.headers("reader"))
    assert shown.json()["document"] == before  # Not in force.


@pytest.mark.parametrize("key", SMALL_ORDER, ids=bytes.hex)
async def test_a_key_with_which_anybody_can_sign_is_refused(party: Party, key: bytes) -> None:
    assert code(await ask(party, "olga", key, "olga-person")) == (422, "weak-key")


async def test_a_proof_by_another_key_or_for_another_validator_is_refused(party: Party) -> None:
    pair, other = generate(), generate()
    payload = await challenged(party, "olga", pair, "olga-person")
    invented = Possession(
        validator="olga",
        principal="olga-person",
        public_key=to_base64(pair.public_key),
        origin=ORIGIN,
        challenge="genesis",
    ).encode()

    assert code(await prove(party, "olga", other, payload, "olga-person")) == (422, "proof-failed")
    assert code(await prove(party, "olga", pair, invented, "olga-person")) == (422, "proof-failed")
    assert code(await prove(party, "sam", pair, payload, "sam-person")) == (422, "proof-failed")
    assert code(await prove(party, "olga", pair, payload, "sam-person")) == (403, "not-eligible")


async def test_nobody_asks_for_somebody_else(party: Party) -> None:
    key = generate().public_key

    assert code(await ask(party, "sam", key, "olga-person")) == (403, "not-eligible")
    assert code(await ask(party, "newcomer", key, "olga-person")) == (403, "not-eligible")
    assert code(await ask(party, "olga", key, "newcomer")) == (403, "not-eligible")
    assert (await ask(party, "newcomer", key, "newcomer")).status_code == 200
    assert code(await ask(party, "Olga", key, "olga-person")) == (404, "not-found")
    assert code(await ask(party, "olga", key, "reader")) == (403, "forbidden")


async def test_a_revoked_key_takes_its_approvals_with_it_at_once(party: Party, gate: Founded) -> None:
    proposal, waiting = await party.simulated(), await party.simulated()
    await party.vote(proposal, "robot")
    assert (await party.vote(proposal, "zoe")).json()["state"] == "approved"
    await party.vote(waiting, "zoe")
    zoes = keyid(private_key("zoe").public_key)
    path = f"/api/v1/validators/zoe/keys/{zoes}/revocation"
    body = {"reason": "the laptop was stolen"}

    stranger = await party.client.http.post(path, json=body, headers=party.headers("olga-person"))
    unknown = await party.client.http.post(
        f"/api/v1/validators/olga/keys/{zoes}/revocation", json=body, headers=party.headers("olga-person")
    )
    done = await party.client.http.post(path, json=body, headers=party.headers("zoe-person"))
    again = await party.client.http.post(path, json=body, headers=party.headers("admin"))

    assert [code(stranger), code(unknown)] == [(403, "forbidden"), (404, "not-found")]
    assert (done.status_code, done.content) == (201, again.content)
    assert gate.events(proposal)[-1] == "approval-lost"
    query = "SELECT count(*) FROM events WHERE kind = 'key-revoked' AND target = 'governance/validators'"
    assert gate.value(query) == 1
    assert code(await party.vote(proposal, "zoe")) == (403, "not-eligible")
    tally = (await party.vote(waiting, "robot")).json()
    assert tally["state"] == "simulated"
    assert [(one["validator"], one["why"]) for one in tally["tally"]["not_counted"]] == [("zoe", "key-revoked")]
    assert (await party.vote(proposal, "olga")).json()["state"] == "approved"


async def test_policies_are_checked_where_they_are_wrong(party: Party) -> None:
    broken = policies()
    broken["rules"] = [{**broken["rules"][0], "id": "broken", "expression": "after.notes +"}]
    lowered = policies()
    lowered["quorum"]["high"]["humans"] = 0

    async def check(document: Any) -> Any:
        return await party.client.http.post(
            "/api/v1/policies/check", json=document, headers=party.headers("olga-person")
        )

    good, bad, unlawful = await check(policies()), await check(broken), await check(lowered)

    assert (good.status_code, good.json()["rules"]) == (200, 1)
    assert bad.status_code == 422
    error = bad.json()["errors"][0]
    assert (error["pointer"], error["rule"], error["line"]) == ("/rules/0/expression", "broken", 1)
    assert code(unlawful) == (422, "invalid-policy-set")


async def test_the_rules_in_force_are_read_by_version(party: Party) -> None:
    async def get(path: str, **headers: str) -> Any:
        return await party.client.http.get(f"/api/v1/{path}", headers={**party.headers("reader"), **headers})

    current = await get("policies")
    first, none, root = await get("policies/1"), await get(f"policies/{secrets.randbelow(99) + 2}"), await get("root")

    assert current.json()["document"] == policies()
    assert first.content == current.content
    assert (await get("policies", **{"If-None-Match": current.headers["etag"]})).status_code == 304
    assert code(none) == (404, "not-found")
    assert root.json()["document"]["origin"] == ORIGIN
