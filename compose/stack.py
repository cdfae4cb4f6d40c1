"""One stack: every real part, started in order, each behind a probe with a deadline, and taken down in reverse.

Parts that do not need each other start at the same time. What a stack holds stands in one folder (inside a world a
tmpfs that the kernel removes), what it says in another that is kept.
"""

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import psycopg

from compose import founding, marks, part, places, processes
from compose.actuator import Actuator
from compose.gate import Gate
from compose.limits import ALONE, Limits
from compose.monitoring import Alertmanager, Prometheus
from compose.pod import BackOff
from compose.ports import Ports
from compose.postgres import Postgres, write_secret
from compose.postgres_template import APPLICATION, DATABASE, OWNER, STAGING_DATABASE, SUPERUSER
from compose.processes import PartFailed, Process
from compose.proxies import HAProxy, Toxiproxy
from compose.replicas import STAGING, Replicas, ReplicaSpec
from compose.settings import REPOSITORY
from compose.supervisor import Configuration
from compose.valkey import Valkey
from slo.profiles import Profile

__all__ = ["PartFailed", "Ports", "Stack", "StackSpec"]

JOB_SECONDS: Final = 30.0
SUPERVISOR_SECONDS: Final = 20.0
SUPERVISOR_STOP_SECONDS: Final = 3.0
"""At the end of a stack replicas need no grace period: nobody is served any more."""
REPLICAS_READY_SECONDS: Final = 30.0
FRONT_SECONDS: Final = 10.0
OTHER_TARGETS: Final = 4
"""What Prometheus reads beside the replicas: their supervisor, HAProxy, itself, Alertmanager."""
REQUEST_DEADLINE_SECONDS: Final = 3.0
"""The service's own default; HAProxy's timeouts nest around it."""
HARNESS_PER_MINUTE: Final = 60_000
REQUEST_DEADLINE_SETTING: Final = "FIREWALL_REQUEST_DEADLINE_SECONDS"

# Kubernetes waits 10 s, then 20 s ... 5 min between restarts. The fast profile compresses that like its alerts.
BACK_OFF: Final = {"fast": BackOff(initial_seconds=1.0, max_seconds=8.0, reset_seconds=15.0)}

Progress = Callable[[str], None]


def _say_nothing(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSpec:
    """Which stack to start."""

    folder: Path
    """For state, sockets and secrets; see `default_folder`."""
    logs: Path
    profile: Profile
    ports: Ports = field(default_factory=lambda: Ports.here())  # noqa: PLW0108 - decided when a stack is described
    replicas: int = 2
    service_path: Path = REPOSITORY / "service"
    """Import path of the service: another copy of it may stand here, with a planted defect for example."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the replicas, over the profile's."""
    run_label: str = ""
    """Tells this stack's alerts from any other's."""
    environment: str = "production"
    staging: bool = False
    """Whether there is a database of a staging environment, for a replica in `ports.STAGING_SLOT`."""
    limits: Limits = field(default_factory=Limits)
    api_key_roles: tuple[str, ...] = ("editor",)
    principals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """More of them, with their roles: clients like any other, under the documented rate limit."""
    rate_limits: Mapping[str, int] = field(default_factory=dict)
    """Requests a minute of single principals, where they are not the documented ones."""
    clients: int = 0
    """So many principals more, all editors: `client-1`, ... Modes in which it matters who asks need many."""


def default_folder() -> Path:
    """Return where a stack of this process keeps its state: the world's folder, else a temporary one of ours."""
    here = marks.here()
    return here.folder / "stack" if here else places.private_folder("stack", places.unprivileged())


class Stack:
    """A running stack; `async with Stack.start(spec) as stack`."""

    def __init__(self, spec: StackSpec) -> None:
        """Describe the parts; none runs yet."""
        ports, logs, state = spec.ports, spec.logs, spec.folder / "state"
        self.spec = spec
        self.ports = ports
        self.secrets_folder = spec.folder / "secrets"
        self.timings: dict[str, float] = {}
        """Seconds from the beginning of the start until each part answered."""
        self.toxiproxy = Toxiproxy(ports=ports, log=logs / "toxiproxy.log")
        self.valkey = Valkey(
            state / "valkey", port=ports.valkey, log=logs / "valkey.log", secrets_folder=self.secrets_folder
        )
        self.haproxy = HAProxy(
            state / "haproxy",
            ports=ports,
            log=logs / "haproxy.log",
            request_deadline_seconds=float(
                self._service_settings().get(REQUEST_DEADLINE_SETTING, REQUEST_DEADLINE_SECONDS)
            ),
        )
        self.prometheus = Prometheus(
            state / "prometheus",
            ports=ports,
            log=logs / "prometheus.log",
            profile=spec.profile,
            environment=spec.environment,
            run_label=spec.run_label,
            staging=spec.staging,
        )
        self.alertmanager = Alertmanager(
            state / "alertmanager", ports=ports, log=logs / "alertmanager.log", profile=spec.profile
        )
        self.replicas = Replicas(f"http://127.0.0.1:{ports.supervisor}")
        self._postgres: Postgres | None = None
        self._supervisor: Process | None = None
        self._api_keys: dict[str, str] = {}
        self._founding = founding.Founding(spec.service_path, self.secrets_folder)
        self._gate: Gate | None = None
        self.actuator: Actuator | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, spec: StackSpec, *, progress: Progress = _say_nothing) -> AsyncIterator["Stack"]:
        """Run a stack.

        Args:
            spec: which one.
            progress: told in a line what has just begun to answer.

        Raises:
            PartFailed: a part did not start; what had started is taken down again.
            MissingProgram: a program is not installed.
        """
        stack = cls(spec)
        try:
            await stack._bring_up(progress)
            yield stack
        finally:
            await asyncio.shield(stack._take_down())

    @property
    def address(self) -> str:
        """Where clients go."""
        return self.haproxy.address

    @property
    def postgres(self) -> Postgres:
        """The database."""
        if self._postgres is None:
            raise PartFailed("PostgreSQL", "was not prepared")
        return self._postgres

    @property
    def gate(self) -> Gate:
        """Who votes, on what."""
        if self._gate is None:
            raise PartFailed("gate", "was not opened")
        return self._gate

    @property
    def supervisor_pid(self) -> int | None:
        """The replicas' supervisor; `None` when it does not run."""
        return self._supervisor.pid if self._supervisor and self._supervisor.exit_code is None else None

    def api_key(self, role: str = "editor") -> str:
        """Return the key of a role that the spec asked for."""
        return self._api_keys[f"harness-{role}"]

    def key_of(self, principal: str) -> str:
        """Return the API key of a principal that the spec, or the founding, names."""
        return self._api_keys[principal]

    def api_key_files(self) -> tuple[Path, ...]:
        """Return where the keys of the clients are that the spec asked for."""
        return tuple(self._key_file(f"harness-{role}") for role in self.spec.api_key_roles)

    @property
    def token_keys_file(self) -> Path:
        """Where the replicas read whose tokens are good."""
        return self.secrets_folder / "token-keys.json"

    def client_keys(self) -> dict[str, str]:
        """Return the keys of the clients that the spec asked for, by principal."""
        return {name: self._api_keys[name] for name in _client_names(self.spec.clients)}

    def replica_names(self) -> tuple[str, ...]:
        """Return the replicas that the stack began with."""
        return tuple(f"replica-{slot}" for slot in range(1, self.spec.replicas + 1))

    def replica_address(self, name: str) -> str:
        """Return where one replica answers, past HAProxy."""
        return f"http://127.0.0.1:{self.ports.replicas[_slot(name) - 1]}"

    def replica_metrics_address(self, name: str) -> str:
        """Return where one replica's metrics are."""
        return f"http://127.0.0.1:{self.ports.replicas_metrics[_slot(name) - 1]}/metrics"

    async def _bring_up(self, progress: Progress) -> None:
        began = time.monotonic()

        async def timed(name: str, starting: Awaitable[None]) -> None:
            await starting
            self.timings[name] = time.monotonic() - began
            progress(f"{name} answers after {self.timings[name]:.1f} s")

        self.spec.logs.mkdir(parents=True, exist_ok=True)
        self.secrets_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(self.secrets_folder / "api_key_pepper", secrets.token_urlsafe(32))
        self._founding.make_keys()
        try:
            async with asyncio.TaskGroup() as starting:
                for one in (self.toxiproxy, self.valkey, self.haproxy, self.prometheus, self.alertmanager):
                    starting.create_task(timed(one.name, one.start()))
                starting.create_task(timed("supervisor", self._start_supervisor()))
                await timed("PostgreSQL", self._start_postgres())
                await timed("migrations", self._migrate())
                if self.spec.staging:
                    await timed("staging", self._create_staging_database())
            async with asyncio.TaskGroup() as starting:
                starting.create_task(timed("API keys", self._create_api_keys()))
                starting.create_task(timed("genesis", self._install_genesis()))
                starting.create_task(timed("replicas", self._start_replicas()))
            async with asyncio.TaskGroup() as opening:
                opening.create_task(timed("front", self._open_front()))
                opening.create_task(timed("actuator", self._start_actuator()))
                opening.create_task(
                    timed("alerts", self.prometheus.load_rules(self.spec.replicas + OTHER_TARGETS + self.spec.staging))
                )
            await timed("gate", self._open_gate())
        except BaseExceptionGroup as failed:  # not except*: what that raises comes in a group again, up to 3.11.3
            raise _first(failed) from None

    async def _take_down(self) -> None:
        """Stop every part, in reverse; a part that will not stop keeps no other from being stopped."""
        problems: list[PartFailed] = []

        async def ended(stopping: Awaitable[None]) -> None:
            try:
                await stopping
            except PartFailed as problem:
                problems.append(problem)

        await ended(self.haproxy.stop())
        if self._supervisor:
            await ended(self._supervisor.stop(deadline_seconds=SUPERVISOR_STOP_SECONDS))
        async with asyncio.TaskGroup() as stopping:
            for one in (self.prometheus, self.alertmanager, self.toxiproxy, self.valkey, self.actuator):
                if one is not None:
                    stopping.create_task(ended(one.stop()))
        if self._postgres:
            await ended(self._postgres.close())
        if problems:
            raise problems[0]

    async def _start_postgres(self) -> None:
        self._postgres = await Postgres.prepare(
            self.spec.folder / "state" / "postgres",
            port=self.ports.database,
            log=self.spec.logs / "postgres.log",
            secrets_folder=self.secrets_folder,
            proxies=self.toxiproxy.ports(),
        )
        await self._postgres.start()

    async def _start_supervisor(self) -> None:
        here = marks.here()
        configuration = Configuration(
            ports=self.ports,
            world=here.world if here else f"{ALONE}{os.getpid()}-{secrets.token_hex(3)}",
            service_path=str(self.spec.service_path),
            settings=self._replica_settings(),
            logs=str(self.spec.logs),
            targets_file=str(self.prometheus.targets_file),
            environment=self.spec.environment,
            staging=self._staging_settings(),
            limits=self.spec.limits,
            back_off=BACK_OFF.get(self.spec.profile.name, BackOff()),
        )
        path = self.spec.folder / "state" / "supervisor.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(configuration))
        self._supervisor = processes.launch(
            "the replicas' supervisor",
            [sys.executable, "-m", "compose.supervisor", path],
            log=self.spec.logs / "supervisor.log",
            environment=processes.plain_environment(PYTHONPATH=str(REPOSITORY)),
            cwd=REPOSITORY,
        )
        await processes.ready(
            self._supervisor,
            lambda: part.answers_ok(self.replicas.metrics_address),
            deadline_seconds=SUPERVISOR_SECONDS,
        )

    async def _migrate(self) -> None:
        await self._job("migrations", "app.migrations.apply", log=self.spec.logs / "migrations.log")

    async def _create_staging_database(self) -> None:
        """Copy the migrated database, before anybody is connected to it."""
        async with await psycopg.AsyncConnection.connect(self.postgres.dsn(SUPERUSER), autocommit=True) as connection:
            await connection.execute(f"CREATE DATABASE {STAGING_DATABASE} TEMPLATE {DATABASE} OWNER {OWNER}")

    async def _create_api_keys(self) -> None:
        """Make all keys in one go: starting Python for each would cost more than the rest of the stack."""
        clients = dict.fromkeys(_client_names(self.spec.clients), ("editor",))
        wanted = {**self._harness(), **clients, **self.spec.principals}
        ordered = self.spec.folder / "state" / "api-keys"
        ordered.write_text("".join(f"{name} {' '.join(roles)}\n" for name, roles in wanted.items()))
        printed = self.secrets_folder / "api-keys"  # what the job prints are the keys: no log may have them
        write_secret(printed, "")
        await self._job("API keys", "app.security.api_keys", "create-many", log=printed, stdin=ordered)
        keys = printed.read_text().split()
        printed.unlink()
        if len(keys) != len(wanted):
            raise PartFailed("API keys", f"printed {len(keys)} of {len(wanted)}")
        self._api_keys = dict(zip(wanted, keys, strict=True))
        for name, key in self._api_keys.items():
            write_secret(self._key_file(name), key)

    def _harness(self) -> dict[str, tuple[str, ...]]:
        """Return the principals through whom the harness works, and their roles."""
        own: dict[str, tuple[str, ...]] = {f"harness-{role}": (role,) for role in self.spec.api_key_roles}
        return {**own, **founding.ROLES}

    def _rate_limits(self) -> dict[str, int]:
        """Each of the harness's clients stands for a thousand; who is not named has the documented limit."""
        return {**dict.fromkeys(self._harness(), HARNESS_PER_MINUTE), **self.spec.rate_limits}

    def _key_file(self, name: str) -> Path:
        return self.secrets_folder / f"api-key-{name}"

    async def _install_genesis(self) -> None:
        bundle = self._founding.write_genesis()
        log = self.spec.logs / "genesis.log"
        await self._job("genesis", "app.genesis", "install", str(bundle), log=log)

    async def _start_actuator(self) -> None:
        self.actuator = Actuator(
            self.spec.folder / "state",
            ports=self.ports,
            log=self.spec.logs / "actuator.log",
            key_file=self._founding.file("actuator"),
            api_key_file=self._key_file(founding.ACTUATOR),
        )
        await self.actuator.start()

    async def _open_gate(self) -> None:
        """Create the documents that are governed, now that somebody answers."""
        actuator = self.actuator.address if self.actuator else None
        created = await self._founding.govern(self.address, self._api_keys[founding.ADMIN], actuator=actuator)
        self._gate = self._founding.gate(self._api_keys, created)

    async def _start_replicas(self) -> None:
        for slot, name in enumerate(self.replica_names(), start=1):
            await self.replicas.add(name, ReplicaSpec(slot=slot))
        deadline = time.monotonic() + REPLICAS_READY_SECONDS
        while True:
            statuses = await self.replicas.status()
            waiting = [name for name in self.replica_names() if not statuses[name].ready]
            if not waiting:
                return
            for name in waiting:
                if statuses[name].restarts:
                    raise PartFailed(
                        name, f"ended with exit code {statuses[name].last_exit_code}", log=self._replica_log(name)
                    )
            if time.monotonic() > deadline:
                raise PartFailed(
                    waiting[0],
                    "was not ready",
                    deadline_seconds=REPLICAS_READY_SECONDS,
                    log=self._replica_log(waiting[0]),
                )
            await asyncio.sleep(processes.POLL_SECONDS)

    async def _open_front(self) -> None:
        # HAProxy would see the same after two checks of its own; at the start there is nothing to protect yet.
        for name in self.replica_names():
            await self.haproxy.command(f"set server firewall/{name} health up")
        deadline = time.monotonic() + FRONT_SECONDS
        while not (
            await self.haproxy.serving() == set(self.replica_names())
            and await part.answers_ok(f"{self.address}/health/ready")
        ):
            if time.monotonic() > deadline:
                raise PartFailed(
                    "HAProxy", "does not serve every replica", deadline_seconds=FRONT_SECONDS, log=self.haproxy.log
                )
            await asyncio.sleep(processes.POLL_SECONDS)

    async def _job(self, name: str, module: str, *arguments: str, log: Path, stdin: Path | None = None) -> None:
        """Run a module of the service to its end, as the owner of the tables."""
        job = processes.launch(
            name,
            [sys.executable, "-m", module, *arguments],
            log=log,
            stdin=stdin,
            environment=processes.plain_environment(
                PYTHONPATH=str(self.spec.service_path),
                **self._replica_settings(),
                FIREWALL_DATABASE_PORT=str(self.ports.database),
                FIREWALL_MIGRATOR_USER=OWNER,
                FIREWALL_MIGRATOR_PASSWORD_FILE=str(self.postgres.password_file(OWNER)),
            ),
        )
        if not await job.ended(JOB_SECONDS):
            await job.stop()
            raise PartFailed(name, "did not end", deadline_seconds=JOB_SECONDS, log=log)
        if job.exit_code:
            raise PartFailed(name, f"ended with {processes.describe_exit(job.exit_code)}", log=log)

    def _service_settings(self) -> dict[str, str]:
        return {**self.spec.profile.service, **self.spec.settings}

    def _replica_settings(self) -> dict[str, str]:
        """Return what all replicas are told; the supervisor adds each one's name and ports."""
        return {
            "FIREWALL_ENVIRONMENT": self.spec.environment,
            "FIREWALL_DATABASE_HOST": "127.0.0.1",
            "FIREWALL_DATABASE_NAME": DATABASE,
            "FIREWALL_DATABASE_USER": APPLICATION,
            "FIREWALL_DATABASE_PASSWORD_FILE": str(self.secrets_folder / f"{APPLICATION}.password"),
            "FIREWALL_API_KEY_PEPPER_FILE": str(self.secrets_folder / "api_key_pepper"),
            "FIREWALL_VALKEY_HOST": "127.0.0.1",
            "FIREWALL_VALKEY_PASSWORD_FILE": str(self.valkey.password_file),
            "FIREWALL_RATE_LIMIT_REPLICAS": str(self.spec.replicas),
            "FIREWALL_RATE_LIMIT_PRINCIPALS": ",".join(
                f"{name}={limit}" for name, limit in self._rate_limits().items()
            ),
            **self._founding.settings(self.spec.folder / "state"),
            **self._service_settings(),
        }

    def _staging_settings(self) -> dict[str, str | None]:
        """Return what staging has of its own; it founds nothing, signs nothing and delivers nothing."""
        return {
            **dict.fromkeys(self._founding.settings(self.spec.folder / "state")),
            "FIREWALL_ENVIRONMENT": STAGING,
            "FIREWALL_DATABASE_NAME": STAGING_DATABASE,
        }

    def _replica_log(self, name: str) -> Path:
        return self.spec.logs / f"{name}.log"


def _client_names(count: int) -> list[str]:
    return [f"client-{number}" for number in range(1, count + 1)]


def _slot(name: str) -> int:
    return int(name.rpartition("-")[2])


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the failure that came first; the others follow from it or are as bad."""
    one: BaseException = failed
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return one
