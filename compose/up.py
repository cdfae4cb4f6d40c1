"""`up`, `down` and `status`: one stack in the background, on this host's loopback, for development and exploring.

It lives in a world without a network of its own, so that a browser and curl reach it. What is known of it stands in
`<tools folder>/up`: `state.json`, the header file with the development key, the keys of the people that the stack was
founded with (mode 0600), its genesis bundle, and the logs.
"""

import asyncio
import base64
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

import slo.profiles
from compose import guard, host, part, places, processes, settings, world
from compose.ports import Ports
from compose.postgres import write_secret
from compose.processes import PartFailed
from compose.programs import MissingProgram
from compose.replicas import Replicas
from compose.stack import Stack, StackSpec, default_folder

START_SECONDS: Final = 90.0
"""The first start on a machine makes the database's template."""
STOP_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.05

Say = Callable[[str], None]


class UpFailed(Exception):
    """The stack did not come up, or did not go; the message says why."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the stack that is up."""

    guard: str
    """The guard's process, by `places.process_key`."""
    world: str
    profile: str
    address: str = ""
    """Empty while it is coming up."""
    ports: Ports = Ports()
    failure: str = ""
    """Why it did not come up."""
    target: str = ""
    """A governed document to try things on, at version 1."""
    digest: str = ""
    """Of that version."""
    moving_target: str = ""
    """Another, for `demo` to change."""
    service_path: str = ""
    """Import path of the service that runs."""


class Home:
    """The folder that remembers the stack."""

    def __init__(self, folder: Path | None = None) -> None:
        """Take the folder; by default `up` in the tools folder."""
        self.folder = folder or settings.load().tools_folder / "up"
        self.logs = self.folder / "logs"
        self.progress = self.folder / "progress"
        self.headers = self.folder / "headers"
        self.genesis = self.folder / "genesis.json"
        self._people = self.folder / "people"
        self._state = self.folder / "state.json"

    def read(self) -> State | None:
        """Return what is known; `None`: nothing was started, or it was taken down."""
        try:
            return msgspec.json.decode(self._state.read_bytes(), type=State)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, state: State) -> None:
        """Remember, in one step."""
        beside = self._state.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(state))
        beside.rename(self._state)

    def api_key(self, name: str) -> Path:
        """Return the file of somebody's API key."""
        return self._people / f"{name}.api-key"

    def signing_key(self, name: str) -> Path:
        """Return the file of a validator's signing key, as `amgf --key` takes it."""
        return self._people / f"{name}.key"

    def hand_out(self, stack: Stack) -> None:
        """Write down what clients need to be the people of a development stack."""
        write_secret(self.headers, f"X-API-Key: {stack.api_key()}\n")
        self._people.mkdir(mode=0o700, exist_ok=True)
        for name, key in stack.gate.api_keys.items():
            write_secret(self.api_key(name), key)
        for one in stack.gate.validators:
            write_secret(self.signing_key(one.id), base64.b64encode(bytes(one.key)).decode())
        self.genesis.write_bytes(stack.gate.genesis.read_bytes())

    def forget(self) -> None:
        """Remember nothing but the logs."""
        for path in (self._state, self.headers, self.progress, self.genesis):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._people, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one `up` or `down` work at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def up(home: Home, *, profile: str, service_path: Path, say: Say) -> tuple[State, bool]:
    """Start the stack; return what is known of it, and whether it was up already.

    Raises:
        UpFailed: it did not come up; nothing of it is left running.
    """
    with home.locked():
        known = home.read()
        if known and places.is_alive(known.guard) and known.address:
            return known, True
        if known:
            _end(known)
        home.forget()
        shutil.rmtree(home.logs, ignore_errors=True)
        home.logs.mkdir(parents=True)
        home.progress.touch()
        with (home.logs / "stack.log").open("wb") as log:
            started, process = world.enter(
                [sys.executable, "-m", "compose", "hold", home.folder, profile, service_path],
                isolation=world.strongest(host.detect()),
                own_network=False,
                detached=True,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        state = State(guard=places.process_key(process.pid), world=started, profile=profile)
        home.write(state)
        return _until_up(home, state, process, say), False


def down(home: Home) -> State | None:
    """Take the stack down; return what was known of it, `None` when there was none.

    Raises:
        UpFailed: something of it is left.
    """
    with home.locked():
        known = home.read()
        if known is None:
            return None
        left = _end(known)
        if left:
            raise UpFailed("left behind: " + "; ".join(left))
        home.forget()
        return known


def _until_up(home: Home, state: State, process: subprocess.Popen[bytes], say: Say) -> State:
    deadline = time.monotonic() + START_SECONDS
    told = 0
    while True:
        ended = process.poll() is not None
        lines = home.progress.read_text().splitlines()
        for line in lines[told:]:
            say(line)
        told = len(lines)
        known = home.read()
        if known and known.address:
            return known
        if ended or time.monotonic() > deadline:
            _end(state)
            home.forget()
            log = processes.tail(home.logs / "stack.log")
            raise UpFailed((known.failure if known else "") or f"the stack did not come up:\n{log}")
        signal.sigtimedwait([], LOOK_SECONDS)


def _end(known: State) -> list[str]:
    """End a stack, in an orderly way first; return what is left of it."""
    pid = int(known.guard.partition(":")[0] or 0)
    for signum in (signal.SIGTERM, guard.KILL_NOW, signal.SIGKILL):
        if not places.is_alive(known.guard):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
        deadline = time.monotonic() + STOP_SECONDS
        while places.is_alive(known.guard) and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            signal.sigtimedwait([], LOOK_SECONDS)
    world.sweep(known.world)
    return world.leftovers(known.world)


async def hold(home: Home, *, profile: str, service_path: Path) -> int:
    """Be the stack, inside of its world, until a signal asks for its end."""
    asked_to_end = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, asked_to_end.set)
    wanted = Ports()
    busy = wanted.busy()
    ports = wanted.without_busy()

    def progress(line: str) -> None:
        with home.progress.open("a") as opened:
            opened.write(f"{line}\n")

    for name, port in busy.items():
        progress(f"port {port} ({name}) is taken by another program; using {ports.listeners()[name]}")
    known = home.read()
    if known is None:
        return 1
    spec = StackSpec(
        folder=default_folder(),
        logs=home.logs,
        profile=slo.profiles.load(profile),
        ports=ports,
        service_path=service_path,
        environment="development",
        run_label="up",
    )
    try:
        async with Stack.start(spec, progress=progress) as stack:
            home.hand_out(stack)
            first = stack.gate.quiet_targets[0]
            home.write(
                msgspec.structs.replace(
                    known,
                    address=stack.address,
                    ports=ports,
                    target=first.name,
                    digest=first.digest,
                    moving_target=stack.gate.moving_targets[0].name,
                    service_path=str(service_path),
                )
            )
            await asked_to_end.wait()
    except (PartFailed, MissingProgram) as problem:
        home.write(msgspec.structs.replace(known, failure=str(problem)))
        return 1
    return 0


async def look(known: State) -> dict[str, bool]:
    """Ask the parts of a stack that is up; return who answers."""
    ports = known.ports
    found = {
        "front": await part.answers_ok(f"{known.address}/health/ready"),
        "Prometheus": await part.answers_ok(f"http://127.0.0.1:{ports.prometheus}/-/ready"),
        "Alertmanager": await part.answers_ok(f"http://127.0.0.1:{ports.alertmanager}/-/ready"),
        "Toxiproxy": await part.answers_ok(f"http://127.0.0.1:{ports.toxiproxy}/version"),
    }
    try:
        statuses = await Replicas(f"http://127.0.0.1:{ports.supervisor}").status()
    except PartFailed:
        return {**found, "replicas": False}
    return {**found, **{name: status.ready for name, status in statuses.items()}}
