"""Bundles and attestations from a running service, judged by who knows nothing but the genesis."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client.runtime import Refused, Runtime
from app.core.documents import canonical
from app.core.governance.genesis import Genesis
from app.core.verification.judging import Resimulated, verify_bundle
from app.ed25519 import verify
from app.settings import DatabaseAddress, LogPolicy, Secret, Settings
from tests.integration.service.relay import Mode, relay
from tests.integration.service.running import DOCUMENT, PROPOSAL, Client, Server, serving, settings_for
from tests.unit.service.electorate import ORIGIN, private_key
from tests.unit.service.founding import founded

pytestmark = [pytest.mark.integration, pytest.mark.anyio]
TARGET = "/api/v1/targets/agents%2Frouter"


def seed(name: str) -> Secret:
    """Of the founding's key of that name."""
    return Secret(hashlib.sha256(name.encode()).digest())


@dataclass
class Gate:
    """A founded firewall."""

    server: Server
    folder: Path
    genesis: Genesis
    editor: str

    def settings(self, address: DatabaseAddress | None = None, *, is_logging: bool = True) -> Settings:
        log = LogPolicy(
            seed=seed("log"),
            origin=ORIGIN,
            watermark=self.folder / "watermark",
            batch_seconds=0.02,
            checkpoint_seconds=0.05,
        )
        told = settings_for(address or self.server.address(), request_deadline_seconds=5)
        return replace(told, log=log if is_logging else None, service_seed=seed("service"))

    @asynccontextmanager
    async def serving(self, address: DatabaseAddress | None = None, **told: Any) -> AsyncIterator[Client]:
        async with serving(self.settings(address, **told)) as client:
            yield client


@pytest.fixture
def gate(bare_server: Server, tmp_path: Path) -> Gate:
    assert bare_server.command("app.migrations.apply").returncode == 0
    bundle = founded("ada", "bob")
    (tmp_path / "genesis.json").write_bytes(bundle.encode())
    assert bare_server.command("app.genesis", "install", str(tmp_path / "genesis.json")).returncode == 0
    bare_server.add_target("agents/router", DOCUMENT)
    return Gate(bare_server, tmp_path, bundle, bare_server.key("editor"))


async def get(client: Client, gate: Gate, path: str) -> httpx.Response:
    return await client.http.get(path, headers={"X-API-Key": gate.editor})


async def withdrawn(client: Client, gate: Gate) -> str:
    made = (await client.propose(gate.editor)).json()
    headers = {"X-API-Key": gate.editor, "Idempotency-Key": "withdraw"}
    done = await client.http.post(f"/api/v1/proposals/{made['id']}/withdrawal", json={}, headers=headers)
    assert done.status_code == 200, done.text
    return str(made["id"])


async def published(client: Client, gate: Gate, proposal: str, query: str = "") -> httpx.Response:
    """Ask for a bundle until it is there, a bounded number of times."""
    for _ in range(300):
        answer = await get(client, gate, f"/api/v1/proposals/{proposal}/bundle{query}")
        if answer.status_code != 409:
            return answer
        assert answer.json()["code"] == "not-published-yet"
        assert answer.headers["retry-after"] == "1"
    raise AssertionError("never published")


async def test_a_bundle_of_a_running_service_passes_offline(gate: Gate) -> None:
    async with gate.serving() as client:
        proposal = await withdrawn(client, gate)
        answer = await published(client, gate, proposal, "?from=1")

    assert answer.headers["content-type"].startswith("application/vnd.amgf.bundle+json")
    report = verify_bundle(
        answer.content,
        trust=gate.genesis,
        verify=verify,
        resimulate=lambda _inputs: Resimulated(None, "never"),
        now=datetime.now(UTC),
    )
    assert (report.verdict, report.state) == ("pass", "withdrawn"), report.lines()
    assert json.loads(answer.content)["base"] == DOCUMENT
    assert canonical.decode_canonical(answer.content).value["consistency"]["from"] == 1


async def test_the_service_judges_a_bundle_as_a_stranger_would(gate: Gate) -> None:
    async with gate.serving() as client:
        proposal = await withdrawn(client, gate)
        bundle = json.loads((await published(client, gate, proposal)).content)
        headers = {"X-API-Key": gate.editor}
        good = await client.http.post("/api/v1/verifications", json=bundle, headers=headers)
        bundle["base"] = {}
        bad = await client.http.post("/api/v1/verifications", json=bundle, headers=headers)
        none = await client.http.post("/api/v1/verifications", json={}, headers=headers)

    assert (good.status_code, good.json()["verdict"], len(good.json()["checks"])) == (200, "pass", 14)
    assert (bad.json()["verdict"], bad.json()["exit_code"]) == ("fail", 13)
    assert (none.status_code, none.json()["code"]) == (422, "invalid-bundle")


async def test_without_a_log_nothing_is_ever_published(gate: Gate) -> None:
    async with gate.serving(is_logging=False) as client:
        proposal = await withdrawn(client, gate)
        answer = await get(client, gate, f"/api/v1/proposals/{proposal}/bundle")

    assert (answer.status_code, answer.json()["code"]) == (409, "not-published-yet")


async def test_a_bundle_of_nothing_and_a_size_the_log_never_had_are_refused(gate: Gate) -> None:
    async with gate.serving() as client:
        proposal = await withdrawn(client, gate)
        await published(client, gate, proposal)
        beyond = await get(client, gate, f"/api/v1/proposals/{proposal}/bundle?from=100000")
        nothing = await get(client, gate, "/api/v1/proposals/01a209f4-aea4-72f8-833c-264e68b380f1/bundle")

    assert (beyond.status_code, nothing.status_code) == (400, 404)


async def test_a_runtime_believes_the_attestation_of_what_is_current(gate: Gate, tmp_path: Path) -> None:
    async with gate.serving() as client:
        await published(client, gate, await withdrawn(client, gate))
        answer = await get(client, gate, f"{TARGET}/attestation")
        again = await get(client, gate, f"{TARGET}/attestation")
        unknown = await get(client, gate, "/api/v1/targets/agents%2Fnone/attestation")

    runtime = Runtime(
        target="agents/router", service_keys=[private_key("service").public_key], kept_in=tmp_path / "last"
    )
    attested = runtime.offer(answer.content, document=canonical.encode_value(DOCUMENT))
    assert (attested.version, attested.digest) == (1, PROPOSAL["base_digest"])
    assert answer.headers["etag"] == f'"{attested.digest}"'
    assert "age" not in answer.headers
    assert again.content == answer.content
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-target")
    with pytest.raises(Refused):
        Runtime(target="agents/router", service_keys=[private_key("log").public_key], kept_in=tmp_path / "x").offer(
            answer.content
        )


async def test_while_the_database_is_gone_the_last_attestation_is_handed_out_with_its_age(gate: Gate) -> None:
    async with relay(gate.server.postgres.port) as network:
        address = replace(gate.server.address(), port=network.port)
        async with gate.serving(address) as client:
            await published(client, gate, await withdrawn(client, gate))
            before = await get(client, gate, f"{TARGET}/attestation")
            await network.cut(Mode.CLOSING)
            kept = await get(client, gate, f"{TARGET}/attestation")
            other = await get(client, gate, "/api/v1/targets/governance%2Froot/attestation")

    assert (before.status_code, kept.status_code) == (200, 200)
    assert kept.content == before.content
    assert int(kept.headers["age"]) >= 0
    assert other.status_code == 503


async def test_without_a_key_nothing_is_attested(gate: Gate) -> None:
    async with serving(replace(gate.settings(), service_seed=None)) as client:
        answer = await get(client, gate, f"{TARGET}/attestation")

    assert (answer.status_code, answer.json()["code"]) == (503, "not-attested")
