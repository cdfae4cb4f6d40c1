"""Packets dropped by nftables, in the network namespace of a world and never in the host's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from chaos.faults import FaultRefused, PacketsDropped, packets
from compose import host, marks, world

if TYPE_CHECKING:
    from compose.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

_NO_STACK = cast("Stack", None)
_HEADING = "Iface\tDestination\tGateway\n"
_OWN = marks.Mark(world="w", owner="", isolation=marks.Isolation.NONE, has_network=True, folder=Path("/"))
_HOSTS = marks.Mark(world="w", owner="", isolation=marks.Isolation.NONE, has_network=False, folder=Path("/"))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a process in a world of its own saw."""
    capabilities = host.detect()
    if not capabilities["packet_filter"].available:
        pytest.skip(f"this host: {capabilities['packet_filter'].reason}")
    folder = tmp_path_factory.mktemp("packets")
    _, process = world.enter(
        [sys.executable, "-m", "tests.integration.chaos.packets_in_a_world", folder],
        isolation=world.strongest(capabilities),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        printed, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, complaint.decode()
    return dict(json.loads(printed))


def test_dropped_packets_are_noticed_only_while_they_are_dropped(seen: dict[str, object]) -> None:
    looked = {name: ok for name, ok in seen.items() if name.startswith(("bites", "gone")) and isinstance(ok, bool)}

    assert looked == {
        "bites before": False,
        "gone before": True,
        "bites while dropped": True,
        "gone while dropped": False,
        "bites after": False,
        "gone after": True,
        "bites on a dead listener without rules": False,
    }, seen


def test_open_connections_fall_silent_and_resume_with_late_data(seen: dict[str, object]) -> None:
    assert seen["open connection answers while dropped"] is False
    assert seen["open connection answers late"] is True


def test_the_rules_count_what_they_drop(seen: dict[str, object]) -> None:
    counted = cast("dict[str, int]", seen["counted"])

    assert set(counted) == {"dport", "sport"}
    assert counted["dport"] >= 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("mark", "routes"),
    [
        pytest.param(None, _HEADING, id="in no world"),
        pytest.param(_HOSTS, _HEADING, id="in a world on the host's network"),
        pytest.param(_OWN, f"{_HEADING}eth0\t00000000\t0102000A\n", id="a route leads outside"),
        pytest.param(_OWN, None, id="the routes cannot be read"),
    ],
)
async def test_no_packet_filter_is_touched_outside_a_world(
    mark: marks.Mark | None, routes: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "route"
    if routes is not None:
        table.write_text(routes)
    monkeypatch.setattr(packets, "_ROUTES", table)
    monkeypatch.setattr(marks, "here", lambda: mark)
    fault = PacketsDropped(ports=(15431,))

    with pytest.raises(FaultRefused):
        await fault.inject(_NO_STACK)
    with pytest.raises(FaultRefused):
        await fault.undo(_NO_STACK)
