"""What uv and Go are told about the machine: where caches may lie, which certificates count, where packages come from.

A machine on which pip works must just work: uv by itself reads neither pip's index nor the system's certificates. And
there may be no home to write to (a build user, a container): then the caches lie in .tools.
"""

import os
import ssl
import sys
from pathlib import Path

from compose.settings import REPOSITORY, child_environment
from compose.setup.progress import SetupFailed


def find_uv() -> Path:
    """Return the uv that `justw` brought.

    Raises:
        SetupFailed: set-up was not started through it.
    """
    uv = REPOSITORY / ".tools" / "bin" / "uv"
    if not uv.exists():
        raise SetupFailed("uv is missing; start set-up through `./justw setup`, which brings it.")
    return uv


def installer_variables(tools_folder: Path) -> dict[str, str | None]:
    """Return the environment variables to set, or to take out where None."""
    given = child_environment({})
    changes: dict[str, str | None] = {}
    if "PIP_INDEX_URL" in given and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & given.keys():
        changes["UV_DEFAULT_INDEX"] = given["PIP_INDEX_URL"]
    if "PIP_CERT" in given and "SSL_CERT_FILE" not in given:
        changes["SSL_CERT_FILE"] = given["PIP_CERT"]
    if _system_has_certificates():
        changes["UV_SYSTEM_CERTS"] = "true"
    if not _is_writable(given.get("HOME", "")):
        home = tools_folder / "cache" / "home"
        home.mkdir(parents=True, exist_ok=True)
        changes |= dict.fromkeys(("XDG_CACHE_HOME", "UV_CACHE_DIR", "GOPATH", "GOCACHE", "GOMODCACHE"))
        changes["HOME"] = str(home)
    return changes


def _system_has_certificates() -> bool:
    """Whether the system's store holds any; a slim container has none, and uv's own are used then."""
    if sys.platform == "darwin":
        return True
    places = ssl.get_default_verify_paths()
    return places.cafile is not None or (places.capath is not None and any(Path(places.capath).glob("*.0")))


def _is_writable(folder: str) -> bool:
    return bool(folder) and os.access(folder, os.W_OK | os.X_OK)
