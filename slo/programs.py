"""Runs Prometheus's and Alertmanager's own checkers over what is generated.

This package starts no stack and knows no tools folder: a program is found on PATH or in the system's usual folders,
or the caller says where it is.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slo import alertmanager, generate, profiles
from slo.profiles import Profile

_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
_DEADLINE_SECONDS = 120.0
_RECEIVER = "http://127.0.0.1:9095"


class MissingProgramError(Exception):
    """A checker is not installed; the message says how to get it."""


def find(name: str) -> Path:
    """Return where ``promtool`` or ``amtool`` is.

    Raises:
        MissingProgramError: it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path=":".join(_FOLDERS))
    if found is None:
        package = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}.get(name, name)
        raise MissingProgramError(f"{name} is not installed (Debian, Ubuntu: apt-get install {package})")
    return Path(found)


def problems(promtool: Path, amtool: Path) -> list[str]:
    """Check rules, cases, Alertmanager's configuration and its routes in every profile; side by side.

    Returns:
        What the programs complained about; empty when all is well.
    """
    every = [profiles.load(name) for name in profiles.names()]
    with ThreadPoolExecutor() as pool:
        rules = pool.map(lambda profile: check_rules(promtool, profile), every)
        routes = pool.map(lambda profile: check_alertmanager(amtool, profile), every)
        return [text for found in (*rules, *routes) for text in found]


def check_rules(promtool: Path, profile: Profile) -> list[str]:
    """Return what promtool complains about in a profile's rules and cases."""
    rules, cases = generate.rules_file(profile), generate.cases_file(profile)
    return [
        *run([promtool, "check", "rules", "--lint=all", "--lint-fatal", rules]),
        *run([promtool, "test", "rules", cases]),
    ]


def check_alertmanager(amtool: Path, profile: Profile) -> list[str]:
    """Return what amtool complains about in a profile's configuration, and routes that lead elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "alertmanager.yml")
        path.write_text(alertmanager.render(profile, _RECEIVER), encoding="utf-8")
        complaints = run([amtool, "check-config", path])
        for case in alertmanager.route_cases():
            labels = [f"{key}={value}" for key, value in case.labels.items()]
            wanted = f"--verify.receivers={','.join(case.receivers)}"
            complaints += run([amtool, "config", "routes", "test", f"--config.file={path}", wanted, *labels])
    return complaints


def run(command: Sequence[str | Path]) -> list[str]:
    """Run one checker; return what it says if it fails, with its command line, else nothing."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_SECONDS, check=False)
    if done.returncode == 0:
        return []
    return [f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}".rstrip()]
