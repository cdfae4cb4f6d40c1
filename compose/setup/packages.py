"""Prometheus, Alertmanager, HAProxy and nft, from the system's package manager where we may use it.

We may as root or with a sudo that asks for no password. Packages that start a service of their own are kept from it
while they are installed, and the service is switched off afterwards: the stack starts its own processes.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from compose.programs import PROGRAMS, Program, which
from compose.setup.progress import Progress, SetupFailed
from compose.setup.services import no_services

SUDO_SECONDS_MAX: Final = 10.0


@dataclass(frozen=True)
class Manager:
    """A package manager: how it is asked, and what it calls things."""

    command: str
    install: Sequence[str]
    packages: Mapping[str, str]
    """From `Program.package` to the package's name here."""
    refresh: Sequence[str] = ()
    needs_root: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    starts_services: bool = False


_APT_OPTIONS: Final = ("-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0")
_UPSTREAM_NAMES: Final = {name: name for name in ("prometheus", "alertmanager", "haproxy", "nftables", "util-linux")}

MANAGERS: Final = (
    Manager(
        command="apt-get",
        refresh=(*_APT_OPTIONS, "update"),
        install=(*_APT_OPTIONS, "install", "--yes", "--no-install-recommends"),
        packages=_UPSTREAM_NAMES | {"alertmanager": "prometheus-alertmanager"},
        environment={"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"},
        starts_services=True,
    ),
    Manager(
        command="dnf",
        install=("install", "--assumeyes", "--setopt=install_weak_deps=False"),
        packages=_UPSTREAM_NAMES
        | {
            "prometheus": "golang-github-prometheus",
            "alertmanager": "golang-github-prometheus-alertmanager",
        },
    ),
    Manager(command="apk", install=("add", "--no-cache"), packages=_UPSTREAM_NAMES),
    Manager(command="pacman", install=("--sync", "--refresh", "--needed", "--noconfirm"), packages=_UPSTREAM_NAMES),
    Manager(
        command="brew",
        install=("install",),
        packages={name: name for name in ("prometheus", "alertmanager", "haproxy")},
        needs_root=False,
        environment={"HOMEBREW_NO_AUTO_UPDATE": "1"},
    ),
)


@dataclass(frozen=True)
class SystemPackages:
    """The step that brings what only the system's package manager has."""

    tools_folder: Path
    programs: Mapping[str, Program] = field(default_factory=lambda: PROGRAMS)
    root: Path = Path("/")
    """Where the system lies; tests have one of their own."""
    name: str = "system packages"

    def plan(self) -> str:
        """Say what would be done."""
        missing = self._missing(required=True) + self._missing(required=False)
        manager = find_manager()
        if manager is None:
            return f"nothing: no package manager for {_names(missing)}"
        rights = "" if find_rights(manager) is not None else " (not allowed: needs root or sudo without a password)"
        return f"{_command_line(manager, missing)}{rights}"

    def is_done(self) -> bool:
        """Whether every required program is there, and the others were tried once."""
        return not self._missing(required=True) and not (set(_keys(self._missing(required=False))) - self._tried())

    def run(self, progress: Progress) -> None:
        """Install what is missing; go without the optional ones, with a warning.

        Raises:
            SetupFailed: a required program is missing and could not be installed; names it and the command.
        """
        required, optional = self._missing(required=True), self._missing(required=False)
        manager = find_manager()
        rights = find_rights(manager) if manager else None
        if manager and rights is not None:
            self._install(manager, rights, required, optional, progress)
        if missing := self._missing(required=True):
            raise SetupFailed(_what_to_do(missing, manager, may_install=rights is not None))
        if without := self._missing(required=False):
            progress.say(f"going without {_names(without)}; to have it: {_command_line(manager, without)}")
            for program in without:
                progress.say(f"without {program.name} there is no proof of: {program.purpose}")
        tried = self._tried() | set(_keys(optional))
        self._tried_file.write_text("\n".join(sorted(tried)), encoding="ascii")

    @property
    def _tried_file(self) -> Path:
        return self.tools_folder / "optional-packages-tried.txt"

    def _tried(self) -> set[str]:
        return set(self._tried_file.read_text(encoding="ascii").split()) if self._tried_file.is_file() else set()

    def _missing(self, *, required: bool) -> list[Program]:
        return [
            program
            for program in self.programs.values()
            if program.package and program.required is required and not any(map(which, program.names))
        ]

    def _install(
        self,
        manager: Manager,
        rights: Sequence[str],
        required: Sequence[Program],
        optional: Sequence[Program],
        progress: Progress,
    ) -> None:
        progress.say(f"installing {_names([*required, *optional])} with {manager.command} (a minute or two)")
        command = [*rights, "env", *(f"{name}={value}" for name, value in manager.environment.items()), manager.command]
        if manager.refresh:
            try:
                progress.run("package lists", [*command, *manager.refresh])
            except SetupFailed as failed:
                # One source of many may be unreachable; whether it was the one we need shows in a moment.
                progress.say(str(failed).splitlines()[0])
        with no_services(self.root, rights, progress) if manager.starts_services else nullcontext():
            # The required ones in one transaction; what may be missing must not keep them from being installed.
            for programs in (required, *([program] for program in optional)):
                packages = sorted({manager.packages[key] for key in _keys(programs) if key in manager.packages})
                if not packages:
                    continue
                try:
                    progress.run(" ".join(packages), [*command, *manager.install, *packages])
                except SetupFailed as failed:
                    progress.say(str(failed))


def find_manager() -> Manager | None:
    """Return the package manager of this machine, if it is one we know."""
    return next((manager for manager in MANAGERS if shutil.which(manager.command)), None)


def find_rights(manager: Manager, *, user_id: int | None = None) -> Sequence[str] | None:
    """Return what goes before a command to run it with the rights it needs; None when we (or that user) may not."""
    if (os.geteuid() if user_id is None else user_id) == 0 or not manager.needs_root:
        return ()
    try:
        done = subprocess.run(
            ["sudo", "-n", "true"],  # noqa: S607 - wherever the system has it
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SUDO_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ("sudo", "-n") if done.returncode == 0 else None


def _what_to_do(missing: Sequence[Program], manager: Manager | None, *, may_install: bool) -> str:
    are = "is" if len(missing) == 1 else "are"
    why = (
        "could not be installed"
        if may_install
        else "may not be installed by us (that needs root, or sudo without a password)"
    )
    if manager is None:
        why = "cannot be installed by us (no package manager that we know)"
    return f"{_names(missing)} {are} missing and {why}. To install: {_command_line(manager, missing)}"


def _command_line(manager: Manager | None, programs: Sequence[Program]) -> str:
    if manager is None:
        return f"your package manager's {', '.join(_keys(programs))}"
    packages = sorted({manager.packages.get(key, key) for key in _keys(programs)})
    words = [word for word in manager.install if "=" not in word and word != "-o"]
    return " ".join([*(["sudo"] if manager.needs_root else []), manager.command, *words, *packages])


def _keys(programs: Sequence[Program]) -> list[str]:
    return sorted({program.package for program in programs})


def _names(programs: Sequence[Program]) -> str:
    return ", ".join(program.name for program in programs)
