"""What an interrupted run leaves behind is found, said and removed; anybody else's is not touched."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.sweep import sweep
from chaos.undo_ledger import open_entries
from compose import host, processes, programs, world
from compose.settings import REPOSITORY

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

_SWEEP_TWICE = """
import json, sys
from pathlib import Path
from chaos.sweep import sweep
class NoWorlds:
    def sweep(self): return []
    def leftovers(self): return []
print(json.dumps([sweep(Path(sys.argv[1]), worlds=NoWorlds()) for _ in range(2)]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's tables could be in a host's namespace")
def test_our_table_is_removed_and_others_stay(tmp_path: Path) -> None:
    capability = host.detect()["packet_filter"]
    if not capability.available:
        pytest.skip(f"this host: {capability.reason}")
    nft, unshare = programs.find("nft"), programs.find("unshare")
    script = f"{nft} add table inet amgf_faults && {nft} add table inet theirs && {sys.executable} -c '{_SWEEP_TWICE}' "
    ended = subprocess.run(
        [unshare, "--net", "sh", "-c", f"{script} {tmp_path} && {nft} -j list tables"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=REPOSITORY,
    )

    swept, tables = map(json.loads, ended.stdout.splitlines())
    assert swept == [["nftables table inet amgf_faults in the host's network namespace"], []]
    assert [entry["table"]["name"] for entry in tables["nftables"] if "table" in entry] == ["theirs"]


@dataclass
class OneWorld:
    """``compose.world``, asked about one world only: other tests' worlds are none of this test's business."""

    id: str

    def sweep(self) -> list[str]:
        return world.sweep(self.id)

    def leftovers(self) -> list[str]:
        return world.leftovers(self.id)


@pytest.mark.anyio
async def test_a_run_whose_harness_was_killed_is_swept_and_a_living_one_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "fm01_database_connection_failure"
    isolation = world.strongest(host.detect())
    harness = subprocess.Popen(  # noqa: ASYNC220 - its first line is all that is waited for
        [sys.executable, "-m", "tests.integration.chaos.harness_to_be_killed", "outside", folder, isolation],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    try:
        assert harness.stdout is not None
        mine = OneWorld(harness.stdout.readline().decode().strip())
        assert sweep(tmp_path, worlds=_Nothing()) == []
        assert len(open_entries(folder)) == 1
    finally:
        harness.kill()
        harness.wait(timeout=10)

    assert await processes.eventually(lambda: not mine.leftovers(), deadline_seconds=10), mine.leftovers()
    assert sweep(tmp_path, worlds=mine) == []
    assert open_entries(folder) == ()
    assert "abandoned_with_world" in (folder / "undo.jsonl").read_text()


class _Nothing:
    def sweep(self) -> list[str]:
        return []

    def leftovers(self) -> list[str]:
        return []
