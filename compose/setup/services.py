"""Keeps packages from starting the services that they bring: while they are installed, and at the next boot.

Debian asks /usr/sbin/policy-rc.d before a package may start anything; ours says no, and is removed again. It also
enables what it installs: whatever was not there before is switched off afterwards. What was there is left alone.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from compose.programs import which
from compose.setup.progress import Progress, SetupFailed

MARK: Final = "put here by the firewall's set-up, which removes it again"
_UNIT_FOLDERS: Final = ("lib/systemd/system", "usr/lib/systemd/system", "etc/init.d")


@contextmanager
def no_services(root: Path, rights: Sequence[str], progress: Progress) -> Iterator[None]:
    """Install packages in here; `root` is where the system lies, `rights` what goes before a command (`sudo -n`)."""
    before = _services(root)
    policy = root / "usr/sbin/policy-rc.d"
    # One with our mark was left by a set-up that was killed.
    ours = not policy.exists() or MARK in policy.read_text(encoding="utf-8", errors="replace")
    if ours:
        with tempfile.NamedTemporaryFile("w", encoding="ascii") as text:
            text.write(f"#!/bin/sh\n# {MARK}\nexit 101\n")
            text.flush()
            progress.run("a policy against new services", [*rights, "install", "-m", "755", text.name, policy])
    try:
        yield
    finally:
        if ours:
            progress.run("that policy, removed", [*rights, "rm", "-f", policy])
        for service in sorted(_services(root) - before):
            _switch_off(service, root, rights, progress)


def _services(root: Path) -> set[str]:
    """What could be started: units and init scripts, without the templates (`getty@`)."""
    files = (file for folder in _UNIT_FOLDERS for file in (root / folder).glob("*"))
    names = {file.name.removesuffix(".service") for file in files if file.suffix in {"", ".service"}}
    return {name for name in names if not name.endswith(("@", ".d", ".wants"))}


def _switch_off(service: str, root: Path, rights: Sequence[str], progress: Progress) -> None:
    if (root / "run/systemd/system").is_dir():
        command = ["systemctl", "disable", "--now", service]
    elif shutil.which("systemctl"):
        command = ["systemctl", "disable", service]
    elif (update := which("update-rc.d")) and (root / "etc/init.d" / service).exists():
        command = [str(update), service, "disable"]
    else:
        return
    try:
        progress.run(f"{service} (came with the packages), switched off", [*rights, *command])
    except SetupFailed as failed:
        progress.say(str(failed).splitlines()[0])
