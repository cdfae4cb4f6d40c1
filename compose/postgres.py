"""PostgreSQL for one stack: its own data directory (a copy of the template), passwords and port on loopback.

Serves FM01 (stopped at once, silent, out of connections), FM02, FM09, FM11 and FM15. It never runs as root: started
by root it becomes `nobody`, and its programs and data are put where `nobody` can reach them.
"""

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import psycopg
from psycopg import sql

from compose import kernel, marks, places, postgres_template, processes, programs, settings
from compose.places import Identity
from compose.postgres_template import APPLICATION, DATABASE, MONITOR, OWNER, SUPERUSER, accepts
from compose.processes import PartFailed, Process

PART: Final = "PostgreSQL"
START_SECONDS: Final = 20.0
"""Crash recovery included."""
SOCKET_FOLDER_BYTES_MAX: Final = 70
ROLES: Final = (OWNER, APPLICATION, MONITOR)

_STOP_SIGNALS: Final = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
StopMode = Literal["smart", "fast", "immediate"]


@dataclass
class Postgres:
    """A PostgreSQL server of ours. Make it with `Postgres.prepare`, or use `running`."""

    port: int
    log: Path
    secrets_folder: Path
    proxies: Mapping[str, int]
    """Ports by name through which the server may be reached as well, for `dsn(via=...)`."""
    identity: Identity | None
    binaries: Path
    data: Path
    sockets: Path
    _process: Process | None = None
    _removed_at_close: list[Path] = field(default_factory=list)

    @classmethod
    async def prepare(
        cls, folder: Path, *, port: int, log: Path, secrets_folder: Path, proxies: Mapping[str, int] | None = None
    ) -> "Postgres":
        """Copy the template and write new passwords; nothing runs yet.

        Args:
            folder: for data, sockets and programs; a temporary one stands in where the server's user cannot reach it.
            port: on 127.0.0.1.
            log: the server's output.
            secrets_folder: gets `<role>.password` and `pgpass`, readable by us alone.
            proxies: ports that lead to the server, by name.

        Raises:
            PartFailed: the template cannot be made.
            MissingProgram: there is no PostgreSQL.
        """
        identity = places.unprivileged()
        removed_at_close = []
        if not _is_suitable(folder, identity):
            folder = places.private_folder("postgres", identity)
            removed_at_close.append(folder)
        installed = programs.find("postgres").parent
        binaries = _reachable(installed, folder, identity)
        await postgres_template.copy_to(
            folder / "data",
            binaries=binaries,
            major=await asyncio.to_thread(_major, installed),
            keep_in=settings.load().tools_folder / "postgres",
            identity=identity,
        )
        sockets = places.make_folder(folder / "socket", identity)
        _write_passwords(secrets_folder)
        return cls(
            port=port,
            log=log,
            secrets_folder=secrets_folder,
            proxies=dict(proxies or {}),
            identity=identity,
            binaries=binaries,
            data=folder / "data",
            sockets=sockets,
            _removed_at_close=removed_at_close,
        )

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; `None` when it does not run."""
        return self._process.pid if self._process and self._process.exit_code is None else None

    def dsn(self, role: str = APPLICATION, *, via: str = "direct") -> str:
        """Return a connection string without a secret in it: the password is read from a file.

        Args:
            role: `firewall_owner`, `firewall_app`, `firewall_monitor`, or `postgres` (through the socket only).
            via: `direct`, or the name of a proxy.
        """
        if role == SUPERUSER:
            return f"host={self.sockets} port={self.port} dbname={DATABASE} user={role} connect_timeout=2"
        if role not in ROLES:
            raise ValueError(f"{role} is no role of the stack's database; there are: {', '.join((*ROLES, SUPERUSER))}")
        port = self.port if via == "direct" else self.proxies[via]
        passwords = self.secrets_folder / "pgpass"
        return f"host=127.0.0.1 port={port} dbname={DATABASE} user={role} passfile='{passwords}' connect_timeout=2"

    def password_file(self, role: str) -> Path:
        """Return the file that holds a role's password and nothing else, mode 0600."""
        return self.secrets_folder / f"{role}.password"

    async def start(self) -> None:
        """Start the server and wait until it answers queries over TCP, after crash recovery where needed.

        Raises:
            PartFailed: it runs already, ended, or did not answer in time.
        """
        if self.pid is not None:
            raise PartFailed(PART, f"runs already (pid {self.pid})")
        self._process = processes.launch(
            PART,
            [self.binaries / "postgres", "-D", self.data, "-p", str(self.port), "-h", "127.0.0.1", "-k", self.sockets],
            log=self.log,
            identity=self.identity,
        )
        deadline = time.monotonic() + START_SECONDS
        await processes.ready(self._process, lambda: accepts(self.dsn(SUPERUSER)), deadline_seconds=START_SECONDS)
        await self._set_passwords()
        await processes.ready(self._process, self.is_accepting, deadline_seconds=max(deadline - time.monotonic(), 1.0))

    async def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server; `immediate` leaves crash recovery to the next start. One that does not run is left alone.

        Raises:
            PartFailed: it did not end, not even by force.
        """
        if self._process is not None:
            await self._process.stop(_STOP_SIGNALS[mode])

    async def is_accepting(self) -> bool:
        """Say whether it answers a query over TCP within 2 s."""
        try:
            async with asyncio.timeout(processes.PROBE_SECONDS_MAX):
                return await accepts(self.dsn(MONITOR))
        except TimeoutError:
            return False

    async def close(self) -> None:
        """Stop the server and remove what stands outside of the stack's folder."""
        await self.stop("immediate")
        places.forget_shared_memory(self.data / "postmaster.pid")
        for folder in self._removed_at_close:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _set_passwords(self) -> None:
        """Give the roles this stack's passwords, hashed on this side, so that no log can hold them."""
        async with await psycopg.AsyncConnection.connect(self.dsn(SUPERUSER), autocommit=True) as connection:
            await connection.execute("SET synchronous_commit = off")
            for role in ROLES:
                password = self.password_file(role).read_bytes()
                verifier = connection.pgconn.encrypt_password(password, role.encode(), b"scram-sha-256").decode()
                statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
                await connection.execute(statement)


@contextlib.asynccontextmanager
async def running(folder: Path, *, port: int, log: Path | None = None) -> AsyncIterator[Postgres]:
    """Run a server of one's own, without the rest of the stack, as tests of storage want it.

    Raises:
        PartFailed: it did not start.
    """
    postgres = await Postgres.prepare(
        folder / "postgres", port=port, log=log or folder / "postgres.log", secrets_folder=folder / "secrets"
    )
    try:
        await postgres.start()
        yield postgres
    finally:
        await postgres.close()


def _is_suitable(folder: Path, identity: Identity | None) -> bool:
    """Make the folder; say whether the server's user can reach it and a socket's path (107 bytes) fits in it."""
    folder.mkdir(parents=True, exist_ok=True)
    return places.can_reach(folder, identity) and len(bytes(folder)) <= SOCKET_FOLDER_BYTES_MAX


def _reachable(installed: Path, folder: Path, identity: Identity | None) -> Path:
    """Return the programs' folder at a path that the server's user can reach.

    PostgreSQL finds its libraries beside its programs, so the whole installation moves: by a mount where the world
    has mounts of its own, else by second names of the same files.
    """
    if places.can_reach(installed / "postgres", identity) and places.can_reach(installed.parent / "share", identity):
        return installed
    moved = folder / "installed"
    if not (moved / "bin").is_dir():
        try:
            here = marks.here()
            if here is None or not here.has_mounts:
                raise PermissionError
            moved.mkdir()
            kernel.mount(str(installed.parent), moved, flags=kernel.MS_BIND)
        except OSError:
            shutil.rmtree(moved, ignore_errors=True)
            places.link_tree(installed.parent, moved)
    return moved / "bin"


def _major(binaries: Path) -> int:
    said = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, text=True, timeout=10)
    found = re.search(r"\d+", said.stdout)
    if found is None:
        raise PartFailed(PART, f"does not say its version: {said.stdout!r}")
    return int(found.group())


def _write_passwords(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    passwords = {role: secrets.token_urlsafe(24) for role in ROLES}
    for role, password in passwords.items():
        write_secret(folder / f"{role}.password", password)
    write_secret(folder / "pgpass", "".join(f"*:*:{DATABASE}:{role}:{word}\n" for role, word in passwords.items()))


def write_secret(path: Path, text: str) -> None:
    """Write a file that only we may read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text)
