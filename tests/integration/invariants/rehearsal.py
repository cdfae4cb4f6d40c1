"""A whole gate in a few seconds: PostgreSQL, two replicas behind HAProxy, whole lives of proposals, and the checkers.

What FM01 judges of the gate in minutes, without a fault, without alerts: enough to tell a good service from one with a
planted defect. One server holds a database for each rehearsal, all copies of one that was migrated and founded once.
"""

import asyncio
import base64
import contextlib
import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import psycopg

from chaos.checks import proposals
from chaos.checks.audit import every_effect_is_logged
from chaos.checks.fail_closed import fails_closed
from chaos.checks.heads import head_reads_never_go_back, heads_are_chains, roll_backs_restore
from chaos.checks.log import log_is_append_only
from chaos.checks.quorum import nothing_applied_without_a_quorum, one_vote_a_voter
from chaos.checks.replay import replay_gives_the_same_heads
from chaos.checks.secrets import no_secret_anywhere
from chaos.evidence import Evidence, EvidenceWriter, Origin
from chaos.probes.canaries import look_at_the_evidence, look_at_the_living, secrets_in
from chaos.probes.checkpoints import watch_checkpoints
from chaos.probes.database_dump import dump_database, settled
from chaos.probes.replay import replay
from chaos.probes.targets import ReplicaTarget, Targets
from chaos.scenario import Case, Check, Finding, Load
from chaos.traffic import Traffic
from compose import founding, part, postgres, processes
from compose.gate import Gate
from compose.ports import Ports
from compose.postgres import Postgres, write_secret
from compose.postgres_template import APPLICATION, DATABASE, OWNER, SUPERUSER
from compose.proxies import HAProxy
from compose.settings import REPOSITORY

SERVICE: Final = REPOSITORY / "service"
REPLICAS: Final = ("replica-1", "replica-2")
JOB_SECONDS: Final = 30.0
READY_SECONDS: Final = 20.0
LIVES_BEGIN_SECONDS: Final = 3.0
LIVES_END_SECONDS: Final = 8.0
"""At most: a time-lock of two seconds is waited for, on a busy machine also the ordinary steps."""
SETTLED_SECONDS: Final = 3.0
WITNESS_SECONDS: Final = 0.5
# As much as two cores carry beside a second rehearsal, for as many different things as can be in so little time.
LOAD: Final = Load(
    proposals_per_second=7,
    reads_per_second=25,
    retry_share=0.5,
    reuse_share=0.6,
    shared_key_share=1.0,
    lives_per_second=12,
)
READS: Final = Load(proposals_per_second=0, reads_per_second=25)
SEED: Final = 19184
"""With it the lives that begin in that time are of every kind; ``test_rehearsal.py`` holds it to that."""
CHECKS: Final[Mapping[str, Check]] = {
    "I1": partial(proposals.no_acknowledged_proposal_lost, acknowledged_min=20),
    "I2": partial(proposals.no_ghost_or_altered_proposal, acknowledged_min=20),
    "I3": partial(nothing_applied_without_a_quorum, applied_min=10),
    "I4": partial(one_vote_a_voter, votes_min=25, refused_min=10),
    "I5": partial(heads_are_chains, applied_min=10),
    "I6": partial(head_reads_never_go_back, reads_min=40),
    "I7": partial(proposals.retries_are_idempotent, repeated_min=5),
    "I8": log_is_append_only,
    "I9": partial(every_effect_is_logged, effects_min=30),
    "I10": fails_closed(),
    "I11": partial(roll_backs_restore, roll_backs_min=2),
    "I12": replay_gives_the_same_heads,
    "I15": no_secret_anywhere,
}


@dataclass(frozen=True)
class Stage:
    """The server that all rehearsals share, and what was founded on it."""

    folder: Path
    postgres: Postgres
    founded: founding.Founding
    gate: Gate

    @contextlib.asynccontextmanager
    async def database(self, name: str) -> AsyncIterator[str]:
        """Copy the founded database; what takes its place in connection strings is yielded."""
        async with await psycopg.AsyncConnection.connect(self.postgres.dsn(SUPERUSER), autocommit=True) as connection:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'founded'")
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE founded')
            await connection.execute(f'GRANT CONNECT ON DATABASE "{name}" TO {APPLICATION}')  # no copy has its grants
            try:
                yield self.postgres.dsn(SUPERUSER).replace(f"dbname={DATABASE}", f"dbname={name}")
            finally:
                await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextlib.asynccontextmanager
async def stage(folder: Path, service: Path = SERVICE) -> AsyncIterator[Stage]:
    """Start the server, migrate, found and govern it once, with the service as it is."""
    ports = Ports.free()
    async with postgres.running(folder, port=ports.database) as server:
        founded = founding.Founding(service, folder / "secrets")
        founded.make_keys()
        write_secret(folder / "secrets" / "api_key_pepper", secrets.token_urlsafe(32))
        await _job(server, founded, folder, "app.migrations.apply")
        await _job(server, founded, folder, "app.genesis", "install", str(founded.write_genesis()))
        keys = await _api_keys(server, founded, folder)
        async with _replicas(folder, server, founded, ports, database=DATABASE, service=service):
            created = await founded.govern(f"http://127.0.0.1:{ports.replicas[0]}", keys[founding.ADMIN])
            await settled(server.dsn(SUPERUSER))
        async with await psycopg.AsyncConnection.connect(
            server.dsn(SUPERUSER).replace(f"dbname={DATABASE}", "dbname=postgres"), autocommit=True
        ) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [DATABASE]
            )
            await connection.execute(f'CREATE DATABASE founded TEMPLATE "{DATABASE}"')
            with (server.data / "pg_hba.conf").open("a") as rules:  # the stack's own let nobody into another database
                rules.write(f"host all {APPLICATION} 127.0.0.1/32 scram-sha-256\n")
            await connection.execute("SELECT pg_reload_conf()")
        yield Stage(folder, server, founded, founded.gate(keys, created))


async def rehearse(
    on: Stage, name: str, service: Path = SERVICE, *, sql: str = "", judged: Collection[str] = tuple(CHECKS)
) -> Mapping[str, Finding]:
    """Run one rehearsal of a copy of the service and return what each check found.

    ``sql``: run by the owner before anything else: takes away a second net that would hide the planted defect.
    ``judged``: the invariants to judge; what no other needs is not done for them.
    """
    folder, database = on.folder / name, name.lower()
    writer = EvidenceWriter(folder, Origin.now())
    ports = Ports.free()
    _write_environment(folder, writer.origin, on.gate)
    async with on.database(database) as conninfo, _haproxy(ports, folder / "logs" / "haproxy.log") as proxy:
        if sql:
            async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
                await connection.execute(sql.encode())
        targets = Targets(
            replicas=tuple(
                ReplicaTarget(one, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics}/metrics")
                for one, port, metrics in zip(REPLICAS, ports.replicas, ports.replicas_metrics, strict=False)
            ),
            api_key=on.gate.api_keys[founding.VIEWER],
            has_log=True,
        )
        shutil.copyfile(_watermark(on.folder), _watermark(folder))
        async with _replicas(folder, on.postgres, on.founded, ports, database=database, service=service):
            await _direct_to_replicas(proxy)
            async with asyncio.TaskGroup() as tasks:
                witness = tasks.create_task(watch_checkpoints(targets, writer, period_seconds=WITNESS_SECONDS))
                keys = [on.gate.api_keys[one] for one in ("ann", "ben", "cleo")]
                async with Traffic(proxy.address, keys, LOAD, writer, seed=SEED, gate=on.gate) as traffic:
                    await asyncio.sleep(LIVES_BEGIN_SECONDS)
                    traffic.change_load(READS)
                    await processes.eventually(lambda: not traffic.lives_under_way, deadline_seconds=LIVES_END_SECONDS)
                    await traffic.drain()
                await settled(conninfo, within_seconds=SETTLED_SECONDS)
                witness.cancel()
            canaries = secrets_in(on.folder / "secrets")
            if "I15" in judged:
                await look_at_the_living(canaries, targets, writer)
            await dump_database(conninfo, writer)
        if "I12" in judged:
            await replay(writer, service_path=service, genesis=on.gate.genesis)
        if "I15" in judged:
            await look_at_the_evidence(canaries, writer)
        writer.close()
    case = Case(Evidence(folder), (), {})
    return {invariant: CHECKS[invariant](case) for invariant in judged}


@contextlib.asynccontextmanager
async def _haproxy(ports: Ports, log: Path) -> AsyncIterator[HAProxy]:
    """Run the proxy in front, in a folder of a short name: it has a socket there, whose path may not be long."""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as short:
        haproxy = HAProxy(Path(short), ports=ports, log=log, request_deadline_seconds=3.0)
        await haproxy.start()
        try:
            yield haproxy
        finally:
            await haproxy.stop(deadline_seconds=1.0)


async def _direct_to_replicas(haproxy: HAProxy) -> None:
    """Let it send requests at once, without waiting for its own looks at the replicas' health."""
    for name in REPLICAS:
        await haproxy.command(f"set server firewall/{name} health up")


@contextlib.asynccontextmanager
async def _replicas(
    folder: Path, server: Postgres, founded: founding.Founding, ports: Ports, *, database: str, service: Path
) -> AsyncIterator[None]:
    """Run both replicas until left; raises ``PartFailed`` when one does not become ready."""
    started = []
    try:
        for slot, name in enumerate(REPLICAS):
            environment = _environment(server, founded, folder, database) | {
                "FIREWALL_REPLICA": name,
                "FIREWALL_HOST": "127.0.0.1",
                "FIREWALL_PORT": str(ports.replicas[slot]),
                "FIREWALL_METRICS_PORT": str(ports.replicas_metrics[slot]),
            }
            started.append(
                processes.launch(
                    name,
                    [sys.executable, "-m", "app"],
                    log=folder / "logs" / f"{name}.log",
                    environment=processes.plain_environment(PYTHONPATH=str(service), **environment),
                )
            )
        for slot, process in enumerate(started):
            ready = f"http://127.0.0.1:{ports.replicas[slot]}/health/ready"
            await processes.ready(process, partial(part.answers_ok, ready), deadline_seconds=READY_SECONDS)
        yield
    finally:
        async with asyncio.TaskGroup() as stopping:
            for process in started:
                stopping.create_task(process.stop(deadline_seconds=0.5))


def _environment(server: Postgres, founded: founding.Founding, folder: Path, database: str) -> dict[str, str]:
    return {
        "FIREWALL_ENVIRONMENT": "production",
        "FIREWALL_DATABASE_HOST": "127.0.0.1",
        "FIREWALL_DATABASE_PORT": str(server.port),
        "FIREWALL_DATABASE_NAME": database,
        "FIREWALL_DATABASE_USER": APPLICATION,
        "FIREWALL_DATABASE_PASSWORD_FILE": str(server.password_file(APPLICATION)),
        "FIREWALL_API_KEY_PEPPER_FILE": str(server.secrets_folder / "api_key_pepper"),
        **founded.settings(_watermark(folder).parent),
    }


def _watermark(folder: Path) -> Path:
    """Return where the log's high-water mark of one rehearsal is."""
    return folder / "log-high-water-mark"


async def _job(
    server: Postgres, founded: founding.Founding, folder: Path, module: str, *arguments: str, stdin: Path | None = None
) -> str:
    log = folder / "logs" / f"{module}.log"
    environment = _environment(server, founded, folder, DATABASE) | {
        "FIREWALL_MIGRATOR_USER": OWNER,
        "FIREWALL_MIGRATOR_PASSWORD_FILE": str(server.password_file(OWNER)),
    }
    job = processes.launch(
        module,
        [sys.executable, "-m", module, *arguments],
        log=log,
        environment=processes.plain_environment(PYTHONPATH=str(founded.service_path), **environment),
        stdin=stdin,
    )
    assert await job.ended(JOB_SECONDS), f"{module} did not end"
    assert job.exit_code == 0, log.read_text()
    return log.read_text()


async def _api_keys(server: Postgres, founded: founding.Founding, folder: Path) -> dict[str, str]:
    ordered = folder / "api-keys"
    ordered.write_text("".join(f"{name} {' '.join(roles)}\n" for name, roles in founding.ROLES.items()))
    printed = await _job(server, founded, folder, "app.security.api_keys", "create-many", stdin=ordered)
    keys = dict(zip(founding.ROLES, printed.split(), strict=True))
    (folder / "logs" / "app.security.api_keys.log").unlink()
    for name, key in keys.items():
        write_secret(folder / "secrets" / f"api-key-{name}", key)
    return keys


def _write_environment(folder: Path, origin: Origin, gate: Gate) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "origin_monotonic_ns": origin.monotonic_ns,
        "origin_wall_ns": origin.wall_ns,
        "gate": {"origin": gate.origin, "log_key": base64.b64encode(gate.log_key).decode()},
    }
    (folder / "environment.json").write_text(json.dumps(environment))
