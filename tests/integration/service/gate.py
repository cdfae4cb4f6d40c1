"""A founded firewall for tests: people with API keys and signing keys, a simulator, and rules that can be changed."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from app.core.documents import canonical
from app.core.documents.identifiers import ProposalId
from app.core.governance.policy_set import DEFAULT
from app.core.signing import envelope, statement
from app.core.signing.envelope import Envelope
from app.core.signing.statement import Ballot, Vote
from app.resilience.deadline import Deadline
from app.security.signatures import PrivateKey
from app.storage import proposals
from app.storage.database import Database
from app.storage.governance import LOCK_KEY, Documents
from app.storage.proposals import StoredProposal
from app.workflow.janitor import Janitor
from app.workflow.simulation import Simulator
from tests.integration.service.running import EVENTS, Client, Server, _running, serving, settings_for
from tests.unit.service import electorate
from tests.unit.service.electorate import private_key
from tests.unit.service.founding import founded

PEOPLE = ("olga", "sam", "zoe")
MACHINES = ("robot", "replica")
PROPOSER = "agent-1"
DOCUMENT = {"budgets": {"tokens_per_day": 1000}, "notes": {}}
RULE = {
    "id": "no-secrets",
    "mode": "deny",
    "expression": "!('secret' in after.notes)",
    "message": "notes hold no secrets",
    "targets": ["agents/*"],
}


def policies(**changes: Any) -> dict[str, Any]:
    return {**DEFAULT.document(), "rules": [RULE], **changes}


@dataclass(frozen=True)
class Founded:
    """A server with a genesis, and an API key for everybody."""

    server: Server
    keys: dict[str, str]

    def target(self, minimum_tier: str = "medium") -> str:
        name = f"agents/{secrets.token_hex(6)}"
        self.server.add_target(name, DOCUMENT, minimum_tier=minimum_tier)
        return name

    def events(self, proposal: str) -> list[str]:
        with self.server.connect() as connection:
            rows = connection.execute(
                "SELECT kind FROM events WHERE proposal_id = %s ORDER BY ordinal", [proposal]
            ).fetchall()
        return [row[0] for row in rows]

    def last(self, proposal: str) -> Any:
        """Return the body of the last event."""
        return self.value(
            "SELECT convert_from(body, 'utf8') FROM events WHERE proposal_id = %s ORDER BY ordinal DESC LIMIT 1",
            proposal,
        )

    def value(self, query: str, *parameters: Any) -> Any:
        with self.server.connect() as connection:
            row = connection.execute(query, parameters).fetchone()
        return None if row is None else row[0]

    def change_rules(self, target: str, document: Any) -> int:
        """Bring a new version of a governing document into force, as an apply would; return its number."""
        content = canonical.encode_value(document)
        with self.server.connect() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
            version, digest = connection.execute(
                "SELECT version, digest FROM targets WHERE name = %s FOR UPDATE", [target]
            ).fetchone() or (0, "")
            carrier = self._carrier(connection, target, version, digest)
            connection.execute(
                "INSERT INTO snapshots (target, version, parent_version, digest, parent_digest, proposal_id, content,"
                " created_at) VALUES (%s, %s, %s, %s, %s, %s, %s, now())",
                [target, version + 1, version, canonical.digest(content), digest, carrier, content],
            )
            connection.execute(
                "UPDATE targets SET version = version + 1, digest = %s WHERE name = %s",
                [canonical.digest(content), target],
            )
        return int(version) + 1

    @staticmethod
    def _carrier(connection: psycopg.Connection[Any], target: str, version: int, digest: str) -> UUID:
        """Return a proposal that a snapshot on this base can name; nobody takes it up, because it is closed."""
        made, content = uuid4(), secrets.token_bytes(8)
        connection.execute(
            "INSERT INTO proposals (id, principal, kind, target, base_version, base_digest, body, body_digest, content,"
            " proposal_digest, created_at, state, expires_at) VALUES (%s, 'tester', 'governance', %s, %s, %s, '',"
            " encode(sha256(''), 'hex'), %s, sha256_text(%s), now(), 'pending', now())",
            [made, target, version, digest, content, content],
        )
        connection.execute("UPDATE proposals SET state = 'withdrawn', revision = revision + 1 WHERE id = %s", [made])
        return made


def found(server: Server, folder: Path, **rules: Any) -> Founded:
    bundle = founded("ada", "bob", policies=policies(**rules), corpus={"v": 1, "cases": []})
    path = folder / "genesis.json"
    path.write_bytes(json.dumps(bundle.document()).encode())
    done = server.command("app.genesis", "install", str(path))
    assert done.returncode == 0, done.stderr
    roles = {PROPOSER: "editor", "admin": "admin", "newcomer": "validator", "reader": "viewer"}
    roles |= {"applier": "applier", "breaker": "break_glass", "second-breaker": "break_glass", "actuator": "actuator"}
    roles |= {f"{name}-person": "validator editor" for name in (*PEOPLE, *MACHINES)}
    lines = "".join(f"{name} {roles}\n" for name, roles in roles.items())
    made = subprocess.run(
        [sys.executable, "-m", "app.security.api_keys", "create-many"],
        env=server.environ(),
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return Founded(server, dict(zip(roles, made.stdout.split(), strict=True)))


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Founded]:
    """A PostgreSQL for each module: rules change and keys are revoked."""
    folder = tmp_path_factory.mktemp("gate")
    with _running(folder) as server:
        assert server.command("app.migrations.apply").returncode == 0
        yield found(server, folder)


@dataclass(frozen=True)
class Party:
    """The service and everybody who takes part."""

    founded: Founded
    client: Client
    simulator: Simulator
    janitor: Janitor

    @property
    def database(self) -> Database:
        return self.client.service.database

    async def propose(self, target: str | None = None, *, minimum_tier: str = "medium", **change: Any) -> str:
        """Return the id of a new proposal, by default for a target of its own."""
        name = target or self.founded.target(minimum_tier)
        answer = await self.client.http.post(
            "/api/v1/proposals",
            json={
                "target": name,
                "base_version": 1,
                "base_digest": canonical.digest(canonical.encode_value(DOCUMENT)),
                "patch": [{"op": "add", "path": "/notes/a", "value": secrets.token_hex(4)}],
                "rationale": "because",
                **change,
            },
            headers=self.headers(PROPOSER),
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def simulated(self, target: str | None = None, **change: Any) -> str:
        """Return the id of a proposal whose ballot is open."""
        proposal = await self.propose(target, **change)
        await self.simulate(proposal)
        assert (await self.stored(proposal)).state == "simulated", self.founded.last(proposal)
        return proposal

    async def simulate(self, proposal: str) -> None:
        """Simulate until this proposal had its turn."""
        while (await self.stored(proposal)).state == "pending":
            assert await self.simulator.once(deadline=self.deadline())

    async def stored(self, proposal: str) -> StoredProposal:
        async def work(connection: Any) -> StoredProposal | None:
            return await proposals.get(connection, ProposalId(UUID(proposal)))

        found = await self.database.read("proposal_get", work, deadline=self.deadline())
        assert found is not None
        return found

    async def ballot(self, proposal: str) -> Ballot:
        answer = await self.client.http.get(f"/api/v1/proposals/{proposal}/ballot", headers=self.headers("reader"))
        assert answer.status_code == 200, answer.text
        return statement.decode(answer.content, Ballot)

    async def vote(self, proposal: str, name: str, decision: Any = "approve", **said: Any) -> httpx.Response:
        """Send a vote by a validator for the ballot that is open."""
        return await self.send(proposal, name, self.signed(await self.ballot(proposal), name, decision, **said))

    async def send(self, proposal: str, name: str, signed: Envelope, *, key: str | None = None) -> httpx.Response:
        return await self.client.http.post(
            f"/api/v1/proposals/{proposal}/votes",
            json=signed.document(),
            headers=self.headers(f"{name}-person", key=key),
        )

    def signed(
        self, ballot: Ballot, name: str, decision: Any = "approve", *, by: PrivateKey | None = None, **said: Any
    ) -> Envelope:
        now = datetime.now(UTC)
        times = {"issued_at": now, "expires_at": now + timedelta(hours=2)}
        return electorate.signed(name, on=ballot, decision=decision, by=by, **{**times, **said})

    async def revoke(self, proposal: str, name: str, receipt: dict[str, Any]) -> httpx.Response:
        """Take back the vote of a receipt."""
        sent = envelope.from_value(receipt["vote"]["envelope"])
        revocation = statement.revoke(
            statement.decode(sent.peek(), Vote), digest=sent.digest(), reason="no more", issued_at=datetime.now(UTC)
        )
        sealed = private_key(name).seal(statement.encode(revocation), envelope.IN_TOTO)
        return await self.client.http.post(
            f"/api/v1/proposals/{proposal}/votes/{receipt['vote']['id']}/revocation",
            json=sealed.document(),
            headers=self.headers(f"{name}-person"),
        )

    def headers(self, principal: str, *, key: str | None = None) -> dict[str, str]:
        return {"X-API-Key": self.founded.keys[principal], "Idempotency-Key": key or secrets.token_hex(8)}

    def deadline(self, seconds: float = 20) -> Deadline:
        return Deadline.after(seconds, clock=time.monotonic)


@asynccontextmanager
async def taking_part(gate: Founded) -> AsyncIterator[Party]:
    settings = settings_for(gate.server.address(), request_deadline_seconds=10)
    async with serving(settings, simulates=True) as client:
        documents, service = Documents(), client.service
        simulator = Simulator(
            service.database, EVENTS, documents, service.sandbox, replica="replica-1", random=secrets.token_bytes
        )
        yield Party(gate, client, simulator, Janitor(service.database, EVENTS, documents))


@pytest.fixture
async def party(gate: Founded) -> AsyncIterator[Party]:
    async with taking_part(gate) as made:
        yield made
