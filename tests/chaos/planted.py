"""Planted defects: the service with one mitigation broken on purpose, which a scenario must turn red for."""

import os
import shutil
import subprocess
from pathlib import Path

from compose.settings import REPOSITORY

FOLDER = Path(__file__).parent / "defects"


def plant(name: str, folder: Path) -> Path:
    """Copy the service into ``folder``, apply the patch ``name`` to the copy, and return the copy.

    Raises:
        AssertionError: the patch does not apply any more; the message says where.
    """
    git = shutil.which("git")
    assert git is not None, "git applies the patches"
    copy = folder / "service"
    shutil.copytree(REPOSITORY / "service", copy, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [git, "apply", "--verbose", str(FOLDER / f"{name}.patch")],
        cwd=copy,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder)},  # noqa: TID251 - passed on; the copy is no checkout
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, f"tests/chaos/defects/{name}.patch does not apply any more: {done.stderr}"
    return copy
