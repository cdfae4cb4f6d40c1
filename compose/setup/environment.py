"""The Python environment: `.venv` with exactly what requirements.txt pins by hash, and the project itself, editable."""

import hashlib
import json
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compose.setup.progress import Progress
from compose.setup.surroundings import find_uv, installer_variables

PYTHON_RANGE: Final = "cpython>=3.11"
PROBE_SECONDS_MAX: Final = 20.0


@dataclass(frozen=True)
class Environment:
    """The step that brings `.venv` into line with requirements.txt and pyproject.toml."""

    repository: Path
    tools_folder: Path
    name: str = "Python packages (.venv)"

    @property
    def folder(self) -> Path:
        """Where the environment lies."""
        return self.repository / ".venv"

    @property
    def stamp(self) -> Path:
        """What the last complete run installed, as a digest."""
        return self.folder / "set-up.txt"

    def plan(self) -> str:
        """Say what would be done."""
        return "install requirements.txt by hash and the project itself into .venv"

    def is_done(self) -> bool:
        """Whether the last complete run installed just what is asked for now, and its Python is still there."""
        python_is_there = (self.folder / "bin" / "python").exists()
        return python_is_there and self.stamp.is_file() and self.stamp.read_text(encoding="ascii") == self.digest()

    def run(self, progress: Progress) -> None:
        """Create the environment if need be, and install. Safe to repeat after a run that was cut short.

        Raises:
            SetupFailed: no fitting Python, or a package that cannot be had.
        """
        digest = self.digest()
        python = self.folder / "bin" / "python"
        variables = installer_variables(self.tools_folder)
        if not _runs(python):
            progress.run(
                "Python environment",
                [find_uv(), "venv", "--clear", "--no-python-downloads", "--python", PYTHON_RANGE, self.folder],
                environment=variables,
            )
        progress.say("Python packages: installing what requirements.txt pins (about a minute on an empty cache)")
        sync = ("pip", "sync", "--require-hashes", self.repository / "requirements.txt")
        progress.run("Python packages", (find_uv(), *sync, "--python", python), environment=variables)
        itself = ("pip", "install", "--no-deps", "--no-build-isolation", "--editable", self.repository)
        progress.run("the project itself", (find_uv(), *itself, "--python", python), environment=variables)
        self.stamp.write_text(digest, encoding="ascii")

    def digest(self) -> str:
        """Of all that the environment depends on; the folder too, for the editable install names it."""
        project = tomllib.loads((self.repository / "pyproject.toml").read_text(encoding="utf-8"))
        parts = [project["build-system"], project["project"], project["tool"].get("hatch"), str(self.repository)]
        requirements = (self.repository / "requirements.txt").read_bytes()
        return hashlib.sha256(requirements + json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _runs(python: Path) -> bool:
    """Whether an interpreter still starts; the one it was made from may have been removed or replaced since."""
    try:
        subprocess.run([python, "-c", ""], check=True, capture_output=True, timeout=PROBE_SECONDS_MAX)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
