"""The stack as a whole: every real part up, wired, and gone again. The service itself is a stand-in here."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

import slo.profiles
from compose import part
from compose.ports import Ports
from compose.processes import PartFailed
from compose.replicas import ReplicaSpec, ReplicaStatus
from compose.stack import Stack, StackSpec

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

STAND_IN = Path(__file__).parent / "stand_in"


def spec(folder: Path, **changed: object) -> StackSpec:
    values = {
        "folder": folder / "state",
        "logs": folder / "logs",
        "profile": slo.profiles.load("fast"),
        "ports": Ports.free(),
        "service_path": STAND_IN,
        **changed,
    }
    return StackSpec(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack.start(spec(tmp_path_factory.mktemp("stack"), run_label="test-run")) as running:
        yield running


async def eventually(claim: Callable[[], Awaitable[bool]], *, within_seconds: float) -> None:
    deadline = time.monotonic() + within_seconds
    while not await claim():
        assert time.monotonic() < deadline, f"not within {within_seconds} s"
        await asyncio.sleep(0.05)


async def replica(stack: Stack, name: str) -> ReplicaStatus:
    return (await stack.replicas.status())[name]


async def is_ready(stack: Stack, name: str) -> bool:
    return (await replica(stack, name)).ready


async def get(stack: Stack, path: str, **headers: str) -> httpx.Response:
    async with part.client(stack.address) as http:
        return await http.get(path, headers=headers)


async def series(stack: Stack, expression: str) -> list[dict[str, str]]:
    async with part.client(stack.prometheus.address) as http:
        answer = await http.get("/api/v1/query", params={"query": expression})
    return [one["metric"] for one in answer.json()["data"]["result"]]


@pytest.mark.anyio
class TestRunningStack:
    async def test_both_replicas_serve_through_the_front(self, stack: Stack) -> None:
        names = {(await get(stack, "/api/")).headers["x-replica"] for _ in range(4)}

        assert names == {"replica-1", "replica-2"}
        assert stack.api_key() == "amgf_stand_in_harness-editor"

    async def test_what_a_client_claims_about_its_address_is_not_passed_on(self, stack: Stack) -> None:
        answer = await get(
            stack, "/api/", **{"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Real-IP": "6.6.6.6"}
        )

        assert "6.6.6.6" not in answer.text
        assert answer.json()["headers"]["x-forwarded-for"] == "127.0.0.1"

    @pytest.mark.parametrize("path", ["/metrics", "/Metrics", "/metrics/x"])
    async def test_metrics_are_not_for_clients(self, stack: Stack, path: str) -> None:
        assert (await get(stack, path)).status_code == httpx.codes.NOT_FOUND

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ],
        ids=["two ways to say the length", "two lengths", "a negative length", "no host", "two hosts"],
    )
    async def test_an_ambiguous_request_reaches_no_replica(self, stack: Stack, head: bytes, status: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.ports.front)
        writer.write(head)
        answer = await asyncio.wait_for(reader.read(4096), 5)
        writer.close()

        assert answer.startswith(f"HTTP/1.1 {status} ".encode())

    async def test_prometheus_reads_every_part_and_knows_each_replica(self, stack: Stack) -> None:
        up = await series(stack, "up == 1")

        assert {one["job"] for one in up} == {"firewall", "replicas", "haproxy", "prometheus", "alertmanager"}
        assert {one["pod"] for one in up if one["job"] == "firewall"} == {"replica-1", "replica-2"}
        assert {(one["service"], one["env"]) for one in up if one["job"] == "firewall"} == {("firewall", "production")}

    async def test_at_the_beginning_no_alert_is_known_but_the_watchdog(self, stack: Stack) -> None:
        async def watchdog_arrived() -> bool:
            async with part.client(stack.alertmanager.address) as http:
                alerts = (await http.get("/api/v2/alerts")).json()
            assert {one["labels"]["alertname"] for one in alerts} <= {"Watchdog"}
            return [one["labels"]["run"] for one in alerts] == ["test-run"]

        await eventually(watchdog_arrived, within_seconds=10)

    async def test_a_killed_replica_comes_back_and_is_counted(self, stack: Stack) -> None:
        before = await replica(stack, "replica-2")
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)

        async def came_back() -> bool:
            now = await replica(stack, "replica-2")
            return now.ready and now.restarts == before.restarts + 1 and now.last_exit_code == 137

        await eventually(came_back, within_seconds=15)

        async def is_exported() -> bool:
            return bool(
                await series(stack, 'kube_pod_container_status_last_terminated_exitcode{pod="replica-2"} == 137')
            )

        await eventually(is_exported, within_seconds=5)

    async def test_a_replica_that_ends_again_and_again_waits_longer_each_time(self, stack: Stack) -> None:
        await stack.replicas.add("replica-3", ReplicaSpec(slot=3, settings={"FIREWALL_STAND_IN_EXIT_CODE": "78"}))

        async def backs_off() -> bool:
            now = await replica(stack, "replica-3")
            return now.waiting_reason == "CrashLoopBackOff" and now.last_exit_code == 78

        await eventually(backs_off, within_seconds=15)
        await stack.replicas.restart("replica-3", ReplicaSpec(slot=3))
        await eventually(lambda: is_ready(stack, "replica-3"), within_seconds=10)
        await eventually(lambda: _serves(stack, {"replica-1", "replica-2", "replica-3"}), within_seconds=10)
        await stack.replicas.remove("replica-3")
        await eventually(lambda: _serves(stack, {"replica-1", "replica-2"}), within_seconds=10)

    async def test_a_rollout_that_gets_nowhere_leaves_the_old_replicas_serving_until_it_is_undone(
        self, stack: Stack
    ) -> None:
        await stack.replicas.rollout({"FIREWALL_STAND_IN_EXIT_CODE": "1"}, progress_deadline_seconds=1.0)

        async def is_reported() -> bool:
            return bool(
                await series(stack, 'kube_deployment_status_condition{condition="Progressing",status="false"} == 1')
            )

        await eventually(is_reported, within_seconds=10)
        assert (await stack.replicas.rollout_status()).reason == "replica-3 was not ready within 1 s"
        assert await _serves(stack, {"replica-1", "replica-2"})
        await stack.replicas.rollout_undo()
        assert set(await stack.replicas.status()) == {"replica-1", "replica-2"}
        assert (await stack.replicas.rollout_status()).state == "undone"

    async def test_a_rollout_replaces_every_replica_and_is_undone_without_a_gap(self, stack: Stack) -> None:
        await stack.replicas.rollout()

        async def is_complete() -> bool:
            return (await stack.replicas.rollout_status()).state == "complete"

        await eventually(is_complete, within_seconds=20)
        assert set(await stack.replicas.status()) == {"replica-3", "replica-4"}
        await stack.replicas.rollout_undo()
        assert set(await stack.replicas.status()) == {"replica-1", "replica-2"}
        await eventually(lambda: _serves(stack, {"replica-1", "replica-2"}), within_seconds=10)

    async def test_the_control_interface_refuses_what_a_web_page_could_send(self, stack: Stack) -> None:
        async with part.client(stack.replicas.address) as http:
            refused = await http.post("/replicas/replica-1/stop")

        assert refused.status_code == httpx.codes.UNAUTHORIZED
        assert (await replica(stack, "replica-1")).running

    async def test_toxiproxy_has_a_proxy_for_each_dependency_and_slot_again_after_a_restart(self, stack: Stack) -> None:
        assert stack.toxiproxy.pid is not None
        os.kill(stack.toxiproxy.pid, signal.SIGSTOP)  # as good as a control interface that hangs

        await stack.toxiproxy.restart()

        async with part.client(stack.toxiproxy.address) as http:
            proxies = (await http.get("/proxies")).json()
        assert set(proxies) == {f"{of}-{slot}" for of in ("database", "valkey") for slot in (1, 2, 3, 4, 5)}
        assert all(one["enabled"] for one in proxies.values())


async def _serves(stack: Stack, names: set[str]) -> bool:
    return await stack.haproxy.serving() == names


@pytest.mark.anyio
async def test_a_part_that_does_not_start_is_named_with_the_end_of_its_log_and_nothing_stays(tmp_path: Path) -> None:
    ports = Ports.free()
    described = spec(tmp_path, ports=ports, settings={"FIREWALL_STAND_IN_EXIT_CODE": "1"})

    with pytest.raises(PartFailed) as raised:
        async with Stack.start(described):
            pass

    assert raised.value.part in {"replica-1", "replica-2"}
    assert "was asked to end" in str(raised.value)
    assert ports.busy() == {}
