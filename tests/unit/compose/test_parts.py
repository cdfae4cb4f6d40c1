"""The small rules the stack rests on: ports, back-off, marks, who may reach what, what a failure says."""

import os
import socket
from pathlib import Path

import pytest

from compose import marks, places
from compose.marks import Isolation, Mark
from compose.places import Identity, can_reach
from compose.pod import BackOff
from compose.ports import STAGING_SLOT, Ports
from compose.processes import PartFailed, describe_exit, plain_environment


def test_the_fixed_ports_are_those_of_the_contract() -> None:
    ports = Ports()

    assert (ports.front, ports.database, ports.supervisor, ports.receiver) == (8080, 5432, 9100, 9095)
    assert ports.replicas == (8001, 8002, 8003, 8004, 8005)
    assert ports.database_proxies == (15431, 15432, 15433, 15434, 15435)
    assert len(set(ports.listeners().values())) == len(ports.listeners()) == 10 + 4 * STAGING_SLOT


def test_free_ports_lie_below_those_of_clients_and_no_two_stacks_get_the_same() -> None:
    one, other = Ports.free().listeners(), Ports.free().listeners()

    assert not set(one.values()) & set(other.values())
    assert max(*one.values(), *other.values()) < 32768


def test_only_a_taken_port_is_replaced() -> None:
    free = Ports.free()
    with socket.create_server(("127.0.0.1", free.database_proxies[1])):
        assert free.busy() == {"database_proxies-2": free.database_proxies[1]}
        changed = free.without_busy()

    differing = {name for name, port in changed.listeners().items() if free.listeners()[name] != port}
    assert differing == {"database_proxies-2"}


def test_a_replica_that_ends_waits_nothing_first_then_twice_as_long_each_time_up_to_the_limit() -> None:
    back_off = BackOff(initial_seconds=10, max_seconds=300)

    assert [back_off.seconds(ends) for ends in range(1, 9)] == [0, 10, 20, 40, 80, 160, 300, 300]


def test_marks_are_read_as_they_were_written() -> None:
    mark = Mark("1-abc", "1:2", Isolation.USER, has_network=True, folder=Path("/run/amgf"))

    assert marks.read(mark.environment()) == mark
    assert marks.read({"PATH": "/bin"}) is None


def test_a_process_is_known_by_its_start_and_not_by_its_number_alone() -> None:
    key = places.process_key(os.getpid())

    assert places.is_alive(key)
    assert not places.is_alive(f"{os.getpid()}:1")
    assert not places.is_alive("")


@pytest.mark.parametrize(
    ("mode", "reachable"), [(0o755, True), (0o711, True), (0o700, False)], ids=["open", "passable", "closed"]
)
def test_who_may_reach_a_file_is_decided_by_every_folder_on_the_way(
    tmp_path_factory: pytest.TempPathFactory, mode: int, *, reachable: bool
) -> None:
    stranger = Identity(64123, 64123)
    folder = tmp_path_factory.mktemp("way")
    file = folder / "file"
    file.write_text("")
    file.chmod(0o644)
    above = [step for step in folder.parents if not can_reach(step / "..", stranger)]
    folder.chmod(mode)

    assert can_reach(file, stranger) is (reachable and not above and can_reach(folder.parent, stranger))
    assert can_reach(file, None)


def test_a_failure_names_the_part_the_deadline_and_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))

    failure = PartFailed("HAProxy", "did not answer", deadline_seconds=15.0, log=log)

    assert str(failure).splitlines()[0] == "HAProxy did not answer within 15 s"
    assert "line 99" in str(failure)
    assert "line 50" not in str(failure)


def test_exits_are_put_into_words() -> None:
    assert describe_exit(78) == "exit code 78"
    assert describe_exit(-9) == "SIGKILL"


def test_parts_inherit_neither_settings_nor_tokens_nor_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIREWALL_PORT", "HTTP_PROXY", "SECRET_TOKEN"):
        monkeypatch.setenv(name, "x")

    assert set(plain_environment(ADDED="1")) & {"FIREWALL_PORT", "HTTP_PROXY", "SECRET_TOKEN", "ADDED"} == {"ADDED"}
