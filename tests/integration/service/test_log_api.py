"""The log over HTTP: what a stranger needs to check it, and nothing that is not published."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.core.log import merkle, tiles
from app.core.log.tiles import Tile
from app.workflow.log_state import Status
from tests.integration.service.logged import Log, open_note, sequencing, the_log
from tests.integration.service.relay import Mode, relay
from tests.integration.service.running import Client, eventually, serving, settings_for

__all__ = ["the_log"]
pytestmark = [pytest.mark.integration, pytest.mark.anyio]
ENTRIES = 300


async def grow(log: Log, size: int) -> None:
    log.add("genesis", *["proposal-created"] * (size - 1))
    async with sequencing(log):
        await eventually(lambda: log.newest() >= size, within_seconds=10)


@pytest.fixture
async def client(the_log: Log) -> AsyncIterator[Client]:
    async with serving(settings_for(the_log.server.address())) as made:
        yield made


async def get(client: Client, key: str, path: str, **parameters: Any) -> httpx.Response:
    return await client.http.get(f"/api/v1/log{path}", params=parameters or None, headers={"X-API-Key": key})


def unpacked(texts: list[str]) -> list[bytes]:
    return [base64.b64decode(text) for text in texts]


async def test_a_stranger_checks_the_whole_log(the_log: Log, client: Client, viewer_key: str) -> None:
    await grow(the_log, ENTRIES)

    answer = await get(client, viewer_key, "/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    checkpoint = open_note(answer.content)
    entries: list[dict[str, Any]] = []
    while len(entries) < checkpoint.size:
        page = (await get(client, viewer_key, "/entries", **{"from": len(entries), "limit": 256})).json()
        assert page["size"] == checkpoint.size
        entries += page["items"]

    assert [entry["index"] for entry in entries] == list(range(ENTRIES))
    hashes = [merkle.leaf_hash(base64.b64decode(entry["leaf"])) for entry in entries]
    tree, _ = merkle.CompactRange().extended(hashes)
    assert (tree.size, tree.root) == (checkpoint.size, checkpoint.root)
    assert json.loads(base64.b64decode(entries[0]["body"])) == {"of": "a test"}


async def test_proofs_verify_against_the_checkpoint(the_log: Log, client: Client, viewer_key: str) -> None:
    await grow(the_log, 77)
    checkpoint = open_note((await get(client, viewer_key, "/checkpoint")).content)

    for index in (0, 31, 76):
        proof = (await get(client, viewer_key, "/proofs/inclusion", entry=index)).json()
        assert open_note(proof["checkpoint"].encode()) == checkpoint
        merkle.verify_inclusion(
            leaf=base64.b64decode(proof["leaf_hash"]),
            index=index,
            size=proof["size"],
            proof=unpacked(proof["hashes"]),
            root=checkpoint.root,
        )
    for first in (1, 64, 77):
        proof = (await get(client, viewer_key, "/proofs/consistency", **{"from": first, "to": 77})).json()
        merkle.verify_consistency(
            first=first,
            first_root=base64.b64decode(proof["first_root"]),
            second=77,
            second_root=checkpoint.root,
            proof=unpacked(proof["hashes"]),
        )


async def test_tiles_hold_the_tree(the_log: Log, client: Client, viewer_key: str) -> None:
    await grow(the_log, ENTRIES)
    hashes = [merkle.leaf_hash(leaf) for leaf in the_log.leaves()]

    full = await get(client, viewer_key, "/tile/0/000")
    partial = await get(client, viewer_key, f"/tile/0/{tiles.address(Tile(1, 44))}")
    above = await get(client, viewer_key, "/tile/1/000.p/1")
    leaves = await get(client, viewer_key, "/tile/entries/001.p/44")

    assert full.content == b"".join(hashes[:256])
    assert partial.content == b"".join(hashes[256:])
    assert above.content == merkle.CompactRange().extended(hashes[:256])[0].root
    assert leaves.content == tiles.bundle(the_log.leaves()[256:])
    for answer in (full, partial, above, leaves):
        assert answer.headers["content-type"] == "application/octet-stream"
        assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/tile/0/000.p/4", 404),
        ("/tile/0/000", 404),
        ("/tile/0/001.p/1", 404),
        ("/tile/1/000.p/1", 404),
        ("/tile/7/000.p/1", 404),
        ("/tile/64/000.p/1", 400),
        ("/tile/0/0", 404),
        ("/tile/entries/000.p/4", 404),
        ("/tile/entries/x000/000.p/1", 404),
        ("/proofs/inclusion?entry=3", 404),
        ("/proofs/inclusion?entry=2&size=2", 404),
        ("/proofs/inclusion?entry=0&size=4", 404),
        ("/proofs/inclusion?entry=-1", 400),
        ("/proofs/inclusion", 400),
        ("/proofs/consistency?from=4", 404),
        ("/proofs/consistency?from=3&to=2", 404),
        ("/proofs/consistency?from=0", 400),
        ("/entries?limit=257", 400),
        ("/entries?from=9007199254740992", 400),
    ],
)
async def test_what_is_not_published_is_not_answered(
    the_log: Log, client: Client, viewer_key: str, path: str, status: int
) -> None:
    await grow(the_log, 3)
    with the_log.as_superuser() as connection:  # a fourth entry that no checkpoint covers
        connection.execute("INSERT INTO log_entries VALUES (3, gen_random_uuid(), sha256('x'), now(), now())")

    answer = await get(client, viewer_key, path)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.usefixtures("the_log")
async def test_before_anything_is_published_there_is_nothing(client: Client, viewer_key: str) -> None:
    assert (await get(client, viewer_key, "/checkpoint")).status_code == 404
    assert (await get(client, viewer_key, "/entries")).json() == {"size": 0, "items": []}
    assert (await get(client, viewer_key, "/proofs/inclusion", entry=0)).status_code == 404
    assert (await get(client, viewer_key, "/proofs/consistency", **{"from": 1})).status_code == 404


async def test_an_erased_body_is_null_and_its_leaf_still_hashes(the_log: Log, client: Client, viewer_key: str) -> None:
    await grow(the_log, 2)
    with the_log.as_superuser() as connection:
        connection.execute("UPDATE events SET body = NULL WHERE kind = 'genesis'")

    page = (await get(client, viewer_key, "/entries")).json()

    assert [entry["body"] is None for entry in page["items"]] == [True, False]


async def test_large_bodies_make_short_pages(the_log: Log, client: Client, viewer_key: str) -> None:
    await grow(the_log, 6)
    with the_log.as_superuser() as connection:
        connection.execute(
            "UPDATE events SET body = decode(repeat('20', 3 * 1024 * 1024), 'hex') WHERE kind = 'genesis'"
        )
        connection.execute(
            "UPDATE events SET body = decode(repeat('20', 3 * 1024 * 1024), 'hex')"
            " WHERE id = (SELECT event_id FROM log_entries WHERE index = 2)"
        )

    first = (await get(client, viewer_key, "/entries")).json()["items"]
    second = (await get(client, viewer_key, "/entries", **{"from": 2})).json()["items"]

    assert [entry["index"] for entry in first] == [0, 1]
    assert [entry["index"] for entry in second] == [2, 3, 4, 5]


async def test_no_key_no_log(client: Client) -> None:
    assert (await client.http.get("/api/v1/log/checkpoint")).status_code == 401


async def test_while_the_database_is_gone_the_last_checkpoint_is_answered_with_its_age(
    the_log: Log, viewer_key: str
) -> None:
    the_log.add("genesis", "proposal-created")
    async with relay(the_log.server.postgres.port) as network:
        told = replace(settings_for(the_log.server.address(port=network.port)), log=the_log.policy())
        async with serving(told) as client:
            await eventually(lambda: the_log.newest() == 2, within_seconds=10)
            fresh = await get(client, viewer_key, "/checkpoint")
            await network.cut(Mode.CLOSING)
            await eventually(lambda: not client.service.database.is_up, within_seconds=2)

            stale = await get(client, viewer_key, "/checkpoint")
            entries = await get(client, viewer_key, "/entries")

    assert "age" not in fresh.headers
    assert stale.status_code == 200
    assert (stale.content, stale.headers["age"].isdigit()) == (fresh.content, True)
    assert entries.status_code == 503


async def test_a_replica_that_only_follows_shows_no_less_without_the_database_than_with_it(
    the_log: Log, viewer_key: str
) -> None:
    the_log.add("genesis", "proposal-created")
    async with sequencing(the_log), relay(the_log.server.postgres.port) as network:
        await eventually(lambda: the_log.newest() == 2, within_seconds=10)
        rarely = replace(the_log.policy(), checkpoint_seconds=3600.0)  # it looks once, at two entries
        told = replace(settings_for(the_log.server.address(port=network.port)), log=rarely)
        async with serving(told) as client:
            await eventually(lambda: client.service.log.status is Status.FOLLOWING, within_seconds=10)
            the_log.add("proposal-created")
            await eventually(lambda: the_log.newest() == 3, within_seconds=10)
            shown = await get(client, viewer_key, "/checkpoint")
            await network.cut(Mode.CLOSING)
            await eventually(lambda: not client.service.database.is_up, within_seconds=2)

            later = await get(client, viewer_key, "/checkpoint")

    assert [open_note(answer.content).size for answer in (shown, later)] == [3, 3]


async def test_in_quarantine_the_published_checkpoint_is_answered_not_the_older_one(
    the_log: Log, viewer_key: str
) -> None:
    await grow(the_log, 3)
    the_log.backup()
    the_log.add("proposal-created")
    async with sequencing(the_log):
        await eventually(lambda: the_log.newest() == 4, within_seconds=10)
    the_log.restore()
    async with serving(replace(settings_for(the_log.server.address()), log=the_log.policy())) as client:
        await eventually(lambda: client.service.log.is_quarantined, within_seconds=5)

        answer = await get(client, viewer_key, "/checkpoint")
        entries = await get(client, viewer_key, "/entries")

    assert open_note(answer.content).size == 4
    assert "age" in answer.headers
    assert entries.json()["size"] == 3
