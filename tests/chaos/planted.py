"""Planted defects: the service with mitigations broken on purpose, which a scenario must turn red for."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from compose.settings import REPOSITORY

FOLDER = Path(__file__).parent / "defects"


def plant(names: Iterable[str], folder: Path, patches: Path = FOLDER) -> Path:
    """Copy the service into ``folder``, apply the patches of these names to the copy, and return the copy.

    What was compiled comes along: Python compiles again only what the patches change.

    Skips the test where there is no git, which applies the patches.

    Raises:
        AssertionError: a patch does not apply any more; the message says where.
    """
    git = shutil.which("git")
    if git is None:
        pytest.skip("there is no git here, which applies the patches of planted defects")
    copy = folder / "service"
    shutil.copytree(REPOSITORY / "service", copy)
    for name in names:
        done = subprocess.run(
            [git, "apply", "--verbose", str(patches / f"{name}.patch")],
            cwd=copy,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder)},  # noqa: TID251 - passed on; it is no checkout
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{name}.patch of {patches} does not apply any more: {done.stderr}"
    return copy
