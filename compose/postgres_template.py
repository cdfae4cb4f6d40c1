"""The initialised PostgreSQL data directory that every stack copies: made once, kept in the tools folder.

It holds roles without passwords, so nothing in it is secret. Its name is a digest of everything it was made from;
concurrent makers each build their own and the first one to finish is kept.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from compose import places, processes
from compose.places import Identity
from compose.processes import PartFailed

SUPERUSER: Final = "postgres"
DATABASE: Final = "firewall"
STAGING_DATABASE: Final = "firewall_staging"
"""Of the staging environment, where a stack has one; see `compose.stack`."""
OWNER: Final = "firewall_owner"
APPLICATION: Final = "firewall_app"
MONITOR: Final = "firewall_monitor"
INITIALISE_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 20.0

# Durability settings stay at PostgreSQL's defaults (on) and are not repeated here: a stack that runs with less must
# not look configured on purpose. Sources: reliability findings 1, 11 and 12, the ladder of deadlines (FM02, FM09).
SETTINGS: Final = {
    "timezone": "UTC",
    "max_connections": "80",
    "superuser_reserved_connections": "3",
    "reserved_connections": "5",  # the harness still sees when the application has used up all others
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "jit": "off",
    "dynamic_shared_memory_type": "mmap",  # nothing outside of the data directory, so nothing is left in /dev/shm
    # FM09: a client that vanished must not keep its locks.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "5s",
    "client_connection_check_interval": "1s",
    "idle_in_transaction_session_timeout": "5s",
    "password_encryption": "scram-sha-256",
    # FM02: "review slow query logs". Terse, without parameters: a DETAIL line shows rows.
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %a %e ",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_min_duration_statement": "1s",
    "log_lock_waits": "on",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_checkpoints": "off",
    "cluster_name": "firewall",
}
SETTINGS_SINCE: Final = {18: {"io_method": "sync"}}  # three I/O workers a server are many beside a dozen servers

# FM02 documents 30 s. A whole transaction may take a little longer than its one slow statement, else the session
# would be ended (25P04) where the statement should be cancelled (57014).
STATEMENT_TIMEOUT: Final = "30s"
TRANSACTION_TIMEOUT: Final = "35s"

HOST_BASED_AUTHENTICATION: Final = f"""\
# The socket's folder is closed to other users; over TCP only the three roles, by password.
local all {SUPERUSER} trust
local replication {SUPERUSER} trust
host {DATABASE},{STAGING_DATABASE} {OWNER},{APPLICATION},{MONITOR} 127.0.0.1/32 scram-sha-256
"""

SERVER_STATEMENTS: Final = (
    f"CREATE ROLE {OWNER} LOGIN",
    f"CREATE ROLE {APPLICATION} LOGIN",
    f"CREATE ROLE {MONITOR} LOGIN IN ROLE pg_monitor, pg_read_all_data, pg_use_reserved_connections",
    f"ALTER ROLE {APPLICATION} SET statement_timeout = '{STATEMENT_TIMEOUT}'",
    f"CREATE DATABASE {DATABASE} OWNER {OWNER}",
    f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC",
    f"GRANT CONNECT ON DATABASE {DATABASE} TO {APPLICATION}, {MONITOR}",
)
SERVER_STATEMENTS_SINCE: Final = {17: (f"ALTER ROLE {APPLICATION} SET transaction_timeout = '{TRANSACTION_TIMEOUT}'",)}
DATABASE_STATEMENTS: Final = (
    f"ALTER SCHEMA public OWNER TO {OWNER}",
    f"GRANT USAGE ON SCHEMA public TO {APPLICATION}, {MONITOR}",
)


async def copy_to(target: Path, *, binaries: Path, major: int, keep_in: Path, identity: Identity | None) -> None:
    """Make `target` a fresh data directory, and the template first when there is none.

    Args:
        target: must not exist.
        binaries: PostgreSQL's programs, reachable for `identity`.
        major: their major version.
        keep_in: where templates are kept; where we may not write, one is made for this once.
        identity: who the server runs as; `None`: ourselves.

    Raises:
        PartFailed: initialising failed; the message shows what the programs said.
    """
    kept = keep_in / f"template-{_key(binaries, major)}"
    if kept.is_dir():
        await asyncio.to_thread(places.copy_tree, kept, target, identity)
        return
    workplace = places.private_folder("template", identity)
    try:
        made = workplace / "data"
        await _initialise(binaries, made, major=major, identity=identity)
        await asyncio.to_thread(places.copy_tree, made, target, identity)
        await asyncio.to_thread(_keep, made, kept)
    finally:
        await asyncio.to_thread(shutil.rmtree, workplace, ignore_errors=True)


def _keep(made: Path, kept: Path) -> None:
    """Put a finished template in its place in one step; where somebody was faster, theirs is as good."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f"{kept.name}.", dir=kept.parent))
    except OSError:
        return  # a tools folder of somebody else's: the next stack makes its own again
    try:
        places.copy_tree(made, beside / "data")
        with contextlib.suppress(OSError):
            (beside / "data").rename(kept)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


async def _initialise(binaries: Path, data: Path, *, major: int, identity: Identity | None) -> None:
    log = data.parent / "initialise.log"
    places.make_folder(data, identity)
    settings = {
        **SETTINGS,
        **{k: v for since, more in SETTINGS_SINCE.items() if major >= since for k, v in more.items()},
    }
    initialise = processes.launch(
        "initdb",
        [
            binaries / "initdb",
            *("-D", data, "--username", SUPERUSER, "--encoding", "UTF8", "--locale", "C.UTF-8"),
            *("--auth", "trust", "--data-checksums", "--no-sync", "--no-instructions"),
            *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
        ],
        log=log,
        identity=identity,
    )
    if not await initialise.ended(INITIALISE_SECONDS) or initialise.exit_code != 0:
        await initialise.stop(signal.SIGKILL)
        raise PartFailed("initdb", "failed", deadline_seconds=INITIALISE_SECONDS, log=log)
    (data / "pg_hba.conf").write_text(HOST_BASED_AUTHENTICATION)

    sockets = places.make_folder(data.parent / "socket", identity)
    server = processes.launch(
        "PostgreSQL (template)",
        [binaries / "postgres", "-D", data, "-k", sockets, "-h", ""],
        log=log,
        identity=identity,
    )
    try:
        conninfo = f"host={sockets} user={SUPERUSER} connect_timeout=2"
        await processes.ready(server, lambda: accepts(f"{conninfo} dbname=postgres"), deadline_seconds=ANSWER_SECONDS)
        since = [text for version, texts in SERVER_STATEMENTS_SINCE.items() if major >= version for text in texts]
        await _execute(f"{conninfo} dbname=postgres", (*SERVER_STATEMENTS, *since))
        await _execute(f"{conninfo} dbname={DATABASE}", DATABASE_STATEMENTS)
    finally:
        await server.stop(signal.SIGINT)


async def accepts(conninfo: str) -> bool:
    """Say whether a server answers a query there."""
    try:
        connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
    except psycopg.Error:
        return False
    async with connection:
        await connection.execute("SELECT 1")
    return True


async def _execute(conninfo: str, statements: tuple[str, ...]) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(sql.SQL(statement))


def _key(binaries: Path, major: int) -> str:
    """Digest all that decides what a template holds, the server's own file and owner included."""
    server = (binaries / "postgres").stat()
    made_from = (
        (major, server.st_size, int(server.st_mtime), os.geteuid()),
        (SETTINGS, SETTINGS_SINCE, HOST_BASED_AUTHENTICATION),
        (SERVER_STATEMENTS, SERVER_STATEMENTS_SINCE, DATABASE_STATEMENTS),
    )
    return hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]
