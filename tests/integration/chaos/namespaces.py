"""How a test starts a program in a network namespace of its own."""

import os
import subprocess

import pytest

from compose import programs


def own_network() -> list[str]:
    """Return the prefix of such a command; skip where the host cannot."""
    try:
        unshare, nft = programs.find("unshare"), programs.find("nft")
    except programs.MissingProgram as missing:
        pytest.skip(str(missing))
    prefix = [str(unshare), "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    tried = subprocess.run(
        [*prefix, str(nft), "add", "table", "inet", "tried"], capture_output=True, text=True, timeout=10, check=False
    )
    if tried.returncode != 0:
        pytest.skip(f"this host makes no network namespaces with a packet filter: {tried.stderr.strip()}")
    return prefix
