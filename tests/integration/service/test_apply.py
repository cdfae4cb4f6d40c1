"""Apply, delivery, rollback and freeze (firewall.md section 3, rows 11 and 14 to 19) on a whole running service."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.core.signing import envelope, statement
from app.core.signing.statement import Decision
from app.security.signatures import verify
from tests.integration.service.applying import Actuator, Life, governed, living, unlocked
from tests.integration.service.gate import DOCUMENT, Founded
from tests.integration.service.running import eventually
from tests.unit.service.electorate import private_key

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

__all__ = ["unlocked"]
APPLIERS = 50


@pytest.fixture
async def life(unlocked: Founded) -> AsyncIterator[Life]:
    async with living(unlocked) as made:
        yield made


async def test_a_proposal_of_a_low_tier_applies_itself_and_its_decision_is_signed(life: Life) -> None:
    target = governed(life.founded)

    proposal = await life.applied(target)

    current = await life.current(target)
    assert (current["version"], current["proposal"]) == (2, proposal)
    assert current["document"]["notes"].keys() == {"a"}
    shown = await life.client.http.get(f"/api/v1/proposals/{proposal}/application", headers=life.headers("reader"))
    told = shown.json()
    assert (told["state"], told["observed_digest"]) == ("acknowledged", current["digest"])
    opened = envelope.opened(
        envelope.from_value(told["decision"]),
        private_key("service").public_key,
        payload_type=envelope.IN_TOTO,
        verify=verify,
    )
    decision = statement.decode(opened, Decision).predicate
    assert (decision.version, decision.result_digest, decision.applier) == (2, current["digest"], None)
    assert decision.tally["met"]
    kinds = life.founded.events(proposal)
    assert kinds[:3] == ["proposal-created", "simulation-started", "simulated"]
    assert kinds[-3:] == ["approved", "applying", "applied"]


async def test_fifty_appliers_at_once_make_one_version(life: Life) -> None:
    target = governed(life.founded, minimum_tier="high")
    proposals = [await life.approved(target, minimum_tier="high") for _ in range(2)]

    answers = await asyncio.gather(*(life.apply(proposals[place % 2]) for place in range(APPLIERS)))

    by_code: dict[str, int] = {}
    for answer in answers:
        code = str(answer.status_code) if answer.status_code == 202 else answer.json()["code"]
        by_code[code] = by_code.get(code, 0) + 1
    assert by_code["202"] == 1, by_code
    assert by_code.keys() <= {"202", "already-applying", "not-approved", "stale-base"}, by_code
    assert (await life.current(target))["version"] == 2
    states = sorted([await life.until(one, "applied", "stale") for one in proposals])
    assert states == ["applied", "stale"]
    assert life.founded.value("SELECT count(*) FROM snapshots WHERE target = %s", target) == 2


REFUSED: dict[str, tuple[str, dict[str, str], int, str]] = {
    "the proposer": ("olga-person", {}, 403, "forbidden"),
    "an old revision": ("applier", {"If-Match": '"1"'}, 412, "precondition-failed"),
    "no revision at all": ("applier", {"If-Match": ""}, 400, "invalid-request"),
    "breaking the glass for a mutation": ("breaker", {}, 403, "applier-not-allowed"),
    "a viewer": ("reader", {}, 403, "forbidden"),
}


async def test_who_may_not_apply_and_when_not(life: Life) -> None:
    target = governed(life.founded, minimum_tier="high")
    proposal = await life.approved(target, minimum_tier="high")

    for case, (principal, headers, status, code) in REFUSED.items():
        answer = await life.apply(proposal, principal, **headers)
        assert (case, answer.status_code, answer.json()["code"]) == (case, status, code)
    sent = life.headers("applier")
    without = await life.client.http.post(f"/api/v1/proposals/{proposal}/application", json={}, headers=sent)
    assert (without.status_code, without.json()["code"]) == (428, "precondition-required")
    assert (await life.stored(proposal)).state == "approved"


async def test_a_repeated_application_is_answered_alike(life: Life) -> None:
    proposal = await life.approved(governed(life.founded, minimum_tier="high"), minimum_tier="high")
    key = {"Idempotency-Key": "once"}

    first, again = await life.apply(proposal, **key), await life.apply(proposal, **key)

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.content == again.content
    assert first.headers["location"] == f"/api/v1/proposals/{proposal}/application"
    assert (await life.apply(proposal)).json()["code"] == "already-applying"


async def test_what_is_not_approved_is_not_applied(life: Life) -> None:
    target = governed(life.founded, minimum_tier="high")
    proposal = await life.simulated(target)

    answer = await life.apply(proposal)

    assert (answer.status_code, answer.json()["code"]) == (409, "not-approved")


async def test_a_frozen_target_is_left_alone_until_a_quorum_unfreezes_it(life: Life) -> None:
    target = governed(life.founded, minimum_tier="high")
    proposal = await life.approved(target, minimum_tier="high")
    address = f"/api/v1/targets/{target.replace('/', '%2F')}/freeze"
    assert (await life.freeze(target)).json()["state"] == "frozen"

    refused = await life.apply(proposal)
    other = await life.simulated(governed(life.founded, minimum_tier="high"))
    wrong = await life.client.http.delete(address, params={"proposal": other}, headers=life.headers("breaker"))
    thawed = await life.client.http.delete(address, params={"proposal": proposal}, headers=life.headers("breaker"))

    assert (refused.status_code, refused.json()["code"]) == (409, "target-frozen")
    assert (wrong.status_code, wrong.json()["code"]) == (409, "not-approved")
    assert (thawed.status_code, thawed.json()["state"]) == (200, "active")
    assert (await life.apply(proposal)).status_code == 202


async def test_a_rollback_writes_the_next_version_with_the_old_content(life: Life) -> None:
    target = governed(life.founded)
    first = await life.applied(target)
    second = await life.applied(target, patch=[{"op": "add", "path": "/notes/b", "value": 1}])

    answer = await life.roll_back(target, 1)
    proposal = answer.json()
    await life.until(proposal["id"], "simulated")
    for name in ("robot", "olga"):
        await life.vote(proposal["id"], name)
    await life.until(proposal["id"], "applied")

    assert (answer.status_code, proposal["kind"], proposal["restores"]["version"]) == (201, "rollback", 1)
    current = await life.current(target)
    assert (current["version"], current["document"]) == (4, DOCUMENT)
    assert current["digest"] == proposal["restores"]["digest"]
    for undone in (first, second):
        assert (await life.stored(undone)).state == "rolled_back"
        assert life.founded.last(undone) == json.dumps({"by": proposal["id"], "version": 4}, separators=(",", ":"))


ROLLBACKS_REFUSED: dict[str, tuple[int, int, str]] = {
    "the current content": (1, 409, "already-current"),
    "a version that is not there": (7, 409, "unknown-version"),
}


@pytest.mark.parametrize("case", ROLLBACKS_REFUSED)
async def test_a_rollback_that_leads_nowhere_is_refused(life: Life, case: str) -> None:
    version, status, code = ROLLBACKS_REFUSED[case]

    answer = await life.roll_back(governed(life.founded), version)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_the_rules_are_not_rolled_back(life: Life) -> None:
    answer = await life.roll_back("governance/policies", 1)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-body")


async def test_breaking_the_glass_takes_two_for_a_critical_target(life: Life) -> None:
    target = governed(life.founded, minimum_tier="critical")
    changed = await life.approved(target, minimum_tier="critical")
    assert (await life.apply(changed)).status_code == 202
    await life.until(changed, "applied")

    proposal = (await life.roll_back(target, 1, "breaker")).json()
    await life.until(proposal["id"], "simulated")
    for name in ("robot", "olga", "sam", "zoe"):
        await life.vote(proposal["id"], name)
    alone = await life.apply(proposal["id"], "breaker")
    both = await life.apply(proposal["id"], "second-breaker")

    assert proposal["kind"] == "break_glass"
    assert (alone.status_code, alone.json()["code"]) == (403, "applier-not-allowed")
    assert both.status_code == 202
    assert (await life.current(target))["document"] == DOCUMENT


async def test_a_delivery_is_signed_and_done_only_when_it_is_observed(unlocked: Founded) -> None:
    async with Actuator().listening() as actuator, living(unlocked) as life:
        target = governed(unlocked, actuator={"url": actuator.url})
        proposal = await life.approved(target)
        await eventually(lambda: bool(actuator.requests), within_seconds=20)
        assert (await life.stored(proposal)).state == "applying"
        delivered = actuator.verified()[0]

        seen = await life.observe(target, delivered["version"], delivered["digest"])

        assert (seen.status_code, seen.json()["observed"]["version"]) == (200, 2)
        assert (await life.stored(proposal)).state == "applied"
        assert delivered["document"]["notes"].keys() == {"a"}


async def test_another_digest_fails_the_application_and_a_rollback_is_proposed(unlocked: Founded) -> None:
    async with Actuator().listening() as actuator, living(unlocked) as life:
        target = governed(unlocked, actuator={"url": actuator.url}, on_failure="rollback")
        proposal = await life.approved(target)
        await eventually(lambda: bool(actuator.requests), within_seconds=20)

        seen = await life.observe(target, 2, "sha256:" + "0" * 64)

        assert seen.json()["state"] == "degraded"
        assert (await life.stored(proposal)).state == "failed"
        assert json.loads(life.founded.last(proposal)) == {"reason": "digest-mismatch"}
        opened = life.founded.value(
            "SELECT id FROM proposals WHERE target = %s AND kind = 'rollback' AND principal = 'service'", target
        )
        back = str(opened)
        await life.until(back, "simulated")
        for name in ("robot", "olga"):
            await life.vote(back, name)
        await life.until(back, "applying")
        current = await life.current(target)
        assert (current["version"], current["document"]) == (3, DOCUMENT)
        healed = await life.observe(target, 3, current["digest"])
        assert healed.json()["state"] == "active"


UNTAKEN: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a server that fails": ({"status": 500}, {}, "status-5xx"),
    "a redirect, which is not followed": ({"status": 307, "location": "http://127.0.0.1:1/x"}, {}, "status-3xx"),
    "a host that is allowed no more": ({}, {"hosts": ("elsewhere",)}, "host-not-allowed"),
    "no key": ({}, {"key": None}, "no-key"),
}


@pytest.mark.parametrize("case", UNTAKEN)
async def test_what_no_actuator_takes_is_given_up_and_says_why(unlocked: Founded, case: str) -> None:
    answer, policy, reason = UNTAKEN[case]
    async with Actuator(**answer).listening() as actuator, living(unlocked, attempts_max=1, **policy) as life:
        target = governed(unlocked, actuator={"url": actuator.url})
        proposal = await life.approved(target)

        await life.until(proposal, "failed")

        assert json.loads(life.founded.last(proposal)) == {"reason": reason}
        assert (await life.target(target))["state"] == "degraded"
        assert all(told["version"] == 2 for told in actuator.verified())


async def test_an_observation_of_a_version_that_never_was_is_refused(life: Life) -> None:
    answer = await life.observe(governed(life.founded), 2, "sha256:" + "0" * 64)

    assert (answer.status_code, answer.json()["code"]) == (409, "unknown-version")


async def test_what_runs_and_is_not_what_was_decided_degrades_the_target(life: Life) -> None:
    target = governed(life.founded)

    drifted = await life.observe(target, 1, "sha256:" + "0" * 64)
    healed = await life.observe(target, 1, (await life.current(target))["digest"])

    assert (drifted.json()["state"], healed.json()["state"]) == ("degraded", "active")


async def test_a_dry_run_says_what_would_be_and_stores_nothing(life: Life) -> None:
    target = governed(life.founded, minimum_tier="high")
    body = {
        "target": target,
        **await life.base(target),
        "patch": [{"op": "add", "path": "/notes/a", "value": 1}],
        "rationale": "perhaps",
    }

    answer = await life.client.http.post(
        "/api/v1/proposals", params={"dry_run": "true"}, json=body, headers=life.headers("agent-1")
    )

    told = answer.json()
    assert (answer.status_code, told["simulation"]["verdict"]) == (200, "allow"), answer.text
    assert told["quorum_rule"]["tier"] == "high"
    assert life.founded.value("SELECT count(*) FROM proposals WHERE target = %s", target) == 0


async def test_without_a_key_nothing_is_applied(unlocked: Founded) -> None:
    from dataclasses import replace  # noqa: PLC0415 - beside its use

    from tests.integration.service import applying  # noqa: PLC0415
    from tests.integration.service.running import serving  # noqa: PLC0415

    async with serving(replace(applying.settings(unlocked), service_seed=None), works=True) as client:
        unused: Any = None
        life = Life(unlocked, client, unused, unused)
        proposal = await life.approved(governed(unlocked, minimum_tier="high"), minimum_tier="high")
        answer = await life.apply(proposal)

    assert (answer.status_code, answer.json()["code"]) == (503, "signing-unavailable")
