"""How long the answer to an Idempotency-Key is kept (firewall.md section 4: 24 h)."""

import secrets

import httpx
import pytest

from app.workflow import janitor
from tests.integration.service.gate import PROPOSER, Founded, Party

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

DAY_SECONDS = 86_400


def age(gate: Founded, key: str, seconds: float) -> None:
    """Make a record look as if it had been written so long ago."""
    with gate.server.connect() as connection:
        connection.execute(
            "UPDATE idempotency_records SET created_at = now() - make_interval(secs => %s) WHERE key = %s",
            [seconds, key],
        )


async def withdraw(party: Party, proposal: str, key: str) -> httpx.Response:
    return await party.client.http.post(
        f"/api/v1/proposals/{proposal}/withdrawal", json={}, headers=party.headers(PROPOSER, key=key)
    )


async def test_an_answer_is_repeated_for_a_day_and_forgotten_after_it(party: Party, gate: Founded) -> None:
    proposal, key = await party.propose(), secrets.token_hex(8)
    first = await withdraw(party, proposal, key)

    age(gate, key, DAY_SECONDS - 60)
    assert await party.janitor.once(deadline=party.deadline()) == 0
    repeated = await withdraw(party, proposal, key)
    age(gate, key, DAY_SECONDS + 1)
    assert await party.janitor.once(deadline=party.deadline()) == 1
    after = await withdraw(party, proposal, key)

    assert (repeated.status_code, repeated.content) == (200, first.content)
    assert repeated.headers["idempotency-replayed"] == "true"
    assert (after.status_code, after.json()["code"]) == (409, "not-open")


async def test_old_answers_are_forgotten_oldest_first_so_many_at_a_time(party: Party, gate: Founded) -> None:
    with gate.server.connect() as connection:
        connection.execute(
            "INSERT INTO idempotency_records (principal, method, route, key, fingerprint, status, response, created_at)"
            " SELECT 'old', 'POST', '/', n, '', 200, '', now() - interval '1 day' - make_interval(secs => n)"
            " FROM generate_series(1, %s) AS n",
            [janitor.FORGOTTEN_AT_ONCE_MAX + 1],
        )

    passes = [await party.janitor.once(deadline=party.deadline())]
    left = gate.value("SELECT array_agg(key) FROM idempotency_records WHERE principal = 'old'")
    passes += [await party.janitor.once(deadline=party.deadline()) for _ in range(2)]

    assert (passes, left) == ([janitor.FORGOTTEN_AT_ONCE_MAX, 1, 0], ["1"])


async def test_while_another_replica_tidies_up_nothing_is_forgotten_twice(party: Party, gate: Founded) -> None:
    proposal, key = await party.propose(), secrets.token_hex(8)
    assert (await withdraw(party, proposal, key)).status_code == 200
    age(gate, key, DAY_SECONDS + 1)

    with gate.server.connect() as other, other.transaction():
        other.execute("SELECT pg_advisory_xact_lock(%s)", [janitor.LOCK_KEY])
        while_locked = await party.janitor.once(deadline=party.deadline())

    assert (while_locked, await party.janitor.once(deadline=party.deadline())) == (0, 1)
