"""The ordinary way to write such a service: typed Litestar handlers, psycopg's pool, one transaction a request.

It does the same visible work with the usual libraries (jsonpatch, rfc8785, PyNaCl, json) on tables of its own: a
remembered API key, an Idempotency-Key whose answer is kept, proposal, vote or snapshot, and an event with the digest of
the one before. It has no deadlines, breaker, limits, metrics, log lines or strict decoding, opens no stored vote again,
and knows one quorum: a machine and a person.
"""

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import jsonpatch
import msgspec
import rfc8785
from litestar import Litestar, Request, Response, post
from litestar.params import FromPath
from nacl.signing import SigningKey, VerifyKey
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from compose.postgres_template import APPLICATION
from tests.integration.service.running import Server
from tests.unit.service import electorate

SCHEMA: Final = """
    CREATE SCHEMA ordinary AUTHORIZATION firewall_app;
    SET ROLE firewall_app;
    CREATE TABLE ordinary.targets (name text PRIMARY KEY, version int, digest text, content bytea);
    CREATE TABLE ordinary.proposals (id uuid PRIMARY KEY, principal text, target text, base_version int,
        base_digest text, body bytea, content bytea, digest text, state text, patch bytea, ballot bytea, head text,
        created_at timestamptz, expires_at timestamptz);
    CREATE UNIQUE INDEX ON ordinary.proposals (target, digest) WHERE state IN ('pending', 'simulated', 'approved');
    CREATE TABLE ordinary.votes (id uuid PRIMARY KEY, proposal_id uuid REFERENCES ordinary.proposals, principal text,
        role text, decision text, envelope bytea, at timestamptz, UNIQUE (proposal_id, principal));
    CREATE TABLE ordinary.snapshots (target text, version int, digest text, proposal_id uuid, content bytea,
        PRIMARY KEY (target, version));
    CREATE TABLE ordinary.outbox (proposal_id uuid PRIMARY KEY, decision bytea, at timestamptz);
    CREATE TABLE ordinary.events (id uuid PRIMARY KEY, proposal_id uuid, kind text, at timestamptz, body bytea,
        prev text, digest text);
    CREATE INDEX ON ordinary.events (proposal_id);
    CREATE TABLE ordinary.answers (principal text, key text, fingerprint text, status int, body bytea,
        at timestamptz, PRIMARY KEY (principal, key))"""
PEPPER: Final = b"of-the-ordinary-service"
DAYS: Final = 7
CREATED: Final = 201
ACCEPTED: Final = 202

Digest = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]


class Change(msgspec.Struct):
    """The body of a proposal."""

    target: Annotated[str, msgspec.Meta(max_length=128)]
    base_version: Annotated[int, msgspec.Meta(ge=1)]
    base_digest: Digest
    patch: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=1_000)]
    rationale: Annotated[str, msgspec.Meta(min_length=1, max_length=8_192)]
    kind: str = "mutation"
    declared_risk: str = "low"
    evidence: list[Digest] = []
    expires_at: str | None = None
    supersedes: str | None = None


class Signature(msgspec.Struct):
    """One of an envelope."""

    keyid: str
    sig: str


class Signed(msgspec.Struct, rename="camel"):
    """A DSSE envelope."""

    payload: str
    payload_type: str
    signatures: list[Signature]


class Nothing(msgspec.Struct):
    """An empty object."""


class Wrong(Exception):
    """The request is refused; a benchmark sends none of those."""


@dataclass(frozen=True, slots=True)
class Service:
    """The application, and the pool under it."""

    application: Litestar
    pool: AsyncConnectionPool

    def principal_of(self, key: str) -> str:
        """Return whose key it is."""
        return str(self.application.state.principals[_digest_of(key)])

    async def add_target(self, name: str, content: bytes, digest: str) -> None:
        """Create a target with its first version."""
        async with self.pool.connection() as connection:
            await connection.execute("INSERT INTO targets VALUES (%s, 1, %s, %s)", [name, digest, content])

    async def add_proposal(self, *, target: str, content: bytes, patch: bytes, ballot: bytes) -> uuid.UUID:
        """Create a simulated proposal on the first version of a target, whose content that is; return its id."""
        proposal = uuid.uuid4()
        async with self.pool.connection() as connection:
            await connection.execute(
                "INSERT INTO proposals (id, target, base_version, base_digest, digest, state, patch, ballot)"
                " VALUES (%s, %s, 1, %s, %s, 'simulated', %s, %s)",
                [proposal, target, _sha256(content), str(proposal), patch, ballot],
            )
        return proposal

    async def approve(self, proposal: uuid.UUID) -> None:
        """Give a proposal its two votes."""
        async with self.pool.connection() as connection:
            for role in ("machine", "owner"):
                await connection.execute(
                    "INSERT INTO votes VALUES (%s, %s, %s, %s, 'approve', '', now())",
                    [uuid.uuid4(), proposal, role, role],
                )
            await connection.execute("UPDATE proposals SET state = 'approved' WHERE id = %s", [proposal])


@asynccontextmanager
async def serving(server: Server, keys: Mapping[str, str]) -> AsyncIterator[Service]:
    """Run it, with API keys by principal; who votes with which key is the tests' electorate."""
    with server.connect() as connection:
        connection.execute(SCHEMA.encode())
    dsn = server.postgres.dsn(APPLICATION) + " options='-c search_path=ordinary'"
    async with AsyncConnectionPool(dsn, min_size=8, max_size=8, open=False) as pool:
        application = Litestar([propose, vote, apply], openapi_config=None, logging_config=None)
        application.state.pool = pool
        application.state.principals = {_digest_of(key): principal for principal, key in keys.items()}
        application.state.people = {
            key.keyid: (key.raw, one.role) for one in electorate.founding_set().validators for key in one.keys
        }
        application.state.key = SigningKey(hashlib.sha256(b"ordinary").digest())
        yield Service(application, pool)


Asked = Request[Any, Any, Any]


@post("/api/v1/proposals", status_code=CREATED)
async def propose(request: Asked, data: Change) -> Response[bytes]:
    """Store a proposal."""
    principal, key = _who(request)
    jsonpatch.JsonPatch(data.patch)
    body = await request.body()
    content = content_of(data)
    digest = _sha256(content)
    async with request.app.state.pool.connection() as connection:
        if earlier := await _earlier(connection, principal, key):
            return earlier
        found = await _one(connection, "SELECT version, digest FROM targets WHERE name = %s FOR SHARE", [data.target])
        if found != (data.base_version, data.base_digest):
            raise Wrong
        proposal, now = uuid.uuid4(), datetime.now(UTC)
        await connection.execute(
            "INSERT INTO proposals (id, principal, target, base_version, base_digest, body, content, digest, state,"
            " patch, created_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'pending', %s, %s, %s)",
            [
                *(proposal, principal, data.target, data.base_version, data.base_digest, body, content, digest),
                *(json.dumps(data.patch).encode(), now, now + timedelta(days=DAYS)),
            ],
        )
        await _tell(connection, proposal, "proposal-created", {"proposal_digest": digest, "proposer": principal}, None)
        answer = {
            "id": str(proposal),
            "state": "pending",
            "principal": principal,
            "proposal_digest": digest,
            "body_digest": hashlib.sha256(body).hexdigest(),
            "created_at": now.isoformat(),
            **msgspec.to_builtins(data),
        }
        return await _answered(connection, (principal, key), _sha256(rfc8785.dumps(json.loads(body))), CREATED, answer)


@post("/api/v1/proposals/{proposal:uuid}/votes", status_code=CREATED)
async def vote(request: Asked, data: Signed, proposal: FromPath[uuid.UUID]) -> Response[bytes]:
    """Check a signed vote, store it, count with SQL, and take the step that follows."""
    principal, key = _who(request)
    body = await request.body()
    payload = base64.b64decode(data.payload, validate=True)
    public_key, role = request.app.state.people[data.signatures[0].keyid]
    kind = data.payload_type.encode()
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    VerifyKey(public_key).verify(message, base64.b64decode(data.signatures[0].sig, validate=True))
    said = json.loads(payload)
    async with request.app.state.pool.connection() as connection:
        if earlier := await _earlier(connection, principal, key):
            return earlier
        found = await _one(connection, "SELECT state, ballot, head FROM proposals WHERE id = %s FOR UPDATE", [proposal])
        ballot = json.loads(found[1])
        if found[0] != "simulated" or any(
            said["predicate"][name] != ballot["predicate"][name] for name in ballot["predicate"]
        ):
            raise Wrong
        await connection.execute(
            "INSERT INTO votes (id, proposal_id, principal, role, decision, envelope, at)"
            " VALUES (%s, %s, %s, %s, %s, %s, now())",
            [uuid.uuid4(), proposal, principal, role, said["predicate"]["decision"], body],
        )
        head = await _tell(connection, proposal, "vote-cast", {"envelope": json.loads(body)}, found[2])
        rows = await (
            await connection.execute(
                "SELECT role, count(DISTINCT principal) FROM votes WHERE proposal_id = %s AND decision = 'approve'"
                " GROUP BY role",
                [proposal],
            )
        ).fetchall()
        counts = dict(rows)
        met = counts.pop("machine", 0) >= 1 and sum(counts.values()) >= 1
        state = "approved" if met else "simulated"
        if met:
            await _tell(connection, proposal, "approved", {"tally": dict(rows)}, head)
            await connection.execute("UPDATE proposals SET state = 'approved' WHERE id = %s", [proposal])
        answer = {"state": state, "tally": {"met": met}, "vote": json.loads(body)}
        return await _answered(connection, (principal, key), _sha256(body), CREATED, answer)


@post("/api/v1/proposals/{proposal:uuid}/application", status_code=ACCEPTED)
async def apply(request: Asked, data: Nothing, proposal: FromPath[uuid.UUID]) -> Response[bytes]:
    """Read, check, apply the patch again and write, under the locks of target and proposal."""
    del data
    principal, key = _who(request)
    async with request.app.state.pool.connection() as connection:
        if earlier := await _earlier(connection, principal, key):
            return earlier
        name, version, base_digest, patch, state, head = await _one(
            connection,
            "SELECT target, base_version, base_digest, patch, state, head FROM proposals WHERE id = %s FOR UPDATE",
            [proposal],
        )
        held = await _one(connection, "SELECT version, digest, content FROM targets WHERE name = %s FOR UPDATE", [name])
        counted = await _one(
            connection,
            "SELECT count(*) FILTER (WHERE role = 'machine'), count(*) FILTER (WHERE role <> 'machine') FROM votes"
            " WHERE proposal_id = %s AND decision = 'approve'",
            [proposal],
        )
        if state != "approved" or held[:2] != (version, base_digest) or not all(counted):
            raise Wrong
        content = rfc8785.dumps(jsonpatch.apply_patch(json.loads(held[2]), json.loads(patch)))
        digest = _sha256(content)
        await connection.execute(
            "INSERT INTO snapshots VALUES (%s, %s, %s, %s, %s)", [name, version + 1, digest, proposal, content]
        )
        await connection.execute(
            "UPDATE targets SET version = %s, digest = %s, content = %s WHERE name = %s",
            [version + 1, digest, content, name],
        )
        told = {"proposal": str(proposal), "target": name, "version": version + 1, "digest": digest}
        decision = rfc8785.dumps({**told, "decided_at": datetime.now(UTC).isoformat()})
        sealed = bytes(request.app.state.key.sign(decision))
        await connection.execute("INSERT INTO outbox VALUES (%s, %s, now())", [proposal, sealed])
        await _tell(connection, proposal, "applying", told, head)
        await connection.execute("UPDATE proposals SET state = 'applying' WHERE id = %s", [proposal])
        answer = {**told, "state": "waiting", "decision": base64.b64encode(sealed).decode()}
        return await _answered(connection, (principal, key), _sha256(await request.body()), ACCEPTED, answer)


def content_of(change: Change) -> bytes:
    """Return the canonical record of a change."""
    return rfc8785.dumps({"_type": "amgf/proposal", "v": 1, **msgspec.to_builtins(change), "restores": None})


def accept(body: bytes) -> str:
    """Decode, check and digest a body, as `propose` does; return the digest of its content."""
    change = msgspec.convert(json.loads(body), Change)
    jsonpatch.JsonPatch(change.patch)
    hashlib.sha256(body).hexdigest()
    _sha256(rfc8785.dumps(json.loads(body)))
    return _sha256(content_of(change))


def _who(request: Asked) -> tuple[str, str]:
    return request.app.state.principals[_digest_of(request.headers["x-api-key"])], request.headers["idempotency-key"]


def _digest_of(key: str) -> bytes:
    return hmac.digest(PEPPER, key.encode(), "sha256")


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


async def _one(connection: AsyncConnection[Any], query: str, parameters: Sequence[Any]) -> Any:
    row = await (await connection.execute(query.encode(), parameters)).fetchone()
    if row is None:
        raise Wrong
    return row


async def _earlier(connection: AsyncConnection[Any], principal: str, key: str) -> Response[bytes] | None:
    row = await (
        await connection.execute("SELECT status, body FROM answers WHERE principal = %s AND key = %s", [principal, key])
    ).fetchone()
    return None if row is None else Response(row[1], status_code=row[0], media_type="application/json")


async def _answered(
    connection: AsyncConnection[Any], who: tuple[str, str], fingerprint: str, status: int, answer: dict[str, Any]
) -> Response[bytes]:
    body = json.dumps(answer).encode()
    await connection.execute(
        "INSERT INTO answers VALUES (%s, %s, %s, %s, %s, now())", [*who, fingerprint, status, body]
    )
    return Response(body, status_code=status, media_type="application/json")


async def _tell(
    connection: AsyncConnection[Any], proposal: uuid.UUID, kind: str, body: dict[str, Any], prev: str | None
) -> str:
    """Write an event after the one before; return its digest, which is the proposal's head from now on."""
    now, content = datetime.now(UTC), rfc8785.dumps(body)
    leaf = {
        "proposal": str(proposal),
        "kind": kind,
        "at": now.isoformat(),
        "body": _sha256(content),
        "prev": prev,
    }
    digest = _sha256(rfc8785.dumps(leaf))
    await connection.execute(
        "INSERT INTO events VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [uuid.uuid4(), proposal, kind, now, content, prev, digest],
    )
    await connection.execute("UPDATE proposals SET head = %s WHERE id = %s", [digest, proposal])
    return digest
